"""Kernels that look every value up in a table of its image and channel."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from tfaug.images.base import Q16, IntOrTensor, check_images, computed_once, num_channels, per_image, size_of

_NUM_PARTS = 16


def invert(images: tf.Tensor) -> tf.Tensor:
    """Returns 255 - images."""
    check_images(images)
    return 255 - images


def posterize(images: tf.Tensor, bits: IntOrTensor) -> tf.Tensor:
    """Keeps the `bits` (0..8) highest bits of each value: PIL `ImageOps.posterize`."""
    check_images(images)
    if isinstance(bits, int):
        return images & tf.constant(256 - 2 ** (8 - bits), tf.uint8)
    mask = 256 - tf.bitwise.left_shift(tf.ones_like(bits), 8 - bits)
    return images & tf.cast(per_image(mask), tf.uint8)


def solarize(images: tf.Tensor, threshold: IntOrTensor) -> tf.Tensor:
    """Inverts the values at or above `threshold` (0..256): PIL `ImageOps.solarize`."""
    check_images(images)
    return tf.where(tf.cast(images, tf.int32) < per_image(threshold), images, 255 - images)


def add(images: tf.Tensor, addition: IntOrTensor) -> tf.Tensor:
    """Adds `addition` (-255..255) to all values, clipped to 0..255."""
    check_images(images)
    return tf.cast(tf.clip_by_value(tf.cast(images, tf.int32) + per_image(addition), 0, 255), tf.uint8)


def add_solarize(images: tf.Tensor, share: IntOrTensor) -> tf.Tensor:
    """Adds 110 `share` to all values, clipped, then inverts those at or above 255 (1 - `share`).

    Exactly so for the values that are inverted; what is added to them is rounded to whole levels.

    Args:
      images: uint8 [B,H,W,C].
      share: 0..1 in Q20 (`factor_q20`), int or int32 [B].

    Returns:
      uint8 [B,H,W,C].

    Source: keras-cv 0.9, layers.Solarization with the factors of layers.RandAugment.
    """
    check_images(images)
    # x + 110 s >= 255 (1 - s) from this x on. 183 makes up for the share's own rounding (at most 365 / 2).
    lowest_inverted = 255 - (365 * share + 183) // 2**20
    added = add(images, (110 * share + 2**19) // 2**20)
    return tf.where(tf.cast(images, tf.int32) < per_image(lowest_inverted), added, 255 - added)


def solarize_add(images: tf.Tensor, addition: IntOrTensor, threshold: int = 128) -> tf.Tensor:
    """Adds `addition` to the values below `threshold`, clipped to 0..255."""
    check_images(images)
    values = tf.cast(images, tf.int32)
    added = tf.cast(tf.clip_by_value(values + per_image(addition), 0, 255), tf.uint8)
    return tf.where(values < threshold, added, images)


def autocontrast(images: tf.Tensor) -> tf.Tensor:
    """Stretches each channel of each image to 0..255: PIL `ImageOps.autocontrast` without cut-off.

    out = floor(255 (x - low) / (high - low)); a constant channel stays as it is. PIL works in float64, and where the
    quotient is a whole number its rounding sometimes makes it one grey level darker.
    """
    check_images(images)
    low = _reduce_pixels(tf.minimum, tf.reduce_min, images)
    span = _reduce_pixels(tf.maximum, tf.reduce_max, images) - low
    # A rounded-up reciprocal: exact, because (x - low) span < 65536.
    reciprocal = (255 * Q16) // tf.maximum(span, 1) + 1
    stretched = tf.bitwise.right_shift((tf.cast(images, tf.int32) - low) * reciprocal, 16)
    return tf.where(span > 0, tf.cast(stretched, tf.uint8), images)


def _reduce_pixels(pair: Callable[..., tf.Tensor], reduce: Callable[..., tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    """Reduces each channel over its pixels by a minimum or maximum, int32 [B,1,1,C]."""
    height = size_of(images, 1)
    # Rows as vectors of W C values, and first parts of the rows pair by pair: XLA does element-wise work side by side
    # and its reductions one by one, which takes ten times as long. The parts may overlap: it is a minimum or maximum.
    rows = tf.reshape(images, [size_of(images, 0), height, -1])
    if isinstance(height, int):
        length = -(-height // _NUM_PARTS)
        parts = [i * (height - length) // (_NUM_PARTS - 1) for i in range(_NUM_PARTS)]
        rows = functools.reduce(pair, [rows[:, first : first + length] for first in parts])
    rows = tf.reshape(reduce(rows, 1), [size_of(images, 0), 1, -1, num_channels(images)])
    return tf.cast(reduce(rows, 2, keepdims=True), tf.int32)


def histogram(images: tf.Tensor) -> tf.Tensor:
    """Counts the values of each channel of each image.

    Args:
      images: uint8 [B,H,W,C].

    Returns:
      int32 [B,C,256], each row sums to H W.
    """
    check_images(images)
    batch = size_of(images, 0)
    # One channel after the other: XLA's scatter loop is faster on short index arrays.
    counts = []
    for channel in range(num_channels(images)):
        ids = tf.reshape(_table_index(images, channel), [-1])
        counts.append(tf.reshape(tf.math.unsorted_segment_sum(tf.ones_like(ids), ids, batch * 256), [-1, 256]))
    return tf.stack(counts, 1)


def _table_index(images: tf.Tensor, channel: int) -> tf.Tensor:
    """Returns for each value of a channel its place in a flat [B 256] table, int32 [B,H,W]."""
    row = tf.reshape(tf.range(size_of(images, 0)) * 256, [-1, 1, 1])
    return row + tf.cast(images[..., channel], tf.int32)


def apply_tables(images: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """Looks every value up in the table of its image and channel.

    Args:
      images: uint8 [B,H,W,C].
      tables: uint8 [B,C,256].

    Returns:
      uint8 [B,H,W,C].
    """
    check_images(images)
    channels = num_channels(images)
    # One table of all channels: three look-ups side by side take XLA half as long again.
    index = tf.cast(images, tf.int32) + tf.range(channels) * 256
    return tf.gather(tf.reshape(tables, [size_of(images, 0), channels * 256]), index, batch_dims=1)


def _count_below(counts: tf.Tensor) -> tf.Tensor:
    """Returns for each of the 256 counts the sum of those before it, int32, same shape."""
    # Sixteen blocks of sixteen: XLA sums each prefix anew, which costs 16 + 16 additions a count in place of 256.
    blocks = tf.reshape(counts, [-1, 16, 16])
    inside = tf.cumsum(blocks, -1, exclusive=True)
    before = tf.cumsum(tf.reduce_sum(blocks, -1), -1, exclusive=True)
    return tf.reshape(inside + before[..., tf.newaxis], tf.shape(counts))


def equalize(images: tf.Tensor) -> tf.Tensor:
    """Flattens the histogram of each channel of each image: PIL `ImageOps.equalize`.

    table[v] = (step // 2 + #{x < v}) // step,  step = (H W - #{x = max}) // 255; a channel with step 0 stays as it is.
    """
    below = _count_below(histogram(images))
    num_pixels = size_of(images, 1) * size_of(images, 2)
    # The pixels that are not of the highest value: the largest prefix sum that is short of all pixels.
    others = tf.reduce_max(tf.where(below < num_pixels, below, 0), -1, keepdims=True)
    return _equalize(images, below, others // 255)


def equalize_rarest(images: tf.Tensor) -> tf.Tensor:
    """Flattens the histogram as `equalize` does, with step = (H W - #{x = the rarest value there is}) // 255.

    Source: keras-cv 0.9, layers.Equalization. Where the highest value is not the rarest one its step is the larger, and
    small images come out darker.
    """
    counts = histogram(images)
    num_pixels = size_of(images, 1) * size_of(images, 2)
    others = num_pixels - tf.reduce_min(tf.where(counts > 0, counts, num_pixels), -1, keepdims=True)
    return _equalize(images, _count_below(counts), others // 255)


def _equalize(images: tf.Tensor, below: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Returns (step // 2 + below[x]) // step up to 255, or x where the step is 0; `step` is int32 [B,C,1]."""
    divisor, total = tf.maximum(step, 1), below + step // 2
    # A float's quotient is at most one off, which is put right: XLA divides whole numbers one by one.
    quotient = tf.cast(total, tf.float32) * (1.0 / tf.cast(divisor, tf.float32))
    quotient = tf.cast(tf.minimum(quotient, 255.0), tf.int32)
    quotient -= tf.cast(quotient * divisor > total, tf.int32)
    quotient += tf.cast((quotient + 1) * divisor <= total, tf.int32)
    tables = tf.where(step > 0, tf.minimum(quotient, 255), tf.range(256))
    return apply_tables(images, tf.cast(computed_once(tables), tf.uint8))
