"""Augmentations: frozen dataclasses that run in tf.data, inside a train step and under XLA with the same bits.

`AUGMENTATIONS` is the table of all but `Compose` and `OneOf`, which are made of others; `tfaug.augment.base` states
what they have in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tfaug.augment.autoaugment import AutoAugment
from tfaug.augment.base import Augmentation, Batch, Compose, OneOf, image_shape
from tfaug.augment.color import (
    AutoContrast,
    Brightness,
    ChannelShuffle,
    Contrast,
    Desaturate,
    Equalize,
    Grayscale,
    Posterize,
    Solarize,
)
from tfaug.augment.dataset import augment_dataset, augment_training
from tfaug.augment.erase import Cutout, RandomCutout, RandomErasing
from tfaug.augment.filters import SALIENCY, ElasticDistortion, GaussianBlur, GaussianFilter, Smooth
from tfaug.augment.manifold import ManifoldMixup
from tfaug.augment.mixing import CutMix, GradualSumAug, Mixup, SamplePairing, SumAug
from tfaug.augment.policies import RandAugment
from tfaug.augment.spatial import CropAndResize, Flip, PadCrop, RandomCrop, RandomResizedCrop, RandomScale
from tfaug.augment.warps import Rotate, Shear, Translate, Zoom
from tfaug.config import ConfigError
from tfaug.expressions import read_parts
from tfaug.schedules import SCHEDULES

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "AutoAugment": AutoAugment,
    "AutoContrast": AutoContrast,
    "Brightness": Brightness,
    "ChannelShuffle": ChannelShuffle,
    "Contrast": Contrast,
    "CropAndResize": CropAndResize,
    "CutMix": CutMix,
    "Cutout": Cutout,
    "Desaturate": Desaturate,
    "ElasticDistortion": ElasticDistortion,
    "Equalize": Equalize,
    "Flip": Flip,
    "GaussianBlur": GaussianBlur,
    "GaussianFilter": GaussianFilter,
    "GradualSumAug": GradualSumAug,
    "Grayscale": Grayscale,
    "Mixup": Mixup,
    "PadCrop": PadCrop,
    "Posterize": Posterize,
    "RandAugment": RandAugment,
    "RandomCrop": RandomCrop,
    "RandomCutout": RandomCutout,
    "RandomErasing": RandomErasing,
    "RandomResizedCrop": RandomResizedCrop,
    "RandomScale": RandomScale,
    "Rotate": Rotate,
    "SamplePairing": SamplePairing,
    "Shear": Shear,
    "Smooth": Smooth,
    "Solarize": Solarize,
    "SumAug": SumAug,
    "Translate": Translate,
    "Zoom": Zoom,
}

__all__ = [
    "AUGMENTATIONS",
    "SALIENCY",
    "Augmentation",
    "AutoAugment",
    "AutoContrast",
    "Batch",
    "Brightness",
    "ChannelShuffle",
    "Compose",
    "Contrast",
    "CropAndResize",
    "CutMix",
    "Cutout",
    "Desaturate",
    "ElasticDistortion",
    "Equalize",
    "Flip",
    "GaussianBlur",
    "GaussianFilter",
    "GradualSumAug",
    "Grayscale",
    "ManifoldMixup",
    "Mixup",
    "OneOf",
    "PadCrop",
    "Posterize",
    "RandAugment",
    "RandomCrop",
    "RandomCutout",
    "RandomErasing",
    "RandomResizedCrop",
    "RandomScale",
    "Rotate",
    "SamplePairing",
    "Shear",
    "Smooth",
    "Solarize",
    "SumAug",
    "Translate",
    "Zoom",
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


def parse_op(text: str, ops: Mapping[str, type] | None = None) -> Augmentation:
    """Returns the op that a text such as `RandAugment(n=2, m=9)` or `Flip() + CutMix(p=0.5)` describes.

    The text is one op, or several joined by ` + ` or by commas, which are composed in order. An op is a name, or a call
    with values by position or by name; a bare name takes all defaults. A value is a number, a text in quotes, True,
    False, None, a schedule such as `Linear(0, 1)`, an op, or a tuple or list of values. So `parse_op(repr(op))` is `op`
    again.

    Args:
      text: for example `PadCrop(4) + Flip() + CutMix(p=Linear(0, 1))`.
      ops: what a name stands for, beside `Compose` and `OneOf`; None for `AUGMENTATIONS`. An op of another module is
        written with it, `my.ops.Invert()`.

    Raises:
      ConfigError: naming what is wrong and what is allowed.

    Example:
      >>> parse_op("PadCrop(4) + CutMix(p=0.5)")
      Compose(ops=(PadCrop(pad_px=4), CutMix(alpha=1.0, p=0.5)))
    """
    makers = {**(AUGMENTATIONS if ops is None else ops), "Compose": Compose, "OneOf": OneOf}
    parts = read_parts(text, makers, {**SCHEDULES, **makers}, "op") if text.strip() else []
    if not parts:
        raise ConfigError(f"op {text!r}: no op is given; allowed: {', '.join(makers)}")
    return parts[0] if len(parts) == 1 else Compose(tuple(parts))
