"""Ops that smooth or bend the picture, and the saliency poster's five."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape, Sometimes, image_shape, uniform_each
from tfaug.augment.erase import RandomErasing
from tfaug.augment.spatial import RandomCrop, RandomScale, check_pair, check_size_px, middles, pair_px
from tfaug.config import check_range
from tfaug.images import filters, resample
from tfaug.images.base import MAX_SIDE_PX
from tfaug.schedules import Progress, Schedule, bounds, check_scheduled, value_at

_MAX_SIGMA_PX = 20.0
# Deviations and displacements are whole multiples of a 32nd px and a 16th px.
_SIGMA_STEPS = 32
_ALPHA_STEPS = 16
_MAX_ALPHA_PX = 2000.0
_NUM_SIGMAS = 4096


@dataclass(frozen=True)
class GaussianBlur(Augmentation):
    """Blurs each image by a Gaussian of its own width.

    Separable, cut at ceil(3 sigma) px, normalised; the image goes on mirrored about its outermost pixels. sigma is
    rounded to a multiple of 1/32 px; below 1/64 px nothing happens.

    The arithmetic is integer. tensorflow-addons' `gaussian_filter2d` (`tfaug.addons.gaussian_blur`) agrees within one
    grey level and is the tests' oracle, but not the engine: of 0.23 on CPU, it takes one sigma for the whole batch (a
    tensor of them raises an error), its bits differ between eager and XLA at 65 % to 84 % of the places (sigma 0.5 to
    2), and compiled by XLA it was several times slower.

    Images: uint8 [B,H,W,C] with 1 or 3 channels, any size; float images are rounded and clipped to 0..255 first. Labels
    pass.

    Choice: `sigma_steps` int32 [B], sigma in 1/32 px, 0 where the image stays as it is.

    Attributes:
      sigma_px: 0..20: a pair, between which sigma is uniform; or one number or a schedule, which all images share.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: the saliency poster's "blurring"; it gives no parameters, so the range is DERIVED: that of Chen et al. 2020
    (SimCLR), appendix A.

    Example:
      >>> image = tf.constant([[[[0], [0], [100], [0], [0]]]], tf.uint8)
      >>> GaussianBlur(sigma_px=0.5)(image, seed=1)[0, 0, :, 0].numpy().tolist()
      [0, 11, 79, 11, 0]
    """

    sigma_px: tuple[float, float] | float | Schedule = (0.1, 2.0)
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.sigma_px, tuple):
            check_pair(self, "sigma_px", 0, _MAX_SIGMA_PX)
        else:
            check_scheduled(self, "sigma_px", 0, _MAX_SIGMA_PX)
        check_scheduled(self, "p", 0, 1)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the deviations; see Augmentation.sample."""
        if isinstance(self.sigma_px, tuple):
            low, high = self._step_bounds()
            steps = rng.randint(rng.fold_in(seed, 0), [shape[0]], low, high + 1)
        else:
            steps = _whole_steps(value_at(self, "sigma_px", progress), _SIGMA_STEPS)
        blurred = rng.bernoulli(rng.fold_in(seed, 1), [shape[0]], value_at(self, "p", progress))
        return {"sigma_steps": tf.where(blurred, steps, 0)}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Blurs; see Augmentation.apply."""
        table = filters.gaussian_weights(np.arange(self._step_bounds()[1] + 1) / _SIGMA_STEPS)
        weights = tf.gather(tf.constant(table), choice["sigma_steps"])
        return batch._replace(images=filters.gaussian_blur(kernels.to_uint8(batch.images), weights))

    def _step_bounds(self) -> tuple[int, int]:
        """Returns the lowest and the highest sigma in steps."""
        low, high = self.sigma_px if isinstance(self.sigma_px, tuple) else bounds(self.sigma_px)
        return round(low * _SIGMA_STEPS), round(high * _SIGMA_STEPS)


@dataclass(frozen=True)
class GaussianFilter(Sometimes, Augmentation):
    """Smooths each image with a Gaussian of its own width, by a kernel of one size; outside the image there is black.

    The standard deviation is one of 4,096 numbers, evenly spaced. `GaussianBlur` is the papers' form: its kernel is as
    large as the deviation asks for, the image goes on mirrored, and the arithmetic is integer; here floats of any range
    stay floats.

    Images of any size and any number of channels; uint8 and float32 stay what they are. Labels pass.

    Choice: `sigma` int32 [B], a place in the table; `applied`, see `Sometimes`.

    Attributes:
      size_px: side of the kernel, or its (height, width), each 1..16,384.
      sigma_px: lowest and highest standard deviation, 0..16,384.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: keras-cv 0.9, layers.RandomGaussianBlur.

    Example:
      >>> image = tf.constant([[[[0.0], [0.0], [1.0], [0.0], [0.0]]]])
      >>> GaussianFilter(3, (1, 1))(image, seed=1)[0, 0, :, 0].numpy().astype(float).round(3).tolist()
      [0.0, 0.124, 0.204, 0.124, 0.0]
    """

    counts_in_levels = False
    fills_with_black = True

    size_px: int | tuple[int, int] = 5
    sigma_px: tuple[float, float] = (0.1, 2.0)
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_size_px(self, optional=False)
        check_pair(self, "sigma_px", 0, MAX_SIDE_PX)
        check_scheduled(self, "p", 0, 1)

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        return {"sigma": rng.randint(seed, [shape[0]], 0, _NUM_SIGMAS)}

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        tables = (_kernels(*self.sigma_px, size) for size in pair_px(self.size_px))
        return filters.gaussian_filter(images, *(tf.gather(tf.constant(table), choice["sigma"]) for table in tables))


@dataclass(frozen=True)
class Smooth(Sometimes, Augmentation):
    """Blends each image with its smoothed form, PIL's 3x3 mean (`ImageFilter.SMOOTH`).

    Images: uint8 [B,H,W,C] with 1 or 3 channels; float images are rounded and clipped to 0..255 first. Labels pass.

    Choice: `factor` float32 [B], the share; `applied`, see `Sometimes`.

    Attributes:
      smooth_fraction: lowest and highest share of the smoothed image, 0..1; 0 is the image.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: keras-cv 0.9, layers.RandomSharpness. (PIL's sharpness, an operation of RandAugment, counts the other way
    round and also sharpens.)

    Example:
      >>> image = tf.pad(tf.fill([1, 1, 1, 1], tf.constant(130, tf.uint8)), [[0, 0], [1, 1], [1, 1], [0, 0]])
      >>> int(Smooth((1, 1))(image, seed=1)[0, 1, 1, 0])
      50
    """

    smooth_fraction: tuple[float, float] = (0.0, 1.0)
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_pair(self, "smooth_fraction", 0, 1)
        check_scheduled(self, "p", 0, 1)

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        return uniform_each(seed, shape, {"factor": self.smooth_fraction})

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        one = kernels.factor_q20(1)
        return kernels.sharpness(kernels.to_uint8(images), one - tf.cast(tf.round(choice["factor"] * one), tf.int32))


@dataclass(frozen=True)
class ElasticDistortion(Augmentation):
    """Bends each image by a smooth random field.

        out(place) = in(place + alpha (G_sigma * u)(place)),   u uniform in [-1, 1) for each pixel and direction

    with G_sigma a normalised Gaussian, cut at ceil(3 sigma) px, under which the field goes on with itself beyond the
    borders, so that all places move alike: by a deviation of about 0.16 alpha / sigma px in each direction (1.4 px by
    default). The image is read bilinearly; what would come from outside is the outermost pixel (in the source, the
    background's value, which is the same on MNIST).

    Images: uint8 [B,H,W,C] with 1 or 3 channels; float images are rounded and clipped to 0..255 first. Labels pass.

    Choice: `noise` int32 [B, H, W, 2], u times 2**15, down and right; `alpha_steps` int32 [B], alpha in 1/16 px, 0
    where the image stays as it is.

    Attributes:
      alpha_px: strength, 0..2000, or a schedule; rounded to a multiple of 1/16 px. 0 is the identity.
      sigma_px: deviation of the Gaussian, 0..20.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: Simard et al. 2003, section 2, which has alpha 34 and sigma 4 for MNIST. The saliency poster's "distortion"
    gives no parameters, so that it is this one is DERIVED.

    Example:
      >>> images = tf.zeros([4, 28, 28, 1], tf.uint8)
      >>> ElasticDistortion()(images, seed=1).shape.as_list()
      [4, 28, 28, 1]
    """

    alpha_px: float | Schedule = 34.0
    sigma_px: float = 4.0
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_scheduled(self, "alpha_px", 0, _MAX_ALPHA_PX)
        check_range(self, "sigma_px", 0, _MAX_SIGMA_PX)
        check_scheduled(self, "p", 0, 1)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the fields; see Augmentation.sample."""
        num, height, width, _ = shape
        # One word of 32 random bits gives both directions.
        word = tf.bitcast(rng.bits(rng.fold_in(seed, 0), [num, height, width]), tf.int32)
        noise = tf.stack([tf.bitwise.right_shift(word, 16), tf.bitwise.bitwise_and(word, 0xFFFF) - 2**15], -1)
        alpha = _whole_steps(value_at(self, "alpha_px", progress), _ALPHA_STEPS)
        bent = rng.bernoulli(rng.fold_in(seed, 1), [num], value_at(self, "p", progress))
        return {"noise": noise, "alpha_steps": tf.where(bent, alpha, 0)}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Bends; see Augmentation.apply."""
        images = kernels.to_uint8(batch.images)
        _, height, width, _ = image_shape(images)
        field = filters.smooth_field(choice["noise"], tf.constant(filters.gaussian_weights([self.sigma_px])))
        # From 2**-15 of 1/16 px to Q16.
        moved = tf.bitwise.right_shift(field * tf.reshape(choice["alpha_steps"], [-1, 1, 1, 1]) + 4, 3)
        y = moved[..., 0] + tf.range(height)[:, tf.newaxis] * kernels.Q16
        x = moved[..., 1] + tf.range(width) * kernels.Q16
        return batch._replace(images=resample.resample(images, y, x))


# The poster's scaling, random cropping, random erasing, distortion and blurring. It says only that the digits stay
# legible, so all settings are DERIVED: of 1,000 MNIST digits three nearest neighbours of 5,000 clean ones read 945
# clean, and 939, 922, 821, 854 and 896 after these (788 after Simard et al.'s own alpha of 34). Erasing is dark grey:
# black would leave 28.5 % of the digits as they are, since the rectangle covers no ink there.
SALIENCY: tuple[Augmentation, ...] = (
    RandomScale(scale=(0.8, 1.2)),
    RandomCrop(size_px=22),
    RandomErasing(p=1.0, scale=(0.02, 0.1), fill=64),
    ElasticDistortion(alpha_px=25.0, sigma_px=4.0),
    GaussianBlur(sigma_px=(0.5, 1.5)),
)


def _whole_steps(value: float | tf.Tensor, steps: int) -> tf.Tensor:
    """Returns a value in whole 1 / steps; with powers of two the product is exact, so that its rounding is the same."""
    return tf.cast(tf.round(tf.cast(value, tf.float32) * steps), tf.int32)


@functools.lru_cache(maxsize=64)
def _kernels(low_px: float, high_px: float, size_px: int) -> np.ndarray:
    """Returns the kernels of the deviations that stand for low..high, float32 [4096, size]."""
    return filters.gaussian_kernels(middles(low_px, high_px, _NUM_SIGMAS), size_px)
