"""Ops that change the values of pixels and leave them where they are: levels and colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Augmentation, Choice, Shape, Size, Sometimes, image_shape, uniform_each
from tfaug.augment.ranges import from_0_255, to_0_255
from tfaug.augment.spatial import check_pair
from tfaug.config import ConfigError, check_choice, check_whole
from tfaug.images import blends, warps
from tfaug.images.base import hold, warn_of_unit_range
from tfaug.schedules import Schedule, check_scheduled

_RANGE = (0, 255)
_MAX_CHANNELS = 2**16


@dataclass(frozen=True)
class AutoContrast(Sometimes, Augmentation):
    """Stretches each channel of each image over all grey levels: PIL `ImageOps.autocontrast` without cut-off.

    Images: uint8 [B,H,W,C] with 1 or 3 channels; float images are rounded and clipped to 0..255 first. Labels pass.

    Choice: see `Sometimes`.

    Attributes:
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Example:
      >>> AutoContrast()(tf.constant([[[[100], [110], [120]]]], tf.uint8), seed=1)[0, 0, :, 0].numpy().tolist()
      [0, 127, 255]
    """

    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_scheduled(self, "p", 0, 1)

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        return kernels.autocontrast(kernels.to_uint8(images))


@dataclass(frozen=True)
class Equalize(Sometimes, Augmentation):
    """Flattens the histogram of each channel of each image: PIL `ImageOps.equalize`.

    Images: uint8 [B,H,W,C] with 1 or 3 channels; float images are rounded and clipped to 0..255 first. Labels pass.

    Choice: see `Sometimes`.

    Attributes:
      rarest: whether the histogram's step leaves out the pixels of the rarest value, as keras-cv 0.9 does, and not
        those of the highest, as PIL does.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Example:
      >>> images = tf.zeros([4, 32, 32, 3], tf.uint8)
      >>> Equalize(p=0.5)(images, seed=1).dtype.name
      'uint8'
    """

    rarest: bool = False
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_choice(self, "rarest", (True, False))
        check_scheduled(self, "p", 0, 1)

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        equalize = kernels.equalize_rarest if self.rarest else kernels.equalize
        return equalize(kernels.to_uint8(images))


@dataclass(frozen=True)
class Posterize(Sometimes, Augmentation):
    """Keeps the highest bits of each grey level: PIL `ImageOps.posterize`.

    Images: uint8 [B,H,W,C], any number of channels; float images are rounded and clipped to 0..255 first. Labels pass.

    Choice: see `Sometimes`.

    Attributes:
      bits: how many are kept, 1..8; 8 is the identity.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Example:
      >>> Posterize(bits=1)(tf.constant([[[[7], [127], [128], [255]]]], tf.uint8), seed=1)[0, 0, :, 0].numpy().tolist()
      [0, 0, 128, 128]
    """

    bits: int = 4
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_whole(self, "bits", 1, 8)
        check_scheduled(self, "p", 0, 1)

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        return kernels.posterize(kernels.to_uint8(images), self.bits)


@dataclass(frozen=True)
class Solarize(Sometimes, Augmentation):
    """Adds to all grey levels, clips them to 255, and inverts those at or above a threshold.

    Images: uint8 [B,H,W,C], any number of channels; float images are rounded and clipped to 0..255 first. Labels pass.

    Choice: `addition`, rounded, and `threshold`, rounded up, int32 [B]; `applied`, see `Sometimes`.

    Attributes:
      threshold: lowest and highest of the lowest inverted level, 0..255; (0, 0) inverts all.
      addition: lowest and highest number of levels that are added, 0..255.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: PIL `ImageOps.solarize`; with the addition, keras-cv 0.9, layers.Solarization.

    Example:
      >>> Solarize()(tf.constant([[[[7], [127], [128], [255]]]], tf.uint8), seed=1)[0, 0, :, 0].numpy().tolist()
      [7, 127, 127, 0]
    """

    threshold: tuple[float, float] = (128.0, 128.0)
    addition: tuple[float, float] = (0.0, 0.0)
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_pair(self, "threshold", 0, 255)
        check_pair(self, "addition", 0, 255)
        check_scheduled(self, "p", 0, 1)

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        drawn = uniform_each(seed, shape, {"addition": self.addition, "threshold": self.threshold})
        rounded = {"addition": tf.round(drawn["addition"]), "threshold": tf.math.ceil(drawn["threshold"])}
        return {name: tf.cast(value, tf.int32) for name, value in rounded.items()}

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        return kernels.solarize(kernels.add(kernels.to_uint8(images), choice["addition"]), choice["threshold"])


@dataclass(frozen=True)
class Brightness(Sometimes, Augmentation):
    """Adds a share of the range 0..255 to all values of an image, and clips.

    Images of any number of channels; uint8 and float32 stay what they are. Labels pass.

    Choice: `factor` float32 [B], the share; `applied`, see `Sometimes`.

    Attributes:
      shift_fraction: lowest and highest share, -1..1.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: keras-cv 0.9, layers.RandomBrightness. (PIL's brightness, an operation of RandAugment, multiplies.)

    Example:
      >>> Brightness((0.2, 0.2))(tf.constant([[[[0], [100], [250]]]], tf.uint8), seed=1)[0, 0, :, 0].numpy().tolist()
      [51, 151, 255]
    """

    shift_fraction: tuple[float, float] = (-0.3, 0.3)
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_pair(self, "shift_fraction", -1, 1)
        check_scheduled(self, "p", 0, 1)

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        return uniform_each(seed, shape, {"factor": self.shift_fraction})

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        return self.change_in_range(images, choice, _RANGE)

    def change_in_range(self, images: tf.Tensor, choice: Choice, value_range: Sequence[float]) -> tf.Tensor:
        """Returns all images changed, in their own range, float32: that of grey levels would round otherwise."""
        low, high = value_range
        warn_of_unit_range(to_0_255(images, value_range))
        added = rng.unfused(_column(choice["factor"]) * float(high - low))
        return hold(tf.cast(images, tf.float32) + added, low, high)


@dataclass(frozen=True)
class Contrast(Sometimes, Augmentation):
    """Moves the values of each channel of an image away from the channel's mean, or towards it, and clips to 0..255.

        mean + factor (value - mean)

    The mean is that of the grey levels, to 1/256 of a level.

    Images of any number of channels; uint8 and float32 stay what they are. Labels pass.

    Choice: `factor` float32 [B]; `applied`, see `Sometimes`.

    Attributes:
      factor: lowest and highest, -1..2; 1 is the identity.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: keras-cv 0.9, layers.RandomContrast. (PIL's contrast, an operation of RandAugment, has one mean for all
    channels.)

    Example:
      >>> Contrast((0.5, 0.5))(tf.constant([[[[0], [100], [200]]]], tf.uint8), seed=1)[0, 0, :, 0].numpy().tolist()
      [50, 100, 150]
    """

    factor: tuple[float, float] = (0.5, 1.5)
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_pair(self, "factor", -1, 2)
        check_scheduled(self, "p", 0, 1)

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        return uniform_each(seed, shape, {"factor": self.factor})

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        return self.change_in_range(images, choice, _RANGE)

    def change_in_range(self, images: tf.Tensor, choice: Choice, value_range: Sequence[float]) -> tf.Tensor:
        """Returns all images changed, in their own range, float32: that of grey levels would round otherwise."""
        levels = tf.cast(kernels.to_uint8(to_0_255(images, value_range)), tf.int64)
        num_pixels = tf.cast(tf.shape(levels)[1] * tf.shape(levels)[2], tf.int64)
        # In whole numbers: the order of a sum of floats, and so its bits, would be the device's.
        total = tf.reduce_sum(levels, [1, 2], keepdims=True) * 256
        mean = from_0_255(tf.cast((total + num_pixels // 2) // num_pixels, tf.float32) * (1 / 256), value_range)
        moved = mean + rng.share_of(_column(choice["factor"]), tf.cast(images, tf.float32) - mean)
        return hold(moved, *value_range)


@dataclass(frozen=True)
class Desaturate(Sometimes, Augmentation):
    """Blends each image with its luma, 0.2989 R + 0.587 G + 0.114 B.

    Images of 3 channels, or of 1, which stay as they are; uint8 and float32 stay what they are. Labels pass.

    Choice: `factor` float32 [B], the share; `applied`, see `Sometimes`.

    Attributes:
      luma_fraction: lowest and highest share of the luma, 0..1; 0 is the image, 1 the grey one.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: keras-cv 0.9, layers.RandomColorDegeneration, which clips to 0..255. (PIL's color, an operation of
    RandAugment, goes the other way and also saturates.)

    Example:
      >>> Desaturate((1, 1))(tf.constant([[[[100, 0, 0]]]], tf.uint8), seed=1)[0, 0, 0].numpy().tolist()
      [30, 30, 30]
    """

    counts_in_levels = False

    luma_fraction: tuple[float, float] = (0.0, 1.0)
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_pair(self, "luma_fraction", 0, 1)
        check_scheduled(self, "p", 0, 1)

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        return uniform_each(seed, shape, {"factor": self.luma_fraction})

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        return rng.mix(images, blends.luma(images), _column(choice["factor"]))


@dataclass(frozen=True)
class Grayscale(Sometimes, Augmentation):
    """Replaces the colours by their luma, 0.2989 R + 0.587 G + 0.114 B.

    Images of 3 channels, or of 1, whose values stay; uint8 and float32 stay what they are. Labels pass.

    Choice: see `Sometimes`.

    Attributes:
      num_channels: 1, or 3 equal ones; None keeps their number.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range, or one channel comes with another `p` than 1.

    Source: TensorFlow's `tf.image.rgb_to_grayscale`; p = 0.2 is that of Chen et al. 2020 (SimCLR), appendix A.

    Example:
      >>> Grayscale()(tf.constant([[[[100, 0, 0]]]], tf.uint8), seed=1)[0, 0, 0].numpy().tolist()
      [30, 30, 30]
    """

    counts_in_levels = False

    num_channels: int | None = None
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        if self.num_channels is not None:
            check_whole(self, "num_channels", 1, 3)
            check_choice(self, "num_channels", (1, 3))
        check_scheduled(self, "p", 0, 1)
        if self.num_channels == 1 and self.p != 1:
            raise ConfigError(f"Grayscale.num_channels is 1 with p={self.p!r}; allowed: p=1")

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        return tf.repeat(blends.luma(images), self.num_channels or images.shape[-1], axis=-1)

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the shape that images of `shape`, [B, H, W, C], become."""
        return (*shape[:3], self.num_channels or shape[3])


@dataclass(frozen=True)
class ChannelShuffle(Sometimes, Augmentation):
    """Permutes the channels of each image, or groups of them.

    Images of any dtype and size keep both; labels pass.

    Choice: `order` int32 [B, groups]; `applied`, see `Sometimes`.

    Attributes:
      num_groups: how many groups of neighbouring channels, a divisor of their number; None for each by itself.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.
      ValueError: if the images have channels that the groups do not divide.

    Source: keras-cv 0.9, layers.ChannelShuffle.

    Example:
      >>> image = tf.constant([[[[1, 2, 3]]]], tf.uint8)
      >>> sorted(ChannelShuffle()(image, seed=1)[0, 0, 0].numpy().tolist())
      [1, 2, 3]
    """

    counts_in_levels = False

    num_groups: int | None = None
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        if self.num_groups is not None:
            check_whole(self, "num_groups", 1, _MAX_CHANNELS)
        check_scheduled(self, "p", 0, 1)

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        groups: Size = self.num_groups or shape[3]
        keys = tf.bitcast(rng.bits(seed, [shape[0], groups]), tf.int32)
        return {"order": tf.argsort(keys, stable=True)}

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        channels = images.shape[-1]
        groups = self.num_groups or channels
        if channels % groups:
            raise ValueError(f"images have {channels} channels, which {groups} groups do not divide")
        size = channels // groups
        source = tf.reshape(choice["order"][..., tf.newaxis] * size + tf.range(size), [-1, 1, channels])
        # Rows of W C values, which XLA reads in their order: channels it would lay out one after the other.
        num, height, width, _ = image_shape(images)
        columns = tf.reshape(tf.range(width)[:, tf.newaxis] * channels + source, [num, width * channels])
        rows = warps.take_columns(tf.reshape(images, [num, height, width * channels]), columns)
        return tf.reshape(rows, [num, height, width, channels])


def _column(values: tf.Tensor) -> tf.Tensor:
    """Shapes values [B] so that they broadcast over [B, H, W, C]."""
    return tf.reshape(values, [-1, 1, 1, 1])
