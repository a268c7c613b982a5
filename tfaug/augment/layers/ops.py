"""The layers: names and arguments, which stand for an op of tfaug."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfaug import augment, rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape, image_shape
from tfaug.augment.layers.base import (
    Factor,
    FloatLayer,
    OpLayer,
    one_of,
    pair,
    read_limits,
    register,
    symmetric,
    two_sizes,
)
from tfaug.augment.policies import MAX_MAGNITUDE, draw_places
from tfaug.config import LARGEST, ConfigError, read_number
from tfaug.images import Q16
from tfaug.images.base import MAX_SIDE_PX, hold
from tfaug.images.resample import FILL_MODES, INTERPOLATIONS, resample_floats, window_places
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


@register
class AutoContrast(OpLayer):
    """Stretches each channel of each image over the whole range, as PIL does: `tfaug.augment.AutoContrast`.

    With or without `training`. As keras-cv, but for whole grey levels.
    """

    _random = False

    def __init__(self, value_range: Sequence[float], **kwargs: Any) -> None:
        super().__init__(augment.AutoContrast(), value_range, **kwargs)


@register
class Equalization(OpLayer):
    """Flattens the histogram of each channel of each image: `tfaug.augment.Equalize(rarest=True)`.

    With or without `training`. As keras-cv, with 256 bins. The histogram's step leaves out the pixels of the rarest
    value, where PIL's leaves out those of the highest.

    Args:
      bins: 256.
    """

    _random = False

    def __init__(self, value_range: Sequence[float], bins: int = 256, **kwargs: Any) -> None:
        one_of("Equalization.bins", bins, (256,))
        super().__init__(augment.Equalize(rarest=True), value_range, **kwargs)


@register
class Posterization(OpLayer):
    """Keeps the highest bits of each grey level, with or without `training`: `tfaug.augment.Posterize`.

    As keras-cv, but for values that are rounded to grey levels where keras-cv cuts the fraction off.

    Args:
      bits: how many bits are kept, 1..8.
    """

    _random = False

    def __init__(self, value_range: Sequence[float], bits: int, **kwargs: Any) -> None:
        op = augment.Posterize(read_number("Posterization.bits", bits, 1, 8, whole=True))
        super().__init__(op, value_range, **kwargs)


@register
class Solarization(OpLayer):
    """Adds to all values, clips them, and inverts those at or above a threshold: `tfaug.augment.Solarize`.

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
        addition = pair("Solarization.addition_factor", addition_factor, 0, 255)
        threshold = pair("Solarization.threshold_factor", threshold_factor, 0, 255)
        super().__init__(augment.Solarize(threshold, addition), value_range, seed=seed, **kwargs)


@register
class RandomSharpness(OpLayer):
    """Blends each image with its smoothed form, PIL's 3x3 mean: `tfaug.augment.Smooth`.

    As keras-cv, but for whole grey levels. (PIL counts the other way round.)

    Args:
      factor: share of the smoothed image, 0..1: (lowest, highest), or the highest.
    """

    def __init__(self, factor: Factor, value_range: Sequence[float], seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(augment.Smooth(pair("RandomSharpness.factor", factor)), value_range, seed=seed, **kwargs)


class _InRange(OpLayer):
    """A layer of an op that changes values in the images' own range."""

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Applies the op; see ImageLayer.apply_choice."""
        return batch._replace(images=self._op.change_in_range(batch.images, choice, self.value_range))


@register
class RandomBrightness(_InRange):
    """Adds a share of the range to all values of an image, and clips: `tfaug.augment.Brightness`. As keras-cv.

    Args:
      factor: share of the range, -1..1: (lowest, highest), or x for -x..x.
    """

    def __init__(
        self, factor: Factor, value_range: Sequence[float] = (0, 255), seed: int | None = None, **kwargs: Any
    ) -> None:
        op = augment.Brightness(symmetric("RandomBrightness.factor", factor))
        super().__init__(op, value_range, seed=seed, **kwargs)


@register
class RandomContrast(_InRange):
    """Moves values away from their channel's mean, or towards it, and clips: `tfaug.augment.Contrast`.

    As keras-cv, but that the mean is that of the grey levels, to 1/256 of a level.

    Args:
      factor: (a, b) for factors 1 - a .. 1 + b, or a for 1 - a .. 1 + a; a is at most 2, b at most 1.
    """

    def __init__(self, value_range: Sequence[float], factor: Factor, seed: int | None = None, **kwargs: Any) -> None:
        allowed = "a, or (a, b), with 1 - a .. 1 + b in -1..2"
        limits = read_limits(
            "RandomContrast.factor", factor, -1, 2, lambda a, b=None: (1 - a, 1 + (a if b is None else b)), allowed
        )
        super().__init__(augment.Contrast(limits), value_range, seed=seed, **kwargs)


@register
class RandomColorDegeneration(FloatLayer):
    """Blends each image with its luma, and clips to 0..255: `tfaug.augment.Desaturate`. As keras-cv.

    Images of one channel stay as they are.

    Args:
      factor: share of the luma, 0..1: (lowest, highest), or the highest.
    """

    _guesses_range = True

    def __init__(self, factor: Factor, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(augment.Desaturate(pair("RandomColorDegeneration.factor", factor)), seed=seed, **kwargs)

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Applies the op and clips; see ImageLayer.apply_choice."""
        result = super().apply_choice(batch, choice)
        return result._replace(images=hold(result.images, 0, 255))


@register
class Grayscale(FloatLayer):
    """Replaces the colours by their luma, with or without `training`: `tfaug.augment.Grayscale`.

    As keras-cv; one channel is taken too.

    Args:
      output_channels: 1, or 3 equal ones.
    """

    _random = False

    def __init__(self, output_channels: int = 1, **kwargs: Any) -> None:
        one_of("Grayscale.output_channels", output_channels, (1, 3))
        super().__init__(augment.Grayscale(output_channels), **kwargs)


@register
class ChannelShuffle(OpLayer):
    """Permutes the groups of channels of each image: `tfaug.augment.ChannelShuffle`. As keras-cv.

    Args:
      groups: number of groups, which divides the number of channels.
    """

    def __init__(self, groups: int = 3, seed: int | None = None, **kwargs: Any) -> None:
        groups = read_number("ChannelShuffle.groups", groups, 1, whole=True)
        super().__init__(augment.ChannelShuffle(groups), seed=seed, **kwargs)


@register
class RandomGaussianBlur(FloatLayer):
    """Smooths each image with a Gaussian of its own width: `tfaug.augment.GaussianFilter`. As keras-cv.

    Pixels outside the image count as 0. The standard deviation is one of 4,096 numbers, evenly spaced.

    Args:
      kernel_size: px of the kernel, or (columns, rows).
      factor: standard deviation in px, 0..16,384: (lowest, highest), or the highest.
    """

    def __init__(self, kernel_size: int | Sequence[int], factor: Factor, **kwargs: Any) -> None:
        columns, rows = two_sizes("RandomGaussianBlur.kernel_size", kernel_size, "px, or (columns, rows)", square=True)
        sigmas = pair("RandomGaussianBlur.factor", factor, 0, MAX_SIDE_PX)
        super().__init__(augment.GaussianFilter((rows, columns), sigmas), **kwargs)


class WarpLayer(FloatLayer):
    """A layer that maps each image affinely.

    Args:
      make_op: makes the op of the interpolation, the fill mode and the fill value.
      fill_mode: what stands outside the image: `reflect` (d c b a | a b c d | d c b a), `wrap`, `nearest`, or
        `constant` for `fill_value`.
      interpolation: `nearest` or `bilinear`.
      fill_value: a number, in the unit of the images.
    """

    def __init__(
        self,
        make_op: Callable[[str, str, float], Augmentation],
        fill_mode: str,
        interpolation: str,
        fill_value: float,
        **kwargs: Any,
    ) -> None:
        one_of(f"{type(self).__name__}.fill_mode", fill_mode, FILL_MODES)
        one_of(f"{type(self).__name__}.interpolation", interpolation, INTERPOLATIONS)
        fill_value = read_number(f"{type(self).__name__}.fill_value", fill_value, -LARGEST)
        super().__init__(make_op(interpolation, fill_mode, fill_value), **kwargs)


@register
class RandomRotation(WarpLayer):
    """Turns each image about its centre: `tfaug.augment.Rotate`.

    As keras-cv, but that the angle is one of 4,096, evenly spaced.

    Args:
      factor: turns counter-clockwise: (lowest, highest), or x for -x..x; 0.1 is 36 degrees.
    """

    def __init__(
        self,
        factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        bounding_box_format: None = None,
        segmentation_classes: None = None,
        **kwargs: Any,
    ) -> None:
        low, high = symmetric("RandomRotation.factor", factor, -LARGEST, LARGEST)
        make_op = functools.partial(augment.Rotate, (360 * low, 360 * high))
        kwargs |= {"bounding_box_format": bounding_box_format, "segmentation_classes": segmentation_classes}
        super().__init__(make_op, fill_mode, interpolation, fill_value, seed=seed, **kwargs)


@register
class RandomShear(WarpLayer):
    """Shears each image along x, then along y, by a factor of a drawn sign: `tfaug.augment.Shear`. As keras-cv.

    Args:
      x_factor: px per px, 0..1: (lowest, highest), or the highest; None for no shear along x. (With more, places in
        images of 16,384 px a side would not fit into whole multiples of 2**-16 px.)
      y_factor: likewise, along y.
    """

    def __init__(
        self,
        x_factor: Factor | None = None,
        y_factor: Factor | None = None,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        bounding_box_format: None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        x = None if x_factor is None else pair("RandomShear.x_factor", x_factor)
        y = None if y_factor is None else pair("RandomShear.y_factor", y_factor)
        kwargs["bounding_box_format"] = bounding_box_format
        make_op = functools.partial(augment.Shear, x, y)
        super().__init__(make_op, fill_mode, interpolation, fill_value, seed=seed, **kwargs)


@register
class RandomTranslation(WarpLayer):
    """Moves each image down and to the right by shares of its sides: `tfaug.augment.Translate`. As keras-cv.

    Args:
      height_factor: share of the height, -1..1: (lowest, highest), or x for -x..x; positive is down.
      width_factor: share of the width, likewise; positive is to the right.
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        bounding_box_format: None = None,
        **kwargs: Any,
    ) -> None:
        down = symmetric("RandomTranslation.height_factor", height_factor)
        right = symmetric("RandomTranslation.width_factor", width_factor)
        kwargs["bounding_box_format"] = bounding_box_format
        make_op = functools.partial(augment.Translate, down, right)
        super().__init__(make_op, fill_mode, interpolation, fill_value, seed=seed, **kwargs)


@register
class RandomZoom(WarpLayer):
    """Zooms each image out or in about its centre: `tfaug.augment.Zoom`. As keras-cv.

    Args:
      height_factor: -1..1, positive for out and negative for in: two limits in any order, or x for -x..x, whatever
        its sign.
      width_factor: likewise, -1..2; None for the height's draw, which keeps the aspect ratio. (With more, places in
        images of 16,384 px a side would not fit into whole multiples of 2**-16 px.)
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        def in_order(first: float, second: float | None = None) -> list[float]:
            return sorted((first, -first if second is None else second))

        height, width = read_limits("RandomZoom.height_factor", height_factor, -1, 1, in_order), None
        if width_factor is not None:
            width = read_limits("RandomZoom.width_factor", width_factor, -1, 2, in_order)
        make_op = functools.partial(augment.Zoom, height, width)
        super().__init__(make_op, fill_mode, interpolation, fill_value, seed=seed, **kwargs)


@register
class RandomCutout(FloatLayer):
    """Covers a rectangle of each image, about a pixel drawn uniformly: `tfaug.augment.RandomCutout`.

    It is clipped at the borders. As keras-cv, but that it fills with a constant only. (There, a width is held to the
    height.)

    Args:
      height_factor: share of the height, 0..1, rounded up to whole px: (lowest, highest), or the highest.
      width_factor: share of the width, likewise.
      fill_mode: `constant`.
      fill_value: a number, in the unit of the images.
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        one_of("RandomCutout.fill_mode", fill_mode, ("constant",))
        fill = read_number("RandomCutout.fill_value", fill_value, -LARGEST)
        height = pair("RandomCutout.height_factor", height_factor)
        width = pair("RandomCutout.width_factor", width_factor)
        super().__init__(augment.RandomCutout(height, width, fill), seed=seed, **kwargs)


@dataclasses.dataclass(frozen=True)
class _RandomCrop(augment.RandomCrop):
    """The op without `resize`, that brings images which are smaller than the window to its size, bilinear."""

    resize: bool = False

    def free_px(self, shape: Shape) -> list[tf.Tensor]:
        """Returns how many rows and columns an image has more than the window."""
        return [tf.maximum(size - side, 0) for size, side in zip(shape[1:3], self._sides(shape), strict=True)]

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws as RandomCrop does; 0 where the image is smaller."""
        free = enumerate(self.free_px(shape))
        drawn = [rng.randint(rng.fold_in(seed, i), [shape[0]], 0, num + 1) for i, num in free]
        return dict(zip(("top", "left"), drawn, strict=True))

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Cuts the windows, or resizes; see Augmentation.apply."""
        shape = image_shape(batch.images)
        sizes, sides, places = shape[1:3], self._sides(shape), []
        fits = (sizes[0] >= sides[0]) & (sizes[1] >= sides[1])
        for first, size, side in zip((choice["top"], choice["left"]), sizes, sides, strict=True):
            moved = (first[:, tf.newaxis] + tf.range(side)) * Q16
            places.append(tf.where(fits, moved, window_places(tf.zeros([1], tf.int32), tf.reshape(size, [1]), side)))
        y, x = places[0][:, :, tf.newaxis], places[1][:, tf.newaxis, :]
        return batch._replace(images=resample_floats(batch.images, y, x, "bilinear", "nearest"))


@register
class RandomCrop(FloatLayer):
    """Cuts a window out of each image, at a place of its own; an image that is smaller is resized, bilinear.

    `tfaug.augment.RandomCrop(resize=False)`: the window lies on whole pixels, where keras-cv takes fractions of a
    pixel and so may leave out a row and double another. Without `training` it is the window in the middle.

    Args:
      height: rows of the window, 1..16,384.
      width: columns of the window, likewise.
    """

    _resizes = True

    def __init__(
        self, height: int, width: int, seed: int | None = None, bounding_box_format: None = None, **kwargs: Any
    ) -> None:
        height = read_number("RandomCrop.height", height, 1, MAX_SIDE_PX, whole=True)
        width = read_number("RandomCrop.width", width, 1, MAX_SIDE_PX, whole=True)
        super().__init__(_RandomCrop((height, width)), seed=seed, bounding_box_format=bounding_box_format, **kwargs)

    def choice_at_rest(self, shape: Shape) -> Choice:
        """Returns the middle; see ImageLayer.choice_at_rest."""
        middle = [tf.repeat(free // 2, shape[0]) for free in self._op.free_px(shape)]
        return dict(zip(("top", "left"), middle, strict=True))


@register
class RandomCropAndResize(FloatLayer):
    """Cuts a window of drawn area and aspect ratio out of each image and resizes it: `tfaug.augment.CropAndResize`.

    As keras-cv: sides sqrt(area / aspect) and sqrt(area aspect) of the image's, at most 1. Area and aspect ratio are
    each one of 4,096 numbers, evenly spaced. Without `training` the whole image is resized. The op
    `tfaug.augment.RandomResizedCrop` is the papers' form.

    Args:
      target_size: rows and columns of the result, each 1..16,384.
      crop_area_factor: (lowest, highest) share of the area, 0..1.
      aspect_ratio_factor: (lowest, highest) width over height, above 0 and up to 16,384, relative to the image's.
      interpolation: `bilinear` or `nearest`.
    """

    _resizes = True

    def __init__(
        self,
        target_size: tuple[int, int],
        crop_area_factor: Sequence[float],
        aspect_ratio_factor: Sequence[float],
        interpolation: str = "bilinear",
        bounding_box_format: None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        size = two_sizes("RandomCropAndResize.target_size", target_size, "(rows, columns)")
        one_of("RandomCropAndResize.interpolation", interpolation, INTERPOLATIONS)
        areas = pair("RandomCropAndResize.crop_area_factor", crop_area_factor)
        aspects = pair("RandomCropAndResize.aspect_ratio_factor", aspect_ratio_factor, 0, MAX_SIDE_PX)
        if aspects[0] == 0:
            raise ConfigError(f"RandomCropAndResize.aspect_ratio_factor is {aspect_ratio_factor!r}; allowed: above 0")
        op = augment.CropAndResize(size, areas, aspects, interpolation)
        super().__init__(op, seed=seed, bounding_box_format=bounding_box_format, **kwargs)

    def choice_at_rest(self, shape: Shape) -> Choice:
        """Returns the whole image; see ImageLayer.choice_at_rest."""
        return {"offset": tf.zeros([shape[0], 2]), "size": tf.ones([shape[0], 2])}
