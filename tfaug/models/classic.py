"""Small networks without normalisation layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfaug.models.base import Model
from tfaug.models.stages import LayerMaker, Normalize


@dataclasses.dataclass(frozen=True)
class LeNet(Model):
    """LeNet-5: 62,006 trainable parameters for 32x32x3, 61,706 for 32x32x1 and 28x28x1.

    Rectifiers and max-pooling instead of the paper's sigmoids and trained sub-sampling, every map of the second
    convolution sees all maps of the first. Images below 32 pixels are padded by the first convolution, which for
    28x28 is the paper's padding to 32x32.

    Source: LeCun et al. 1998, section II.B.
    """

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_in")
        pad_px = 2 if min(image_shape[:2]) < 32 else 0

        def pool(name: str) -> tf.keras.layers.Layer:
            return tf.keras.layers.MaxPooling2D(dtype=make.policy, name=name)

        return [
            Normalize(mean, std, name="normalize"),
            make.chain(
                "stage1",
                [make.conv("conv", 6, 5, bias=True, pad_px=pad_px), make.relu("relu"), pool("pool")],
            ),
            make.chain(
                "stage2",
                [make.conv("conv", 16, 5, bias=True, pad_px=0), make.relu("relu"), pool("pool")],
            ),
            make.chain(
                "stage3",
                [
                    tf.keras.layers.Flatten(dtype=make.policy, name="flatten"),
                    make.dense("dense1", 120),
                    make.relu("relu1"),
                    make.dense("dense2", 84),
                    make.relu("relu2"),
                ],
            ),
            make.dense("head", num_classes, policy="float32"),
        ]
