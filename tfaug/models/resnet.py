"""Residual networks for small images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfaug.config import ConfigError, check_whole
from tfaug.models.base import Model
from tfaug.models.stages import Head, LayerMaker, Normalize


class BasicBlock(tf.keras.layers.Layer):
    """Adds two 3x3 convolutions to a shortcut: relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)).

    The shortcut is the identity, or a strided 1x1 convolution with normalisation where the shape changes (option B).

    Source: He et al. 2016 (Deep residual learning), figure 2 and section 4.2.
    """

    def __init__(self, make: LayerMaker, filters: int, stride: int, project: bool, name: str) -> None:
        super().__init__(name=name, dtype=make.policy)
        self.body = make.chain(
            "body",
            [
                make.conv("conv1", filters, 3, stride),
                make.norm("norm1"),
                make.relu("relu1"),
                make.conv("conv2", filters, 3),
                make.norm("norm2"),
            ],
        )
        self.shortcut = None
        if project:
            self.shortcut = make.chain("shortcut", [make.conv("conv", filters, 1, stride), make.norm("norm")])
        self.relu = make.relu("relu2")

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns [B, H / stride, W / stride, filters]."""
        shortcut = inputs if self.shortcut is None else self.shortcut(inputs, training=training)
        return self.relu(self.body(inputs, training=training) + shortcut)


@dataclasses.dataclass(frozen=True)
class ResNet(Model):
    """A residual network of 6 n + 2 layers with 16, 32 and 64 filters, for images of about 32 pixels.

    Projection shortcuts (1x1 convolution and normalisation, option B), kaiming fan_out weights, zero bias, as `gap` ran
    it (its resnet_basic_32). For 3 channels and 10 classes ResNet-20 has 272,474 trainable parameters and ResNet-32
    466,906; He et al. used option A on CIFAR, with which ResNet-20 has 269,722.

    Args:
      depth: 8, 14, 20, 26, 32, ...

    Source: He et al. 2016, section 4.2; `gap`, published configurations.
    """

    depth: int = 20

    def __post_init__(self) -> None:
        check_whole(self, "depth", 8)
        if self.depth % 6 != 2:
            raise ConfigError(f"ResNet.depth is {self.depth}; allowed: 6 n + 2, as 20, 32, 44, 56 or 110")

    @property
    def name(self) -> str:
        return f"resnet{self.depth}"

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_out")
        stages: list[tf.keras.layers.Layer] = [
            Normalize(mean, std, name="normalize"),
            make.chain("stem", [make.conv("conv", 16, 3), make.norm("norm"), make.relu("relu")]),
        ]
        for stage, filters in enumerate((16, 32, 64), start=1):
            blocks = []
            for block in range((self.depth - 2) // 6):
                first = block == 0 and stage > 1
                blocks.append(BasicBlock(make, filters, 2 if first else 1, first, name=f"block{block + 1}"))
            stages.append(make.chain(f"stage{stage}", blocks))
        stages.append(Head(make.dense("dense", num_classes, policy="float32"), name="head"))
        return stages
