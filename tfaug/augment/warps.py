"""Affine maps of each image: turn, shear, move and zoom, with floats in and out and any border.

Places between the pixels are whole multiples of 2**-16 px.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import rng
from tfaug.augment.base import Augmentation, Choice, Shape, Size, Sometimes, image_shape, uniform_each
from tfaug.augment.spatial import check_pair, middles
from tfaug.config import LARGEST, check_choice, check_range
from tfaug.images import Q16
from tfaug.images.resample import FILL_MODES, INTERPOLATIONS, resample_floats, share_of_side
from tfaug.schedules import Schedule, check_scheduled

_NUM_ANGLES = 4096


class _Warp(Sometimes):
    """What the affine maps have in common: out[y, x] = in[d x + e y + f, a x + b y + c]."""

    interpolation: str
    fill_mode: str
    fill: float

    @property
    def counts_in_levels(self) -> bool:
        """Whether it fills with anything but black."""
        return self.fill_mode == "constant" and self.fill != 0

    @property
    def fills_with_black(self) -> bool:
        """Whether it fills with black."""
        return self.fill_mode == "constant" and self.fill == 0

    def _check_reading(self) -> None:
        """Checks the fields that say how the image is read, and `p`."""
        check_choice(self, "interpolation", INTERPOLATIONS)
        check_choice(self, "fill_mode", FILL_MODES)
        check_range(self, "fill", -LARGEST)
        check_scheduled(self, "p", 0, 1)

    def _matrices(self, choice: Choice, height: Size, width: Size) -> Iterable[Sequence[Any]]:
        """Returns the maps, first to last: a, b, c, d, e, f, each a number or int32 [B], in 2**-16."""
        raise NotImplementedError(f"{type(self).__name__} has no _matrices(choice, height, width)")

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        shape, (_, height, width, _) = images.shape, image_shape(images)
        x, y = tf.range(width)[tf.newaxis, tf.newaxis], tf.range(height)[tf.newaxis, :, tf.newaxis]
        for matrix in self._matrices(choice, height, width):
            a, b, c, d, e, f = (tf.reshape(value, [-1, 1, 1]) for value in matrix)
            places = d * x + e * y + f, a * x + b * y + c
            images = resample_floats(images, *places, self.interpolation, self.fill_mode, self.fill)
        return tf.ensure_shape(tf.cast(images, tf.float32), shape)


@dataclass(frozen=True)
class Rotate(_Warp, Augmentation):
    """Turns each image about its centre.

    The angle is one of 4,096, evenly spaced, whose sine and cosine are tabulated to 2**-16.

    Images of any size and any number of channels; uint8 and float32 stay what they are. Labels pass.

    Choice: `angle` int32 [B], a place in the table; `applied`, see `Sometimes`.

    Attributes:
      angle_deg: lowest and highest angle, counter-clockwise.
      interpolation: `bilinear` or `nearest`.
      fill_mode: what stands outside the image: `reflect` (d c b a | a b c d | d c b a), `wrap`, `nearest`, or
        `constant` for `fill`.
      fill: grey level; floats may have any.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: keras-cv 0.9, layers.RandomRotation.

    Example:
      >>> row = tf.constant([[[[1], [2], [3]]]], tf.uint8)
      >>> Rotate(angle_deg=(180, 180))(row, seed=1)[0, 0, :, 0].numpy().tolist()
      [3, 2, 1]
    """

    angle_deg: tuple[float, float] = (-30.0, 30.0)
    interpolation: str = "bilinear"
    fill_mode: str = "reflect"
    fill: float = 0.0
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_pair(self, "angle_deg", -LARGEST, LARGEST)
        self._check_reading()

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        return {"angle": rng.randint(seed, [shape[0]], 0, _NUM_ANGLES)}

    def _matrices(self, choice: Choice, height: Size, width: Size) -> Iterable[Sequence[Any]]:
        cos, sin = (tf.gather(tf.constant(values), choice["angle"]) for values in turns_q16(*self.angle_deg))
        last_x, last_y = width - 1, height - 1
        c = _half((Q16 - cos, last_x), (sin, last_y))
        f = _half((Q16 - cos, last_y), (-sin, last_x))
        return [(cos, -sin, c, sin, cos, f)]


@dataclass(frozen=True)
class Shear(_Warp, Augmentation):
    """Shears each image along x, then along y, by a factor of a drawn sign; the upper left corner stays.

    Images of any size and any number of channels; uint8 and float32 stay what they are. Labels pass.

    Choice: `x`, `y`, float32 [B], those that are wanted; `applied`, see `Sometimes`.

    Attributes:
      x: lowest and highest factor along x, px per px, 0..1 (with more, places in images of 16,384 px a side would not
        fit into whole multiples of 2**-16 px); None for no shear along x.
      y: likewise, along y.
      interpolation: see `Rotate`, and so for the others.

    Raises:
      ConfigError: if a field is out of range.

    Source: keras-cv 0.9, layers.RandomShear.

    Example:
      >>> images = tf.zeros([4, 32, 32, 3], tf.uint8)
      >>> Shear(x=(0, 0.3), y=None)(images, seed=1).dtype.name
      'uint8'
    """

    x: tuple[float, float] | None = (0.0, 0.3)
    y: tuple[float, float] | None = (0.0, 0.3)
    interpolation: str = "bilinear"
    fill_mode: str = "reflect"
    fill: float = 0.0
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        for axis in ("x", "y"):
            if getattr(self, axis) is not None:
                check_pair(self, axis, 0, 1)
        self._check_reading()

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        limits = {axis: pair for axis, pair in (("x", self.x), ("y", self.y)) if pair is not None}
        choice = uniform_each(seed, shape, limits)
        for i, (axis, size) in enumerate(choice.items()):
            negative = rng.bernoulli(rng.fold_in(seed, len(choice) + i), [shape[0]], 0.5)
            choice[axis] = tf.where(negative, -size, size)
        return choice

    def _matrices(self, choice: Choice, height: Size, width: Size) -> Iterable[Sequence[Any]]:
        if "x" in choice:
            yield Q16, _q16(choice["x"]), 0, 0, Q16, 0
        if "y" in choice:
            yield Q16, 0, 0, _q16(choice["y"]), Q16, 0


@dataclass(frozen=True)
class Translate(_Warp, Augmentation):
    """Moves each image down and to the right by shares of its sides.

    Images of any size and any number of channels; uint8 and float32 stay what they are. Labels pass.

    Choice: `down`, `right`, float32 [B]; `applied`, see `Sometimes`.

    Attributes:
      down_fraction: lowest and highest share of the height, -1..1.
      right_fraction: likewise, of the width.
      interpolation: see `Rotate`, and so for the others.

    Raises:
      ConfigError: if a field is out of range.

    Source: keras-cv 0.9, layers.RandomTranslation.

    Example:
      >>> row = tf.constant([[[[1], [2], [3], [4]]]], tf.uint8)
      >>> Translate((0, 0), (0.25, 0.25), fill_mode="wrap")(row, seed=1)[0, 0, :, 0].numpy().tolist()
      [4, 1, 2, 3]
    """

    down_fraction: tuple[float, float] = (-0.1, 0.1)
    right_fraction: tuple[float, float] = (-0.1, 0.1)
    interpolation: str = "bilinear"
    fill_mode: str = "reflect"
    fill: float = 0.0
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_pair(self, "down_fraction", -1, 1)
        check_pair(self, "right_fraction", -1, 1)
        self._check_reading()

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        return uniform_each(seed, shape, {"down": self.down_fraction, "right": self.right_fraction})

    def _matrices(self, choice: Choice, height: Size, width: Size) -> Iterable[Sequence[Any]]:
        down, right = share_of_side(choice["down"], height), share_of_side(choice["right"], width)
        return [(Q16, 0, -right, 0, Q16, -down)]


@dataclass(frozen=True)
class Zoom(_Warp, Augmentation):
    """Zooms each image out or in about its centre: 1 + z of its height are seen, and of its width.

    z is uniform; `RandomScale`, which rounds to grey levels, draws the factor 1 / (1 + z) uniformly.

    Images of any size and any number of channels; uint8 and float32 stay what they are. Labels pass.

    Choice: `height` and, unless it goes with the height, `width`, float32 [B]; `applied`, see `Sometimes`.

    Attributes:
      height: lowest and highest z, -1..1: positive is out, negative in.
      width: likewise, -1..2 (with more, places in images of 16,384 px a side would not fit into whole multiples of
        2**-16 px); None for the height's draw, which keeps the aspect ratio.
      interpolation: see `Rotate`, and so for the others.

    Raises:
      ConfigError: if a field is out of range.

    Source: keras-cv 0.9, layers.RandomZoom.

    Example:
      >>> row = tf.constant([[[[1], [2], [3], [4]]]], tf.uint8)
      >>> Zoom((1, 1), fill_mode="constant")(row, seed=1)[0, 0, :, 0].numpy().tolist()
      [0, 2, 4, 0]
    """

    height: tuple[float, float] = (-0.3, 0.3)
    width: tuple[float, float] | None = None
    interpolation: str = "bilinear"
    fill_mode: str = "reflect"
    fill: float = 0.0
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_pair(self, "height", -1, 1)
        if self.width is not None:
            check_pair(self, "width", -1, 2)
        self._check_reading()

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        limits = {side: pair for side, pair in (("height", self.height), ("width", self.width)) if pair is not None}
        return uniform_each(seed, shape, limits)

    def _matrices(self, choice: Choice, height: Size, width: Size) -> Iterable[Sequence[Any]]:
        down, across = _q16(choice["height"]), _q16(choice.get("width", choice["height"]))
        f, c = (_half((-zoom, size - 1)) for zoom, size in ((down, height), (across, width)))
        return [(Q16 + across, 0, c, 0, Q16 + down, f)]


@functools.lru_cache(maxsize=64)
def turns_q16(low_deg: float, high_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cosines and the sines of the angles that stand for low..high, int32 [4096], in 2**-16.

    A device's own cosine might differ in the last bit.
    """
    angles = 2 * np.pi * middles(low_deg / 360, high_deg / 360, _NUM_ANGLES)
    return np.rint(np.cos(angles) * Q16).astype(np.int32), np.rint(np.sin(angles) * Q16).astype(np.int32)


def _half(*products: tuple[tf.Tensor, Size]) -> tf.Tensor:
    """Returns half the sum of the products, rounded down, int32: a factor and a side, whose product passes 31 bits."""
    total = sum(tf.cast(factor, tf.int64) * tf.cast(size, tf.int64) for factor, size in products)
    return tf.cast(tf.bitwise.right_shift(total, tf.constant(1, tf.int64)), tf.int32)


def _q16(values: tf.Tensor) -> tf.Tensor:
    """Returns values in whole multiples of 2**-16, int32."""
    return tf.cast(tf.round(values * Q16), tf.int32)
