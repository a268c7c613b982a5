"""Ops that mix the images of a batch: CutMix, Mixup, SamplePairing and Sum-Augmentation, also gradually cascading.

Labels are mixed in the same proportion, but for the ablations that say otherwise. Weights are whole multiples of 2**-16
(images) or 2**-24 (CutMix's labels), so that with uint8 images and one-hot labels each product and sum is exact, and
`weight` and `1 - weight` sum to exactly 1.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import quantiles, rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape, Size, image_shape, labels_to_mix
from tfaug.config import ConfigError, check_choice, check_range, check_whole
from tfaug.images.base import computed_once, floor_sqrt, hold
from tfaug.schedules import Progress, Schedule, bounds, check_scheduled, gradual_weights, value_at

COEFFICIENTS = ("mean", "beta", "uniform")


@dataclasses.dataclass(frozen=True)
class CutMix(Augmentation):
    """Pastes a box of another image of the batch into each image.

    `lam ~ Beta(alpha, alpha)`; the box reaches half of `floor(H sqrt(1 - lam))` up and down and half of
    `floor(W sqrt(1 - lam))` left and right, rounded down, from a centre that is uniform over the pixels, and is clipped
    at the border. With `weight` the share of the pixels that were kept, counted after clipping:

        labels = weight * labels_i + (1 - weight) * labels_partner

    The partner is given by a random permutation of the batch, as in the authors' code: it is the image itself with
    probability 1/B. Unlike there, `lam` and the box are drawn for each image and not once for the batch. Pixels are
    copied, never computed with: uint8 images stay uint8, float32 images float32, and bits are kept.

    Choice: `partner` int32 [B]; `box_px` int32 [B, 4], the rows and columns `top, left, bottom, right`, ends excluded,
    all zero where the image stays as it is.

    Args:
      alpha: of the Beta distribution, above 0; 1 in the paper. A schedule's is rounded to one of 33 alphas, see
        `draw_beta`.
      p: probability per image, 0..1, or a schedule; 0 is the identity. The paper has 0.5 for CIFAR, 1 for ImageNet.

    Raises:
      ConfigError: if a field is out of range.

    Source: Yun et al. 2019 (CutMix), section 3 and algorithm A1.

    Example:
      >>> images = tf.zeros([8, 32, 32, 3], tf.uint8)
      >>> batch = CutMix()((images, tf.one_hot(tf.range(8), 10)), seed=1)
      >>> batch.images.dtype.name, batch.labels.shape.as_list()
      ('uint8', [8, 10])
    """

    mixes_images = mixes_labels = True
    counts_in_levels = False

    alpha: float | Schedule = 1.0
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_alpha(self)
        check_scheduled(self, "p", 0, 1)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws partners and boxes; see Augmentation.sample."""
        num, height, width, _ = (tf.cast(size, tf.int64) for size in shape)
        weight = draw_beta(self, rng.fold_in(seed, 0), [shape[0]], progress)
        cut = 2**_WEIGHT_BITS - tf.cast(weight * 2.0**_WEIGHT_BITS, tf.int64)
        p = value_at(self, "p", progress)
        applied = tf.cast(rng.bernoulli(rng.fold_in(seed, 1), [shape[0]], p), tf.int32)
        ends = []
        for i, size in enumerate((height, width)):
            # floor(size * sqrt(1 - lam)) in integers: a square root differs between devices.
            half = tf.cast(floor_sqrt(size * size * cut // 2**_WEIGHT_BITS) // 2, tf.int32)
            centre = rng.randint(rng.fold_in(seed, 2 + i), [shape[0]], 0, size)
            size = tf.cast(size, tf.int32)
            ends.append((tf.clip_by_value(centre - half, 0, size), tf.clip_by_value(centre + half, 0, size)))
        (top, bottom), (left, right) = ends
        box = tf.stack([top, left, bottom, right], axis=1) * applied[:, None]
        return {"partner": rng.permutation(rng.fold_in(seed, 4), num), "box_px": box}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Pastes the boxes; see Augmentation.apply. Returns images of the type they have."""
        labels = labels_to_mix("CutMix", batch)
        num, height, width, channels = image_shape(batch.images)
        top, left, bottom, right = tf.unstack(choice["box_px"][:, :, None], axis=1)
        # Rows as vectors of W C values: on pixels of three values XLA takes twice as long.
        shape = [num, height, width * channels]
        rows, places = tf.range(height)[None], tf.range(width * channels)[None]
        in_rows = (rows >= top) & (rows < bottom)
        in_columns = tf.cast((places >= left * channels) & (places < right * channels), tf.uint8)
        others = tf.reshape(tf.gather(batch.images, choice["partner"]), shape)
        inside = in_rows[:, :, None] & (computed_once(in_columns) > 0)[:, None, :]
        images = tf.reshape(tf.where(inside, others, tf.reshape(batch.images, shape)), tf.shape(batch.images))
        num_kept = height * width - ((bottom - top) * (right - left))[:, 0]
        weight = _fraction(num_kept, height * width)
        return Batch(images, blend(labels, tf.gather(labels, choice["partner"]), weight))


@dataclasses.dataclass(frozen=True)
class Mixup(Augmentation):
    """Blends each image with another image of the batch.

        images = weight * images_i + (1 - weight) * images_partner,   weight ~ Beta(alpha, alpha)

    and the labels likewise. The partner is given by a random permutation of the batch, so it is the image itself with
    probability 1/B; the weight is drawn for each image, rounded to a multiple of 2**-16, and not once for the batch.

    Choice: `partner` int32 [B]; `weight` float32 [B], 1 where the image stays as it is.

    Args:
      alpha: of the Beta distribution, above 0; 1 for CIFAR. A schedule's is rounded to one of 33 alphas, see
        `draw_beta`.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: Zhang et al. 2018 (mixup), section 2.

    Example:
      >>> images = tf.zeros([8, 32, 32, 3], tf.uint8)
      >>> batch = Mixup(alpha=0.2)((images, tf.one_hot(tf.range(8), 10)), seed=1)
      >>> batch.images.dtype.name, batch.labels.shape.as_list()
      ('float32', [8, 10])
    """

    mixes_images = mixes_labels = True
    counts_in_levels = False

    alpha: float | Schedule = 1.0
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_alpha(self)
        check_scheduled(self, "p", 0, 1)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws partners and weights; see Augmentation.sample."""
        weight = draw_beta(self, rng.fold_in(seed, 0), [shape[0]], progress)
        applied = rng.bernoulli(rng.fold_in(seed, 1), [shape[0]], value_at(self, "p", progress))
        return {
            "partner": rng.permutation(rng.fold_in(seed, 2), shape[0]),
            "weight": tf.where(applied, weight, 1.0),
        }

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Blends; see Augmentation.apply. Returns float32 images."""
        labels = labels_to_mix("Mixup", batch)
        partner, weight = choice["partner"], choice["weight"]
        return Batch(
            blend(batch.images, tf.gather(batch.images, partner), weight),
            blend(labels, tf.gather(labels, partner), weight),
        )


@dataclasses.dataclass(frozen=True)
class SamplePairing(Augmentation):
    """Lays another image of the batch over each image and keeps the first one's label.

        images = weight * images_i + (1 - weight) * images_partner,   labels = labels_i

    The partner is given by a random permutation of the batch, so it is the image itself with probability 1/B; the
    paper draws it from all training images. `SumAug` averages the labels as well; its `single_label` is the ablation
    that does not.

    Choice: `partner` int32 [B]; `weight` float32 [B], 1 where the image stays as it is.

    Args:
      weight: of the image whose label is kept, 0..1, rounded to a multiple of 2**-16; 0.5 in the paper.
      p: probability per image, 0..1, or a schedule; 0 is the identity. The paper leaves the op out at first, at last
        and now and then in between.

    Raises:
      ConfigError: if a field is out of range.

    Source: Inoue 2018 (Data augmentation by pairing samples for image classification), section 3.

    Example:
      >>> images = tf.zeros([8, 32, 32, 3], tf.uint8)
      >>> SamplePairing(p=0.8)((images, tf.one_hot(tf.range(8), 10)), seed=1).labels.numpy().argmax(1).tolist()
      [0, 1, 2, 3, 4, 5, 6, 7]
    """

    mixes_images = True
    counts_in_levels = False

    weight: float = 0.5
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_range(self, "weight", 0, 1)
        check_scheduled(self, "p", 0, 1)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws partners and which images are paired; see Augmentation.sample."""
        applied = rng.bernoulli(rng.fold_in(seed, 0), [shape[0]], value_at(self, "p", progress))
        weight = round(self.weight * 2**_WEIGHT_BITS) / 2**_WEIGHT_BITS
        return {
            "partner": rng.permutation(rng.fold_in(seed, 1), shape[0]),
            "weight": tf.where(applied, weight, 1.0),
        }

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Blends the images alone; see Augmentation.apply. Returns float32 images; there may be no labels."""
        partners = tf.gather(batch.images, choice["partner"])
        return Batch(blend(batch.images, partners, choice["weight"]), batch.labels)


@dataclasses.dataclass(frozen=True)
class SumAug(Augmentation):
    """Averages k images into one: Sum-Augmentation.

    A random order of the B images is cut into k groups of `b = B // k` (what is left over is dropped), and

        images'_i = (1/k) sum_g images[group_g[i]],   labels'_i = (1/k) sum_g labels[group_g[i]],   i = 0..b-1

    so B images become b, and an output's label for a class is c/k where c of its k images have that class. Each image
    is used at most once and never summed with itself. The batch is the B images; in training `Phase.batch_of` says
    whether `batch_size` counts them or the sums, of which the authors had 100 in each step, B = 100 k.

    Two ablations of the authors' code. Random coefficients, which it has for k = 2 only: each value of each pixel and
    channel gets a weight w of its own, and images'_i = w images[group_1[i]] + (1 - w) images[group_2[i]] while the
    labels stay the averages. This is noise per pixel and not mixup, which draws one weight per image and weighs the
    labels with it (`Mixup`). And `single_label`: the labels are those of the first group alone.

    Choice: `members` int32 [b, k], the images that make up each output; with random coefficients also `weight` float32
    [b, H, W, C], multiples of 2**-16.

    Args:
      k: how many images are summed, 1 or more; 1 is the identity, in the order given.
      coefficients: `mean` for 1/k each; the weight w above from Beta(alpha, alpha) for `beta`, from U(0, 1) for
        `uniform`.
      alpha: of `beta`, above 0; 0.4 in the authors' code. A schedule's is rounded to one of 33 alphas, see
        `draw_beta`.
      single_label: whether the labels are those of the first group alone.

    Raises:
      ConfigError: if `k` is not a positive whole number, another field is out of range, or the coefficients are random
        and k is not 2.
      ValueError, or tf.errors.InvalidArgumentError where the size is known only at run time: on a batch of less than k.

    Source: sum, section 3.3 (Sum-Augmentation; k = 2 is SamplePairing with averaged labels; random coefficients).

    Example:
      >>> images = tf.zeros([8, 32, 32, 3], tf.uint8)
      >>> SumAug(k=2)((images, tf.one_hot(tf.range(8), 10)), seed=1).images.shape.as_list()
      [4, 32, 32, 3]
    """

    mixes_images = mixes_labels = True
    counts_in_levels = False

    k: int = 2
    coefficients: str = "mean"
    alpha: float | Schedule = 0.4
    single_label: bool = False

    def __post_init__(self) -> None:
        check_whole(self, "k", 1)
        check_choice(self, "coefficients", COEFFICIENTS)
        check_alpha(self)
        check_choice(self, "single_label", (False, True))
        if self.coefficients != "mean" and self.k != 2:
            raise ConfigError(
                f"SumAug.coefficients is {self.coefficients!r} with k = {self.k}; random coefficients are defined "
                "for two images; allowed: k=2"
            )

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the groups and the random coefficients; see Augmentation.sample."""
        members = _draw_members(f"SumAug(k={self.k})", seed, shape[0], self.k)
        if self.coefficients == "mean":
            return {"members": members}
        size = self.output_shape(shape)
        if self.coefficients == "uniform":
            weight = _rounded_beta(rng.fold_in(seed, 1), size, 1.0)
        else:
            weight = draw_beta(self, rng.fold_in(seed, 1), size, progress)
        return {"members": members, "weight": weight}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Sums; see Augmentation.apply. Returns float32 images."""
        labels, members = labels_to_mix("SumAug", batch), choice["members"]
        if self.coefficients == "mean":
            images = self._mean(batch.images, members)
        else:
            first, second = (tf.gather(batch.images, members[:, g]) for g in range(2))
            images = blend(first, second, choice["weight"])
        return Batch(images, tf.gather(labels, members[:, 0]) if self.single_label else self._mean(labels, members))

    def output_shape(self, shape: Shape) -> Shape:
        """Returns [B // k, H, W, C]."""
        return (shape[0] // self.k, *shape[1:])

    def _mean(self, values: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
        """Averages the rows of `values` that `members` [b, k] names, as float32."""
        parts = [tf.cast(tf.gather(values, members[:, g]), tf.float32) for g in range(self.k)]
        # A product, since XLA would make one of the division.
        mean = functools.reduce(operator.add, parts) * (1.0 / self.k)
        exact = self.k <= 2 or (values.dtype == tf.uint8 and self.k & (self.k - 1) == 0)
        return mean if exact else _within(mean, parts)


@dataclasses.dataclass(frozen=True)
class GradualSumAug(Augmentation):
    """Sums n images with weights that go, step by step, from 1/n each to a single image.

    With t = step / total_steps and the weights w of `schedules.gradual_weights(n, t)`, computed anew at every step:

        images'_i = sum_g w_g images[group_g[i]],   labels'_i = sum_g w_g labels[group_g[i]],   i = 0..B // n - 1

    The groups are as in `SumAug`. All weights but the first are rounded to multiples of 2**-16 and the first, the
    largest, is what they leave of 1: they sum to exactly 1, and each is off by less than n * 2**-17.

    B images give B // n sums at any t, for XLA needs the shape beforehand. In the authors' code the batch grows: with k
    images gone it is cut into n - k groups, so that a batch of B gives first B / n and in the end B sums. To compare
    with it, count images seen and not steps; or let each of the n - 1 levels be a phase of its own (`level`), in which
    no image is drawn for a weight of 0. `tfaug.train.cascades.gradual` makes these phases.

    Choice: `members` int32 [B // m, m] with m = n, or n - level; `weights` float32 [B // m, m], each row the same.

    Args:
      n: how many images are summed at the start, 1 or more; 1 is the identity, in the order given.
      level: k of a phase in which just so many images are gone, 0..n - 2, whose steps take t from k / (n - 1) to
        (k + 1) / (n - 1): B images give B // (n - k) sums. None goes all the way.
      legacy_stepwise: whether the weights jump where an image goes, as in the authors' code; see `gradual_weights`.

    Raises:
      ConfigError: if `n` is not a positive whole number.
      ValueError: if the op is called without progress; and as for `SumAug` on a batch of less than n.

    Source: sum, section 3.5, equations 3.1 to 3.6 (Gradually Cascading Coefficients).

    Example:
      >>> batch = (tf.zeros([8, 32, 32, 3], tf.uint8), tf.one_hot(tf.range(8), 10))
      >>> GradualSumAug(n=2)(batch, seed=1, progress=(50, 100)).labels.numpy().max(1).tolist()
      [0.875, 0.875, 0.875, 0.875]
    """

    mixes_images = mixes_labels = True
    counts_in_levels = False

    n: int = 4
    legacy_stepwise: bool = False
    level: int | None = None

    def __post_init__(self) -> None:
        check_whole(self, "n", 1)
        check_choice(self, "legacy_stepwise", (False, True))
        if self.level is not None:
            check_whole(self, "level", 0, self.n - 2)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the groups and computes the weights; see Augmentation.sample."""
        if progress is None:
            raise ValueError(
                f"GradualSumAug(n={self.n}) changes from step to step: give the call progress=(step, total_steps)"
            )
        members = _draw_members(f"GradualSumAug(n={self.n})", seed, shape[0], self._num_summed)
        step, total_steps = progress[:2]
        if tf.is_tensor(step) or tf.is_tensor(total_steps):
            step, total_steps = tf.cast(step, tf.float64), tf.cast(total_steps, tf.float64)
        t = step / total_steps
        if self.level is not None:
            t = (self.level + t) / (self.n - 1)
        weights = gradual_weights(self.n, t, self.legacy_stepwise)[: self._num_summed]
        # Half a step is rounded up; the slack does it too where the last bit of a division says otherwise.
        units = tf.floor(tf.convert_to_tensor(weights[1:]) * 2.0**_WEIGHT_BITS + (0.5 + 2.0**-20))
        units = tf.concat([[2.0**_WEIGHT_BITS - tf.reduce_sum(units)], units], axis=0)
        row = tf.cast(units, tf.float32) * 2.0**-_WEIGHT_BITS
        return {"members": members, "weights": tf.broadcast_to(row, tf.shape(members))}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Sums; see Augmentation.apply. Returns float32 images."""
        labels, members, weights = labels_to_mix("GradualSumAug", batch), choice["members"], choice["weights"]
        return Batch(self._sum(batch.images, members, weights), self._sum(labels, members, weights))

    def output_shape(self, shape: Shape) -> Shape:
        """Returns [B // n, H, W, C], or of a level [B // (n - level), H, W, C]."""
        return (shape[0] // self._num_summed, *shape[1:])

    @property
    def _num_summed(self) -> int:
        """How many images have a weight that may be above 0."""
        return self.n - (self.level or 0)

    def _sum(self, values: tf.Tensor, members: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Sums the rows of `values` that `members` [b, m] names with `weights` [b, m], as float32."""
        places = range(self._num_summed)
        parts = [tf.cast(tf.gather(values, members[:, g]), tf.float32) for g in places]
        shares = [tf.reshape(weights[:, g], [-1] + [1] * (values.shape.rank - 1)) for g in places]
        if values.dtype == tf.uint8:
            return functools.reduce(operator.add, map(operator.mul, shares, parts))
        return _within(functools.reduce(operator.add, map(rng.share_of, shares, parts)), parts)


_WEIGHT_BITS = 16


_NUM_ALPHAS = 33
_GRID_BITS = 12


def check_alpha(owner: Any) -> None:
    """Checks that `owner.alpha` is a finite number above 0, or a schedule that stays there.

    Raises:
      ConfigError: if it is not.
    """
    check_scheduled(owner, "alpha", 0)
    if bounds(owner.alpha)[0] == 0:
        raise ConfigError(f"{type(owner).__name__}.alpha is {owner.alpha!r}; allowed: a finite number above 0")


def _draw_members(name: str, seed: tf.Tensor, num: Size, k: int) -> tf.Tensor:
    """Draws num // k groups of k different images, int32 [num // k, k]; `name` is for the error."""
    message = f"{name} needs a batch of at least {k} images"
    if isinstance(num, int):
        if num < k:
            raise ValueError(f"{message}, got {num}")
    else:
        with tf.control_dependencies([tf.debugging.assert_greater_equal(num, k, message)]):
            num = tf.identity(num)
    order = tf.range(num) if k == 1 else rng.permutation(seed, num)
    num_sums = num // k
    # XLA drops assertions, but makes no [k, 1] of no images.
    rows = num_sums if isinstance(num, int) else tf.maximum(num_sums, 1)
    return tf.transpose(tf.reshape(order[: num_sums * k], [k, rows], name="groups_of_k_images"))


def draw_beta(owner: Any, seed: tf.Tensor, shape: Any, progress: Progress | None) -> tf.Tensor:
    """Draws Beta(alpha, alpha) weights for the field `owner.alpha`, a number or a schedule.

    A number is used as it is (`rng.beta`). The value of a schedule is rounded to the nearest of 33 alphas, equally
    spaced in log alpha from the lowest to the highest value of the schedule, for there is a table of the distribution
    for each: neighbours are a factor of (highest / lowest)^(1/32) apart (1.07 from 0.1 to 1). Such a table has 2**12
    equally likely cells, 2**11 of which are stored: the distribution function of the draws is within 2**-13 of Beta's,
    and the constant in the compiled program has 264 KiB.

    Args:
      owner: a dataclass with a field `alpha`, checked by `check_alpha`.
      seed: int32 [2].
      shape: of the result.
      progress: needed where alpha is a schedule.

    Returns:
      float32 of `shape`, multiples of 2**-16 in 0..1.

    Raises:
      ValueError: if alpha is a schedule and there is no progress.
    """
    alpha = value_at(owner, "alpha", progress)
    low, high = _bounds(owner.alpha)
    if low == high:
        return _rounded_beta(seed, shape, low)
    middles, table = _beta_grid(low, high)
    row = tf.reduce_sum(tf.cast(tf.cast(alpha, tf.float32) >= middles, tf.int32))
    cell = tf.bitcast(tf.bitwise.right_shift(rng.bits(seed, shape), 32 - _GRID_BITS), tf.int32)
    half = 2 ** (_GRID_BITS - 1)
    units = tf.gather(tf.gather(tf.constant(table), row), tf.bitwise.bitwise_and(cell, half - 1))
    return tf.cast(tf.where(cell < half, units, 2**_WEIGHT_BITS - units), tf.float32) * 2.0**-_WEIGHT_BITS


@functools.lru_cache(maxsize=64)
def _bounds(alpha: float | Schedule) -> tuple[float, float]:
    """Returns the lowest and the highest alpha; kept, since a schedule is read at many steps for it."""
    return bounds(alpha)


@functools.lru_cache(maxsize=16)
def _beta_grid(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns what lies between the 33 alphas, float32 [32], and their tables, int32 [33, 2**11] in units of 2**-16.

    A table holds the lower half of Beta(alpha, alpha)'s inverse distribution function, the upper half being its mirror.
    """
    exponents = np.arange(_NUM_ALPHAS) / (_NUM_ALPHAS - 1)
    alphas = low * quantiles.exp(exponents * quantiles.log(np.asarray(high / low)))
    size = 2**_GRID_BITS
    centres = (np.arange(size // 2) + 0.5) / size
    lower = np.stack([quantiles.symmetric_beta(centres, alpha) for alpha in alphas])
    middles = np.sqrt(alphas[:-1] * alphas[1:])
    return middles.astype(np.float32), np.round(lower * 2**_WEIGHT_BITS).astype(np.int32)


def _rounded_beta(seed: tf.Tensor, shape: Any, alpha: float) -> tf.Tensor:
    """Draws Beta(alpha, alpha) weights of `shape`, rounded to multiples of 2**-16."""
    scale = 2.0**_WEIGHT_BITS
    return tf.round(rng.beta(seed, shape, alpha) * scale) * (1 / scale)


def _fraction(part: tf.Tensor, whole: tf.Tensor) -> tf.Tensor:
    """Returns part / whole rounded to a multiple of 2**-24, by integers: XLA's division rounds otherwise."""
    part, whole = tf.cast(part, tf.int64), tf.cast(whole, tf.int64)
    return tf.cast((part * 2**25 + whole) // (2 * whole), tf.float32) * 2.0**-24


def blend(first: tf.Tensor, second: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Returns weight * first + (1 - weight) * second, each with the same bits however it is compiled.

    Args:
      first: uint8 or float32 [B, ...]; of uint8 no product or sum rounds.
      second: likewise.
      weight: float32 [B], or of the shape of `first`; multiples of 2**-16, 0..1.

    Returns:
      float32 of the shape of `first`.
    """
    exact = first.dtype == tf.uint8  # 8 bits times 16 bits: no product or sum rounds, fused or not.
    if weight.shape.rank == 1:
        weight = tf.reshape(weight, [-1] + [1] * (first.shape.rank - 1))
    first, second = tf.cast(first, tf.float32), tf.cast(second, tf.float32)
    if exact:
        return weight * first + (1.0 - weight) * second
    return rng.mix(second, first, weight)


def _within(means: tf.Tensor, parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns weighted means of `parts` held between the lowest and the highest of them, which a rounding may pass."""
    low, high = parts[0], parts[0]
    for part in parts[1:]:
        low, high = tf.where(part < low, part, low), tf.where(part > high, part, high)
    return hold(means, low, high)
