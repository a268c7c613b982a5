"""Residual networks whose normalisation and rectifier come before each convolution."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfaug.models.base import Model
from tfaug.models.resnet import EXPANSION, check_residual, stages_of, stem_of, widths_and_blocks
from tfaug.models.stages import Head, LayerMaker, Normalize


class PreActBlock(tf.keras.layers.Layer):
    """Adds two 3x3 convolutions, each after normalisation and rectifier, to a shortcut.

    The shortcut is the identity or, where the shape changes, a strided 1x1 convolution of what the first rectifier
    gives, without a normalisation of its own.

    Args:
      make: the maker of layers.
      filters: of the convolutions.
      stride: of the first 3x3 convolution and the shortcut.
      project: whether the shape changes.
      dropout: share dropped between the convolutions, 0 <= dropout < 1.

    Source: He et al. 2016 (Identity mappings in deep residual networks), figure 4 (e) and appendix; dropout: Zagoruyko
      and Komodakis 2016 (Wide residual networks), section 2.4.
    """

    def __init__(
        self, make: LayerMaker, filters: int, stride: int, project: bool, name: str, dropout: float = 0.0
    ) -> None:
        super().__init__(name=name, dtype=make.policy)
        self.active = make.chain("active", [make.norm("norm1"), make.relu("relu1")])
        self.body = make.chain("body", self.layers(make, filters, stride, dropout))
        self.shortcut = make.conv("shortcut", self.outputs(filters), 1, stride) if project else None

    def outputs(self, filters: int) -> int:
        """Returns the filters of the block's output."""
        return filters

    def layers(self, make: LayerMaker, filters: int, stride: int, dropout: float) -> list[tf.keras.layers.Layer]:
        """Makes what follows the first rectifier and is added to the shortcut."""
        return [
            make.conv("conv1", filters, 3, stride),
            make.norm("norm2"),
            make.relu("relu2"),
            *([make.dropout("dropout", dropout)] if dropout else []),
            make.conv("conv2", filters, 3),
        ]

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns [B, H / stride, W / stride, filters]."""
        active = self.active(inputs, training=training)
        shortcut = inputs if self.shortcut is None else self.shortcut(active)
        return self.body(active, training=training) + shortcut


class PreActBottleneck(PreActBlock):
    """Adds 1x1, 3x3 and 1x1 convolutions, each after normalisation and rectifier; it gives `EXPANSION` times `filters`.

    Source: He et al. 2016 (Identity mappings in deep residual networks), section 4.
    """

    def outputs(self, filters: int) -> int:
        return EXPANSION * filters

    def layers(self, make: LayerMaker, filters: int, stride: int, dropout: float) -> list[tf.keras.layers.Layer]:
        return [
            make.conv("conv1", filters, 1),
            make.norm("norm2"),
            make.relu("relu2"),
            make.conv("conv2", filters, 3, stride),
            make.norm("norm3"),
            make.relu("relu3"),
            make.conv("conv3", self.outputs(filters), 1),
        ]


@dataclasses.dataclass(frozen=True)
class PreActResNet(Model):
    """A residual network with pre-activation, of the depths and widths of `ResNet`.

    Kaiming fan_out weights, zero bias; normalisation and rectifier after the last block, none after the stem `cifar`.
    For 3 channels and 10 classes PreActResNet(18), the network of `refine`, has 11,172,170 trainable parameters (1,024
    less without the last normalisation, which some have left out), PreActResNet(56) 855,578, PreActResNet(101)
    42,505,290, and PreActResNet(110) 1,730,522, the paper's 1.7M.

    `sum` used PreResNet-56 and, in its authors' configurations, PreResNet(101), and says nothing of their blocks. Here
    56 is of basic blocks (6 n + 2), as He et al. had 110, and 101 has four stages of bottlenecks, as for ImageNet.

    Args:
      depth: 8, 14, 20, 26, 32, ... or 18, 34, 50, 101, 152.
      stem: `cifar`, or `imagenet` for the latter five, which halves the image twice.

    Source: He et al. 2016 (Identity mappings in deep residual networks), sections 3 and 4; `refine`, section 4.1;
      `sum`, chapter 2.
    """

    depth: int = 18
    stem: str = "cifar"

    def __post_init__(self) -> None:
        check_residual(self)

    @property
    def name(self) -> str:
        return f"preact{self.depth}" + ("" if self.stem == "cifar" else f"_{self.stem}")

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_out")
        widths, num_blocks, narrow = widths_and_blocks(self.depth)
        return [
            Normalize(mean, std, name="normalize"),
            stem_of(make, self.stem, widths[0], norm=False),
            *stages_of(
                make,
                PreActBottleneck if narrow else PreActBlock,
                widths=widths,
                num_blocks=num_blocks,
                project_first=narrow,
                finish=[make.norm("norm"), make.relu("relu")],
            ),
            Head(make.dense("dense", num_classes, policy="float32"), name="head"),
        ]
