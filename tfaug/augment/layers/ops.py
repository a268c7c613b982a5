"""Layers that do what an op of tfaug does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfaug import augment, rng
from tfaug.augment.base import Augmentation, Choice, Shape
from tfaug.augment.layers.base import OpLayer, one_of, pair, register
from tfaug.augment.policies import MAX_MAGNITUDE, draw_places
from tfaug.config import ConfigError, read_number
from tfaug.schedules import Progress

_GEOMETRIC = ("shear_x", "shear_y", "translate_x_fraction", "translate_y_fraction")


@register
class CutMix(OpLayer):
    """Pastes a box of another image of the batch into each image: `tfaug.augment.CutMix`.

    Differences from keras-cv: the label's weight is the share of the pixels that were kept, where keras-cv takes the
    box before it is clipped at the border (off by 0.18 on average); the box's sides are rounded down to even numbers.

    Args:
      alpha: of the Beta distribution, above 0.

    Example:
      >>> inputs = {"images": tf.zeros([8, 32, 32, 3]), "labels": tf.one_hot(tf.range(8), 10)}
      >>> sorted((key, value.shape.as_list()) for key, value in CutMix(seed=1)(inputs).items())
      [('images', [8, 32, 32, 3]), ('labels', [8, 10])]
    """

    def __init__(self, alpha: float = 1.0, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(augment.CutMix(alpha=alpha), seed=seed, **kwargs)


@register
class MixUp(OpLayer):
    """Blends each image, and its label, with another image of the batch: `tfaug.augment.Mixup`.

    As keras-cv: a weight for each image. Labels must be given.

    Args:
      alpha: of the Beta distribution, above 0.
    """

    def __init__(self, alpha: float = 0.2, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(augment.Mixup(alpha=alpha), seed=seed, **kwargs)


@register
class SumAugmentation(OpLayer):
    """Averages k images, and their labels, into one: `tfaug.augment.SumAug`. Not in keras-cv.

    B images become B // k, so a dict may hold nothing but images and labels; with `training=False` it stays B.

    Args:
      k: how many images are summed, 1 or more.
    """

    def __init__(self, k: int = 2, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(augment.SumAug(k=k), seed=seed, **kwargs)


@register
class Augment(OpLayer):
    """Does what any op of tfaug does. Not in keras-cv.

    With `training=False` the images keep their size, also where the op changes it.

    Args:
      op: an op, its text as `tfaug.augment.parse_op` reads it, or a list of ops, which are composed in order. None of
        their fields is a schedule.
      value_range: the lowest and the highest value of the images; the op sees 0..255.

    Raises:
      ConfigError: if the text is no op, or a field of the op is a schedule.

    Example:
      >>> layer = Augment("PadCrop(4) + Flip()", dtype="uint8")
      >>> layer(tf.zeros([4, 32, 32, 3], tf.uint8)).dtype.name
      'uint8'
    """

    def __init__(
        self,
        op: Augmentation | str | Sequence[Augmentation],
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        built = augment.parse_op(op) if isinstance(op, str) else op
        if isinstance(op, (tuple, list)):
            built = augment.compose(op)
        if not isinstance(built, Augmentation):
            allowed = "an op (tfaug.augment.AUGMENTATIONS), its text, or a list of ops"
            raise ConfigError(f"Augment.op is {op!r}; allowed: {allowed}")
        super().__init__(built, value_range, seed=seed, **kwargs)

    @property
    def op(self) -> str:
        """The op's text, which `tfaug.augment.parse_op` reads."""
        return repr(self._op)


@dataclasses.dataclass(frozen=True)
class _RandAugment(augment.RandAugment):
    """The op with keras-cv's further settings, of which the preset's identity is a rate of 10/11."""

    rate: float = 10 / 11
    geometric: bool = True

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws as RandAugment does; what is skipped becomes the identity, which costs nothing."""
        choice, names = super().sample(seed, shape, progress), self.op_names
        own, applied = rng.fold_in(seed, self.n + 4), self.rate / (1 - 1 / len(names))
        if self.n == 0 or (self.geometric and abs(applied - 1) < 1e-6):
            return choice
        if not self.geometric or applied > 1:
            # Drawn anew, among the operations that may be; the magnitudes depend on them.
            unused = ("identity", *(() if self.geometric else _GEOMETRIC))
            used = [i for i, name in enumerate(names) if name not in unused]
            num = len(used)
            places = [draw_places(rng.fold_in(own, i), shape[0], num, self.balanced) for i in range(self.n)]
            choice["op_index"] = tf.gather(tf.constant(used), tf.stack(places, 1))
            choice["level"] = self._draw_levels(seed, choice["op_index"], tf.cast(self.m, tf.float32))
            applied = self.rate
        skipped = ~rng.bernoulli(rng.fold_in(own, self.n), [shape[0], self.n], applied)
        return {**choice, "op_index": tf.where(skipped, names.index("identity"), choice["op_index"])}


@register
class RandAugment(OpLayer):
    """Applies operations to each image, drawn for each: `tfaug.augment.RandAugment` with the preset `keras_cv`.

    The operations, their shares and their ranges are keras-cv's, `magnitude` 0..1 included, with the differences that
    the preset's documentation lists: they work on whole grey levels; what a warp leaves empty is filled with grey and
    not by reflection, warps take the nearest pixel, shears start from the corner and translations are by whole px; and
    one drawn magnitude decides what solarization adds and where it inverts. The paper's operations and ranges are
    `Augment(tfaug.augment.RandAugment(n, m))`.

    Any number of channels that the op takes (1 or 3); keras-cv needs 3. Compiles under XLA, where it is fastest. With
    `rate` above 10/11 or `geometric=False` a call may take twice as long, for the batch is less balanced.

    Args:
      augmentations_per_image: layers of operations, 0 or more; 0 is the identity.
      magnitude: mean strength, 0..1. A translation by the whole image, at 1, is refused.
      magnitude_stddev: standard deviation of the strength, 0..1.
      rate: probability that a layer does something to an image, 0..1.
      geometric: whether shears and translations are among the operations.

    Raises:
      ConfigError: if an argument is out of its range.

    Example:
      >>> layer = RandAugment(value_range=(0, 255), augmentations_per_image=2, magnitude=0.3, dtype="uint8")
      >>> layer(tf.zeros([4, 32, 32, 3], tf.uint8)).shape.as_list()
      [4, 32, 32, 3]
    """

    def __init__(
        self,
        value_range: Sequence[float],
        augmentations_per_image: int = 3,
        magnitude: float = 0.5,
        magnitude_stddev: float = 0.15,
        rate: float = 10 / 11,
        geometric: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        n = read_number("RandAugment.augmentations_per_image", augmentations_per_image, 0, whole=True)
        m = read_number("RandAugment.magnitude", magnitude, 0, 1) * MAX_MAGNITUDE
        spread = read_number("RandAugment.magnitude_stddev", magnitude_stddev, 0, 1) * MAX_MAGNITUDE
        rate = read_number("RandAugment.rate", rate, 0, 1)
        op = _RandAugment(n, m, "keras_cv", spread, rate=rate, geometric=geometric)
        super().__init__(op, value_range, seed=seed, **kwargs)


@register
class AutoAugment(OpLayer):
    """Applies a sub-policy of a published policy to each image: `tfaug.augment.AutoAugment`. Not in keras-cv.

    Args:
      policy: `cifar10`, `cifar10_full` or `imagenet`.
      rate: probability that an image is augmented at all, 0..1.
    """

    def __init__(
        self,
        value_range: Sequence[float],
        policy: str = "cifar10",
        rate: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        op = augment.AutoAugment(policy, p=read_number("AutoAugment.rate", rate, 0, 1))
        super().__init__(op, value_range, seed=seed, **kwargs)


@register
class RandomFlip(OpLayer):
    """Mirrors each image left to right, top to bottom or, each by itself, both: `tfaug.augment.Flip`. As keras-cv.

    Args:
      mode: `horizontal`, `vertical` or `horizontal_and_vertical`.
      rate: probability of each, 0..1.
    """

    def __init__(
        self,
        mode: str = "horizontal",
        rate: float = 0.5,
        seed: int | None = None,
        bounding_box_format: None = None,
        **kwargs: Any,
    ) -> None:
        one_of("RandomFlip.mode", mode, ("horizontal", "vertical", "horizontal_and_vertical"))
        rate = read_number("RandomFlip.rate", rate, 0, 1)
        op = augment.compose(augment.Flip(rate, axis) for axis in mode.split("_and_"))
        super().__init__(op, seed=seed, bounding_box_format=bounding_box_format, **kwargs)


@register
class RandomErasing(OpLayer):
    """Covers a rectangle of random area and shape, wholly inside the image: `tfaug.augment.RandomErasing`.

    Not in keras-cv, whose RandomCutout draws the sides and clips at the border.

    Args:
      rate: probability per image, 0..1.
      area_factor: (lowest, highest) share of the area, 0..1.
      aspect_ratio_factor: (lowest, highest) height over width, 0.01..100.
      fill: grey level 0..255, or `noise`.
    """

    def __init__(
        self,
        value_range: Sequence[float],
        rate: float = 0.5,
        area_factor: Sequence[float] = (0.02, 0.33),
        aspect_ratio_factor: Sequence[float] = (0.3, 3.3),
        fill: int | str = 0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        rate = read_number("RandomErasing.rate", rate, 0, 1)
        area = pair("RandomErasing.area_factor", area_factor)
        aspect = pair("RandomErasing.aspect_ratio_factor", aspect_ratio_factor, 0.01, 100)
        super().__init__(augment.RandomErasing(rate, area, aspect, fill), value_range, seed=seed, **kwargs)
