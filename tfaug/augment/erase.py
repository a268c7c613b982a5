"""Ops that cover part of each image: Cutout, its form in shares of the image, and Random Erasing."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape, Sometimes, uniform_each
from tfaug.augment.spatial import NUM_RATIOS, check_pair, draw_windows, middles
from tfaug.config import LARGEST, ConfigError, check_range, check_whole
from tfaug.images import resample
from tfaug.images.base import MAX_SIDE_PX, warn_of_unit_range
from tfaug.schedules import Progress, Schedule, bounds, check_scheduled, value_at


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Covers squares of each image, whose centres are uniform over its pixels; what lies outside is cut off.

    A hole of side s reaches from row `centre - s // 2` on over s rows, and columns likewise. For an even s this is the
    paper's square; for an odd one the paper's code covers s - 1 px. Each hole has a centre and a side of its own.

    Images of any dtype and size keep both; labels pass.

    Choice: `centre_px` int32 [B, num_holes, 2], row and column; `side_px` int32 [B, num_holes], 0 where the image stays
    as it is.

    Attributes:
      size_px: side of a hole, 0 or more, rounded to whole px, or a schedule; 0 is the identity. The refine paper has
        16 for CIFAR and 32 for Tiny-ImageNet.
      num_holes: number of holes, 0 or more; the distill paper has 16 "of random size".
      min_size_px: if given, each side is a whole number drawn uniformly from min_size_px..size_px.
      p: probability per image, 0..1, or a schedule; 0 is the identity.
      fill: grey level 0..255 of the holes.

    Raises:
      ConfigError: if a field is out of range.
      ValueError: if a hole is larger than the images, as far as their size is known when the call is traced.

    Source: DeVries and Taylor 2017 (Cutout), section 3.2.

    Example:
      >>> image = tf.fill([1, 3, 3, 1], tf.constant(9, tf.uint8))
      >>> choice = {"centre_px": tf.constant([[[0, 1]]]), "side_px": tf.constant([[2]])}
      >>> Cutout().apply(Batch(image), choice).images[0, :, :, 0].numpy().tolist()
      [[0, 0, 9], [9, 9, 9], [9, 9, 9]]
    """

    size_px: float | Schedule = 8
    num_holes: int = 1
    min_size_px: int | None = None
    p: float | Schedule = 1.0
    fill: int = 0

    def __post_init__(self) -> None:
        check_scheduled(self, "size_px", 0, MAX_SIDE_PX)
        check_whole(self, "num_holes", 0, 1000)
        if self.min_size_px is not None:
            check_whole(self, "min_size_px", 0, round(bounds(self.size_px)[0]))
        check_scheduled(self, "p", 0, 1)
        check_whole(self, "fill", 0, 255)

    @property
    def counts_in_levels(self) -> bool:
        """Whether it covers with anything but black."""
        return bool(self.fill)

    @property
    def fills_with_black(self) -> bool:
        """Whether it covers with black."""
        return not self.fill

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the holes; see Augmentation.sample."""
        largest = round(bounds(self.size_px)[1])
        if any(isinstance(size, int) and largest > size for size in shape[1:3]):
            raise ValueError(
                f"Cutout.size_px is {self.size_px!r}, but the images are {shape[1]} x {shape[2]} px; "
                f"allowed: a hole that is not larger than the image"
            )
        holes = [shape[0], self.num_holes]
        centre = [rng.randint(rng.fold_in(seed, i), holes, 0, size) for i, size in enumerate(shape[1:3])]
        side = tf.cast(tf.round(tf.cast(value_at(self, "size_px", progress), tf.float32)), tf.int32)
        if self.min_size_px is not None:
            side = rng.randint(rng.fold_in(seed, 2), holes, self.min_size_px, side + 1)
        covered = rng.bernoulli(rng.fold_in(seed, 3), [shape[0], 1], value_at(self, "p", progress))
        return {"centre_px": tf.stack(centre, -1), "side_px": tf.where(covered, side, tf.zeros(holes, tf.int32))}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Covers the holes; see Augmentation.apply."""
        side = choice["side_px"][..., tf.newaxis]
        start = choice["centre_px"] - side // 2
        if self.fill:
            warn_of_unit_range(batch.images)
        boxes = tf.concat([start, start + side], -1)
        return batch._replace(images=kernels.cover(batch.images, boxes, self.num_holes, self.fill))


@dataclass(frozen=True)
class RandomCutout(Sometimes, Augmentation):
    """Covers a rectangle of each image, about a pixel drawn uniformly; what lies outside is cut off.

    Its sides are drawn uniformly as shares of the image's, each by itself, and rounded up to whole px. A side s reaches
    from `centre - s // 2` on over s rows or columns, as in `Cutout`, whose squares are given in px.

    Images of any size; uint8 and float32 stay what they are. Labels pass.

    Choice: `centre_px` int32 [B, 2], row and column; `size_px` int32 [B, 2], rows and columns; `applied`, see
    `Sometimes`.

    Attributes:
      height_fraction: lowest and highest share of the height, 0..1.
      width_fraction: likewise, of the width.
      fill: grey level that covers it; floats may have any.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: keras-cv 0.9, layers.RandomCutout (which holds the width to the height).

    Example:
      >>> op = RandomCutout(height_fraction=(1, 1), width_fraction=(1, 1), fill=9)
      >>> sorted({*op(tf.zeros([8, 4, 4, 1], tf.uint8), seed=1).numpy().flatten().tolist()})
      [0, 9]
    """

    height_fraction: tuple[float, float] = (0.0, 0.5)
    width_fraction: tuple[float, float] = (0.0, 0.5)
    fill: float = 0.0
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_pair(self, "height_fraction", 0, 1)
        check_pair(self, "width_fraction", 0, 1)
        check_range(self, "fill", -LARGEST)
        check_scheduled(self, "p", 0, 1)

    @property
    def counts_in_levels(self) -> bool:
        """Whether it covers with anything but black."""
        return self.fill != 0

    @property
    def fills_with_black(self) -> bool:
        """Whether it covers with black."""
        return self.fill == 0

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        shares = uniform_each(seed, shape, {"height": self.height_fraction, "width": self.width_fraction}).values()
        sizes = [
            resample.share_of_side(share, side, 1, up=True) for share, side in zip(shares, shape[1:3], strict=True)
        ]
        centres = [rng.randint(rng.fold_in(seed, 2 + i), [shape[0]], 0, side) for i, side in enumerate(shape[1:3])]
        return {"centre_px": tf.stack(centres, 1), "size_px": tf.stack(sizes, 1)}

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        start = choice["centre_px"] - choice["size_px"] // 2
        boxes = tf.concat([start, start + choice["size_px"]], 1)[:, tf.newaxis]
        return kernels.cover(tf.cast(images, tf.float32), boxes, 1, self.fill)


@dataclass(frozen=True)
class RandomErasing(Augmentation):
    """Covers a rectangle of random area and shape, wholly inside the image, by one grey level or by noise.

    The rectangle's share of the area is uniform in `scale` and its height over width is uniform in `ratio`, as in the
    paper (torchvision draws the logarithm uniformly), among those that fit into the image; its place is uniform among
    those where it lies inside, as in the authors' code (the paper's listing draws area and shape anew where the place
    does not suit, which makes large rectangles rarer). See `draw_windows` for how it is drawn, which takes no tries.

    Images of any dtype and size keep both; labels pass.

    Choice: `box_px` int32 [B, 4], the rows and columns `top, left, bottom, right`, ends excluded, all zero where the
    image stays as it is; with noise, `noise` uint8 [B, H, W, C].

    Attributes:
      p: probability per image, 0..1, or a schedule; 0 is the identity.
      scale: lowest and highest share of the area, 0..1. The paper has (0.02, 0.4), torchvision this.
      ratio: lowest and highest height over width, 0.01..100. The paper has (0.3, 1 / 0.3).
      fill: grey level 0..255, or `noise`: each value of each pixel uniform in 0..255, the paper's RE-R.

    Raises:
      ConfigError: if a field is out of range.

    Source: Zhong et al. 2020 (Random Erasing), section 3 and algorithm 1.

    Example:
      >>> erased = RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1, 1))(tf.ones([1, 8, 8, 1], tf.uint8), seed=1)
      >>> int(tf.reduce_sum(tf.cast(erased, tf.int32)))
      48
    """

    p: float | Schedule = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    fill: int | str = 0

    def __post_init__(self) -> None:
        check_scheduled(self, "p", 0, 1)
        check_pair(self, "scale", 0, 1)
        check_pair(self, "ratio", 0.01, 100)
        if isinstance(self.fill, str):
            if self.fill != "noise":
                raise ConfigError(f"RandomErasing.fill is {self.fill!r}; allowed: a whole number, 0..255, or 'noise'")
        else:
            check_whole(self, "fill", 0, 255)

    @property
    def counts_in_levels(self) -> bool:
        """Whether it covers with anything but black."""
        return bool(self.fill)

    @property
    def fills_with_black(self) -> bool:
        """Whether it covers with black."""
        return not self.fill

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the rectangles, and the noise if there is some; see Augmentation.sample."""
        ratios = tuple(middles(*self.ratio, NUM_RATIOS))
        box = draw_windows(rng.fold_in(seed, 0), shape, self.scale, ratios)
        erased = rng.bernoulli(rng.fold_in(seed, 1), [shape[0], 1], value_at(self, "p", progress))
        choice = {"box_px": tf.where(erased, box, 0)}
        if self.fill == "noise":
            choice["noise"] = tf.cast(tf.bitwise.right_shift(rng.bits(rng.fold_in(seed, 2), shape), 24), tf.uint8)
        return choice

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Covers the rectangles; see Augmentation.apply."""
        if self.fill:
            warn_of_unit_range(batch.images)
        fill = choice["noise"] if self.fill == "noise" else self.fill
        return batch._replace(images=kernels.cover(batch.images, choice["box_px"][:, tf.newaxis], 1, fill))
