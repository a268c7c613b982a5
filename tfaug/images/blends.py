"""Kernels that blend an image with a degenerate form of itself."""

from __future__ import annotations

import math

import tensorflow as tf

from tfaug import rng
from tfaug.images.base import IntOrTensor, check_images, num_channels, per_image, size_of

# ITU-R 601 luma in Q16: PIL's convert("L").
_LUMA_Q16 = (19595, 38470, 7471)
# The same in four digits: tf.image.rgb_to_grayscale's, and so keras-cv's. They sum to 0.9999.
_LUMA = (0.2989, 0.587, 0.114)


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
    moved = tf.bitwise.right_shift((values - degenerate) * per_image(factor) + 128, 20) + degenerate
    return tf.cast(tf.clip_by_value(moved, 0, 255), tf.uint8)


def grayscale(images: tf.Tensor) -> tf.Tensor:
    """Returns the luma (19595 R + 38470 G + 7471 B + 32768) >> 16, int32 [B,H,W,1]: PIL `convert("L")`."""
    values = tf.cast(images, tf.int32)
    if num_channels(images) == 1:
        return values
    red, green, blue = _LUMA_Q16
    luma = values[..., 0:1] * red + values[..., 1:2] * green + values[..., 2:3] * blue + 32768
    return tf.bitwise.right_shift(luma, 16)


def luma(images: tf.Tensor) -> tf.Tensor:
    """Returns 0.2989 R + 0.587 G + 0.114 B of floats of any range, unrounded, float32 [B,H,W,1].

    `grayscale` is PIL's, of whole levels; one for both would move the bits of one.
    """
    images = tf.cast(images, tf.float32)
    if num_channels(images) == 1:
        return images
    red, green, blue = (rng.unfused(images[..., i : i + 1] * share) for i, share in enumerate(_LUMA))
    return red + green + blue


def brightness(images: tf.Tensor, factor: IntOrTensor) -> tf.Tensor:
    """Blends with black: PIL `ImageEnhance.Brightness`; `factor` in Q20 (`factor_q20`), int or int32 [B]."""
    check_images(images)
    return _blend(0, tf.cast(images, tf.int32), factor)


def contrast(images: tf.Tensor, factor: IntOrTensor) -> tf.Tensor:
    """Blends with the rounded mean luma: PIL `ImageEnhance.Contrast`; `factor` in Q20, int or int32 [B]."""
    check_images(images)
    num_pixels = tf.cast(tf.shape(images)[1] * tf.shape(images)[2], tf.int64)
    mean = (_sum_of_pixels(grayscale(images)) + num_pixels // 2) // num_pixels
    return _blend(tf.cast(mean, tf.int32), tf.cast(images, tf.int32), factor)


def contrast_channel(images: tf.Tensor, factor: IntOrTensor) -> tf.Tensor:
    """Blends each channel with its own mean: out = mean + factor (x - mean), rounded half up and clipped.

    The mean is not rounded.

    Args:
      images: uint8 [B,H,W,C].
      factor: 0..8 in Q20 (`factor_q20`), int or int32 [B].

    Returns:
      uint8 [B,H,W,C].

    Source: keras-cv 0.9, layers.RandomContrast.
    """
    check_images(images)
    values, factor = tf.cast(images, tf.int32), per_image(factor)
    total = _sum_of_pixels(values)
    num_pixels = tf.cast(tf.shape(images)[1] * tf.shape(images)[2], tf.int64)
    # What all pixels share, (1 - factor) mean, has one value a channel: there 64 bits cost nothing.
    offset = tf.cast(tf.cast(2**20 - factor, tf.int64) * total // num_pixels, tf.int32)
    moved = tf.bitwise.right_shift(values * factor + (offset + 2**19), 20)
    return tf.cast(tf.clip_by_value(moved, 0, 255), tf.uint8)


def _sum_of_pixels(values: tf.Tensor) -> tf.Tensor:
    """Returns the sum of each channel of int32 [B,H,W,C], int64 [B,1,1,C]: 32 bits hold a row, not an image."""
    return tf.reduce_sum(tf.cast(tf.reduce_sum(values, 2, keepdims=True), tf.int64), 1, keepdims=True)


def color(images: tf.Tensor, factor: IntOrTensor) -> tf.Tensor:
    """Blends with the luma: PIL `ImageEnhance.Color`; `factor` in Q20, int or int32 [B]. One channel: the identity."""
    check_images(images)
    if num_channels(images) == 1:
        return images
    return _blend(grayscale(images), tf.cast(images, tf.int32), factor)


def sharpness(images: tf.Tensor, factor: IntOrTensor) -> tf.Tensor:
    """Blends with the smoothed image: PIL `ImageEnhance.Sharpness`; `factor` in Q20, int or int32 [B].

    The smoothing is the mean over 3x3 pixels, the middle one weighing 5 of 13; the border pixels keep their value.
    """
    check_images(images)
    values = tf.cast(images, tf.int32)
    height, width = size_of(images, 1), size_of(images, 2)
    padded = tf.pad(values, [[0, 0], [1, 1], [1, 1], [0, 0]])
    columns = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    total = columns[:, :, :-2] + columns[:, :, 1:-1] + columns[:, :, 2:] + 4 * values
    # (total + 6) // 13 by a multiplication, exact up to 6553.
    smooth = tf.bitwise.right_shift((total + 6) * 5042, 16)
    rows = tf.reshape(tf.range(height), [1, -1, 1, 1])
    cols = tf.reshape(tf.range(width), [1, 1, -1, 1])
    inner = (rows > 0) & (rows < height - 1) & (cols > 0) & (cols < width - 1)
    return tf.where(inner, _blend(smooth, values, factor), images)
