"""Augmentations: frozen dataclasses that run in tf.data, inside a train step and under XLA with the same bits.

`AUGMENTATIONS` is the table of all of them; `tfaug.augment.base` states what they have in common.
"""

from __future__ import annotations

from collections.abc import Iterable

from tfaug.augment.base import Augmentation, Batch, Compose, image_shape
from tfaug.augment.mixing import CutMix, Mixup, SumAug
from tfaug.augment.parse import parse
from tfaug.augment.policies import RandAugment
from tfaug.augment.spatial import Flip, PadCrop

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "CutMix": CutMix,
    "Flip": Flip,
    "Mixup": Mixup,
    "PadCrop": PadCrop,
    "RandAugment": RandAugment,
    "SumAug": SumAug,
}

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Batch",
    "Compose",
    "CutMix",
    "Flip",
    "Mixup",
    "PadCrop",
    "RandAugment",
    "SumAug",
    "compose",
    "image_shape",
    "parse_op",
]


def compose(ops: Iterable[Augmentation]) -> Compose:
    """Returns one op that applies `ops` first to last.

    Args:
      ops: any number of ops; none is the identity.

    Raises:
      ConfigError: if one of them is not an op.
    """
    return Compose(tuple(ops))


def parse_op(text: str) -> Augmentation:
    """Returns the op that a text such as `RandAugment(n=2, m=9)` or `Flip() + CutMix(p=0.5)` describes.

    Raises:
      ConfigError: naming what is wrong and what is allowed.
    """
    return parse(text, AUGMENTATIONS)
