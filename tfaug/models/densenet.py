"""Densely connected networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfaug.config import ConfigError, check_range, check_whole
from tfaug.models.base import Model
from tfaug.models.stages import Head, LayerMaker, Normalize

_BOTTLENECK = 4  # maps of the 1x1 convolution, in growth rates


class DenseLayer(tf.keras.layers.Layer):
    """Appends `growth` maps to its inputs: norm, relu, 1x1 convolution, norm, relu, 3x3 convolution.

    Source: Huang et al. 2017, section 3 (bottleneck layers).
    """

    def __init__(self, make: LayerMaker, growth: int, name: str) -> None:
        super().__init__(name=name, dtype=make.policy)
        self.body = make.chain(
            "body",
            [
                make.norm("norm1"),
                make.relu("relu1"),
                make.conv("conv1", _BOTTLENECK * growth, 1),
                make.norm("norm2"),
                make.relu("relu2"),
                make.conv("conv2", growth, 3),
            ],
        )

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns [B, H, W, C + growth]."""
        return tf.concat([inputs, self.body(inputs, training=training)], axis=-1)


@dataclasses.dataclass(frozen=True)
class DenseNet(Model):
    """DenseNet-BC for images of about 32 pixels: three dense stages, of which the last ends in norm and relu.

    Between them the maps are compressed by a 1x1 convolution and averaged over 2x2. Kaiming fan_out weights, zero bias,
    as `gap` ran it (its densenet_BC_100_12). DenseNet(100, 12) has 769,162 trainable parameters for 3 channels and 10
    classes (0.8M in the paper's table 2).

    Args:
      depth: 6 n + 4, as 10, 40 or 100.
      growth: maps that each layer appends, k, 1 or more; the stem has 2 k.
      compression: share of the maps that a transition keeps, above 0 and up to 1.

    Source: Huang et al. 2017, sections 3 and 4.2, table 2; `gap`, published configurations.
    """

    depth: int = 100
    growth: int = 12
    compression: float = 0.5

    def __post_init__(self) -> None:
        check_whole(self, "depth", 10)
        check_whole(self, "growth", 1)
        check_range(self, "compression", 0.01, 1)
        if self.depth % 6 != 4:
            raise ConfigError(f"DenseNet.depth is {self.depth}; allowed: 6 n + 4, as 40 or 100")

    @property
    def name(self) -> str:
        return f"densenet_bc_{self.depth}_{self.growth}"

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_out")
        maps, num_layers = 2 * self.growth, (self.depth - 4) // 6
        stages = [Normalize(mean, std, name="normalize"), make.chain("stem", [make.conv("conv", maps, 3)])]
        for stage in (1, 2, 3):
            layers = [DenseLayer(make, self.growth, f"dense{i + 1}") for i in range(num_layers)]
            layers += [make.norm("norm"), make.relu("relu")]
            maps += num_layers * self.growth
            if stage < 3:
                maps = max(1, int(maps * self.compression))
                pool = tf.keras.layers.AveragePooling2D(2, dtype=make.policy, name="pool")
                layers += [make.conv("transition", maps, 1), pool]
            stages.append(make.chain(f"stage{stage}", layers))
        return [*stages, Head(make.dense("dense", num_classes, policy="float32"), name="head")]
