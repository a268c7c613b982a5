"""Standard light augmentation: horizontal flip, and crop after zero padding."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape
from tfaug.config import check_range
from tfaug.schedules import Progress


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors each image left to right with probability `p`.

    Images of any dtype and size keep both; labels pass.

    Attributes:
      p: probability of a flip, 0..1.

    Example:
      >>> import tensorflow as tf
      >>> from tfaug import rng
      >>> Flip(p=1.0)(tf.constant([[[[1], [2], [3]]]], tf.uint8), rng.make_seed(0))[0, 0, :, 0].numpy().tolist()
      [3, 2, 1]
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        check_range(self, "p", 0, 1)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws which images are mirrored: `flip` bool [B]."""
        return {"flip": rng.bernoulli(seed, [shape[0]], self.p)}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Mirrors the chosen images."""
        return batch._replace(images=kernels.flip(batch.images, choice["flip"]))


@dataclass(frozen=True)
class PadCrop(Augmentation):
    """Pads each image with zeros and cuts a window of its first size at a uniformly drawn place.

    Images of any dtype and size keep both; labels pass. `pad_px` 0 is the identity.

    Attributes:
      pad_px: pixels of padding on each side, 0 or more.

    Source: the standard CIFAR augmentation of all the papers (crop padding 4).
    """

    pad_px: int = 4

    def __post_init__(self) -> None:
        check_range(self, "pad_px", 0)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws each window's first row and column in the padded image: `top`, `left` int32 [B], 0..2 pad_px."""
        last = 2 * self.pad_px + 1
        return {
            "top": rng.randint(rng.fold_in(seed, 0), [shape[0]], 0, last),
            "left": rng.randint(rng.fold_in(seed, 1), [shape[0]], 0, last),
        }

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Cuts the chosen windows."""
        if self.pad_px == 0:
            return batch
        return batch._replace(images=kernels.pad_and_crop(batch.images, choice["top"], choice["left"], self.pad_px))
