"""Kernels that weigh each pixel with its neighbours: Gaussian smoothing with a kernel per image.

`gaussian_blur` works on whole grey levels, mirrors the border and cuts its kernel at three deviations;
`gaussian_filter` works on floats, has zeros outside and a kernel of a given size. One for both would move bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from tfaug import rng
from tfaug.images.base import IntOrTensor, check_images, computed_once, size_of

_Border: TypeAlias = Callable[[tf.Tensor, IntOrTensor], tf.Tensor]

_WEIGHT_BITS = 14
# Between the two passes of a blur grey levels keep eight more bits, so that only the last rounding is seen.
_SPARE_BITS = 8


def gaussian_weights(sigmas_px: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns one half of a Gaussian kernel for each deviation: the middle weight and those to one side of it.

    w_k = exp(-k**2 / (2 sigma**2)) for k = 0..ceil(3 sigma), over the sum of all 2 ceil(3 sigma) + 1 weights, in Q14.
    Each is rounded; the middle one takes what is missing, so that w_0 + 2 (w_1 + ...) is 16384 exactly.

    Args:
      sigmas_px: deviations in pixels, 0 or more; 0 is the kernel that changes nothing.

    Returns:
      int32 [V, R + 1], R the largest ceil(3 sigma), zero where a kernel is shorter.
    """
    radius = max(math.ceil(3 * sigma) for sigma in sigmas_px)
    table = np.zeros([len(sigmas_px), radius + 1], np.int32)
    for row, sigma in zip(table, sigmas_px, strict=True):
        if sigma > 0:
            weights = np.exp(-0.5 * (np.arange(math.ceil(3 * sigma) + 1) / sigma) ** 2)
            weights /= 2 * weights.sum() - weights[0]
            row[: len(weights)] = np.rint(weights * 2**_WEIGHT_BITS)
        row[0] = 2**_WEIGHT_BITS - 2 * row[1:].sum()
    return table


def gaussian_blur(images: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Blurs each image by a kernel of its own, along columns and then rows, mirrored about the outermost pixels.

    The values between the two passes keep eight bits below the point.

    Args:
      images: uint8 [B,H,W,C].
      weights: int32 [B,R+1], rows of `gaussian_weights`.

    Returns:
      uint8 [B,H,W,C], rounded half up.

    Raises:
      ValueError: if the images are not uint8 [B,H,W,C].
    """
    check_images(images)
    shifts = _WEIGHT_BITS - _SPARE_BITS, _WEIGHT_BITS + _SPARE_BITS
    return tf.cast(_smooth(tf.cast(images, tf.int32), weights, _mirrored, shifts), tf.uint8)


def smooth_field(field: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Smooths whole numbers by a Gaussian, as if the field repeated itself beyond each border.

    So all places are smoothed alike: with mirrored borders, noise would keep twice the variance there.

    Args:
      field: int32 [B,H,W,C], magnitudes up to 2**16.
      weights: int32 [B,R+1] or [1,R+1], rows of `gaussian_weights`.

    Returns:
      int32 [B,H,W,C], rounded half up after each of the two passes.
    """
    return computed_once(_smooth(field, weights, _repeated, (_WEIGHT_BITS, _WEIGHT_BITS)))


def gaussian_kernels(sigmas_px: np.ndarray, size_px: int) -> np.ndarray:
    """Returns whole Gaussian kernels of one size, which sum to 1.

    Args:
      sigmas_px: deviations in pixels [V], 0 or more; at 0 the kernel is its middle alone.
      size_px: of the kernel.

    Returns:
      float32 [V, size_px].
    """
    at = np.arange(-size_px // 2 + 1, size_px // 2 + 1)
    weights = np.exp(-(at**2) / (2 * np.maximum(sigmas_px, 1e-7)[:, np.newaxis] ** 2))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def gaussian_filter(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Correlates each image with kernels of its own, across and then down, with zeros outside.

    Args:
      images: [B,H,W,C], of any dtype.
      rows: float32 [B,K], weights of the rows, from `gaussian_kernels`.
      columns: float32 [B,L], weights of the columns.

    Returns:
      float32 [B,H,W,C].
    """
    return _correlate(_correlate(tf.cast(images, tf.float32), columns, 2), rows, 1)


def _correlate(images: tf.Tensor, weights: tf.Tensor, axis: int) -> tf.Tensor:
    """Correlates each image with its own weights [B, k] along an axis, with zeros outside."""
    size = weights.shape[1]
    before = (size - 1) // 2
    padding = [[before, size - 1 - before] if i == axis else [0, 0] for i in range(4)]
    padded, length = tf.pad(images, padding), size_of(images, axis)
    total = tf.zeros_like(images)
    # Term by term: the order of a convolution's sum, and so its bits, would be the device's.
    for i in range(size):
        part = padded[:, i : i + length] if axis == 1 else padded[:, :, i : i + length]
        total += rng.share_of(tf.reshape(weights[:, i], [-1, 1, 1, 1]), part)
    return total


def _smooth(values: tf.Tensor, weights: tf.Tensor, border: _Border, shifts: tuple[int, int]) -> tf.Tensor:
    """Weighs int32 values with their neighbours, down and then across, and divides by 2**shift after each, rounding."""
    batch, height, width, channels = (size_of(values, axis) for axis in range(4))
    radius = weights.shape[1] - 1
    # Rows as flat vectors: XLA is faster on them than on pixels of three values.
    tall = tf.reshape(_padded(values, radius, 1, border), [batch, height + 2 * radius, width * channels])
    values = _weigh([tall[:, k : k + height] for k in range(2 * radius + 1)], weights, shifts[0])
    values = tf.reshape(values, [batch, height, width, channels])
    wide = computed_once(_padded(values, radius, 2, border))
    wide = tf.reshape(wide, [batch, height, (width + 2 * radius) * channels])
    length = width * channels
    values = _weigh(
        [wide[..., k * channels : k * channels + length] for k in range(2 * radius + 1)], weights, shifts[1]
    )
    return tf.reshape(values, [batch, height, width, channels])


def _weigh(neighbours: Sequence[tf.Tensor], weights: tf.Tensor, shift: int) -> tf.Tensor:
    """Returns the weighted sum of 2 R + 1 neighbours, first to last, over 2**shift, rounded half up."""
    radius = len(neighbours) // 2
    taps = tf.reshape(weights, [-1, radius + 1, 1, 1])
    total = neighbours[radius] * taps[:, 0] + 2 ** (shift - 1)
    for k in range(1, radius + 1):
        total += (neighbours[radius - k] + neighbours[radius + k]) * taps[:, k]
    return tf.bitwise.right_shift(total, shift)


def _mirrored(position: tf.Tensor, size: IntOrTensor) -> tf.Tensor:
    """Returns the pixel that stands at a position outside 0..size-1, mirrored about the outermost pixels."""
    period = tf.maximum(2 * (size - 1), 1)
    inside = tf.math.floormod(position, period)
    return tf.minimum(inside, period - inside)


def _repeated(position: tf.Tensor, size: IntOrTensor) -> tf.Tensor:
    """Returns the pixel that stands at a position outside 0..size-1 where the image repeats."""
    return tf.math.floormod(position, size)


def _padded(values: tf.Tensor, radius: int, axis: int, border: _Border) -> tf.Tensor:
    """Returns `values` with `radius` places more at both ends of an axis."""
    size = size_of(values, axis)
    return tf.gather(values, border(tf.range(-radius, size + radius), size), axis=axis)
