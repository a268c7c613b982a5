"""AutoAugment: for each image one of the sub-policies that a search found, two operations each."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape
from tfaug.augment.operations import Operation, apply_operations
from tfaug.augment.policies import FIXED, INTERPOLATIONS, Strength, draw_centres, draw_places
from tfaug.config import check_choice, check_whole
from tfaug.schedules import Progress, Schedule, check_scheduled, value_at

MAX_LEVEL = 10.0

# (operation, probability, level 0..9); the level of an operation without a value is kept as published.
PolicyStep: TypeAlias = tuple[str, float, int]
SubPolicy: TypeAlias = tuple[PolicyStep, PolicyStep]

# What a level means, at level 10. An operation's index is its place; warps that stand side by side share one gather.
CIFAR_STRENGTHS: dict[str, Strength] = {
    "identity": FIXED,
    "autocontrast": FIXED,
    "equalize": FIXED,
    "invert": FIXED,
    "posterize": Strength(4, 0, False, "bits kept", fit=math.ceil),
    "solarize": Strength(256, 0, False, "threshold", fit=math.ceil),
    "color": Strength(0.1, 1.9, False, "factor"),
    "contrast": Strength(0.1, 1.9, False, "factor"),
    "brightness": Strength(0.1, 1.9, False, "factor"),
    "sharpness": Strength(0.1, 1.9, False, "factor"),
    "rotate": Strength(0, 30, True, "deg", fit=int),
    "shear_x": Strength(0, 0.3, True, "px per px"),
    "shear_y": Strength(0, 0.3, True, "px per px"),
    "translate_x": Strength(0, 10, True, "px", fit=int),
    "translate_y": Strength(0, 10, True, "px", fit=int),
    "cutout": Strength(0, 10, False, "half the side, px", fit=int),
}
IMAGENET_STRENGTHS: dict[str, Strength] = {
    "identity": FIXED,
    "autocontrast": FIXED,
    "equalize": FIXED,
    "invert": FIXED,
    "posterize": Strength(0, 4, False, "bits kept", fit=int),
    "solarize": Strength(0, 256, False, "threshold", fit=int),
    "color": Strength(0.1, 1.9, False, "factor"),
    "contrast": Strength(0.1, 1.9, False, "factor"),
    "sharpness": Strength(0.1, 1.9, False, "factor"),
    "rotate": Strength(0, 30, True, "deg"),
    "shear_x": Strength(0, 0.3, True, "px per px"),
}

POLICIES: dict[str, tuple[SubPolicy, ...]] = {
    "cifar10": (
        (("invert", 0.1, 7), ("contrast", 0.2, 6)),
        (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
        (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
        (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
        (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
        (("color", 0.4, 3), ("brightness", 0.6, 7)),
        (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
        (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
        (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
        (("color", 0.7, 7), ("translate_x", 0.5, 8)),
        (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
        (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
        (("brightness", 0.9, 6), ("color", 0.2, 8)),
        (("solarize", 0.5, 2), ("invert", 0.0, 3)),
        (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
        (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
        (("color", 0.9, 9), ("equalize", 0.6, 6)),
        (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
        (("brightness", 0.1, 3), ("color", 0.7, 0)),
        (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
        (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
        (("equalize", 0.8, 8), ("invert", 0.1, 3)),
        (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
    ),
    "cifar10_full": (
        (("invert", 0.1, 7), ("contrast", 0.2, 6)),
        (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
        (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
        (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
        (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
        (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
        (("equalize", 0.8, 8), ("invert", 0.1, 3)),
        (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
        (("solarize", 0.4, 5), ("autocontrast", 0.0, 2)),
        (("translate_y", 0.7, 9), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.9, 0), ("solarize", 0.4, 3)),
        (("equalize", 0.7, 5), ("invert", 0.1, 3)),
        (("translate_y", 0.7, 9), ("translate_y", 0.7, 9)),
        (("solarize", 0.4, 5), ("autocontrast", 0.9, 1)),
        (("translate_y", 0.8, 9), ("translate_y", 0.9, 9)),
        (("autocontrast", 0.8, 0), ("translate_y", 0.7, 9)),
        (("translate_y", 0.2, 7), ("color", 0.9, 6)),
        (("equalize", 0.7, 6), ("color", 0.4, 9)),
        (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
        (("color", 0.4, 3), ("brightness", 0.6, 7)),
        (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
        (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
        (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
        (("brightness", 0.3, 7), ("autocontrast", 0.5, 8)),
        (("autocontrast", 0.9, 4), ("autocontrast", 0.5, 6)),
        (("solarize", 0.3, 5), ("equalize", 0.6, 5)),
        (("translate_y", 0.2, 4), ("sharpness", 0.3, 3)),
        (("brightness", 0.0, 8), ("color", 0.8, 8)),
        (("solarize", 0.2, 6), ("color", 0.8, 6)),
        (("solarize", 0.2, 6), ("autocontrast", 0.8, 1)),
        (("solarize", 0.4, 1), ("equalize", 0.6, 5)),
        (("brightness", 0.0, 0), ("solarize", 0.5, 2)),
        (("autocontrast", 0.9, 5), ("brightness", 0.5, 3)),
        (("contrast", 0.7, 5), ("brightness", 0.0, 2)),
        (("solarize", 0.2, 8), ("solarize", 0.1, 5)),
        (("contrast", 0.5, 1), ("translate_y", 0.2, 9)),
        (("autocontrast", 0.6, 5), ("translate_y", 0.0, 9)),
        (("autocontrast", 0.9, 4), ("equalize", 0.8, 4)),
        (("brightness", 0.0, 7), ("equalize", 0.4, 7)),
        (("solarize", 0.2, 5), ("equalize", 0.7, 5)),
        (("equalize", 0.6, 8), ("color", 0.6, 2)),
        (("color", 0.3, 7), ("color", 0.2, 4)),
        (("autocontrast", 0.5, 2), ("solarize", 0.7, 2)),
        (("autocontrast", 0.2, 0), ("equalize", 0.1, 0)),
        (("shear_y", 0.6, 5), ("equalize", 0.6, 5)),
        (("brightness", 0.9, 3), ("autocontrast", 0.4, 1)),
        (("equalize", 0.8, 8), ("equalize", 0.7, 7)),
        (("equalize", 0.7, 7), ("solarize", 0.5, 0)),
        (("equalize", 0.8, 4), ("translate_y", 0.8, 9)),
        (("translate_y", 0.8, 9), ("translate_y", 0.6, 9)),
        (("translate_y", 0.9, 0), ("translate_y", 0.5, 9)),
        (("autocontrast", 0.5, 3), ("solarize", 0.3, 4)),
        (("solarize", 0.5, 3), ("equalize", 0.4, 4)),
        (("color", 0.7, 7), ("translate_x", 0.5, 8)),
        (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
        (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
        (("brightness", 0.9, 6), ("color", 0.2, 8)),
        (("solarize", 0.5, 2), ("invert", 0.0, 3)),
        (("autocontrast", 0.1, 5), ("brightness", 0.0, 0)),
        (("cutout", 0.2, 4), ("equalize", 0.1, 1)),
        (("equalize", 0.7, 7), ("autocontrast", 0.6, 4)),
        (("color", 0.1, 8), ("shear_y", 0.2, 3)),
        (("shear_y", 0.4, 2), ("rotate", 0.7, 0)),
        (("shear_y", 0.1, 3), ("autocontrast", 0.9, 5)),
        (("translate_y", 0.3, 6), ("cutout", 0.3, 3)),
        (("equalize", 0.5, 0), ("solarize", 0.6, 6)),
        (("autocontrast", 0.3, 5), ("rotate", 0.2, 7)),
        (("equalize", 0.8, 2), ("invert", 0.4, 0)),
        (("equalize", 0.9, 5), ("color", 0.7, 0)),
        (("equalize", 0.1, 1), ("shear_y", 0.1, 3)),
        (("autocontrast", 0.7, 3), ("equalize", 0.7, 0)),
        (("brightness", 0.5, 1), ("contrast", 0.1, 7)),
        (("contrast", 0.1, 4), ("solarize", 0.6, 5)),
        (("solarize", 0.2, 3), ("shear_x", 0.0, 0)),
        (("translate_x", 0.3, 0), ("translate_x", 0.6, 0)),
        (("equalize", 0.5, 9), ("translate_y", 0.6, 7)),
        (("shear_x", 0.1, 0), ("sharpness", 0.5, 1)),
        (("equalize", 0.8, 6), ("invert", 0.3, 6)),
        (("autocontrast", 0.3, 9), ("cutout", 0.5, 3)),
        (("shear_x", 0.4, 4), ("autocontrast", 0.9, 2)),
        (("shear_x", 0.0, 3), ("posterize", 0.0, 3)),
        (("solarize", 0.4, 3), ("color", 0.2, 4)),
        (("equalize", 0.1, 4), ("equalize", 0.7, 6)),
        (("equalize", 0.3, 8), ("autocontrast", 0.4, 3)),
        (("solarize", 0.6, 4), ("autocontrast", 0.7, 6)),
        (("autocontrast", 0.2, 9), ("brightness", 0.4, 8)),
        (("equalize", 0.1, 0), ("equalize", 0.0, 6)),
        (("equalize", 0.8, 4), ("equalize", 0.0, 4)),
        (("equalize", 0.5, 5), ("autocontrast", 0.1, 2)),
        (("solarize", 0.5, 5), ("autocontrast", 0.9, 5)),
        (("autocontrast", 0.6, 1), ("autocontrast", 0.7, 8)),
        (("equalize", 0.2, 0), ("autocontrast", 0.1, 2)),
        (("equalize", 0.6, 9), ("equalize", 0.4, 4)),
    ),
    "imagenet": (
        (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
        (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
        (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
        (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
        (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
        (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
        (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
        (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
        (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
        (("rotate", 0.8, 8), ("color", 0.4, 0)),
        (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
        (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
        (("invert", 0.6, 4), ("equalize", 1.0, 8)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("rotate", 0.8, 8), ("color", 1.0, 2)),
        (("color", 0.8, 8), ("solarize", 0.8, 7)),
        (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
        (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
        (("color", 0.4, 0), ("equalize", 0.6, 3)),
        (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
        (("invert", 0.6, 4), ("equalize", 1.0, 8)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    ),
}

STRENGTHS: dict[str, dict[str, Strength]] = {
    "cifar10": CIFAR_STRENGTHS,
    "cifar10_full": CIFAR_STRENGTHS,
    "imagenet": IMAGENET_STRENGTHS,
}


@dataclass(frozen=True)
class AutoAugment(Augmentation):
    """Applies to each image a sub-policy of a published policy: two operations, each with its own probability.

    Every image draws its sub-policy, uniformly; then each of its two operations is applied with its probability, and
    rotations, shears and translations get a random sign. Within a batch a sub-policy serves at most
    ceil(B / number of sub-policies) images, so images share one less often than if drawn independently, and never in a
    batch of up to as many images as there are sub-policies; see `rng.balanced` and `balanced`.

    | policy | sub-policies | where from |
    | --- | --- | --- |
    | `cifar10` | 25 | the paper's table of the policy found on reduced CIFAR-10 |
    | `cifar10_full` | 95 | `good_policies()` of the published code; 20 of the 25 are among them |
    | `imagenet` | 25 | the paper's table of the policy found on reduced ImageNet |

    What a level l of 0..9 means:

    | operation | CIFAR | ImageNet |
    | --- | --- | --- |
    | rotate, +- degrees | int(30 l / 10) | 30 l / 10 |
    | shear_x, shear_y, +- | 0.3 l / 10 | 0.3 l / 10 |
    | translate_x, translate_y, +- px | int(10 l / 10) | not used |
    | color, contrast, brightness, sharpness, factor | 0.1 + 1.8 l / 10 | 0.1 + 1.8 l / 10 |
    | posterize, bits kept | 4 - int(4 l / 10): level 0 keeps 4 | int(4 l / 10): stronger as l falls |
    | solarize, lowest inverted value | 256 - int(256 l / 10) | int(256 l / 10): stronger as l falls |
    | cutout, px, the square's side | int(20 l / 10) | not used |
    | autocontrast, equalize, invert | | |

    The two columns are the two programs that Google published, which read posterize and solarize in opposite ways;
    the paper only gives the ranges (bits 4..8, threshold 0..256). torchvision reads all policies in a third way:
    l / 9, posterize 8 to 4 bits, factors 1 +- 0.9 l / 9. The published CIFAR cutout has slips in the corners of its
    square; here it is the square about a uniformly drawn pixel, clipped at the border, in the grey of `fill`.

    The papers' CIFAR recipe is pad-and-crop, flip, AutoAugment, then Cutout with a square of 16 px.

    Images: uint8 [B,H,W,C] with 1 or 3 channels, B at least 1; float images are rounded and clipped to 0..255 first.
    Returns uint8. On one channel `color` does nothing. Labels pass. Without XLA (`jit_compile=True`) it runs several
    times slower.

    Attributes:
      policy: `cifar10`, `cifar10_full` or `imagenet`.
      p: probability that an image is augmented at all, 0..1, or a schedule of it; 0 is the identity.
      fill: grey level 0..255 of the places that a warp or cutout leaves empty; the papers' is the data's mean.
      interpolation: of warps, `nearest` or `bilinear`.
      balanced: whether the images of a batch share the sub-policies out evenly among them; False draws each image's
        independently of the others', for those who need that, and may take twice as long.

    Raises:
      ConfigError: when an attribute is out of its range.
      ValueError: when called on images that a translation would push out entirely, or when p is a schedule and there
        is no progress.

    Source: Cubuk et al. 2019, "AutoAugment", appendix, tables of the CIFAR-10 and ImageNet policies. Levels, CIFAR:
    tensorflow/models, research/autoaugment; ImageNet: tensorflow/models, official/vision/ops/augment.py.

    Example:
      >>> import tensorflow as tf
      >>> from tfaug import rng
      >>> images = tf.zeros([4, 32, 32, 3], tf.uint8)
      >>> AutoAugment("cifar10")(images, rng.make_seed(0)).shape.as_list()
      [4, 32, 32, 3]
    """

    policy: str = "cifar10"
    p: float | Schedule = 1.0
    fill: int = 128
    interpolation: str = "nearest"
    balanced: bool = True

    def __post_init__(self) -> None:
        check_choice(self, "policy", POLICIES)
        check_scheduled(self, "p", 0, 1)
        check_whole(self, "fill", 0, 255)
        check_choice(self, "interpolation", INTERPOLATIONS)
        check_choice(self, "balanced", (True, False))

    @property
    def sub_policies(self) -> tuple[SubPolicy, ...]:
        """The policy's sub-policies in the order of their indices."""
        return POLICIES[self.policy]

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws each image's sub-policy, which of its operations are applied, and signs.

        Args:
          seed: int32 [2].
          shape: [B,H,W,C].
          progress: where training stands; needed where p is a schedule.

        Returns:
          `sub_policy`, int32 [B]: places in `sub_policies`. `applied`, bool [B,2]. `negative`, bool [B,2]: whether a
          signed value is negated. `centre_px`, int32 [B,2,2], row and column, where the policy has a cutout.
        """
        batch, plan = shape[0], _plan(self.policy)
        sub_policy = draw_places(rng.fold_in(seed, 0), batch, len(self.sub_policies), self.balanced)
        probability = tf.gather(tf.constant(plan.probability), sub_policy)
        drawn = rng.bernoulli(rng.fold_in(seed, 1), [batch, 2], probability)
        whole = rng.bernoulli(rng.fold_in(seed, 2), [batch, 1], value_at(self, "p", progress))
        choice = {
            "sub_policy": sub_policy,
            "applied": drawn & whole,
            "negative": rng.bernoulli(rng.fold_in(seed, 3), [batch, 2], 0.5),
        }
        if any(operation.name == "cutout" for operation in plan.operations):
            choice["centre_px"] = draw_centres(rng.fold_in(seed, 4), [batch, 2], shape[1], shape[2])
        return choice

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Applies each image's two operations, one after the other."""
        images, plan = kernels.to_uint8(batch.images), _plan(self.policy)
        self._check_size(images)
        op_index = tf.where(choice["applied"], tf.gather(tf.constant(plan.op_index), choice["sub_policy"]), 0)
        first = tf.gather(tf.constant(plan.value_index), choice["sub_policy"])
        mirrored = choice["negative"] & tf.gather(tf.constant(plan.signed), op_index)
        images = apply_operations(
            images,
            plan.operations,
            op_index,
            first + tf.cast(mirrored, tf.int32),
            choice.get("centre_px"),
            weights=plan.weights,
            fill=self.fill,
            interpolation=self.interpolation,
        )
        return batch._replace(images=images)

    def _check_size(self, images: tf.Tensor) -> None:
        """Refuses images that a translation would push out entirely."""
        for operation in _plan(self.policy).operations:
            for axis, side in ((1, "height"), (2, "width")):
                size, reach_px = images.shape[axis], max(operation.values)
                if operation.name == f"translate_{'yx'[axis - 1]}" and size is not None and reach_px >= size:
                    raise ValueError(
                        f"AutoAugment's policy {self.policy!r} translates by {reach_px:g} px, but the images' {side} "
                        f"is {size} px; allowed: more than that"
                    )


class _Plan(NamedTuple):
    """A policy as tables, [number of sub-policies, 2] each: what `apply` looks up."""

    operations: tuple[Operation, ...]
    op_index: np.ndarray
    value_index: np.ndarray
    probability: np.ndarray
    signed: np.ndarray
    weights: tuple[int, ...]


@functools.cache
def _plan(policy: str) -> _Plan:
    """Returns the tables of a policy; a signed operation's values are a value and the mirrored one for each level."""
    strengths = STRENGTHS[policy]
    steps = np.array(POLICIES[policy], dtype=object)
    names = [name for name in strengths if name == "identity" or name in steps[..., 0]]
    levels = {name: sorted({level for used, _, level in steps.reshape(-1, 3) if used == name}) for name in names}
    operations = []
    for name in names:
        strength = strengths[name]
        values = [strength.value(level, MAX_LEVEL) for level in levels[name]]
        if strength.signed:
            mirrored = [strength.mirrored(level, MAX_LEVEL) for level in levels[name]]
            values = [value for pair in zip(values, mirrored, strict=True) for value in pair]
        operations.append(Operation(name, tuple(values) if strength.unit else (0.0,)))
    probability = steps[..., 1].astype(np.float32)
    op_index = np.vectorize(names.index, otypes=[np.int32])(steps[..., 0])
    place = np.vectorize(lambda name, level: levels[name].index(level), otypes=[np.int32])(steps[..., 0], steps[..., 2])
    signed = np.array([strengths[name].signed for name in names])
    # The expected number of images of an operation in the layer that uses it more, in tenths of a sub-policy.
    shares = np.stack([((op_index == index) * probability).sum(0) for index in range(len(names))])
    shares[0] = (1 - probability).sum(0)
    weights = np.maximum(np.rint(10 * shares.max(1)), 1).astype(int)
    value_index = place * (1 + signed[op_index]).astype(np.int32)
    return _Plan(tuple(operations), op_index, value_index, probability, signed, tuple(int(w) for w in weights))
