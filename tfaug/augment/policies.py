"""Policies that draw pixel operations for each image: RandAugment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape
from tfaug.augment.operations import Operation, apply_operations
from tfaug.config import check_choice, check_range
from tfaug.schedules import Progress

MAX_MAGNITUDE = 30.0


class Strength(NamedTuple):
    """How strong an operation is at magnitude m: low + (high - low) m / 30, with a drawn sign where `signed`."""

    low: float
    high: float
    signed: bool
    unit: str


_FIXED = Strength(0, 0, False, "")

# An operation's index is its place in its table. Warps that stand side by side share one gather.
PRESETS: dict[str, dict[str, Strength]] = {
    "paper_cifar": {
        "identity": _FIXED,
        "autocontrast": _FIXED,
        "equalize": _FIXED,
        "solarize": Strength(0, 256, False, "threshold"),
        "color": Strength(0.1, 1.9, False, "factor"),
        "posterize": Strength(4, 8, False, "bits kept"),
        "contrast": Strength(0.1, 1.9, False, "factor"),
        "brightness": Strength(0.1, 1.9, False, "factor"),
        "sharpness": Strength(0.1, 1.9, False, "factor"),
        "rotate": Strength(0, 30, True, "deg"),
        "shear_x": Strength(0, 0.3, True, "px per px"),
        "shear_y": Strength(0, 0.3, True, "px per px"),
        "translate_x": Strength(0, 10, True, "px"),
        "translate_y": Strength(0, 10, True, "px"),
    },
}


@dataclass(frozen=True)
class RandAugment(Augmentation):
    """Applies n operations to each image, each drawn uniformly from the preset's, all at magnitude m.

    Every image draws its own operations, and its layers are independent. Within a layer the batch is balanced: each
    operation serves at most ceil(B / number of operations) images, so that it can work on its own images only. Each
    image's operation is exactly uniform; two images share one a little less often than if drawn independently.

    An operation's value is low + (high - low) m / 30; rotations, shears and translations get a random sign. With
    `paper_cifar`:

    | operation | m = 0 | m = 9 | m = 30 | as m grows |
    | --- | --- | --- | --- | --- |
    | identity, autocontrast, equalize | | | | does not change |
    | rotate, degrees, about the centre | 0 | 9 | 30 | stronger |
    | shear_x, shear_y, about the top left corner | 0 | 0.09 | 0.3 | stronger |
    | translate_x, translate_y, px | 0 | 3 | 10 | stronger |
    | color, contrast, brightness, sharpness, factor | 0.1 | 0.64 | 1.9 | weaker to nothing at m = 15, then stronger |
    | posterize, bits kept, int() | 4 | 5 | 8 | weaker; nothing at m = 30 |
    | solarize, lowest inverted value, int() | 0 | 76 | 256 | weaker; inverts all at m = 0, nothing at m = 30 |

    So a larger m is not always a stronger policy: six of the fourteen operations get weaker over some of the range or
    all of it, and m = 0 is *not* the identity (n = 0 is). The published results were got with these ranges.

    Images: uint8 [B,H,W,C] with 1 or 3 channels, B at least 1; float images are rounded and clipped to 0..255 first.
    Returns uint8. On one channel `color` does nothing. Labels pass. Without XLA (`jit_compile=True`) it runs several
    times slower.

    Attributes:
      n: number of operations per image, 0 or more; 0 is the identity.
      m: magnitude, 0..30; one for all operations.
      preset: name of the table of operations and ranges, one of `PRESETS`.
      fill: grey level 0..255 of the places that a warp leaves empty.

    Raises:
      ConfigError: when an attribute is out of its range.
      ValueError: when called on images that a translation at this m would push out entirely.

    Source: Cubuk et al. 2020, "RandAugment", section 3, for the operations; the ranges are those of the public PyTorch
    version that reproduced its CIFAR results (ildoonet/pytorch-randaugment, 616ef12), which has invert in the place of
    contrast, with AutoAugment's 10 px for translations.

    Example:
      >>> import tensorflow as tf
      >>> from tfaug import rng
      >>> images = tf.zeros([4, 32, 32, 3], tf.uint8)
      >>> augment = tf.function(RandAugment(n=2, m=9), jit_compile=True)
      >>> augment(images, rng.make_seed(0)).shape.as_list()
      [4, 32, 32, 3]
    """

    n: int = 2
    m: float = 9.0
    preset: str = "paper_cifar"
    fill: int = 128

    def __post_init__(self) -> None:
        check_range(self, "n", 0)
        check_range(self, "m", 0, MAX_MAGNITUDE)
        check_choice(self, "preset", PRESETS)
        check_range(self, "fill", 0, 255)

    @property
    def op_names(self) -> tuple[str, ...]:
        """The preset's operations in the order of their indices."""
        return tuple(PRESETS[self.preset])

    def value(self, op_name: str) -> float:
        """Returns an operation's value at magnitude m, in its table's unit and without a sign."""
        strength = PRESETS[self.preset][op_name]
        return strength.low + (strength.high - strength.low) * self.m / MAX_MAGNITUDE

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws each image's operations and signs.

        Args:
          seed: int32 [2].
          shape: [B,H,W,C].

        Returns:
          `op_index`, int32 [B,n]: places in `op_names`. `negative`, bool [B,n]: whether a signed value is negated.
        """
        batch, num_ops = shape[0], len(self.op_names)
        if self.n == 0:
            return {"op_index": tf.zeros([batch, 0], tf.int32), "negative": tf.zeros([batch, 0], tf.bool)}
        # Each image gets a place of its own among equally many per operation.
        per_op = -(-batch // num_ops)
        places = [rng.permutation(rng.fold_in(seed, layer), num_ops * per_op)[:batch] for layer in range(self.n)]
        negative = rng.bernoulli(rng.fold_in(seed, self.n), [batch, self.n], 0.5)
        return {"op_index": tf.stack(places, 1) // per_op, "negative": negative}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Applies each image's operations, layer by layer.

        Any operation indices are right; balanced ones, such as `sample` draws, are fast: an operation is computed for
        ceil(B / number of operations) images at a time, as often as the choice needs it, so at worst on all images.
        """
        images = kernels.to_uint8(batch.images)
        if self.n:
            self._check_size(images)
            value_index = tf.cast(choice["negative"], tf.int32)
            images = apply_operations(images, self._operations(), choice["op_index"], value_index, fill=self.fill)
        return batch._replace(images=images)

    def _check_size(self, images: tf.Tensor) -> None:
        """Refuses images that a translation would push out entirely."""
        for name, axis, side in (("translate_x", 2, "width"), ("translate_y", 1, "height")):
            size = images.shape[axis]
            if name in self.op_names and size is not None and self.value(name) >= size:
                raise ValueError(
                    f"RandAugment's preset {self.preset!r} at m={self.m:g} translates by {self.value(name):g} px, but "
                    f"the images' {side} is {size} px; allowed: less than that, by a smaller m or larger images"
                )

    def _operations(self) -> tuple[Operation, ...]:
        """The preset's operations, each with its value and, where it is signed, the negated value after it."""
        strengths = PRESETS[self.preset]
        return tuple(
            Operation(name, (self.value(name), -self.value(name)) if strength.signed else (self.value(name),))
            for name, strength in strengths.items()
        )
