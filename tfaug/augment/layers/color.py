"""Layers that change the values of pixels and leave them where they are: levels, colours, smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Choice, Shape, image_shape
from tfaug.augment.layers.base import (
    TABLE_SIZE,
    Factor,
    ImageLayer,
    RangeLayer,
    column,
    mix,
    one_of,
    pair,
    read_limits,
    register,
    symmetric,
    table,
    two_sizes,
)
from tfaug.config import read_number
from tfaug.images.base import MAX_SIDE_PX, hold, warn_of_unit_range

_LUMA = (0.2989, 0.587, 0.114)


@register
class AutoContrast(RangeLayer):
    """Stretches each channel of each image over the whole range, as PIL does; with or without `training`.

    As keras-cv, but for whole grey levels.
    """

    _random = False

    def __init__(self, value_range: Sequence[float], **kwargs: Any) -> None:
        super().__init__(value_range, **kwargs)

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        return self._from_0_255(kernels.autocontrast(self._to_levels(images)))


@register
class Equalization(RangeLayer):
    """Flattens the histogram of each channel of each image; with or without `training`. As keras-cv, with 256 bins.

    The histogram's step leaves out the pixels of the rarest value, where PIL's leaves out those of the highest.

    Args:
      bins: 256.
    """

    _random = False

    def __init__(self, value_range: Sequence[float], bins: int = 256, **kwargs: Any) -> None:
        super().__init__(value_range, **kwargs)
        one_of("Equalization.bins", bins, (256,))

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        return self._from_0_255(kernels.equalize_rarest(self._to_levels(images)))


@register
class Posterization(RangeLayer):
    """Keeps the highest bits of each grey level; with or without `training`.

    As keras-cv, but for values that are rounded to grey levels where keras-cv cuts the fraction off.

    Args:
      bits: how many bits are kept, 1..8.
    """

    _random = False

    def __init__(self, value_range: Sequence[float], bits: int, **kwargs: Any) -> None:
        super().__init__(value_range, **kwargs)
        read_number("Posterization.bits", bits, 1, 8, whole=True)

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        return self._from_0_255(kernels.posterize(self._to_levels(images), self.bits))


@register
class Solarization(RangeLayer):
    """Adds to all values, clips them to the range, and inverts those at or above a threshold.

    As keras-cv, but for whole grey levels.

    Args:
      addition_factor: grey levels that are added, 0..255: (lowest, highest), or the highest.
      threshold_factor: lowest inverted level, 0..255, likewise. The default inverts all.
    """

    def __init__(
        self,
        value_range: Sequence[float],
        addition_factor: Factor = 0.0,
        threshold_factor: Factor = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        self._factors = {
            "addition": pair("Solarization.addition_factor", addition_factor, 0, 255),
            "threshold": pair("Solarization.threshold_factor", threshold_factor, 0, 255),
        }

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `addition`, rounded, and `threshold`, rounded up, int32 [B]; see ImageLayer.sample_choice."""
        drawn = super().sample_choice(seed, shape)
        rounded = {"addition": tf.round(drawn["addition"]), "threshold": tf.math.ceil(drawn["threshold"])}
        return {name: tf.cast(value, tf.int32) for name, value in rounded.items()}

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        added = tf.minimum(tf.cast(self._to_levels(images), tf.int32) + column(choice["addition"]), 255)
        return self._from_0_255(kernels.solarize(tf.cast(added, tf.uint8), choice["threshold"]))


@register
class RandomSharpness(RangeLayer):
    """Blends each image with its smoothed form, PIL's 3x3 mean: a factor of 0 is the image, 1 the smoothed one.

    As keras-cv, but for whole grey levels. (PIL counts the other way round.)

    Args:
      factor: share of the smoothed image, 0..1: (lowest, highest), or the highest.
    """

    def __init__(self, factor: Factor, value_range: Sequence[float], seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        self._factors = {"factor": pair("RandomSharpness.factor", factor)}

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        one = kernels.factor_q20(1)
        kept = one - tf.cast(tf.round(choice["factor"] * one), tf.int32)
        return self._from_0_255(kernels.sharpness(self._to_levels(images), kept))


@register
class RandomBrightness(RangeLayer):
    """Adds a share of the range to all values of an image, and clips. As keras-cv.

    Args:
      factor: share of the range, -1..1: (lowest, highest), or x for -x..x.
    """

    def __init__(
        self, factor: Factor, value_range: Sequence[float] = (0, 255), seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        self._factors = {"factor": symmetric("RandomBrightness.factor", factor)}

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        low, high = self.value_range
        warn_of_unit_range(self._to_0_255(images))
        added = rng.unfused(column(choice["factor"]) * float(high - low))
        return hold(tf.cast(images, tf.float32) + added, low, high)


@register
class RandomContrast(RangeLayer):
    """Moves the values of each channel of an image away from the channel's mean, or towards it, and clips.

        mean + factor (value - mean)

    As keras-cv, but that the mean is that of the grey levels, to 1/256 of a level.

    Args:
      factor: (a, b) for factors 1 - a .. 1 + b, or a for 1 - a .. 1 + a; a is at most 2, b at most 1.
    """

    def __init__(self, value_range: Sequence[float], factor: Factor, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        allowed = "a, or (a, b), with 1 - a .. 1 + b in -1..2"
        limits = read_limits(
            "RandomContrast.factor", factor, -1, 2, lambda a, b=None: (1 - a, 1 + (a if b is None else b)), allowed
        )
        self._factors = {"factor": limits}

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        levels = tf.cast(self._to_levels(images), tf.int64)
        num_pixels = tf.cast(tf.shape(levels)[1] * tf.shape(levels)[2], tf.int64)
        # In whole numbers: the order of a sum of floats, and so its bits, would be the device's.
        total = tf.reduce_sum(levels, [1, 2], keepdims=True) * 256
        mean = self._from_0_255(tf.cast((total + num_pixels // 2) // num_pixels, tf.float32) * (1 / 256))
        moved = mean + rng.share_of(column(choice["factor"]), tf.cast(images, tf.float32) - mean)
        return hold(moved, *self.value_range)


@register
class RandomColorDegeneration(ImageLayer):
    """Blends each image with its luma, and clips to 0..255: a factor of 0 is the image, 1 the grey one. As keras-cv.

    Images of one channel stay as they are.

    Args:
      factor: share of the luma, 0..1: (lowest, highest), or the highest.
    """

    _guesses_range = True

    def __init__(self, factor: Factor, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        self._factors = {"factor": pair("RandomColorDegeneration.factor", factor)}

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        return hold(mix(images, _gray(images), column(choice["factor"])), 0, 255)


@register
class Grayscale(ImageLayer):
    """Replaces the colours by their luma; with or without `training`. As keras-cv; one channel is taken too.

    Args:
      output_channels: 1, or 3 equal ones.
    """

    _random = False

    def __init__(self, output_channels: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        one_of("Grayscale.output_channels", output_channels, (1, 3))

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        return tf.repeat(_gray(tf.cast(images, tf.float32)), self.output_channels, axis=-1)


@register
class ChannelShuffle(ImageLayer):
    """Permutes the groups of channels of each image. As keras-cv.

    Args:
      groups: number of groups, which divides the number of channels.
    """

    def __init__(self, groups: int = 3, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        read_number("ChannelShuffle.groups", groups, 1, whole=True)

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `order`, int32 [B, groups]; see ImageLayer.sample_choice."""
        keys = tf.bitcast(rng.bits(seed, [shape[0], self.groups]), tf.int32)
        return {"order": tf.argsort(keys, stable=True)}

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        channels = images.shape[-1]
        if channels % self.groups:
            raise ValueError(f"images have {channels} channels, which {self.groups} groups do not divide")
        size = channels // self.groups
        source = tf.reshape(choice["order"][..., tf.newaxis] * size + tf.range(size), [-1, channels])
        return tf.gather(images, source, axis=3, batch_dims=1)


@register
class RandomGaussianBlur(ImageLayer):
    """Smooths each image with a Gaussian of its own width; pixels outside the image count as 0. As keras-cv.

    The standard deviation is one of 4,096 numbers, evenly spaced.

    Args:
      kernel_size: px of the kernel, or (columns, rows).
      factor: standard deviation in px, 0..16,384: (lowest, highest), or the highest.
    """

    def __init__(self, kernel_size: int | Sequence[int], factor: Factor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        sizes = two_sizes("RandomGaussianBlur.kernel_size", kernel_size, "px, or (columns, rows)", square=True)
        sigmas = table(*pair("RandomGaussianBlur.factor", factor, 0, MAX_SIDE_PX))
        self._columns, self._rows = (_gaussians(sigmas, size) for size in sizes)

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `sigma`, int32 [B], a place in the table; see ImageLayer.sample_choice."""
        return {"sigma": rng.randint(seed, [shape[0]], 0, TABLE_SIZE)}

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        for axis, weights in ((2, self._columns), (1, self._rows)):
            images = _smooth(images, tf.gather(tf.constant(weights), choice["sigma"]), axis)
        return images


def _gray(images: tf.Tensor) -> tf.Tensor:
    """Returns the luma 0.2989 R + 0.587 G + 0.114 B, float32 [B, H, W, 1]."""
    if images.shape[-1] == 1:
        return images
    if images.shape[-1] != 3:
        raise ValueError(f"images have {images.shape[-1]} channels; allowed: 1 or 3")
    red, green, blue = (rng.unfused(images[..., i : i + 1] * share) for i, share in enumerate(_LUMA))
    return red + green + blue


def _gaussians(sigmas: np.ndarray, size: int) -> np.ndarray:
    """Returns kernels that sum to 1, float32 [V, size]; at a width of 0 the middle alone."""
    at = np.arange(-size // 2 + 1, size // 2 + 1)
    weights = np.exp(-(at**2) / (2 * np.maximum(sigmas, 1e-7)[:, np.newaxis] ** 2))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _smooth(images: tf.Tensor, weights: tf.Tensor, axis: int) -> tf.Tensor:
    """Correlates each image with its own weights [B, k] along an axis, with zeros outside."""
    size = weights.shape[1]
    before = (size - 1) // 2
    padding = [[before, size - 1 - before] if i == axis else [0, 0] for i in range(4)]
    padded, length = tf.pad(images, padding), image_shape(images)[axis]
    total = tf.zeros_like(images)
    # Term by term: the order of a convolution's sum, and so its bits, would be the device's.
    for i in range(size):
        part = padded[:, i : i + length] if axis == 1 else padded[:, :, i : i + length]
        total += rng.share_of(column(weights[:, i]), part)
    return total
