"""RandAugment and its presets: operations drawn for each image, all at one magnitude."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape, Size
from tfaug.augment.operations import Operation, apply_operations
from tfaug.config import check_choice, check_range, check_whole
from tfaug.schedules import Progress, Schedule, bounds, check_scheduled, value_at

MAX_MAGNITUDE = 30.0
INTERPOLATIONS = ("nearest", "bilinear")

# Magnitudes that are drawn or scheduled are rounded to this grid, so that `apply` only looks values up in tables.
_LEVELS_PER_MAGNITUDE = 64
_NUM_LEVELS = int(MAX_MAGNITUDE) * _LEVELS_PER_MAGNITUDE + 1


class Strength(NamedTuple):
    """How an operation's value depends on the magnitude.

    Attributes:
      low: value at magnitude 0.
      high: value at the highest magnitude; a straight line between.
      signed: whether half of the images get the value mirrored about `low`: -value where `low` is 0.
      unit: of the value.
      fit: makes the published number of a point on the line: truncation, rounding, limits.
      uniform: whether each image draws its own magnitude uniformly from 0 up to the one asked for.
    """

    low: float
    high: float
    signed: bool
    unit: str
    fit: Callable[[float], float] = float
    uniform: bool = False

    def value(self, m: float, top: float = MAX_MAGNITUDE) -> float:
        """Returns the value at magnitude `m` of 0..top, not mirrored."""
        return self.fit(self.low + (self.high - self.low) * m / top)

    def mirrored(self, m: float, top: float = MAX_MAGNITUDE) -> float:
        """Returns the value at magnitude `m` of 0..top, mirrored about `low`."""
        return 2 * self.low - self.value(m, top)


FIXED = Strength(0, 0, False, "")

# An operation's index is its place in its table.
PRESETS: dict[str, dict[str, Strength]] = {
    "paper_cifar": {
        "identity": FIXED,
        "autocontrast": FIXED,
        "equalize": FIXED,
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
    # Its constants stand at magnitude 10: a third of the highs here.
    "efficientnet_tpu": {
        "autocontrast": FIXED,
        "equalize": FIXED,
        "invert": FIXED,
        "posterize": Strength(0, 12, False, "bits kept", fit=lambda bits: min(int(bits), 8)),
        "solarize": Strength(0, 768, False, "threshold", fit=lambda threshold: int(threshold) & 255),
        "color": Strength(0.1, 5.5, False, "factor"),
        "contrast": Strength(0.1, 5.5, False, "factor"),
        "brightness": Strength(0.1, 5.5, False, "factor"),
        "sharpness": Strength(0.1, 5.5, False, "factor"),
        "rotate": Strength(0, 90, True, "deg"),
        "shear_x": Strength(0, 0.9, True, "px per px"),
        "shear_y": Strength(0, 0.9, True, "px per px"),
        "translate_x": Strength(0, 300, True, "px"),
        "translate_y": Strength(0, 300, True, "px"),
        "cutout": Strength(0, 120, False, "half the side, px", fit=int),
        "solarize_add": Strength(0, 330, False, "levels added", fit=lambda addition: min(int(addition), 255)),
    },
    "torchvision": {
        "identity": FIXED,
        "autocontrast": FIXED,
        "equalize": FIXED,
        "solarize": Strength(255, 0, False, "threshold", fit=math.ceil),
        "color": Strength(1, 1.9, True, "factor"),
        "posterize": Strength(8, 4, False, "bits kept", fit=round),
        "contrast": Strength(1, 1.9, True, "factor"),
        "brightness": Strength(1, 1.9, True, "factor"),
        "sharpness": Strength(1, 1.9, True, "factor"),
        "rotate": Strength(0, 30, True, "deg"),
        "shear_x": Strength(0, 0.3, True, "px per px"),
        "shear_y": Strength(0, 0.3, True, "px per px"),
        "translate_x_fraction": Strength(0, 150 / 331, True, "of the width"),
        "translate_y_fraction": Strength(0, 150 / 331, True, "of the height"),
    },
    # The identity is keras-cv's rate of 10/11: an eleventh of the layers, and the other operations an eleventh each.
    "keras_cv": {
        "identity": FIXED,
        "autocontrast": FIXED,
        "equalize_rarest": FIXED,
        "add_solarize": Strength(0, 1, False, "share"),
        "color": Strength(1, 0, False, "factor"),
        "contrast_channel": Strength(1, 2, True, "factor", uniform=True),
        "add": Strength(0, 255, True, "levels added", uniform=True),
        "shear_x": Strength(0, 1, True, "px per px"),
        "shear_y": Strength(0, 1, True, "px per px"),
        "translate_x_fraction": Strength(0, 1, True, "of the width", uniform=True),
        "translate_y_fraction": Strength(0, 1, True, "of the height", uniform=True),
    },
}

# Standard deviation of the magnitude where the preset has one of its own: keras-cv's 0.15 of 0..1.
SPREADS: dict[str, float] = {"keras_cv": 0.15 * MAX_MAGNITUDE}

_MAY_EXCEED_IMAGE = ("efficientnet_tpu",)


@dataclass(frozen=True)
class RandAugment(Augmentation):
    """Applies n operations to each image, each drawn uniformly from the preset's, all at magnitude m.

    Every image draws its own operations, and its layers are independent. Within a layer the batch is balanced: each
    operation serves at most ceil(B / number of operations) images, so that it can work on its own images only. Each
    image's operation is exactly uniform, but images of a batch share one less often than if drawn independently, and
    never in a batch of up to as many images as there are operations (14 below); see `rng.balanced` and `balanced`.

    An operation's value is low + (high - low) m / 30; signed ones are mirrored about `low` for half of the images.
    With a `spread` the magnitude is m + spread z, held to 0..30, with z drawn from the normal distribution for each
    image and layer. A magnitude that is drawn or follows a schedule is rounded to 1/64; a constant one is not.

    `paper_cifar`, 14 operations:

    | operation | m = 0 | m = 9 | m = 30 | as m grows |
    | --- | --- | --- | --- | --- |
    | identity, autocontrast, equalize | | | | does not change |
    | rotate, +- degrees, about the centre | 0 | 9 | 30 | stronger |
    | shear_x, shear_y, +-, about the top left corner | 0 | 0.09 | 0.3 | stronger |
    | translate_x, translate_y, +- px | 0 | 3 | 10 | stronger |
    | color, contrast, brightness, sharpness, factor | 0.1 | 0.64 | 1.9 | weaker to nothing at m = 15, then stronger |
    | posterize, bits kept, int() | 4 | 5 | 8 | weaker; nothing at m = 30 |
    | solarize, lowest inverted value, int() | 0 | 76 | 256 | weaker; inverts all at m = 0, nothing at m = 30 |

    Solarize departs from its source by one level wherever 256 m / 30 is not whole: PIL, which the source gives the
    fraction, inverts from its ceiling on, 77 at m = 9, and this preset truncates, to 76. It stays so until a major
    release, for bits may not change before (docs/reproducibility.md).

    So a larger m is not always a stronger policy: six of the fourteen operations get weaker over some of the range or
    all of it, and m = 0 is *not* the identity (n = 0 is). The published results were got with these ranges.

    `torchvision`, 14 operations, all stronger as m grows:

    | operation | m = 0 | m = 9 | m = 30 |
    | --- | --- | --- | --- |
    | identity, autocontrast, equalize | | | |
    | rotate, +- degrees | 0 | 9 | 30 |
    | shear_x, shear_y, +- | 0 | 0.09 | 0.3 |
    | translate_x_fraction, translate_y_fraction, +- of the side, int() px | 0 | 0.136 | 0.453 |
    | color, contrast, brightness, sharpness, factor 1 +- | 0 | 0.27 | 0.9 |
    | posterize, bits kept, rounded | 8 | 7 | 4 |
    | solarize, lowest inverted value, rounded up | 255 | 179 | 0 |

    `keras_cv`, 11 operations with the identity, which stands for its rate of 10/11; spread 4.5. keras-cv's magnitude is
    m / 30. Values before the spread:

    | operation | m = 0 | m = 9 | m = 30 |
    | --- | --- | --- | --- |
    | identity, autocontrast, equalize_rarest | | | |
    | add_solarize, first added to all values | 0 | 33 | 110 |
    | add_solarize, lowest inverted sum | 255 | 178.5 | 0 |
    | color, factor | 1 | 0.7 | 0 |
    | contrast_channel, about the mean of each channel, factor 1 +- | 0 | up to 0.3 | up to 1 |
    | add, to all values, +- | 0 | up to 76.5 | up to 255 |
    | shear_x, shear_y, +- | 0 | 0.3 | 1 |
    | translate_x_fraction, translate_y_fraction, +- of the side, int() px | 0 | up to 0.3 | up to 1 |

    "up to": contrast_channel, add and translations draw uniformly from 0 to m instead of about m. At given values the
    operations that keep pixels in place are keras-cv's to within one grey level: autocontrast and color round down, the
    others to the nearest level. What differs from keras-cv:

    - Both values of add_solarize follow one drawn magnitude; keras-cv draws each about m.
    - Warps are nearest by default; `interpolation="bilinear"` is keras-cv's. The places left empty get the grey level
      `fill`; keras-cv mirrors the image into them, which no setting does.
    - Shears leave the top left corner in place, and keras-cv's the centre of its pixel: half the factor in px apart.
    - Translations are rounded to whole px.

    `efficientnet_tpu`, 16 operations, made for images of 224 px and more and kept to reproduce results that were got
    with it on 32 px. Its magnitudes are spoken of as 0..10 there, with the same numbers:

    | operation | m = 0 | m = 5 | m = 10 | m = 20 | m = 30 |
    | --- | --- | --- | --- | --- | --- |
    | autocontrast, equalize, invert | | | | | |
    | rotate, +- degrees | 0 | 15 | 30 | 60 | 90 |
    | shear_x, shear_y, +- | 0 | 0.15 | 0.3 | 0.6 | 0.9 |
    | translate_x, translate_y, +- px in any image | 0 | 50 | 100 | 200 | 300 |
    | color, contrast, brightness, sharpness, factor | 0.1 | 1 | 1.9 | 3.7 | 5.5 |
    | posterize, bits kept, int() | 0 | 2 | 4 | 8 | 8 |
    | solarize, lowest inverted value, int(), in 8 bits | 0 | 128 | 0 | 0 | 0 |
    | solarize_add, added below 128, int() | 0 | 55 | 110 | 220 | 255 |
    | cutout, half the side, px, int() | 0 | 20 | 40 | 80 | 120 |

    A threshold of 256 or more wraps in 8 bits: at m = 10, 20 and 30 solarize is invert. On 32 px, one layer makes 18.8
    % of the images wholly grey at m = 20, and 13.0 % at m = 5.

    Images: uint8 [B,H,W,C] with 1 or 3 channels, B at least 1; float images are rounded and clipped to 0..255 first.
    Returns uint8. On one channel `color` does nothing. Labels pass. Without XLA (`jit_compile=True`) it runs several
    times slower.

    Attributes:
      n: number of operations per image, 0 or more; 0 is the identity.
      m: magnitude, 0..30, or a schedule of it; one for all operations.
      preset: name of the table of operations and ranges, one of `PRESETS`.
      spread: standard deviation of the magnitude, 0 or more, in units of m; None for the preset's own, which is 0 but
        for keras_cv.
      fill: grey level 0..255 of the places that a warp or cutout leaves empty.
      interpolation: of warps, `nearest` or `bilinear`.
      balanced: whether the images of a batch share the operations out evenly among them; False draws each image's
        independently of the others', for those who need that, and may take twice as long.

    Raises:
      ConfigError: when an attribute is out of its range.
      ValueError: when called on images that a translation at this m (the highest one, with a schedule or a spread)
        would push out entirely, or when m is a schedule and there is no progress. `efficientnet_tpu` is not refused
        but warns once for each image size and m.

    Source: Cubuk et al. 2020, "RandAugment", section 3, for the operations. Ranges: `paper_cifar`, the public PyTorch
    version that reproduced the CIFAR results (ildoonet/pytorch-randaugment, 616ef12), which has invert in the place of
    contrast, with AutoAugment's 10 px for translations; `efficientnet_tpu`, autoaugment.py of the EfficientNet TPU
    release (without the identity that tensorflow/models added later); `torchvision`, transforms.RandAugment;
    `keras_cv`, layers.RandAugment of keras-cv 0.9.

    Example:
      >>> import tensorflow as tf
      >>> from tfaug import rng
      >>> images = tf.zeros([4, 32, 32, 3], tf.uint8)
      >>> augment = tf.function(RandAugment(n=2, m=9), jit_compile=True)
      >>> augment(images, rng.make_seed(0)).shape.as_list()
      [4, 32, 32, 3]
    """

    n: int = 2
    m: float | Schedule = 9.0
    preset: str = "paper_cifar"
    spread: float | None = None
    fill: int = 128
    interpolation: str = "nearest"
    balanced: bool = True

    def __post_init__(self) -> None:
        check_whole(self, "n", 0)
        check_scheduled(self, "m", 0, MAX_MAGNITUDE)
        check_choice(self, "preset", PRESETS)
        if self.spread is not None:
            check_range(self, "spread", 0)
        check_whole(self, "fill", 0, 255)
        check_choice(self, "interpolation", INTERPOLATIONS)
        check_choice(self, "balanced", (True, False))

    @property
    def op_names(self) -> tuple[str, ...]:
        """The preset's operations in the order of their indices."""
        return tuple(PRESETS[self.preset])

    def value(self, op_name: str, m: float | None = None) -> float:
        """Returns an operation's value at a magnitude, in its table's unit and not mirrored.

        Args:
          op_name: one of `op_names`.
          m: the magnitude; by default the op's own.

        Raises:
          ValueError: if the op's m is a schedule and none is given.
        """
        if m is None:
            if not isinstance(self.m, (int, float)):
                raise ValueError(f"RandAugment.m is a schedule, {self.m!r}: give value() a magnitude")
            m = self.m
        return PRESETS[self.preset][op_name].value(m)

    @property
    def _own_spread(self) -> float:
        """The standard deviation of the magnitude: the op's or else the preset's."""
        return SPREADS.get(self.preset, 0.0) if self.spread is None else self.spread

    @property
    def _constant(self) -> float | None:
        """The magnitude that all images have at all times; None where it is drawn or scheduled."""
        uniform = any(strength.uniform for strength in PRESETS[self.preset].values())
        return self.m if isinstance(self.m, (int, float)) and not self._own_spread and not uniform else None

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws each image's operations, signs and magnitudes.

        Args:
          seed: int32 [2].
          shape: [B,H,W,C].
          progress: where training stands; needed where m is a schedule.

        Returns:
          `op_index`, int32 [B,n]: places in `op_names`. `negative`, bool [B,n]: whether a signed value is mirrored.
          `level`, int32 [B,n]: the magnitude in steps of 1/64; 0 where it is one constant. `centre_px`, int32 [B,n,2],
          row and column, where the preset has a cutout.
        """
        size = [shape[0], self.n]
        num = len(self.op_names)
        layers = [draw_places(rng.fold_in(seed, layer), shape[0], num, self.balanced) for layer in range(self.n)]
        choice = {
            "op_index": tf.stack(layers, 1) if layers else tf.zeros(size, tf.int32),
            "negative": rng.bernoulli(rng.fold_in(seed, self.n), size, 0.5),
        }
        if self.n and self._constant is None:
            m = value_at(self, "m", progress)
            choice["level"] = self._draw_levels(seed, choice["op_index"], tf.cast(m, tf.float32))
        else:
            choice["level"] = tf.zeros(size, tf.int32)
        if "cutout" in self.op_names:
            choice["centre_px"] = draw_centres(rng.fold_in(seed, self.n + 3), size, shape[1], shape[2])
        return choice

    def _draw_levels(self, seed: tf.Tensor, op_index: tf.Tensor, m: tf.Tensor) -> tf.Tensor:
        """Draws the magnitude of each image and layer about `m`, in steps of the grid."""
        size, drawn = tf.shape(op_index), m
        if self._own_spread:
            normal = rng.normal(rng.fold_in(seed, self.n + 1), size)
            drawn = m + rng.unfused(normal * tf.constant(self._own_spread, tf.float32))
        uniform = [strength.uniform for strength in PRESETS[self.preset].values()]
        if any(uniform):
            below = rng.unfused(rng.uniform(rng.fold_in(seed, self.n + 2), size) * m)
            drawn = tf.where(tf.gather(tf.constant(uniform), op_index), below, drawn)
        levels = tf.cast(tf.round(drawn * _LEVELS_PER_MAGNITUDE), tf.int32)
        return tf.broadcast_to(tf.clip_by_value(levels, 0, _NUM_LEVELS - 1), size)

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Applies each image's operations, layer by layer.

        Any operation indices are right; balanced ones, such as `sample` draws, are fast: an operation is computed for
        ceil(B / number of operations) images at a time, as often as the choice needs it, so at worst on all images.
        """
        images = kernels.to_uint8(batch.images)
        if self.n:
            self._check_size(images)
            images = apply_operations(
                images,
                self._operations(),
                choice["op_index"],
                self._value_index(choice),
                choice.get("centre_px"),
                fill=self.fill,
                interpolation=self.interpolation,
            )
        return batch._replace(images=images)

    def _operations(self) -> tuple[Operation, ...]:
        """The preset's operations, each with its value at every level and, where it is signed, the mirrored ones."""
        return _operations(self.preset, self._constant)

    def _value_index(self, choice: Choice) -> tf.Tensor:
        """Returns the place of each image's value among its operation's values, int32 [B,n]."""
        signed = tf.constant([strength.signed for strength in PRESETS[self.preset].values()])
        mirrored = choice["negative"] & tf.gather(signed, choice["op_index"])
        num_levels = _NUM_LEVELS if self._constant is None else 1
        return choice["level"] + tf.cast(mirrored, tf.int32) * num_levels

    def _check_size(self, images: tf.Tensor) -> None:
        """Refuses images that a translation or a cutout at the highest magnitude would exceed, or warns of it."""
        highest = bounds(self.m)[1]
        spread_out = min(highest + self._own_spread * rng.normal_limit(), MAX_MAGNITUDE)
        for name, strength in PRESETS[self.preset].items():
            for axis in _AXES.get(name, ()):
                m, side = highest if strength.uniform else spread_out, images.shape[axis]
                if side is None or not _exceeds(name, strength.value(m), side):
                    continue
                if self.preset in _MAY_EXCEED_IMAGE:
                    _warn_once(self.preset, m, images.shape[1], images.shape[2])
                    return
                raise ValueError(
                    f"RandAugment's preset {self.preset!r} at m={m:g} translates by "
                    f"{_reach_px(name, strength.value(m), side):g} px, but the images' {_SIDES[axis]} is {side} px; "
                    "allowed: less than that, by a smaller m or larger images"
                )


# The axes of the images that an operation may exceed, and their names.
_AXES = {
    "translate_x": (2,),
    "translate_y": (1,),
    "translate_x_fraction": (2,),
    "translate_y_fraction": (1,),
    "cutout": (1, 2),
}
_SIDES = {1: "height", 2: "width"}


def _reach_px(name: str, value: float, side: int) -> float:
    """Returns how many px of a side an operation moves or covers at most."""
    if name == "cutout":
        return 2 * value
    return value * side if name.endswith("_fraction") else value


def _exceeds(name: str, value: float, side: int) -> bool:
    """Whether a translation leaves nothing of a side, or a cutout is larger."""
    reach = _reach_px(name, value, side)
    return reach > side if name == "cutout" else reach >= side


def draw_places(seed: tf.Tensor, num_images: Size, num: int, balanced: bool) -> tf.Tensor:
    """Draws one of 0..num-1 for each image, int32 [B]: balanced over the batch, or independently."""
    return rng.balanced(seed, num_images, num) if balanced else rng.randint(seed, [num_images], 0, num)


def draw_centres(seed: tf.Tensor, size: rng.Shape, height: Size, width: Size) -> tf.Tensor:
    """Draws the row and column of a pixel for each image and layer, uniformly; int32 [*size, 2]."""
    rows = rng.randint(rng.fold_in(seed, 0), size, 0, height)
    return tf.stack([rows, rng.randint(rng.fold_in(seed, 1), size, 0, width)], -1)


@functools.cache
def _operations(preset: str, m: float | None) -> tuple[Operation, ...]:
    """Returns a preset's operations with their values at `m`, or at every level of the grid."""
    levels = [level / _LEVELS_PER_MAGNITUDE for level in range(_NUM_LEVELS)] if m is None else [m]
    operations = []
    for name, strength in PRESETS[preset].items():
        values = [strength.value(level) for level in levels]
        if strength.signed:
            values += [strength.mirrored(level) for level in levels]
        # One value for all levels is folded into the compiled program.
        operations.append(Operation(name, tuple(values) if len(set(values)) > 1 else (values[0],)))
    return tuple(operations)


@functools.cache
def _warn_once(preset: str, m: float, height: int | None, width: int | None) -> None:
    """Warns that translations and cutouts are larger than the images; the cache makes it once per process."""
    share = _grey_share(PRESETS[preset], m, height, width)
    warnings.warn(
        f"RandAugment's preset {preset!r} at m={m:g} translates and cuts out more px than images of {height} x {width} "
        f"px have: each layer makes about {share:.1%} of them wholly grey. It is kept to reproduce published results; "
        "the preset 'paper_cifar' is made for small images",
        stacklevel=2,
    )


def _grey_share(preset: dict[str, Strength], m: float, height: int | None, width: int | None) -> float:
    """Returns the share of images that lose all their pixels in one layer; an unknown side counts as large."""

    def covered(half: float, side: int | None) -> float:
        """The share of centres about which a square reaches both ends of a side."""
        return 0.0 if side is None else max(0.0, min(half, side - 1) - max(side - half, 0) + 1) / side

    share = 0.0
    for name, strength in preset.items():
        sides = [(height, width)[axis - 1] for axis in _AXES.get(name, ())]
        if name == "cutout":
            share += math.prod(covered(strength.value(m), side) for side in sides)
        else:
            share += any(side is not None and _exceeds(name, strength.value(m), side) for side in sides)
    return share / len(preset)
