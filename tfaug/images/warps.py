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
    batch, height, width, channels = (size_of(images, axis) for axis in range(4))
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
    check_images(images)
    matrix = tf.reshape(tf.convert_to_tensor(matrices, tf.int32), [-1, 6, 1, 1])
    columns = tf.reshape(tf.range(size_of(images, 2)), [1, 1, -1])
    rows = tf.reshape(tf.range(size_of(images, 1)), [1, -1, 1])
    x = matrix[:, 0] * columns + matrix[:, 1] * rows + matrix[:, 2]
    y = matrix[:, 3] * columns + matrix[:, 4] * rows + matrix[:, 5]
    return gather_pixels(images, tf.bitwise.right_shift(y, 16), tf.bitwise.right_shift(x, 16), fill)


def flip(images: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mirrors left to right the images whose `mask` (bool [B]) is true; any dtype."""
    # By a gather, because XLA's reverse on CPU is five times as slow.
    columns = tf.range(size_of(images, 2))
    x = tf.where(tf.reshape(mask, [-1, 1, 1]), tf.reverse(columns, [0]), columns)
    return gather_pixels(images, tf.reshape(tf.range(size_of(images, 1)), [1, -1, 1]), x, 0)


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
    y = tf.reshape(top - pad_px, [-1, 1, 1]) + tf.reshape(tf.range(size_of(images, 1)), [1, -1, 1])
    x = tf.reshape(left - pad_px, [-1, 1, 1]) + tf.reshape(tf.range(size_of(images, 2)), [1, 1, -1])
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
    half = per_image(half_px, 3)
    dy = tf.reshape(tf.range(size_of(images, 1)), [1, -1, 1]) - tf.reshape(y, [-1, 1, 1])
    dx = tf.reshape(tf.range(size_of(images, 2)), [1, 1, -1]) - tf.reshape(x, [-1, 1, 1])
    covered = (dy >= -half) & (dy < half) & (dx >= -half) & (dx < half)
    return tf.where(covered[..., tf.newaxis], tf.cast(fill, images.dtype), images)
