"""Residual networks for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

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


def _resnet(
    num_blocks: int, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
) -> list[tf.keras.layers.Layer]:
    """The stages of a ResNet of depth 6 * num_blocks + 2 with 16, 32 and 64 filters."""
    make = LayerMaker(precision, seed, "fan_out")
    stages: list[tf.keras.layers.Layer] = [
        Normalize(mean, std, name="normalize"),
        make.chain("stem", [make.conv("conv", 16, 3), make.norm("norm"), make.relu("relu")]),
    ]
    for stage, filters in enumerate((16, 32, 64), start=1):
        blocks = []
        for block in range(num_blocks):
            first = block == 0 and stage > 1
            blocks.append(BasicBlock(make, filters, 2 if first else 1, first, name=f"block{block + 1}"))
        stages.append(make.chain(f"stage{stage}", blocks))
    stages.append(Head(make.dense("dense", num_classes, policy="float32"), name="head"))
    return stages


def resnet20(**kwargs: Any) -> list[tf.keras.layers.Layer]:
    """Returns the stages of ResNet-20: 272,474 trainable parameters for 3 channels and 10 classes.

    Projection shortcuts (1x1 convolution and normalisation, option B) like the other models here; He et al. used
    option A on CIFAR, which has 269,722.

    Source: He et al. 2016, section 4.2.
    """
    return _resnet(3, **kwargs)


def resnet32(**kwargs: Any) -> list[tf.keras.layers.Layer]:
    """Returns the stages of ResNet-32: 466,906 trainable parameters for 3 channels and 10 classes.

    As `gap` ran it (its resnet_basic_32): projection shortcuts, kaiming fan_out weights, zero bias.

    Source: He et al. 2016, section 4.2; `gap`, published configurations.
    """
    return _resnet(5, **kwargs)
