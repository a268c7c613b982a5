"""Residual networks of grouped convolutions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfaug.config import ConfigError, check_whole
from tfaug.models.base import Model
from tfaug.models.resnet import EXPANSION, BasicBlock, stages_of, stem_of
from tfaug.models.stages import Head, LayerMaker, Normalize

_BASE = 64  # filters of the stem, and a quarter of those that the first stage gives


class GroupedBottleneck(BasicBlock):
    """Adds a 1x1, a grouped 3x3 and a 1x1 convolution to a shortcut; it gives `EXPANSION` times `filters`.

    Source: Xie et al. 2017, figure 3 (c).
    """

    def outputs(self, filters: int) -> int:
        return EXPANSION * filters

    def layers(self, make: LayerMaker, filters: int, stride: int, **settings: Any) -> list[tf.keras.layers.Layer]:
        """Makes what is added to the shortcut, of `cardinality` groups of `group_width` filters in the first stage."""
        cardinality = settings["cardinality"]
        inner = cardinality * settings["group_width"] * filters // _BASE
        return [
            make.conv("conv1", inner, 1),
            make.norm("norm1"),
            make.relu("relu1"),
            make.conv("conv2", inner, 3, stride, groups=cardinality),
            make.norm("norm2"),
            make.relu("relu_inside"),
            make.conv("conv3", self.outputs(filters), 1),
            make.norm("norm3"),
        ]


@dataclasses.dataclass(frozen=True)
class ResNeXt(Model):
    """ResNeXt for images of about 32 pixels: three stages that give 256, 512 and 1,024 maps.

    Kaiming fan_out weights, zero bias, projection shortcuts, as `gap` ran 29, 4x64d (its resnext_29_4x64d). For 3
    channels and 10 classes that one has 17,562,442 trainable parameters, for which the paper prints no number; of the
    paper's own, 29, 8x64d has 34,426,698 (34.4M) and 29, 16x64d 68,155,210 (68.1M).

    Args:
      depth: 9 n + 2, as 11, 20 or 29.
      cardinality: groups of the 3x3 convolutions.
      group_width: filters of each group in the first stage, doubled with each stage.

    Source: Xie et al. 2017, section 5.3 and table 7; `gap`, published configurations.
    """

    depth: int = 29
    cardinality: int = 4
    group_width: int = 64

    def __post_init__(self) -> None:
        check_whole(self, "depth", 11)
        check_whole(self, "cardinality", 1)
        check_whole(self, "group_width", 1)
        if self.depth % 9 != 2:
            raise ConfigError(f"ResNeXt.depth is {self.depth}; allowed: 9 n + 2, as 11, 20 or 29")

    @property
    def name(self) -> str:
        return f"resnext_{self.depth}_{self.cardinality}x{self.group_width}d"

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_out")
        return [
            Normalize(mean, std, name="normalize"),
            stem_of(make, "cifar", _BASE),
            *stages_of(
                make,
                GroupedBottleneck,
                widths=(_BASE, 2 * _BASE, 4 * _BASE),
                num_blocks=[(self.depth - 2) // 9] * 3,
                project_first=True,
                cardinality=self.cardinality,
                group_width=self.group_width,
            ),
            Head(make.dense("dense", num_classes, policy="float32"), name="head"),
        ]
