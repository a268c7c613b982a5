"""Layers that move and cover pixels, whatever their values: affine maps, crops and cutout.

Places between the pixels are whole multiples of 2**-16 px.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Choice, Shape, Size, image_shape
from tfaug.augment.layers.base import (
    TABLE_SIZE,
    Factor,
    ImageLayer,
    mix,
    one_of,
    pair,
    read_limits,
    register,
    symmetric,
    table,
    two_sizes,
)
from tfaug.config import LARGEST, ConfigError, read_number
from tfaug.images.base import MAX_SIDE_PX
from tfaug.images.resample import window_places

_FILL_MODES = ("reflect", "wrap", "constant", "nearest")
_INTERPOLATIONS = ("nearest", "bilinear")
_ONE = 1 << 16

_FRACTION_BITS = 24  # shares of a side, as rng.uniform draws them


class WarpLayer(ImageLayer):
    """A layer that maps each image affinely: out[y, x] = in[d x + e y + f, a x + b y + c].

    Args:
      fill_mode: what stands outside the image: `reflect` (d c b a | a b c d | d c b a), `wrap`, `nearest`, or
        `constant` for `fill_value`.
      interpolation: `nearest` or `bilinear`.
      fill_value: a number, in the unit of the images.
    """

    def __init__(
        self, fill_mode: str, interpolation: str, fill_value: float, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        one_of(f"{type(self).__name__}.fill_mode", fill_mode, _FILL_MODES)
        one_of(f"{type(self).__name__}.interpolation", interpolation, _INTERPOLATIONS)
        read_number(f"{type(self).__name__}.fill_value", fill_value, -LARGEST)

    def _matrices(self, choice: Choice, height: Size, width: Size) -> Iterable[Sequence[Any]]:
        """Returns the maps, first to last: a, b, c, d, e, f, each a number or int32 [B], in 2**-16."""
        raise NotImplementedError(f"{type(self).__name__} has no _matrices(choice, height, width)")

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        shape, (_, height, width, _) = images.shape, image_shape(images)
        x, y = tf.range(width)[tf.newaxis, tf.newaxis], tf.range(height)[tf.newaxis, :, tf.newaxis]
        for matrix in self._matrices(choice, height, width):
            a, b, c, d, e, f = (tf.reshape(value, [-1, 1, 1]) for value in matrix)
            places = d * x + e * y + f, a * x + b * y + c
            images = _sample_pixels(images, *places, self.interpolation, self.fill_mode, self.fill_value)
        return tf.ensure_shape(tf.cast(images, tf.float32), shape)


@register
class RandomRotation(WarpLayer):
    """Turns each image about its centre. As keras-cv, but that the angle is one of 4,096, evenly spaced.

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
        kwargs |= {"bounding_box_format": bounding_box_format, "segmentation_classes": segmentation_classes}
        super().__init__(fill_mode, interpolation, fill_value, seed, **kwargs)
        angles = 2 * np.pi * table(*symmetric("RandomRotation.factor", factor, -LARGEST, LARGEST))
        self._cosines, self._sines = (np.rint(f(angles) * _ONE).astype(np.int32) for f in (np.cos, np.sin))

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `angle`, int32 [B], a place in the table; see ImageLayer.sample_choice."""
        return {"angle": rng.randint(seed, [shape[0]], 0, TABLE_SIZE)}

    def _matrices(self, choice: Choice, height: Size, width: Size) -> Iterable[Sequence[Any]]:
        cos, sin = (tf.gather(tf.constant(values), choice["angle"]) for values in (self._cosines, self._sines))
        last_x, last_y = width - 1, height - 1
        c = _half((_ONE - cos, last_x), (sin, last_y))
        f = _half((_ONE - cos, last_y), (-sin, last_x))
        return [(cos, -sin, c, sin, cos, f)]


@register
class RandomShear(WarpLayer):
    """Shears each image along x, then along y, by a factor of a drawn sign. As keras-cv.

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
        super().__init__(fill_mode, interpolation, fill_value, seed, bounding_box_format=bounding_box_format, **kwargs)
        factors = {axis: factor for axis, factor in (("x", x_factor), ("y", y_factor)) if factor is not None}
        self._factors = {axis: pair(f"RandomShear.{axis}_factor", factor) for axis, factor in factors.items()}

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `x` and `y`, float32 [B], those that are wanted; see ImageLayer.sample_choice."""
        choice = super().sample_choice(seed, shape)
        for i, (axis, size) in enumerate(choice.items()):
            negative = rng.bernoulli(rng.fold_in(seed, len(choice) + i), [shape[0]], 0.5)
            choice[axis] = tf.where(negative, -size, size)
        return choice

    def _matrices(self, choice: Choice, height: Size, width: Size) -> Iterable[Sequence[Any]]:
        if "x" in choice:
            yield _ONE, _q16(choice["x"]), 0, 0, _ONE, 0
        if "y" in choice:
            yield _ONE, 0, 0, _q16(choice["y"]), _ONE, 0


@register
class RandomTranslation(WarpLayer):
    """Moves each image down and to the right by shares of its sides. As keras-cv.

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
        super().__init__(fill_mode, interpolation, fill_value, seed, bounding_box_format=bounding_box_format, **kwargs)
        self._factors = {
            "down": symmetric("RandomTranslation.height_factor", height_factor),
            "right": symmetric("RandomTranslation.width_factor", width_factor),
        }

    def _matrices(self, choice: Choice, height: Size, width: Size) -> Iterable[Sequence[Any]]:
        down, right = _scaled_share(choice["down"], height, _ONE), _scaled_share(choice["right"], width, _ONE)
        return [(_ONE, 0, -right, 0, _ONE, -down)]


@register
class RandomZoom(WarpLayer):
    """Zooms each image out or in about its centre. As keras-cv.

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
        super().__init__(fill_mode, interpolation, fill_value, seed, **kwargs)

        def in_order(first: float, second: float | None = None) -> list[float]:
            return sorted((first, -first if second is None else second))

        self._factors = {"height": read_limits("RandomZoom.height_factor", height_factor, -1, 1, in_order)}
        if width_factor is not None:
            widths = read_limits("RandomZoom.width_factor", width_factor, -1, 2, in_order)
            self._factors = {**self._factors, "width": widths}

    def _matrices(self, choice: Choice, height: Size, width: Size) -> Iterable[Sequence[Any]]:
        down, across = _q16(choice["height"]), _q16(choice.get("width", choice["height"]))
        f, c = (_half((-zoom, size - 1)) for zoom, size in ((down, height), (across, width)))
        return [(_ONE + across, 0, c, 0, _ONE + down, f)]


@register
class RandomCutout(ImageLayer):
    """Covers a rectangle of each image, about a pixel drawn uniformly; it is clipped at the borders.

    As keras-cv, but that it fills with a constant only. (There, a width is held to the height.)

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
        super().__init__(seed=seed, **kwargs)
        one_of("RandomCutout.fill_mode", fill_mode, ("constant",))
        read_number("RandomCutout.fill_value", fill_value, -LARGEST)
        self._factors = {
            "height": pair("RandomCutout.height_factor", height_factor),
            "width": pair("RandomCutout.width_factor", width_factor),
        }

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `centre_px` and `size_px`, int32 [B, 2], of rows and columns; see ImageLayer.sample_choice."""
        shares, sides = super().sample_choice(seed, shape).values(), shape[1:3]
        sizes = [_scaled_share(share, side, 1, up=True) for share, side in zip(shares, sides, strict=True)]
        centres = [rng.randint(rng.fold_in(seed, 2 + i), [shape[0]], 0, side) for i, side in enumerate(sides)]
        return {"centre_px": tf.stack(centres, 1), "size_px": tf.stack(sizes, 1)}

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        inside = []
        for i, side in enumerate(image_shape(images)[1:3]):
            # Twice the distance: the rectangle reaches half of its side to the left of the pixel's corner.
            twice = 2 * (tf.range(side) - choice["centre_px"][:, i : i + 1])
            size = choice["size_px"][:, i : i + 1]
            inside.append((twice >= -size) & (twice < size))
        covered = inside[0][:, :, tf.newaxis, tf.newaxis] & inside[1][:, tf.newaxis, :, tf.newaxis]
        return tf.where(covered, self.fill_value, tf.cast(images, tf.float32))


class CropLayer(ImageLayer):
    """A layer that cuts a window out of each image and brings it to one size, with and without `training`."""

    _resizes = True
    interpolation = "bilinear"

    def _places(self, choice: Choice, height: Size, width: Size) -> Sequence[tf.Tensor]:
        """Returns the rows, int32 [B, H'], and the columns, int32 [B, W'], in 2**-16 px."""
        raise NotImplementedError(f"{type(self).__name__} has no _places(choice, height, width)")

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        _, height, width, _ = image_shape(images)
        y, x = self._places(choice, height, width)
        return _sample_pixels(images, y[:, :, tf.newaxis], x[:, tf.newaxis, :], self.interpolation, "nearest", 0.0)


@register
class RandomCrop(CropLayer):
    """Cuts a window out of each image, at a place of its own; an image that is smaller is resized, bilinear.

    The window lies on whole pixels, where keras-cv takes fractions of a pixel and so may leave out a row and double
    another. Without `training` it is the window in the middle.

    Args:
      height: rows of the window, 1..16,384.
      width: columns of the window, likewise.
    """

    def __init__(
        self, height: int, width: int, seed: int | None = None, bounding_box_format: None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed=seed, bounding_box_format=bounding_box_format, **kwargs)
        read_number("RandomCrop.height", height, 1, MAX_SIDE_PX, whole=True)
        read_number("RandomCrop.width", width, 1, MAX_SIDE_PX, whole=True)

    def _free(self, shape: Shape) -> list[tf.Tensor]:
        """Returns how many rows and columns an image has more than the window."""
        return [tf.maximum(shape[1] - self.height, 0), tf.maximum(shape[2] - self.width, 0)]

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `top` and `left`, int32 [B], 0 where the image is smaller; see ImageLayer.sample_choice."""
        drawn = [rng.randint(rng.fold_in(seed, i), [shape[0]], 0, free + 1) for i, free in enumerate(self._free(shape))]
        return dict(zip(("top", "left"), drawn, strict=True))

    def choice_at_rest(self, shape: Shape) -> Choice:
        """Returns the middle; see ImageLayer.choice_at_rest."""
        middle = [tf.repeat(free // 2, shape[0]) for free in self._free(shape)]
        return dict(zip(("top", "left"), middle, strict=True))

    def _places(self, choice: Choice, height: Size, width: Size) -> Sequence[tf.Tensor]:
        fits = (height >= self.height) & (width >= self.width)
        places = []
        for first, size, target in ((choice["top"], height, self.height), (choice["left"], width, self.width)):
            moved = (first[:, tf.newaxis] + tf.range(target)) * _ONE
            places.append(tf.where(fits, moved, window_places(tf.zeros([1], tf.int32), tf.reshape(size, [1]), target)))
        return places


@register
class RandomCropAndResize(CropLayer):
    """Cuts a window of drawn area and aspect ratio out of each image and resizes it.

    As keras-cv: sides sqrt(area / aspect) and sqrt(area aspect) of the image's, at most 1. Area and aspect ratio are
    each one of 4,096 numbers, evenly spaced. Without `training` the whole image is resized. The op
    `tfaug.augment.RandomResizedCrop` is the papers' form.

    Args:
      target_size: rows and columns of the result, each 1..16,384.
      crop_area_factor: (lowest, highest) share of the area, 0..1.
      aspect_ratio_factor: (lowest, highest) width over height, above 0 and up to 16,384, relative to the image's.
      interpolation: `bilinear` or `nearest`.
    """

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
        super().__init__(seed=seed, bounding_box_format=bounding_box_format, **kwargs)
        two_sizes("RandomCropAndResize.target_size", target_size, "(rows, columns)")
        one_of("RandomCropAndResize.interpolation", interpolation, _INTERPOLATIONS)
        areas = pair("RandomCropAndResize.crop_area_factor", crop_area_factor)
        aspects = pair("RandomCropAndResize.aspect_ratio_factor", aspect_ratio_factor, 0, MAX_SIDE_PX)
        if aspects[0] == 0:
            raise ConfigError(f"RandomCropAndResize.aspect_ratio_factor is {aspect_ratio_factor!r}; allowed: above 0")
        self._area_roots, self._aspect_roots = (
            np.sqrt(table(*limits)).astype(np.float32) for limits in (areas, aspects)
        )

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `offset` and `size`, float32 [B, 2], shares of the image's sides; see ImageLayer.sample_choice."""
        area, aspect = (rng.randint(rng.fold_in(seed, i), [shape[0]], 0, TABLE_SIZE) for i in (0, 1))
        root = tf.gather(tf.constant(self._area_roots), area)
        shapes = (tf.gather(tf.constant(roots), aspect) for roots in (1 / self._aspect_roots, self._aspect_roots))
        size = tf.minimum(tf.stack([root * shape for shape in shapes], 1), 1.0)
        return {"offset": rng.uniform(rng.fold_in(seed, 2), [shape[0], 2]) * (1.0 - size), "size": size}

    def choice_at_rest(self, shape: Shape) -> Choice:
        """Returns the whole image; see ImageLayer.choice_at_rest."""
        return {"offset": tf.zeros([shape[0], 2]), "size": tf.ones([shape[0], 2])}

    def _places(self, choice: Choice, height: Size, width: Size) -> Sequence[tf.Tensor]:
        places = []
        for i, (side, target) in enumerate(zip((height, width), self.target_size, strict=True)):
            # From the first pixel's centre to the last one's, as tf.image.crop_and_resize has it.
            first, length = (_scaled_share(choice[name][:, i : i + 1], side - 1, _ONE) for name in ("offset", "size"))
            if target == 1:
                places.append(first + length // 2)
            else:
                moved = tf.cast(length, tf.int64) * tf.range(target, dtype=tf.int64) // (target - 1)
                places.append(first + tf.cast(moved, tf.int32))
        return places


def _sample_pixels(
    images: tf.Tensor, y: tf.Tensor, x: tf.Tensor, interpolation: str, fill_mode: str, fill_value: float
) -> tf.Tensor:
    """Returns the images at places between pixels, float32 [B, H', W', C].

    Args:
      images: [B, H, W, C].
      y: int32, in 2**-16 px, 0 the centre of the first row; broadcasts to [B, H', W'].
      x: likewise.
      interpolation: `nearest` or `bilinear`.
      fill_mode: what stands outside the image: `reflect`, `wrap`, `nearest`, or `constant` for `fill_value`.
      fill_value: a number.
    """
    images = tf.cast(images, tf.float32)
    _, height, width, _ = image_shape(images)

    def pixels(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        places = _fill_in(row, height, fill_mode), _fill_in(column, width, fill_mode)
        return kernels.gather_pixels(images, *places, fill_value)  # type: ignore[arg-type]

    if interpolation == "nearest":
        return pixels(*(tf.bitwise.right_shift(place + _ONE // 2, 16) for place in (y, x)))
    (top, down), (left, right) = (
        (tf.bitwise.right_shift(place, 16), tf.cast(tf.bitwise.bitwise_and(place, _ONE - 1), tf.float32) * (1 / _ONE))
        for place in (y, x)
    )
    right = right[..., tf.newaxis]
    upper = mix(pixels(top, left), pixels(top, left + 1), right)
    lower = mix(pixels(top + 1, left), pixels(top + 1, left + 1), right)
    return mix(upper, lower, down[..., tf.newaxis])


def _fill_in(index: tf.Tensor, size: Any, fill_mode: str) -> tf.Tensor:
    """Returns the pixel that stands for `index`, which may lie outside 0..size-1."""
    if fill_mode == "reflect":  # d c b a | a b c d | d c b a
        index = tf.math.floormod(index, 2 * size)
        return tf.minimum(index, 2 * size - 1 - index)
    if fill_mode == "wrap":
        return tf.math.floormod(index, size)
    return tf.clip_by_value(index, 0, size - 1) if fill_mode == "nearest" else index


def _scaled_share(share: tf.Tensor, size: Size, unit: int, up: bool = False) -> tf.Tensor:
    """Returns `share` of `size` in 1/unit px, int32, computed in whole numbers and rounded, or rounded up."""
    share = tf.cast(tf.round(share * 2.0**_FRACTION_BITS), tf.int64) * tf.cast(size, tf.int64) * unit
    share += 2**_FRACTION_BITS - 1 if up else 2 ** (_FRACTION_BITS - 1)
    return tf.cast(tf.bitwise.right_shift(share, tf.constant(_FRACTION_BITS, tf.int64)), tf.int32)


def _half(*products: tuple[tf.Tensor, Size]) -> tf.Tensor:
    """Returns half the sum of the products, rounded down, int32: a factor and a side, whose product passes 31 bits."""
    total = sum(tf.cast(factor, tf.int64) * tf.cast(size, tf.int64) for factor, size in products)
    return tf.cast(tf.bitwise.right_shift(total, tf.constant(1, tf.int64)), tf.int32)


def _q16(values: tf.Tensor) -> tf.Tensor:
    """Returns values in whole multiples of 2**-16, int32."""
    return tf.cast(tf.round(values * _ONE), tf.int32)
