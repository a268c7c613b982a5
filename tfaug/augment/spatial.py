"""Flips, crops and zooms: which part of an image is seen, how large, and which way round."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape, Size, image_shape
from tfaug.config import LARGEST, ConfigError, check_choice, check_whole, is_number, to_python
from tfaug.images import resample
from tfaug.images.base import MAX_SIDE_PX, cast_images, floor_sqrt
from tfaug.schedules import Progress, Schedule, Visit, check_scheduled, value_at
from tfaug.shapes import held_to

_AXES = ("horizontal", "vertical")
_PADDINGS = ("zeros", "reflect")
NUM_RATIOS = 64
_NUM_SHARES = 128
_NUM_FACTORS = 1024
_NUM_AREAS = 4096
_SIDE_BITS = 20
_ROOT_BITS = 8


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors each image with probability `p`, or in every other epoch.

    With `alternate`, whether an image is mirrored in the even or the odd epochs follows from its number and the phase's
    seed. So two epochs that hold an image show it once as it is and once mirrored, where independent draws show a
    quarter of the images twice mirrored and a quarter never. (An epoch may leave out the rest of a division into
    batches.) It needs a progress that says which examples the batch holds, a `tfaug.schedules.Visit`; training passes
    one.

    Images of any dtype and size keep both; labels pass.

    Attributes:
      p: probability of a flip, 0..1, or a schedule; 0.5 with `alternate`.
      axis: `horizontal` exchanges left and right, `vertical` top and bottom.
      alternate: whether epochs alternate.

    Raises:
      ConfigError: if a field is out of range, or `alternate` comes with another `p` than 0.5.
      ValueError: if `alternate` is set and the progress is no `Visit`, or one of another number of images.

    Source: for `alternate`, Jordan 2024 (94% on CIFAR-10 in 3.29 seconds on a single GPU), section 3.6.

    Example:
      >>> import tensorflow as tf
      >>> from tfaug import rng
      >>> Flip(p=1.0)(tf.constant([[[[1], [2], [3]]]], tf.uint8), rng.make_seed(0))[0, 0, :, 0].numpy().tolist()
      [3, 2, 1]
    """

    counts_in_levels = False

    p: float | Schedule = 0.5
    axis: str = "horizontal"
    alternate: bool = False

    def __post_init__(self) -> None:
        check_scheduled(self, "p", 0, 1)
        check_choice(self, "axis", _AXES)
        check_choice(self, "alternate", (True, False))
        if self.alternate and self.p != 0.5:
            raise ConfigError(f"Flip.alternate is True with p={self.p!r}; allowed: p=0.5, each image every other epoch")

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws which images are mirrored: `flip` bool [B]."""
        if not self.alternate:
            return {"flip": rng.bernoulli(seed, [shape[0]], value_at(self, "p", progress))}
        if not isinstance(progress, Visit):
            raise ValueError(
                "Flip(alternate=True) goes by the epoch and the examples: give the call "
                "progress=tfaug.schedules.Visit(step, total_steps, seed, epoch, examples)"
            )
        examples = tf.convert_to_tensor(progress.examples)
        if examples.shape.rank != 1 or not examples.shape.is_compatible_with([_known(shape[0])]):
            raise ValueError(
                f"Flip(alternate=True) got {shape[0]} images and the numbers of {examples.shape} examples; allowed: as "
                "many of each, so it stands before ops that make one image of several"
            )
        if examples.shape[0] is None or _known(shape[0]) is None:
            examples = held_to(examples, [shape[0]], "as many examples as images")
        first = rng.hash_bits(rng.fold_in(progress.seed, _AXES.index(self.axis)), examples, 1)
        return {"flip": (first + tf.cast(progress.epoch, tf.int32)) % 2 == 1}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Mirrors the chosen images."""
        if self.axis == "horizontal":
            return batch._replace(images=kernels.flip(batch.images, choice["flip"]))
        rows, columns = (tf.range(tf.shape(batch.images)[axis]) for axis in (1, 2))
        y = tf.where(choice["flip"][:, tf.newaxis, tf.newaxis], rows[::-1, tf.newaxis], rows[:, tf.newaxis])
        return batch._replace(images=kernels.gather_pixels(batch.images, y, columns[tf.newaxis, tf.newaxis], 0))


@dataclass(frozen=True)
class PadCrop(Augmentation):
    """Pads each image and cuts a window of its first size at a uniformly drawn place.

    Images of any dtype and size keep both; labels pass. `pad_px` 0 is the identity.

    Attributes:
      pad_px: pixels of padding on each side, 0..16,384; with `reflect` less than the image's shorter side.
      padding: `zeros`, or `reflect` for the image mirrored at its border, whose own row or column is not repeated.

    Raises:
      ConfigError: if a field is out of range.
      ValueError: if the padding reflects more than there is, as far as the images' size is known when the call is
        traced.

    Source: the standard CIFAR augmentation of all the papers (crop padding 4, zeros); reflected, as numpy's
      `pad(mode="reflect")`: Jordan 2024 (94% on CIFAR-10 in 3.29 seconds on a single GPU), section 3.1.
    """

    counts_in_levels = False

    pad_px: int = 4
    padding: str = "zeros"

    def __post_init__(self) -> None:
        check_whole(self, "pad_px", 0, MAX_SIDE_PX)
        check_choice(self, "padding", _PADDINGS)

    @property
    def fills_with_black(self) -> bool:
        """Whether it pads with zeros."""
        return self.padding == "zeros" and self.pad_px > 0

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws each window's first row and column in the padded image: `top`, `left` int32 [B], 0..2 pad_px."""
        last = 2 * self.pad_px + 1
        if self.padding == "reflect" and any(isinstance(size, int) and size <= self.pad_px for size in shape[1:3]):
            raise ValueError(
                f"PadCrop.pad_px is {self.pad_px}, but the images are {shape[1]} x {shape[2]} px; allowed: less than "
                "the shorter side where the padding reflects"
            )
        return {
            "top": rng.randint(rng.fold_in(seed, 0), [shape[0]], 0, last),
            "left": rng.randint(rng.fold_in(seed, 1), [shape[0]], 0, last),
        }

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Cuts the chosen windows."""
        if self.pad_px == 0:
            return batch
        reflect = self.padding == "reflect"
        images = kernels.pad_and_crop(batch.images, choice["top"], choice["left"], self.pad_px, reflect)
        return batch._replace(images=images)


@dataclass(frozen=True)
class RandomCrop(Augmentation):
    """Cuts a window out of each image at a uniformly drawn place, and by default brings it back to the image's size.

    All places at which the window lies wholly inside are equally likely. With `resize` the window is resampled
    (bilinear, without smoothing) and float images are rounded and clipped to 0..255 first; without it, images keep
    their dtype and become smaller. Labels pass. A window of the image's own size is the identity.

    Choice: `top`, `left` int32 [B], the window's first row and column.

    Attributes:
      size_px: side of the window, or its (height, width). None: 7/8 of each side, rounded up: the 224 of 256
        px of the ImageNet networks.
      resize: whether the window is brought to the size that the image had.

    Raises:
      ConfigError: if a field is out of range.
      ValueError: if the window is larger than the images, as far as their size is known when the call is traced.

    Source: the saliency poster's "random cropping"; it gives no sizes, so the window is DERIVED. The 7/8: Krizhevsky et
    al. 2012 (AlexNet), section 4.1.

    Example:
      >>> images = tf.zeros([4, 28, 28, 1], tf.uint8)
      >>> [RandomCrop(22, resize=resize)(images, seed=1).shape.as_list() for resize in (True, False)]
      [[4, 28, 28, 1], [4, 22, 22, 1]]
    """

    size_px: int | tuple[int, int] | None = None
    resize: bool = True

    def __post_init__(self) -> None:
        check_size_px(self)
        check_choice(self, "resize", (True, False))

    @property
    def counts_in_levels(self) -> bool:
        """Whether it resamples, which it does on whole levels."""
        return self.resize

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the places; see Augmentation.sample."""
        for side, size in zip(self._sides(shape), shape[1:3], strict=True):
            if isinstance(size, int) and side > size:
                raise ValueError(
                    f"RandomCrop.size_px is {self.size_px!r}, but the images are {shape[1]} x {shape[2]} px; "
                    f"allowed: a window that fits into them"
                )
        places = [tf.maximum(size - side + 1, 1) for side, size in zip(self._sides(shape), shape[1:3], strict=True)]
        return {
            name: rng.randint(rng.fold_in(seed, i), [shape[0]], 0, places[i]) for i, name in enumerate(("top", "left"))
        }

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Cuts the windows; see Augmentation.apply."""
        shape = image_shape(batch.images)
        (height, width), corner = self._sides(shape), (choice["top"], choice["left"])
        if not self.resize:
            y, x = (start[:, tf.newaxis] + tf.range(num) for start, num in zip(corner, (height, width), strict=True))
            images = kernels.gather_pixels(batch.images, y[:, :, tf.newaxis], x[:, tf.newaxis], 0)
            return batch._replace(images=images)
        places = [
            resample.window_places(start, tf.fill(tf.shape(start), side), size)
            for start, side, size in zip(corner, (height, width), shape[1:3], strict=True)
        ]
        return batch._replace(images=resample.resample_grid(kernels.to_uint8(batch.images), *places))

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the shape that images of `shape`, [B, H, W, C], become."""
        return shape if self.resize else (shape[0], *self._sides(shape), shape[3])

    def _sides(self, shape: Shape) -> tuple[Size, Size]:
        """Returns the window's height and width."""
        if self.size_px is not None:
            return pair_px(self.size_px)
        height, width = ((size * 7 + 7) // 8 for size in shape[1:3])
        return height, width


@dataclass(frozen=True)
class RandomResizedCrop(Augmentation):
    """Cuts a window of a drawn size and shape out of each image, at a drawn place, and resamples it to one size.

    The window's share of the area is uniform in `scale` and the logarithm of width over height is uniform in that of
    `ratio`, among those that fit into the image; the place is uniform among those where the window lies inside. See
    `draw_windows` for how it is drawn, which takes no tries. The window is resampled without smoothing: PIL's
    `Image.transform(size, EXTENT, window, BILINEAR)` within one grey level, not `Image.resize`, which averages where it
    shrinks.

    Images: uint8 [B,H,W,C] with 1 or 3 channels; float images are rounded and clipped to 0..255 first. Labels pass.

    Choice: `box_px` int32 [B, 4], the rows and columns `top, left, bottom, right`, ends excluded; the whole image where
    there is no crop.

    Attributes:
      size_px: side of the result, or its (height, width), each 1..16,384; None keeps the image's size.
      scale: lowest and highest share of the area, 0..1; a window has at least 1 px a side.
      ratio: lowest and highest width over height, 0.01..100.
      interpolation: `bilinear` or `nearest`.
      p: probability of a crop per image, 0..1, or a schedule; at 0 the whole image is resampled, so with `size_px` None
        it is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: Szegedy et al. 2015 (Going deeper with convolutions), section 6, which has 8 % to 100 % of the area and
    ratios of 3/4 to 4/3; the refine paper's ImageNet recipe (section 4.3).

    Example:
      >>> images = tf.zeros([4, 40, 60, 3], tf.uint8)
      >>> RandomResizedCrop(32)(images, seed=1).shape.as_list()
      [4, 32, 32, 3]
    """

    size_px: int | tuple[int, int] | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_size_px(self)
        check_pair(self, "scale", 0, 1)
        check_pair(self, "ratio", 0.01, 100)
        check_choice(self, "interpolation", resample.INTERPOLATIONS)
        check_scheduled(self, "p", 0, 1)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the windows; see Augmentation.sample."""
        ratios = np.exp(-middles(math.log(self.ratio[0]), math.log(self.ratio[1]), NUM_RATIOS))
        box = draw_windows(rng.fold_in(seed, 0), shape, self.scale, tuple(ratios), min_px=1)
        cropped = rng.bernoulli(rng.fold_in(seed, 1), [shape[0]], value_at(self, "p", progress))
        whole = tf.stack([0, 0, shape[1], shape[2]])
        return {"box_px": tf.where(cropped[:, tf.newaxis], box, whole)}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Cuts and resamples; see Augmentation.apply."""
        _, height, width, _ = self.output_shape(image_shape(batch.images))
        top, left, bottom, right = tf.unstack(choice["box_px"], axis=1)
        y = resample.window_places(top, bottom - top, height)
        x = resample.window_places(left, right - left, width)
        images = resample.resample_grid(kernels.to_uint8(batch.images), y, x, self.interpolation)
        return batch._replace(images=images)

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the shape that images of `shape`, [B, H, W, C], become."""
        return shape if self.size_px is None else (shape[0], *pair_px(self.size_px), shape[3])


@dataclass(frozen=True)
class CropAndResize(Augmentation):
    """Cuts a window of a drawn area and aspect ratio out of each image, at a drawn place, and resamples it to one size.

    The window's sides are sqrt(area / aspect) and sqrt(area aspect) of the image's, at most 1, its place is uniform.
    Area and aspect ratio are each one of 4,096 numbers, evenly spaced. The result reads from the centre of the window's
    first pixel to that of its last one, without smoothing, as `tf.image.crop_and_resize` does. `RandomResizedCrop` is
    the papers' form.

    Images of any number of channels; uint8 and float32 stay what they are. Labels pass.

    Choice: `offset` and `size`, float32 [B, 2], shares of the image's height and width.

    Attributes:
      size_px: side of the result, or its (height, width), each 1..16,384; None keeps the image's size.
      area: lowest and highest share of the area, 0..1.
      aspect: lowest and highest width over height, relative to the image's, above 0 and up to 16,384.
      interpolation: `bilinear` or `nearest`.
      p: probability of a crop per image, 0..1, or a schedule; at 0 the whole image is resampled, so with `size_px` None
        it is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: keras-cv 0.9, layers.RandomCropAndResize.

    Example:
      >>> images = tf.zeros([4, 40, 60, 3], tf.uint8)
      >>> CropAndResize(32)(images, seed=1).shape.as_list()
      [4, 32, 32, 3]
    """

    counts_in_levels = False

    size_px: int | tuple[int, int] | None = None
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_size_px(self)
        check_pair(self, "area", 0, 1)
        check_pair(self, "aspect", 0, MAX_SIDE_PX)
        if self.aspect[0] == 0:
            raise ConfigError(f"CropAndResize.aspect is {self.aspect!r}; allowed: above 0")
        check_choice(self, "interpolation", resample.INTERPOLATIONS)
        check_scheduled(self, "p", 0, 1)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the windows; see Augmentation.sample."""
        areas, aspects = (_roots(*limits) for limits in (self.area, self.aspect))
        area, aspect = (rng.randint(rng.fold_in(seed, i), [shape[0]], 0, _NUM_AREAS) for i in (0, 1))
        root = tf.gather(tf.constant(areas), area)
        shapes = (tf.gather(tf.constant(roots), aspect) for roots in (1 / aspects, aspects))
        size = tf.minimum(tf.stack([root * shape for shape in shapes], 1), 1.0)
        offset = rng.uniform(rng.fold_in(seed, 2), [shape[0], 2]) * (1.0 - size)
        cropped = rng.bernoulli(rng.fold_in(seed, 3), [shape[0], 1], value_at(self, "p", progress))
        return {"offset": tf.where(cropped, offset, 0.0), "size": tf.where(cropped, size, 1.0)}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Cuts and resamples; see Augmentation.apply."""
        shape = image_shape(batch.images)
        y, x = (
            self._places(choice, axis, side, target)
            for axis, (side, target) in enumerate(zip(shape[1:3], self.output_shape(shape)[1:3], strict=True))
        )
        images = resample.resample_floats(
            batch.images, y[:, :, tf.newaxis], x[:, tf.newaxis, :], self.interpolation, "nearest"
        )
        return batch._replace(images=cast_images(images, batch.images.dtype))

    def _places(self, choice: Choice, axis: int, side: Size, target: Size) -> tf.Tensor:
        """Returns the places that are read along an axis, int32 [B, target], in 2**-16 px."""
        # From the first pixel's centre to the last one's.
        first, length = (
            resample.share_of_side(choice[name][:, axis : axis + 1], side - 1) for name in ("offset", "size")
        )
        if isinstance(target, int) and target == 1:
            return first + length // 2
        moved = tf.cast(length, tf.int64) * tf.cast(tf.range(target), tf.int64)
        return first + tf.cast(moved // tf.maximum(tf.cast(target, tf.int64) - 1, 1), tf.int32)

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the shape that images of `shape`, [B, H, W, C], become."""
        return shape if self.size_px is None else (shape[0], *pair_px(self.size_px), shape[3])


@functools.lru_cache(maxsize=64)
def _roots(low: float, high: float) -> np.ndarray:
    """Returns the roots of the numbers that stand for low..high, float32 [4096]: a device's own might differ."""
    return np.sqrt(middles(low, high, _NUM_AREAS)).astype(np.float32)


@dataclass(frozen=True)
class RandomScale(Augmentation):
    """Magnifies each image about its middle by a factor of its own; the image keeps its size.

        out(place) = in(middle + (place - middle) / factor),   bilinear, without smoothing

    Factors are uniform in `scale`, drawn from the middles of 1,024 equal parts of it. At a factor below 1 the picture
    shrinks and `fill` surrounds it.

    Images: uint8 [B,H,W,C] with 1 or 3 channels; float images are rounded and clipped to 0..255 first. Labels pass.

    Choice: `inverse_q16` int32 [B], 65536 / factor.

    Attributes:
      scale: lowest and highest factor, 0.1..10.
      p: probability per image, 0..1, or a schedule; 0 is the identity.
      fill: grey level 0..255 of what comes from outside the image.

    Raises:
      ConfigError: if a field is out of range.

    Source: the saliency poster's "scaling"; it gives no factors, so the range is DERIVED: MNIST's digits fill 20 of 28
    px, and at 1.2 they still lie inside.

    Example:
      >>> RandomScale(scale=(0.5, 0.5))(tf.fill([1, 4, 4, 1], 9.0), seed=1)[0, 1, :, 0].numpy().tolist()
      [0, 9, 9, 0]
    """

    scale: tuple[float, float] = (0.8, 1.2)
    p: float | Schedule = 1.0
    fill: int = 0

    def __post_init__(self) -> None:
        check_pair(self, "scale", 0.1, 10)
        check_scheduled(self, "p", 0, 1)
        check_whole(self, "fill", 0, 255)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the factors; see Augmentation.sample."""
        inverses = np.rint(kernels.Q16 / middles(*self.scale, _NUM_FACTORS)).astype(np.int32)
        drawn = tf.gather(tf.constant(inverses), rng.randint(rng.fold_in(seed, 0), [shape[0]], 0, _NUM_FACTORS))
        scaled = rng.bernoulli(rng.fold_in(seed, 1), [shape[0]], value_at(self, "p", progress))
        return {"inverse_q16": tf.where(scaled, drawn, kernels.Q16)}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Magnifies; see Augmentation.apply."""
        _, height, width, _ = image_shape(batch.images)
        y, x = (resample.zoom_places(choice["inverse_q16"], size) for size in (height, width))
        return batch._replace(images=resample.resample_grid(kernels.to_uint8(batch.images), y, x, fill=self.fill))


def draw_windows(
    seed: tf.Tensor, shape: Shape, scale: tuple[float, float], ratios: Sequence[float], min_px: int = 0
) -> tf.Tensor:
    """Draws a rectangle inside each image: its area and its shape, then its place.

    Papers draw an area and a ratio again and again until the rectangle fits. Here each pair of an area (the middle of
    one of 128 equal parts of `scale`) and a ratio is a cell, and a cell is drawn uniformly from those whose rectangle

        height = round(sqrt(share ratio H W)),   width = round(sqrt(share / ratio H W))

    fits: what endless tries would give, in one draw. Where none fits, as in very narrow images, all cells are used, cut
    to the image's sides. All places at which the rectangle lies wholly inside are equally likely.

    Args:
      seed: int32 [2].
      shape: [B, H, W, C], sides of up to 16,384 px.
      scale: lowest and highest share of the image's area, 0..1.
      ratios: heights over widths, equally likely.
      min_px: the shortest side allowed; shorter ones are brought to it.

    Returns:
      int32 [B, 4], the rows and columns `top, left, bottom, right`, ends excluded.
    """
    num, height, width, _ = shape
    if isinstance(height, int) and isinstance(width, int):
        known = _known_sides(scale, tuple(ratios), min_px, height, width)
        sides, num_fit = tf.constant(known), len(known)
    else:
        sides, num_fit = _fitting_sides(scale, tuple(ratios), min_px, height, width)
    drawn = tf.gather(sides, rng.randint(rng.fold_in(seed, 0), [num], 0, num_fit))
    start = [
        rng.randint(rng.fold_in(seed, 1 + axis), [num], 0, size - drawn[:, axis] + 1)
        for axis, size in enumerate((height, width))
    ]
    corner = tf.stack(start, 1)
    return tf.concat([corner, corner + drawn], 1)


@functools.lru_cache(maxsize=64)
def _known_sides(
    scale: tuple[float, float], ratios: tuple[float, ...], min_px: int, height: int, width: int
) -> np.ndarray:
    """Returns `_fitting_sides` of a known size, those that may be drawn, computed once and not in each step."""
    with tf.init_scope():
        sides, num = _fitting_sides(scale, ratios, min_px, height, width)
        return sides.numpy()[: int(num)]


def _fitting_sides(
    scale: tuple[float, float], ratios: tuple[float, ...], min_px: int, height: Size, width: Size
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the height and width of each cell's rectangle, int32 [V,2], and how many, the first, may be drawn.

    In integers, so that sizes known only at run time give the same bits on each device.
    """
    share, ratio = middles(*scale, _NUM_SHARES)[:, np.newaxis], np.array(ratios)
    roots = np.sqrt(np.stack([share * ratio, share / ratio], -1).reshape(-1, 2))
    factors = tf.constant(np.rint(roots * 2**_SIDE_BITS).astype(np.int64))
    limits = tf.cast(tf.stack([height, width]), tf.int64)
    root = floor_sqrt(limits[0] * limits[1] * 4**_ROOT_BITS)
    sides = (factors * root + 2 ** (_SIDE_BITS + _ROOT_BITS - 1)) // 2 ** (_SIDE_BITS + _ROOT_BITS)
    sides = tf.maximum(sides, min_px)
    too_large = tf.cast(tf.reduce_any(sides > limits, 1), tf.int32)
    num_fit = tf.reduce_sum(1 - too_large)
    order = tf.argsort(too_large, stable=True)
    sides = tf.cast(tf.minimum(tf.gather(sides, order), limits), tf.int32)
    return sides, tf.where(num_fit == 0, len(roots), num_fit)


def middles(low: float, high: float, num: int) -> np.ndarray:
    """Returns the middles of `num` equal parts of low..high, float64 [num]."""
    return low + (high - low) * (np.arange(num) + 0.5) / num


def check_pair(owner: object, name: str, low: float, high: float) -> None:
    """Checks that the field `name` of dataclass `owner` is a pair of numbers in low..high, the lower one first.

    They become numbers of Python.

    Raises:
      ConfigError: if it is not, naming the class, the field, the value and what is allowed.
    """
    pair = to_python(getattr(owner, name))
    good = isinstance(pair, tuple) and len(pair) == 2 and all(is_number(number) for number in pair)
    if not good or not low <= pair[0] <= pair[1] <= high:
        numbers = f"numbers in {low:g}..{high:g}" if high < LARGEST else "finite numbers"
        allowed = f"a pair of {numbers}, the lower one first"
        raise ConfigError(f"{type(owner).__name__}.{name} is {getattr(owner, name)!r}; allowed: {allowed}")
    object.__setattr__(owner, name, pair)


def check_size_px(owner: Any, optional: bool = True) -> None:
    """Checks that the field `size_px` is a side, a pair of sides or, if `optional`, None; makes its numbers Python's.

    Raises:
      ConfigError: if it is something else.
    """
    size_px = to_python(owner.size_px)
    sides = (1, 1) if size_px is None and optional else pair_px(size_px)
    good = len(sides) == 2 and all(is_number(side, whole=True) and 1 <= side <= MAX_SIDE_PX for side in sides)
    if not good:
        allowed = f"{'None, ' if optional else ''}a side in whole px, 1..{MAX_SIDE_PX}, or (height, width)"
        raise ConfigError(f"{type(owner).__name__}.size_px is {owner.size_px!r}; allowed: {allowed}")
    object.__setattr__(owner, "size_px", size_px)


def _known(size: Size) -> int | None:
    """Returns a size that is a Python integer, None for one that is only known at run time."""
    return size if isinstance(size, int) else None


def pair_px(size_px: int | tuple[int, int]) -> tuple[int, int]:
    """Returns the height and width that a field `size_px` means."""
    return size_px if isinstance(size_px, tuple) else (size_px, size_px)
