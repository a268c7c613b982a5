"""Batched pixel kernels in integer arithmetic: PIL's operations on uint8 images, one parameter per image.

Every kernel takes `images` uint8 [B,H,W,C] with 1 or 3 channels, any height and any width, and returns the same.
Parameters are Python numbers or int32 tensors [B]. Nothing is random, nothing loops over images, all compiles under
XLA with an unknown batch size, and integers (fixed point, Q16: 65536 is 1) make the bits equal in eager, graph,
tf.data and XLA, on any device. The kernels that only move or cover pixels (`flip`, `pad_and_crop`, `gather_pixels`,
`cutout`) take any dtype.

Against PIL: warps, equalize, solarize, posterize and the grey levels are equal; autocontrast and blends whose factor
is not a multiple of 0.02 may be one grey level off at rare places where PIL's own floating-point rounding decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Union

import tensorflow as tf

IntOrTensor = Union[int, tf.Tensor]  # noqa: UP007

Q16 = 65536
# ITU-R 601 luma in Q16: PIL's convert("L").
_LUMA_Q16 = (19595, 38470, 7471)
_CENTRE_BITS = 40


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """Returns `images` as uint8: floats 0..255 are rounded half to even and clipped, uint8 passes untouched."""
    if images.dtype == tf.uint8:
        return images
    if images.dtype.is_floating:
        return tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)
    raise ValueError(f"images have dtype {images.dtype.name}; allowed: uint8, or float 0..255")


def _check_images(images: tf.Tensor) -> None:
    """Refuses anything but uint8 [B,H,W,C]."""
    if images.dtype != tf.uint8 or images.shape.rank != 4:
        raise ValueError(f"images are {images.dtype.name} {images.shape}; allowed: uint8 [B,H,W,C]")


def _num_channels(images: tf.Tensor) -> int:
    """Returns the static number of channels, 1 or 3."""
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"images have {channels} channels; allowed: 1 or 3")
    return channels


def _per_image(value: IntOrTensor, rank: int = 4) -> IntOrTensor:
    """Shapes a per-image parameter so that it broadcasts over [B,H,W,C]; numbers pass."""
    if isinstance(value, int):
        return value
    value = tf.convert_to_tensor(value, tf.int32)
    return tf.reshape(value, [-1] + [1] * (rank - 1)) if value.shape.rank == 1 else value


def _size(images: tf.Tensor, axis: int) -> IntOrTensor:
    """Returns the size along `axis`: an int where it is known, else a scalar int32 tensor."""
    size = images.shape[axis]
    return tf.shape(images)[axis] if size is None else size


# --- warps -----------------------------------------------------------------------------------------------------------


def _fixed_affine(
    a: float, b: float, d: float, e: float, centre: bool, c: float, f: float, height: IntOrTensor, width: IntOrTensor
) -> tf.Tensor:
    """Returns the Q16 matrix whose origin is the source of output pixel (0,0)'s centre."""
    # In 64-bit fixed point and not in floats, so that a height known only at run time gives the same bits under XLA.
    one = 1 << _CENTRE_BITS
    qa, qb, qc, qd, qe, qf = (round(v * one) for v in (a, b, c, d, e, f))
    if isinstance(height, tf.Tensor):
        height = tf.cast(height, tf.int64)
    if isinstance(width, tf.Tensor):
        width = tf.cast(width, tf.int64)
    # Twice the origin: x = a (x_out + 1/2 - W/2) + b (y_out + 1/2 - H/2) + W/2 + c for a centred map.
    twice_x = qa + qb + 2 * qc
    twice_y = qd + qe + 2 * qf
    if centre:
        twice_x = twice_x + (one - qa) * width - qb * height
        twice_y = twice_y + (one - qe) * height - qd * width
    shift = 2 ** (_CENTRE_BITS - 16 + 1)
    origin_x = (twice_x + shift // 2) // shift
    origin_y = (twice_y + shift // 2) // shift
    scale = [math.floor(v * Q16 + 0.5) for v in (a, b, d, e)]
    if isinstance(origin_x, int) and isinstance(origin_y, int):
        return tf.constant([scale[0], scale[1], origin_x, scale[2], scale[3], origin_y], tf.int32)
    return tf.stack([scale[0], scale[1], tf.cast(origin_x, tf.int32), scale[2], scale[3], tf.cast(origin_y, tf.int32)])


def rotation(degrees: float, height: IntOrTensor, width: IntOrTensor) -> tf.Tensor:
    """Returns the warp matrix of a counter-clockwise turn by `degrees` about the image's centre: PIL `Image.rotate`."""
    angle = -math.radians(degrees)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    return _fixed_affine(cos, sin, -sin, cos, True, 0.0, 0.0, height, width)


def shear_x(factor: float) -> tf.Tensor:
    """Returns the warp matrix x_in = x + factor y, with the origin in the top left corner."""
    return _fixed_affine(1.0, factor, 0.0, 1.0, False, 0.0, 0.0, 0, 0)


def shear_y(factor: float) -> tf.Tensor:
    """Returns the warp matrix y_in = y + factor x, with the origin in the top left corner."""
    return _fixed_affine(1.0, 0.0, factor, 1.0, False, 0.0, 0.0, 0, 0)


def translation(x_px: float, y_px: float) -> tf.Tensor:
    """Returns the warp matrix x_in = x + x_px, y_in = y + y_px (positive values move the picture left and up)."""
    return _fixed_affine(1.0, 0.0, 0.0, 1.0, False, x_px, y_px, 0, 0)


def gather_pixels(images: tf.Tensor, y: tf.Tensor, x: tf.Tensor, fill: int) -> tf.Tensor:
    """Returns out[b,i,j] = images[b, y[b,i,j], x[b,i,j]], or `fill` where the place lies outside; any dtype.

    Args:
      images: [B,H,W,C].
      y: int32, broadcasts to [B,H',W'].
      x: int32, broadcasts to [B,H',W'].
      fill: value for places outside the image.

    Returns:
      [B,H',W',C], dtype of `images`.
    """
    batch, height, width, channels = (_size(images, axis) for axis in range(4))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    row = tf.reshape(tf.range(batch) * height, [-1, 1, 1])
    flat = (row + tf.clip_by_value(y, 0, height - 1)) * width + tf.clip_by_value(x, 0, width - 1)
    pixels = tf.gather(tf.reshape(images, [-1, channels]), flat)
    return tf.where(inside[..., tf.newaxis], pixels, tf.cast(fill, images.dtype))


def warp(images: tf.Tensor, matrices: tf.Tensor, fill: int = 0) -> tf.Tensor:
    """Warps each image by its inverse affine map, nearest pixel: PIL `Image.transform(size, AFFINE, m, NEAREST)`.

    out[y, x] = in[floor(y_in), floor(x_in)],  x_in = a x + b y + x_0,  y_in = d x + e y + y_0, with (x_0, y_0) the
    source of the centre of output pixel (0, 0). This is PIL's fixed-point arithmetic, bit for bit.

    Args:
      images: uint8 [B,H,W,C].
      matrices: int32 [B,6] or [6], Q16: a, b, x_0, d, e, y_0, from `rotation`, `shear_x`, `shear_y` or `translation`.
      fill: grey level 0..255 of places that lie outside the image.

    Returns:
      uint8 [B,H,W,C].

    Example:
      >>> import tensorflow as tf
      >>> image = tf.reshape(tf.range(4, dtype=tf.int32), [1, 1, 4, 1])
      >>> warp(tf.cast(image, tf.uint8), translation(1, 0), fill=9)[0, 0, :, 0].numpy().tolist()
      [1, 2, 3, 9]
    """
    _check_images(images)
    matrix = tf.reshape(tf.convert_to_tensor(matrices, tf.int32), [-1, 6, 1, 1])
    columns = tf.reshape(tf.range(_size(images, 2)), [1, 1, -1])
    rows = tf.reshape(tf.range(_size(images, 1)), [1, -1, 1])
    x = matrix[:, 0] * columns + matrix[:, 1] * rows + matrix[:, 2]
    y = matrix[:, 3] * columns + matrix[:, 4] * rows + matrix[:, 5]
    return gather_pixels(images, tf.bitwise.right_shift(y, 16), tf.bitwise.right_shift(x, 16), fill)


def flip(images: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mirrors left to right the images whose `mask` (bool [B]) is true; any dtype."""
    # By a gather, because XLA's reverse on CPU is five times as slow.
    columns = tf.range(_size(images, 2))
    x = tf.where(tf.reshape(mask, [-1, 1, 1]), tf.reverse(columns, [0]), columns)
    return gather_pixels(images, tf.reshape(tf.range(_size(images, 1)), [1, -1, 1]), x, 0)


def pad_and_crop(images: tf.Tensor, top: tf.Tensor, left: tf.Tensor, pad_px: int) -> tf.Tensor:
    """Pads each image with `pad_px` zeros on all sides and cuts a window of the first size at its own place; any dtype.

    Args:
      images: [B,H,W,C].
      top: int32 [B], first row of the window in the padded image, 0..2 pad_px.
      left: int32 [B], first column, likewise.
      pad_px: pixels of padding, 0 or more.

    Returns:
      [B,H,W,C], dtype of `images`.
    """
    y = tf.reshape(top - pad_px, [-1, 1, 1]) + tf.reshape(tf.range(_size(images, 1)), [1, -1, 1])
    x = tf.reshape(left - pad_px, [-1, 1, 1]) + tf.reshape(tf.range(_size(images, 2)), [1, 1, -1])
    return gather_pixels(images, y, x, 0)


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
    half = _per_image(half_px, 3)
    dy = tf.reshape(tf.range(_size(images, 1)), [1, -1, 1]) - tf.reshape(y, [-1, 1, 1])
    dx = tf.reshape(tf.range(_size(images, 2)), [1, 1, -1]) - tf.reshape(x, [-1, 1, 1])
    covered = (dy >= -half) & (dy < half) & (dx >= -half) & (dx < half)
    return tf.where(covered[..., tf.newaxis], tf.cast(fill, images.dtype), images)


# --- tables ----------------------------------------------------------------------------------------------------------


def invert(images: tf.Tensor) -> tf.Tensor:
    """Returns 255 - images."""
    _check_images(images)
    return 255 - images


def posterize(images: tf.Tensor, bits: IntOrTensor) -> tf.Tensor:
    """Keeps the `bits` (0..8) highest bits of each value: PIL `ImageOps.posterize`."""
    _check_images(images)
    if isinstance(bits, int):
        return images & tf.constant(256 - 2 ** (8 - bits), tf.uint8)
    mask = 256 - tf.bitwise.left_shift(tf.ones_like(bits), 8 - bits)
    return images & tf.cast(_per_image(mask), tf.uint8)


def solarize(images: tf.Tensor, threshold: IntOrTensor) -> tf.Tensor:
    """Inverts the values at or above `threshold` (0..256): PIL `ImageOps.solarize`."""
    _check_images(images)
    return tf.where(tf.cast(images, tf.int32) < _per_image(threshold), images, 255 - images)


def solarize_add(images: tf.Tensor, addition: IntOrTensor, threshold: int = 128) -> tf.Tensor:
    """Adds `addition` to the values below `threshold`, clipped to 0..255."""
    _check_images(images)
    values = tf.cast(images, tf.int32)
    added = tf.cast(tf.clip_by_value(values + _per_image(addition), 0, 255), tf.uint8)
    return tf.where(values < threshold, added, images)


def autocontrast(images: tf.Tensor) -> tf.Tensor:
    """Stretches each channel of each image to 0..255: PIL `ImageOps.autocontrast` without cut-off.

    out = floor(255 (x - low) / (high - low)); a constant channel stays as it is. PIL works in float64, and where the
    quotient is a whole number its rounding sometimes makes it one grey level darker.
    """
    _check_images(images)
    low = _reduce_pixels(tf.reduce_min, images)
    span = _reduce_pixels(tf.reduce_max, images) - low
    # A rounded-up reciprocal: exact, because (x - low) span < 65536.
    reciprocal = (255 * Q16) // tf.maximum(span, 1) + 1
    stretched = tf.bitwise.right_shift((tf.cast(images, tf.int32) - low) * reciprocal, 16)
    return tf.where(span > 0, tf.cast(stretched, tf.uint8), images)


def _reduce_pixels(reduce: Callable[..., tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    """Reduces each channel over its pixels, int32 [B,1,1,C]."""
    # Rows first, as vectors of W C values: twice as fast under XLA as both axes at once.
    rows = reduce(tf.reshape(images, [_size(images, 0), _size(images, 1), -1]), 1)
    return tf.cast(
        reduce(tf.reshape(rows, [_size(images, 0), 1, -1, _num_channels(images)]), 2, keepdims=True), tf.int32
    )


def histogram(images: tf.Tensor) -> tf.Tensor:
    """Counts the values of each channel of each image.

    Args:
      images: uint8 [B,H,W,C].

    Returns:
      int32 [B,C,256], each row sums to H W.
    """
    _check_images(images)
    batch = _size(images, 0)
    # One channel after the other: XLA's scatter loop is faster on short index arrays.
    counts = []
    for channel in range(_num_channels(images)):
        ids = tf.reshape(_table_index(images, channel), [-1])
        counts.append(tf.reshape(tf.math.unsorted_segment_sum(tf.ones_like(ids), ids, batch * 256), [-1, 256]))
    return tf.stack(counts, 1)


def _table_index(images: tf.Tensor, channel: int) -> tf.Tensor:
    """Returns for each value of a channel its place in a flat [B 256] table, int32 [B,H,W]."""
    row = tf.reshape(tf.range(_size(images, 0)) * 256, [-1, 1, 1])
    return row + tf.cast(images[..., channel], tf.int32)


def apply_tables(images: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """Looks every value up in the table of its image and channel.

    Args:
      images: uint8 [B,H,W,C].
      tables: uint8 [B,C,256].

    Returns:
      uint8 [B,H,W,C].
    """
    _check_images(images)
    looked_up = [
        tf.gather(tf.reshape(tables[:, channel], [-1]), _table_index(images, channel))
        for channel in range(_num_channels(images))
    ]
    return tf.stack(looked_up, -1)


def _count_below(counts: tf.Tensor) -> tf.Tensor:
    """Returns for each of the 256 counts the sum of those before it, int32, same shape."""
    # Sixteen blocks of sixteen: XLA sums each prefix anew, which costs 16 + 16 additions a count in place of 256.
    blocks = tf.reshape(counts, [-1, 16, 16])
    inside = tf.cumsum(blocks, -1, exclusive=True)
    before = tf.cumsum(tf.reduce_sum(blocks, -1), -1, exclusive=True)
    return tf.reshape(inside + before[..., tf.newaxis], tf.shape(counts))


def _materialize(tables: tf.Tensor) -> tf.Tensor:
    """Returns int32 `tables` 0..255 as they are, but computed once: XLA would compute an entry anew for each pixel."""
    # A reduction of (table, 0) by maximum is one that XLA neither simplifies nor fuses into the look-up.
    masks = tf.constant([255, 0])[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.reduce_max(tables & masks, 0)


def equalize(images: tf.Tensor) -> tf.Tensor:
    """Flattens the histogram of each channel of each image: PIL `ImageOps.equalize`.

    table[v] = (step // 2 + #{x < v}) // step,  step = (H W - #{x = max}) // 255; a channel with step 0 stays as it is.
    Images of up to 2**21 pixels.
    """
    counts = histogram(images)
    below = _count_below(counts)
    num_pixels = _size(images, 1) * _size(images, 2)
    # The pixels that are not of the highest value: the largest prefix sum that is short of all pixels.
    step = tf.reduce_max(tf.where(below < num_pixels, below, 0), -1, keepdims=True) // 255
    half = tf.cast(step // 2, tf.float32) + 0.5
    # The half keeps the quotient 1 / (2 step) or more away from any whole number: its rounding cannot matter.
    quotient = (tf.cast(below, tf.float32) + half) * (1.0 / tf.cast(tf.maximum(step, 1), tf.float32))
    tables = tf.where(step > 0, tf.cast(tf.minimum(quotient, 255.0), tf.int32), tf.range(256))
    return apply_tables(images, tf.cast(_materialize(tables), tf.uint8))


# --- blends ----------------------------------------------------------------------------------------------------------


def factor_q20(factor: float) -> int:
    """Returns a blend factor 0..8 in Q20: 1048576 is 1. The four bits beyond Q16 keep nearer to PIL's float32.

    Raises:
      ValueError: if `factor` is out of its range, in which 32 bits hold the products.
    """
    if not 0 <= factor <= 8:
        raise ValueError(f"a blend factor is {factor!r}; allowed: 0..8")
    return math.floor(factor * 2**20 + 0.5)


def _blend(degenerate: IntOrTensor, values: tf.Tensor, factor: IntOrTensor) -> tf.Tensor:
    """Returns degenerate + factor (values - degenerate), rounded down and clipped, as uint8."""
    # 128 makes up for the factor's own rounding (at most 255 / 2), so that whole products stay whole, as in PIL.
    moved = tf.bitwise.right_shift((values - degenerate) * _per_image(factor) + 128, 20) + degenerate
    return tf.cast(tf.clip_by_value(moved, 0, 255), tf.uint8)


def grayscale(images: tf.Tensor) -> tf.Tensor:
    """Returns the luma (19595 R + 38470 G + 7471 B + 32768) >> 16, int32 [B,H,W,1]: PIL `convert("L")`."""
    values = tf.cast(images, tf.int32)
    if _num_channels(images) == 1:
        return values
    red, green, blue = _LUMA_Q16
    luma = values[..., 0:1] * red + values[..., 1:2] * green + values[..., 2:3] * blue + 32768
    return tf.bitwise.right_shift(luma, 16)


def brightness(images: tf.Tensor, factor: IntOrTensor) -> tf.Tensor:
    """Blends with black: PIL `ImageEnhance.Brightness`; `factor` in Q20 (`factor_q20`), int or int32 [B]."""
    _check_images(images)
    return _blend(0, tf.cast(images, tf.int32), factor)


def contrast(images: tf.Tensor, factor: IntOrTensor) -> tf.Tensor:
    """Blends with the rounded mean luma: PIL `ImageEnhance.Contrast`; `factor` in Q20, int or int32 [B].

    Images of up to 2**23 pixels.
    """
    _check_images(images)
    num_pixels = tf.shape(images)[1] * tf.shape(images)[2]
    total = tf.reduce_sum(grayscale(images), [1, 2, 3], keepdims=True)
    return _blend((total + num_pixels // 2) // num_pixels, tf.cast(images, tf.int32), factor)


def color(images: tf.Tensor, factor: IntOrTensor) -> tf.Tensor:
    """Blends with the luma: PIL `ImageEnhance.Color`; `factor` in Q20, int or int32 [B]. One channel: the identity."""
    _check_images(images)
    if _num_channels(images) == 1:
        return images
    return _blend(grayscale(images), tf.cast(images, tf.int32), factor)


def sharpness(images: tf.Tensor, factor: IntOrTensor) -> tf.Tensor:
    """Blends with the smoothed image: PIL `ImageEnhance.Sharpness`; `factor` in Q20, int or int32 [B].

    The smoothing is the mean over 3x3 pixels, the middle one weighing 5 of 13; the border pixels keep their value.
    """
    _check_images(images)
    values = tf.cast(images, tf.int32)
    height, width = _size(images, 1), _size(images, 2)
    padded = tf.pad(values, [[0, 0], [1, 1], [1, 1], [0, 0]])
    columns = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    total = columns[:, :, :-2] + columns[:, :, 1:-1] + columns[:, :, 2:] + 4 * values
    # (total + 6) // 13 by a multiplication, exact up to 6553.
    smooth = tf.bitwise.right_shift((total + 6) * 5042, 16)
    rows = tf.reshape(tf.range(height), [1, -1, 1, 1])
    cols = tf.reshape(tf.range(width), [1, 1, -1, 1])
    inner = (rows > 0) & (rows < height - 1) & (cols > 0) & (cols < width - 1)
    return tf.where(inner, _blend(smooth, values, factor), images)
