"""Augmentations: frozen dataclasses that run in tf.data, inside a train step and under XLA with the same bits.

`AUGMENTATIONS` is the table of all but `Compose` and `OneOf`, which are made of others; `tfaug.augment.base` states
what they have in common.
"""

from __future__ import annotations

from collections.abc import Iterable

from tfaug.augment.autoaugment import AutoAugment
from tfaug.augment.base import Augmentation, Batch, Compose, OneOf, image_shape
from tfaug.augment.dataset import augment_dataset, augment_training
from tfaug.augment.erase import Cutout, RandomErasing
from tfaug.augment.filters import SALIENCY, ElasticDistortion, GaussianBlur
from tfaug.augment.manifold import ManifoldMixup
from tfaug.augment.mixing import CutMix, GradualSumAug, Mixup, SamplePairing, SumAug
from tfaug.augment.parse import parse
from tfaug.augment.policies import RandAugment
from tfaug.augment.spatial import Flip, PadCrop, RandomCrop, RandomResizedCrop, RandomScale

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "AutoAugment": AutoAugment,
    "CutMix": CutMix,
    "Cutout": Cutout,
    "ElasticDistortion": ElasticDistortion,
    "Flip": Flip,
    "GaussianBlur": GaussianBlur,
    "GradualSumAug": GradualSumAug,
    "Mixup": Mixup,
    "PadCrop": PadCrop,
    "RandAugment": RandAugment,
    "RandomCrop": RandomCrop,
    "RandomErasing": RandomErasing,
    "RandomResizedCrop": RandomResizedCrop,
    "RandomScale": RandomScale,
    "SamplePairing": SamplePairing,
    "SumAug": SumAug,
}

__all__ = [
    "AUGMENTATIONS",
    "SALIENCY",
    "Augmentation",
    "AutoAugment",
    "Batch",
    "Compose",
    "CutMix",
    "Cutout",
    "ElasticDistortion",
    "Flip",
    "GaussianBlur",
    "GradualSumAug",
    "ManifoldMixup",
    "Mixup",
    "OneOf",
    "PadCrop",
    "RandAugment",
    "RandomCrop",
    "RandomErasing",
    "RandomResizedCrop",
    "RandomScale",
    "SamplePairing",
    "SumAug",
    "augment_dataset",
    "augment_training",
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
