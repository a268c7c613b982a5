"""Kernels that move pixels: affine maps, flips, crops, and squares that cover them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Union

import numpy as np
import tensorflow as tf

from tfaug.images.base import Q16, IntOrTensor, check_images, per_image, size_of

Real = Union[float, np.ndarray]  # noqa: UP007

_CENTRE_BITS = 40

# Of a bilinear weight.
_WEIGHT_BITS = 12
_WEIGHT_ONE = 1 << _WEIGHT_BITS


def _fixed_affine(
    matrix: Sequence[Real], centre: bool, shift_px: Sequence[Real], height: IntOrTensor, width: IntOrTensor
) -> tf.Tensor | np.ndarray:
    """Returns Q16 matrices whose origin is the source of output pixel (0,0)'s centre; parameters broadcast."""
    # In 64-bit fixed point and not in floats, so that a height known only at run time gives the same bits under XLA.
    one = 1 << _CENTRE_BITS
    a, b, d, e, c, f = np.broadcast_arrays(*matrix, *shift_px)
    qa, qb, qd, qe, qc, qf = (np.rint(value * float(one)).astype(np.int64) for value in (a, b, d, e, c, f))
    # Twice the origin: x = a (x_out + 1/2 - W/2) + b (y_out + 1/2 - H/2) + W/2 + c for a centred map.
    twice_x = qa + qb + 2 * qc
    twice_y = qd + qe + 2 * qf
    if centre:
        height, width = (tf.cast(n, tf.int64) if tf.is_tensor(n) else n for n in (height, width))
        twice_x = twice_x + (one - qa) * width - qb * height
        twice_y = twice_y + (one - qe) * height - qd * width
    shift = 2 ** (_CENTRE_BITS - 16 + 1)
    scale = [np.floor(value * Q16 + 0.5).astype(np.int32) for value in (a, b, d, e)]
    origin = [(twice + shift // 2) // shift for twice in (twice_x, twice_y)]
    if any(tf.is_tensor(value) for value in origin):
        origin = [tf.cast(value, tf.int32) for value in origin]
        return tf.stack([scale[0], scale[1], origin[0], scale[2], scale[3], origin[1]], -1)
    return np.stack([scale[0], scale[1], origin[0], scale[2], scale[3], origin[1]], -1).astype(np.int32)


def rotation(degrees: Real, height: IntOrTensor, width: IntOrTensor) -> tf.Tensor | np.ndarray:
    """Returns the warp matrix of a counter-clockwise turn by `degrees` about the image's centre: PIL `Image.rotate`.

    Like all makers of matrices here it takes a number and returns [6], or an array [V] and returns [V, 6], int32.
    """
    angles = -np.radians(degrees)
    cos, sin = (np.vectorize(lambda x, f=f: round(f(x), 15), otypes=[float])(angles) for f in (math.cos, math.sin))
    return _fixed_affine((cos, sin, -sin, cos), True, (0.0, 0.0), height, width)


def shear_x(factor: Real) -> tf.Tensor | np.ndarray:
    """Returns the warp matrix x_in = x + factor y, with the origin in the top left corner."""
    return _fixed_affine((1.0, factor, 0.0, 1.0), False, (0.0, 0.0), 0, 0)


def shear_y(factor: Real) -> tf.Tensor | np.ndarray:
    """Returns the warp matrix y_in = y + factor x, with the origin in the top left corner."""
    return _fixed_affine((1.0, 0.0, factor, 1.0), False, (0.0, 0.0), 0, 0)


def translation(x_px: Real, y_px: Real) -> tf.Tensor | np.ndarray:
    """Returns the warp matrix x_in = x + x_px, y_in = y + y_px (positive values move the picture left and up)."""
    return _fixed_affine((1.0, 0.0, 0.0, 1.0), False, (x_px, y_px), 0, 0)


def translation_fraction(x: Real, y: Real, height: IntOrTensor, width: IntOrTensor) -> tf.Tensor | np.ndarray:
    """Returns the matrix of a translation by int(x width), int(y height) px, for fractions -1..1: rounded towards 0."""
    x, y = np.broadcast_arrays(x, y)
    height, width = (tf.cast(size, tf.int64) if tf.is_tensor(size) else size for size in (height, width))
    pixels = []
    for fraction, size in ((x, width), (y, height)):
        # The bit more makes up for fractions such as 0.3, whose float times 10 is below 3.
        share = np.rint(np.abs(fraction) * 2.0**40).astype(np.int64) + 1
        pixels.append(np.sign(fraction).astype(np.int64) * (share * size // 2**40))
    one, zero, half = (np.full(x.shape, value, np.int64) for value in (Q16, 0, Q16 // 2))
    columns = [one, zero, pixels[0] * Q16 + half, zero, one, pixels[1] * Q16 + half]
    if any(tf.is_tensor(value) for value in pixels):
        return tf.cast(tf.stack(columns, -1), tf.int32)
    return np.stack(columns, -1).astype(np.int32)


def gather_pixels(images: tf.Tensor, y: tf.Tensor, x: tf.Tensor, fill: float) -> tf.Tensor:
    """Returns out[b,i,j] = images[b, y[b,i,j], x[b,i,j]], or `fill` where the place lies outside; any dtype.

    Args:
      images: [B,H,W,C].
      y: int32, broadcasts to [B,H',W'].
      x: int32, broadcasts to [B,H',W'].
      fill: value for places outside the image.

    Returns:
      [B,H',W',C], dtype of `images`.
    """
    height, width = size_of(images, 1), size_of(images, 2)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    shape = tf.shape(inside)
    y, x = (tf.broadcast_to(place, shape) for place in (_clip(y, height), _clip(x, width)))
    # By row and column, not by one index into all pixels: XLA would divide it into the two again for each pixel.
    pixels = tf.gather_nd(images, tf.stack([y, x], -1), batch_dims=1)
    return tf.where(inside[..., tf.newaxis], pixels, tf.cast(fill, images.dtype))


def gather_rows(images: tf.Tensor, y: tf.Tensor, fill: int) -> tf.Tensor:
    """Returns out[b,i] = images[b, y[b,i]], or `fill` where the row lies outside; any dtype.

    Args:
      images: [B,H,W,C].
      y: int32 [B,H'].
      fill: value of rows outside the image.

    Returns:
      [B,H',W,C], dtype of `images`.
    """
    batch, height, width, channels = (size_of(images, axis) for axis in range(4))
    rows = tf.gather(tf.reshape(images, [batch, height, width * channels]), _clip(y, height), axis=1, batch_dims=1)
    rows = tf.where(((y >= 0) & (y < height))[..., tf.newaxis], rows, tf.cast(fill, images.dtype))
    return tf.reshape(rows, [batch, size_of(y, 1), width, channels])


def gather_columns(images: tf.Tensor, x: tf.Tensor, fill: int) -> tf.Tensor:
    """Returns out[b,i,j] = images[b, i, x[b,j]] or images[b, i, x[b,i,j]], or `fill` outside; any dtype.

    Args:
      images: [B,H,W,C].
      x: int32 [B,W'], or [B,H,W'] where each row has its own columns.
      fill: value of places outside the image.

    Returns:
      [B,H,W',C], dtype of `images`.
    """
    width = size_of(images, 2)
    inside = (x >= 0) & (x < width)
    inside = inside[..., tf.newaxis] if x.shape.rank == 3 else inside[:, tf.newaxis, :, tf.newaxis]
    return tf.where(inside, take_columns(images, _clip(x, width)), tf.cast(fill, images.dtype))


def take_columns(values: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns out[b,i,j] = values[b, i, x[b,j]] or values[b, i, x[b,i,j]]; any dtype.

    Args:
      values: [B,H,W,C], or [B,H,W].
      x: int32 [B,W'] or [B,H,W'], 0..W-1.

    Returns:
      [B,H,W',C], or [B,H,W'].
    """
    if x.shape.rank == 2:
        # To each row columns of its own: those of all rows XLA would lay out column by column, and transpose at last.
        x = tf.broadcast_to(x[:, tf.newaxis], tf.stack([*tf.unstack(tf.shape(values)[:2]), tf.shape(x)[1]]))
    return tf.gather(values, x, axis=2, batch_dims=2)


def _clip(place: tf.Tensor, size: IntOrTensor) -> tf.Tensor:
    """Holds places to 0 .. size - 1."""
    return tf.clip_by_value(place, 0, size - 1)


def warp(images: tf.Tensor, matrices: tf.Tensor, fill: int = 0, form: str = "affine") -> tf.Tensor:
    """Warps each image by its inverse affine map, nearest pixel: PIL `Image.transform(size, AFFINE, m, NEAREST)`.

    out[y, x] = in[floor(y_in), floor(x_in)],  x_in = a x + b y + x_0,  y_in = d x + e y + y_0, with (x_0, y_0) the
    source of the centre of output pixel (0, 0). This is PIL's fixed-point arithmetic, bit for bit.

    Args:
      images: uint8 [B,H,W,C].
      matrices: int32 [B,6] or [6], Q16: a, b, x_0, d, e, y_0, from `rotation`, `shear_x`, `shear_y` or `translation`.
      fill: grey level 0..255 of places that lie outside the image.
      form: what is known of the matrices: `affine` nothing; `shear_x`, `shear_y`, `translate_x` or `translate_y` that
        they come from that maker. The pixels are the same, got two to ten times as fast.

    Returns:
      uint8 [B,H,W,C].

    Example:
      >>> import tensorflow as tf
      >>> image = tf.reshape(tf.range(4, dtype=tf.int32), [1, 1, 4, 1])
      >>> warp(tf.cast(image, tf.uint8), translation(1, 0), fill=9)[0, 0, :, 0].numpy().tolist()
      [1, 2, 3, 9]
    """
    check_images(images)
    columns, rows = tf.range(size_of(images, 2)), tf.range(size_of(images, 1))
    _, b, x_0, d, _, y_0 = tf.unstack(tf.reshape(tf.convert_to_tensor(matrices, tf.int32), [-1, 6, 1]), axis=1)
    if form == "translate_x":
        return gather_columns(images, _every(images, columns + _whole(x_0)), fill)
    if form == "translate_y":
        return gather_rows(images, _every(images, rows + _whole(y_0)), fill)
    if form == "shear_x":
        return gather_columns(images, _every(images, columns + _whole(b * rows + x_0)[..., tf.newaxis]), fill)
    if form == "shear_y":
        y = rows[:, tf.newaxis] + _whole(d * columns + y_0)[:, tf.newaxis]
        return gather_pixels(images, _every(images, y), columns, fill)
    if form != "affine":
        raise ValueError(f"form is {form!r}; allowed: affine, shear_x, shear_y, translate_x, translate_y")
    x, y = _places(images, matrices)
    return gather_pixels(images, _every(images, _whole(y)), _every(images, _whole(x)), fill)


def _whole(place: tf.Tensor) -> tf.Tensor:
    """Returns the whole part of a place in Q16."""
    return tf.bitwise.right_shift(place, 16)


def _every(images: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Repeats the places of one matrix for each image; those of a matrix per image stay as they are."""
    return tf.broadcast_to(places, tf.concat([[size_of(images, 0)], tf.shape(places)[1:]], 0))


def warp_bilinear(images: tf.Tensor, matrices: tf.Tensor, fill: int = 0) -> tf.Tensor:
    """Warps each image by its inverse affine map, bilinear: PIL `Image.transform(size, AFFINE, m, BILINEAR)`.

    With (x_in, y_in) as in `warp`, the pixel is `fill` where x_in < 0, x_in >= W, y_in < 0 or y_in >= H, else

        out = floor((1-v) ((1-u) p_00 + u p_01) + v ((1-u) p_10 + u p_11)),   u = frac(x_in - 1/2), v = frac(y_in - 1/2)

    with p the four pixels whose centres surround the place, those outside the image replaced by the nearest inside.
    u and v are rounded to multiples of 2**-12. PIL computes in float64 with matrices that are not rounded, so a grey
    level that is nearly a whole number may come out one off: see tests/test_images_exact.py for how many do. A source
    that lies exactly on the border is inside at 0 and outside at W or H; PIL's rounding puts a few on the other side.

    Args:
      images: uint8 [B,H,W,C].
      matrices: int32 [B,6] or [6], Q16, as in `warp`.
      fill: grey level 0..255 of places that lie outside the image.

    Returns:
      uint8 [B,H,W,C].

    Example:
      >>> import tensorflow as tf
      >>> image = tf.reshape(tf.range(0, 40, 10, dtype=tf.int32), [1, 1, 4, 1])
      >>> warp_bilinear(tf.cast(image, tf.uint8), translation(0.5, 0), fill=9)[0, 0, :, 0].numpy().tolist()
      [5, 15, 25, 9]
    """
    check_images(images)
    batch, height, width, channels = (size_of(images, axis) for axis in range(4))
    x, y = _places(images, matrices)
    # The matrix's rounding moves a place by up to half a unit per pixel of an axis. Sources that lie on the border
    # exactly, as round shears and translations have them, must not change sides by that.
    slack = (height + width) // 4
    inside = (x >= -slack) & (x < width * Q16 - slack) & (y >= -slack) & (y < height * Q16 - slack)
    x, y = (tf.bitwise.right_shift(place - Q16 // 2 + 2 ** (15 - _WEIGHT_BITS), 16 - _WEIGHT_BITS) for place in (x, y))
    u, v = (tf.cast(place & (_WEIGHT_ONE - 1), tf.uint32)[..., tf.newaxis] for place in (x, y))
    x, y = (tf.bitwise.right_shift(place, _WEIGHT_BITS) for place in (x, y))
    row = tf.reshape(tf.range(batch) * height, [-1, 1, 1])
    above, below = ((row + _clip(y + i, height)) * width for i in (0, 1))
    left, right = (_clip(x + i, width) for i in (0, 1))
    flat = tf.reshape(images, [-1, channels])

    def between(first: tf.Tensor, second: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        return first * (_WEIGHT_ONE - weight) + second * weight

    def blend_of_row(start: tf.Tensor) -> tf.Tensor:
        first, second = (tf.cast(tf.gather(flat, start + column), tf.uint32) for column in (left, right))
        return between(first, second, u)

    # 8 + 12 + 12 bits fill a uint32. 2**-10 makes up for the weights' own rounding, so that whole sums stay whole.
    total = between(blend_of_row(above), blend_of_row(below), v) + 2 ** (2 * _WEIGHT_BITS - 10)
    pixels = tf.cast(tf.bitwise.right_shift(total, 2 * _WEIGHT_BITS), tf.uint8)
    return tf.where(inside[..., tf.newaxis], pixels, tf.cast(fill, tf.uint8))


def _places(images: tf.Tensor, matrices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sources x_in and y_in of each pixel's centre in Q16, int32 [B,H,W]."""
    matrix = tf.reshape(tf.convert_to_tensor(matrices, tf.int32), [-1, 6, 1, 1])
    columns = tf.reshape(tf.range(size_of(images, 2)), [1, 1, -1])
    rows = tf.reshape(tf.range(size_of(images, 1)), [1, -1, 1])
    x = matrix[:, 0] * columns + matrix[:, 1] * rows + matrix[:, 2]
    y = matrix[:, 3] * columns + matrix[:, 4] * rows + matrix[:, 5]
    return x, y


def flip(images: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mirrors left to right the images whose `mask` (bool [B]) is true; any dtype."""
    # By a gather: a reverse takes XLA on CPU half its time in TensorFlow 2.21, but ten times as long in 2.15.
    columns = tf.range(size_of(images, 2))
    return gather_columns(images, tf.where(mask[:, tf.newaxis], tf.reverse(columns, [0]), columns), 0)


def pad_and_crop(images: tf.Tensor, top: tf.Tensor, left: tf.Tensor, pad_px: int, reflect: bool = False) -> tf.Tensor:
    """Pads each image by `pad_px` on all sides and cuts a window of the first size at its own place; any dtype.

    Args:
      images: [B,H,W,C].
      top: int32 [B], first row of the window in the padded image, 0..2 pad_px.
      left: int32 [B], first column, likewise.
      pad_px: pixels of padding, 0 or more; below the image's sides if it reflects.
      reflect: whether the padding mirrors the image, without its outermost row or column; else it is 0.

    Returns:
      [B,H,W,C], dtype of `images`.
    """

    def places(start: tf.Tensor, size: IntOrTensor) -> tf.Tensor:
        places = (start - pad_px)[:, tf.newaxis] + tf.range(size)
        return size - 1 - tf.abs(size - 1 - tf.abs(places)) if reflect else places

    rows = gather_rows(images, places(top, size_of(images, 1)), 0)
    return gather_columns(rows, places(left, size_of(images, 2)), 0)


def cutout(images: tf.Tensor, y: tf.Tensor, x: tf.Tensor, half_px: IntOrTensor, fill: int = 0) -> tf.Tensor:
    """Fills the square of side 2 half_px whose centre is the upper left corner of pixel (y, x), clipped at the borders.

    Args:
      images: [B,H,W,C], any dtype.
      y: int32 [B], row of the centre.
      x: int32 [B], column of the centre.
      half_px: half the side; an int or int32 [B].
      fill: grey level of the square.

    Returns:
      [B,H,W,C], dtype of `images`.
    """
    centre = tf.stack([y, x], 1)
    half = per_image(half_px, 2)
    return cover(images, tf.concat([centre - half, centre + half], 1)[:, tf.newaxis], 1, fill)


def cover(images: tf.Tensor, boxes_px: tf.Tensor, num: int, fill: float | tf.Tensor) -> tf.Tensor:
    """Fills boxes of each image; what of them lies outside is left out.

    Args:
      images: [B,H,W,C], any dtype.
      boxes_px: int32 [B,num,4], rows and columns: top, left, bottom, right, ends excluded.
      num: how many boxes an image has.
      fill: a number, or a tensor that broadcasts to the images.

    Returns:
      [B,H,W,C], dtype of `images`.
    """
    batch, height, width = (size_of(images, axis) for axis in range(3))
    rows, columns = tf.range(height)[tf.newaxis], tf.range(width)[tf.newaxis]
    covered = tf.zeros([batch, height, width], tf.bool)
    for i in range(num):
        top, left, bottom, right = tf.unstack(boxes_px[:, i, :, tf.newaxis], axis=1)
        in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
        covered |= in_rows[:, :, tf.newaxis] & in_columns[:, tf.newaxis, :]
    return tf.where(covered[..., tf.newaxis], tf.cast(fill, images.dtype), images)
