"""Small networks without shortcuts: those of the papers' students, digits and orderings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfaug.config import ConfigError, is_number, to_python
from tfaug.models.base import Model
from tfaug.models.stages import Head, LayerMaker, Normalize


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


@dataclasses.dataclass(frozen=True)
class AlexNet(Model):
    """AlexNet cut to images of about 32 pixels: five convolutions, three poolings, one fully connected layer.

    2,472,266 trainable parameters for 3 channels and 10 classes: the cut of pytorch-classification (2.47 M). `distill`
    does not describe its own; the published accuracy of that cut on CIFAR-10, 77.2 %, is near the paper's AlexNet
    students' (71.4 to 78.5 %, table 6). Images below 32 pixels are padded to 32 by the first convolution.

    Source: after Krizhevsky et al. 2012, section 3.5; `distill`, sections 4.2 and 4.3.
    """

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_in")
        pad_px = 5 + max(0, 33 - min(image_shape[:2])) // 2

        def pool() -> tf.keras.layers.Layer:
            return tf.keras.layers.MaxPooling2D(dtype=make.policy, name="pool")

        stage3 = []
        for i, filters in enumerate((384, 256, 256), start=1):
            stage3 += [make.conv(f"conv{i}", filters, 3, bias=True), make.relu(f"relu{i}")]
        return [
            Normalize(mean, std, name="normalize"),
            make.chain("stage1", [make.conv("conv", 64, 11, 4, True, pad_px), make.relu("relu"), pool()]),
            make.chain("stage2", [make.conv("conv", 192, 5, bias=True), make.relu("relu"), pool()]),
            make.chain("stage3", [*stage3, pool()]),
            make.chain("flatten", [tf.keras.layers.Flatten(dtype=make.policy, name="flatten")]),
            make.dense("head", num_classes, policy="float32"),
        ]


@dataclasses.dataclass(frozen=True)
class SaliencyCNN(Model):
    """Two convolutions, each with a rectifier and a pooling, and a linear layer, for digits.

    `saliency` says "2 conv layers + Linear & Softmax" and no more: 3x3 kernels, 2x2 poolings and the widths are ours.
    50,186 trainable parameters for 28x28x1 and 10 classes.

    Args:
      widths: filters of the two convolutions.

    Source: `saliency`, methods.
    """

    widths: tuple[int, ...] = (32, 64)

    def __post_init__(self) -> None:
        widths = to_python(self.widths)
        if not isinstance(widths, tuple) or len(widths) != 2 or not all(is_number(i, True) and i >= 1 for i in widths):
            raise ConfigError(
                f"SaliencyCNN.widths is {self.widths!r}; allowed: two whole numbers, 1 or more, as (32, 64)"
            )
        object.__setattr__(self, "widths", widths)

    @property
    def name(self) -> str:
        return "saliency_cnn"

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_in")
        stages: list[tf.keras.layers.Layer] = [Normalize(mean, std, name="normalize")]
        for i, width in enumerate(self.widths, start=1):
            pool = tf.keras.layers.MaxPooling2D(dtype=make.policy, name="pool")
            stages.append(make.chain(f"stage{i}", [make.conv("conv", width, 3, bias=True), make.relu("relu"), pool]))
        stages.append(make.chain("flatten", [tf.keras.layers.Flatten(dtype=make.policy, name="flatten")]))
        return [*stages, make.dense("head", num_classes, policy="float32")]


@dataclasses.dataclass(frozen=True)
class BasicConv(Model):
    """Two 2x2 convolutions of 16 and 32 filters, each with rectifier and normalisation, and the mean over all places.

    2,322 trainable parameters for 28x28x1 and 2 classes. Kaiming fan_in weights and zero bias, where the authors have
    PyTorch's defaults.

    Source: `sum`, section 2.2 (perfect ordering), and its authors' code.
    """

    @property
    def name(self) -> str:
        return "basic_conv"

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_in")
        stages: list[tf.keras.layers.Layer] = [Normalize(mean, std, name="normalize")]
        for i, filters in enumerate((16, 32), start=1):
            conv = make.conv("conv", filters, 2, bias=True, pad_px=0)
            stages.append(make.chain(f"stage{i}", [conv, make.relu("relu"), make.norm("norm")]))
        return [*stages, Head(make.dense("dense", num_classes, policy="float32"), name="head")]
