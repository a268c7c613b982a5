"""Ops that mix images, and their labels in the same proportion: CutMix, Mixup and Sum-Augmentation.

Weights are whole multiples of 2**-16 (images) or 2**-24 (labels), so that with uint8 images and one-hot labels each
product and sum is exact, and `weight` and `1 - weight` sum to exactly 1.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tfaug import rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape, Size
from tfaug.config import ConfigError, check_range
from tfaug.schedules import Progress


@dataclasses.dataclass(frozen=True)
class CutMix(Augmentation):
    """Pastes a box of another image of the batch into each image.

    `lam ~ Beta(alpha, alpha)`; the box reaches half of `floor(H sqrt(1 - lam))` up and down and half of
    `floor(W sqrt(1 - lam))` left and right, rounded down, from a centre that is uniform over the pixels, and is clipped
    at the border. With `weight` the share of the pixels that were kept, counted after clipping:

        labels = weight * labels_i + (1 - weight) * labels_partner

    The partner is given by a random permutation of the batch, as in the authors' code: it is the image itself with
    probability 1/B. Unlike there, `lam` and the box are drawn for each image and not once for the batch.

    Choice: `partner` int32 [B]; `box_px` int32 [B, 4], the rows and columns `top, left, bottom, right`, ends excluded,
    all zero where the image stays as it is.

    Args:
      alpha: of the Beta distribution, above 0; 1 in the paper.
      p: probability per image, 0..1; 0 is the identity. The paper has 0.5 for CIFAR and 1 for ImageNet.

    Raises:
      ConfigError: if a field is out of range.

    Source: Yun et al. 2019 (CutMix), section 3 and algorithm A1.

    Example:
      >>> images = tf.zeros([8, 32, 32, 3], tf.uint8)
      >>> batch = CutMix()((images, tf.one_hot(tf.range(8), 10)), seed=1)
      >>> batch.images.dtype.name, batch.labels.shape.as_list()
      ('float32', [8, 10])
    """

    alpha: float = 1.0
    p: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha(self)
        check_range(self, "p", 0, 1)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws partners and boxes; see Augmentation.sample."""
        num, height, width, _ = (tf.cast(size, tf.int64) for size in shape)
        weight = _beta_weight(rng.fold_in(seed, 0), shape[0], self.alpha)
        cut = 2**_WEIGHT_BITS - tf.cast(weight * 2.0**_WEIGHT_BITS, tf.int64)
        applied = tf.cast(rng.bernoulli(rng.fold_in(seed, 1), [shape[0]], self.p), tf.int32)
        ends = []
        for i, size in enumerate((height, width)):
            # floor(size * sqrt(1 - lam)) in integers: a square root differs between devices.
            half = tf.cast(_floor_sqrt(size * size * cut // 2**_WEIGHT_BITS) // 2, tf.int32)
            centre = rng.randint(rng.fold_in(seed, 2 + i), [shape[0]], 0, size)
            size = tf.cast(size, tf.int32)
            ends.append((tf.clip_by_value(centre - half, 0, size), tf.clip_by_value(centre + half, 0, size)))
        (top, bottom), (left, right) = ends
        box = tf.stack([top, left, bottom, right], axis=1) * applied[:, None]
        return {"partner": rng.permutation(rng.fold_in(seed, 4), num), "box_px": box}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Pastes the boxes; see Augmentation.apply. Returns float32 images."""
        labels = _labels(self, batch)
        height, width = tf.shape(batch.images)[1], tf.shape(batch.images)[2]
        top, left, bottom, right = tf.unstack(choice["box_px"][:, :, None], axis=1)
        rows, columns = tf.range(height)[None], tf.range(width)[None]
        in_rows = (rows >= top) & (rows < bottom)
        in_columns = (columns >= left) & (columns < right)
        inside = (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
        images = tf.where(inside, tf.gather(batch.images, choice["partner"]), batch.images)
        num_kept = height * width - ((bottom - top) * (right - left))[:, 0]
        weight = _fraction(num_kept, height * width)
        return Batch(tf.cast(images, tf.float32), _blend(labels, tf.gather(labels, choice["partner"]), weight))


@dataclasses.dataclass(frozen=True)
class Mixup(Augmentation):
    """Blends each image with another image of the batch.

        images = weight * images_i + (1 - weight) * images_partner,   weight ~ Beta(alpha, alpha)

    and the labels likewise. The partner is given by a random permutation of the batch, so it is the image itself with
    probability 1/B; the weight is drawn for each image, rounded to a multiple of 2**-16, and not once for the batch.

    Choice: `partner` int32 [B]; `weight` float32 [B], 1 where the image stays as it is.

    Args:
      alpha: of the Beta distribution, above 0; 1 for CIFAR.
      p: probability per image, 0..1; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: Zhang et al. 2018 (mixup), section 2.

    Example:
      >>> images = tf.zeros([8, 32, 32, 3], tf.uint8)
      >>> batch = Mixup(alpha=0.2)((images, tf.one_hot(tf.range(8), 10)), seed=1)
      >>> batch.images.dtype.name, batch.labels.shape.as_list()
      ('float32', [8, 10])
    """

    alpha: float = 1.0
    p: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha(self)
        check_range(self, "p", 0, 1)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws partners and weights; see Augmentation.sample."""
        weight = _beta_weight(rng.fold_in(seed, 0), shape[0], self.alpha)
        applied = rng.bernoulli(rng.fold_in(seed, 1), [shape[0]], self.p)
        return {
            "partner": rng.permutation(rng.fold_in(seed, 2), shape[0]),
            "weight": tf.where(applied, weight, 1.0),
        }

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Blends; see Augmentation.apply. Returns float32 images."""
        labels = _labels(self, batch)
        partner, weight = choice["partner"], choice["weight"]
        return Batch(
            _blend(batch.images, tf.gather(batch.images, partner), weight),
            _blend(labels, tf.gather(labels, partner), weight),
        )


@dataclasses.dataclass(frozen=True)
class SumAug(Augmentation):
    """Averages k images into one: Sum-Augmentation.

    A random order of the B images is cut into k groups of `b = B // k` (what is left over is dropped), and

        images'_i = (1/k) sum_g images[group_g[i]],   labels'_i = (1/k) sum_g labels[group_g[i]],   i = 0..b-1

    so B images become b, and an output's label for a class is c/k where c of its k images have that class. Each image
    is used at most once and never summed with itself.

    Choice: `members` int32 [b, k], the images that make up each output.

    Args:
      k: how many images are summed, 1 or more; 1 is the identity, in the order given.

    Raises:
      ConfigError: if `k` is not a positive whole number.
      ValueError, or tf.errors.InvalidArgumentError where the size is known only at run time: on a batch of less than k.

    Source: sum, sections 3.1 and 3.2 (Sum-Augmentation; k = 2 is SamplePairing with averaged labels).

    Example:
      >>> images = tf.zeros([8, 32, 32, 3], tf.uint8)
      >>> SumAug(k=2)((images, tf.one_hot(tf.range(8), 10)), seed=1).images.shape.as_list()
      [4, 32, 32, 3]
    """

    k: int = 2

    def __post_init__(self) -> None:
        check_range(self, "k", 1)
        if not isinstance(self.k, int):
            raise ConfigError(f"SumAug.k is {self.k!r}; allowed: a whole number, 1 or more")

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the groups; see Augmentation.sample."""
        num = shape[0]
        if isinstance(num, int):
            if num < self.k:
                raise ValueError(f"SumAug(k={self.k}) needs a batch of at least {self.k} images, got {num}")
        else:
            message = f"SumAug(k={self.k}) needs a batch of at least {self.k} images"
            with tf.control_dependencies([tf.debugging.assert_greater_equal(num, self.k, message)]):
                num = tf.identity(num)
        order = tf.range(num) if self.k == 1 else rng.permutation(seed, num)
        num_sums = num // self.k
        return {"members": tf.transpose(tf.reshape(order[: num_sums * self.k], [self.k, num_sums]))}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Averages; see Augmentation.apply. Returns float32 images."""
        labels = _labels(self, batch)
        return Batch(self._mean(batch.images, choice["members"]), self._mean(labels, choice["members"]))

    def output_shape(self, shape: Shape) -> Shape:
        """Returns [B // k, H, W, C]."""
        return (shape[0] // self.k, *shape[1:])

    def _mean(self, values: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
        """Averages the rows of `values` that `members` [b, k] names, as float32."""
        total = tf.cast(tf.gather(values, members[:, 0]), tf.float32)
        for g in range(1, self.k):
            total += tf.cast(tf.gather(values, members[:, g]), tf.float32)
        if self.k == 1:
            return total
        # A product, since XLA would make one of the division; it may pass the highest possible mean by a rounding.
        return tf.minimum(total * (1.0 / self.k), 255.0)


_WEIGHT_BITS = 16


def _check_alpha(op: CutMix | Mixup) -> None:
    check_range(op, "alpha", 0)
    if not 0 < op.alpha < float("inf"):
        raise ConfigError(f"{type(op).__name__}.alpha is {op.alpha!r}; allowed: a finite number above 0")


def _labels(op: Augmentation, batch: Batch) -> tf.Tensor:
    if batch.labels is None:
        raise ValueError(f"{type(op).__name__} mixes labels too: give it (images, labels), labels float32 [B, K]")
    return batch.labels


def _beta_weight(seed: tf.Tensor, num: Size, alpha: float) -> tf.Tensor:
    """Draws Beta(alpha, alpha) weights [num], rounded to multiples of 2**-16."""
    scale = 2.0**_WEIGHT_BITS
    return tf.round(rng.beta(seed, [num], alpha) * scale) * (1 / scale)


def _floor_sqrt(square: tf.Tensor) -> tf.Tensor:
    """Returns the whole part of the square root of int64 values up to 2**40, exactly."""
    root = tf.cast(tf.sqrt(tf.cast(square, tf.float32)), tf.int64)
    root -= tf.cast(root * root > square, tf.int64)
    return root + tf.cast((root + 1) * (root + 1) <= square, tf.int64)


def _fraction(part: tf.Tensor, whole: tf.Tensor) -> tf.Tensor:
    """Returns part / whole rounded to a multiple of 2**-24, by integers: XLA's division rounds otherwise."""
    part, whole = tf.cast(part, tf.int64), tf.cast(whole, tf.int64)
    return tf.cast((part * 2**25 + whole) // (2 * whole), tf.float32) * 2.0**-24


def _blend(first: tf.Tensor, second: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Returns weight * first + (1 - weight) * second, float32, with a weight [B] per row."""
    exact = first.dtype == tf.uint8  # 8 bits times 16 bits: no product or sum rounds, fused or not.
    weight = tf.reshape(weight, [-1] + [1] * (first.shape.rank - 1))
    kept = weight * tf.cast(first, tf.float32)
    added = (1.0 - weight) * tf.cast(second, tf.float32)
    return kept + added if exact else rng.unfused(kept) + rng.unfused(added)
