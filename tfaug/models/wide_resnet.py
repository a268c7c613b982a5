"""Wide residual networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfaug.config import ConfigError, check_range, check_whole
from tfaug.models.base import Model
from tfaug.models.preact import PreActBlock
from tfaug.models.resnet import stages_of, stem_of
from tfaug.models.stages import Head, LayerMaker, Normalize


@dataclasses.dataclass(frozen=True)
class WideResNet(Model):
    """A wide residual network, WRN-depth-width: three stages of pre-activation blocks of 16, 32 and 64 times the width.

    Kaiming fan_in weights, zero bias, 1x1 convolutions as shortcuts, as `gap` ran it (its wrn_28_10). For 3 channels
    and 10 classes the trainable parameters are, with those of the paper's tables 4 and 5,

        28-10: 36,479,194 (36.5M)    40-4: 8,949,210 (8.9M)    16-4: 2,748,890 (2.7M)

    Args:
      depth: 6 n + 4, as 10, 16, 22, 28 or 40.
      width: the widening factor, 1 or more.
      dropout: share dropped between the two convolutions of each block, 0 <= dropout < 1; 0.3 in the paper's ablation
        and in `refine` with AutoAugment.

    Source: Zagoruyko and Komodakis 2016, table 1 and sections 2 and 3; `gap`, published configurations.
    """

    depth: int = 28
    width: int = 10
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_whole(self, "depth", 10)
        check_whole(self, "width", 1)
        check_range(self, "dropout", 0, 0.99)
        if self.depth % 6 != 4:
            raise ConfigError(f"WideResNet.depth is {self.depth}; allowed: 6 n + 4, as 16, 22, 28 or 40")

    @property
    def name(self) -> str:
        return f"wrn_{self.depth}_{self.width}"

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_in")
        return [
            Normalize(mean, std, name="normalize"),
            stem_of(make, "cifar", 16, norm=False),
            *stages_of(
                make,
                PreActBlock,
                widths=[base * self.width for base in (16, 32, 64)],
                num_blocks=[(self.depth - 4) // 6] * 3,
                project_first=self.width > 1,
                finish=[make.norm("norm"), make.relu("relu")],
                dropout=self.dropout,
            ),
            Head(make.dense("dense", num_classes, policy="float32"), name="head"),
        ]
