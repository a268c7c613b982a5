"""Shake-Shake networks: residual blocks of two branches, mixed at random in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfaug import rng
from tfaug.config import ConfigError, check_whole
from tfaug.models.base import Model
from tfaug.models.resnet import stages_of
from tfaug.models.stages import Drawing, Head, LayerMaker, Normalize


@tf.custom_gradient
def mix_branches(first: tf.Tensor, second: tf.Tensor, forward: tf.Tensor, backward: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Returns forward * first + (1 - forward) * second, whose gradient is as if `backward` had stood there.

    Args:
      first, second: [B, H, W, C].
      forward, backward: weights [B, 1, 1, 1] of their type; no gradient flows to them.
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
        return backward * upstream, (1 - backward) * upstream, None, None

    return forward * first + (1 - forward) * second, gradient


class ShakeBlock(Drawing):
    """Adds a random mean of two branches to a shortcut: relu, 3x3 convolution, norm, relu, 3x3 convolution, norm each.

    In training each image has a weight of the first branch for the forward pass and another for the backward pass,
    independent and uniform over 0..1 (`Shake-Shake-Image`); else it is 1/2. The shortcut is the identity or, where the
    shape changes, relu, two 1x1 convolutions of every `stride`-th pixel, the second shifted by a pixel to the right and
    below, side by side, and norm.

    Source: Gastaldi 2017 (Shake-Shake regularization), sections 1.2 and 2.1; definitions of the constants as in the
      code that `gap`'s authors used.
    """

    def __init__(self, make: LayerMaker, filters: int, stride: int, project: bool, name: str) -> None:
        super().__init__(make.next_place(), name=name, dtype=make.policy)
        self._stride = stride
        self.first, self.second = (self._branch(make, filters, stride, branch) for branch in ("first", "second"))
        self.halves: list[tf.keras.layers.Layer] = []
        if project:
            self.relu = make.relu("relu")
            self.halves = [make.conv(f"half{i}", (filters + 2 - i) // 2, 1) for i in (1, 2)]
            self.norm = make.norm("norm")

    @staticmethod
    def _branch(make: LayerMaker, filters: int, stride: int, name: str) -> tf.keras.layers.Layer:
        layers = [
            make.relu("relu1"),
            make.conv("conv1", filters, 3, stride),
            make.norm("norm1"),
            make.relu("relu2"),
            make.conv("conv2", filters, 3),
            make.norm("norm2"),
        ]
        return make.chain(name, layers)

    def _shortcut(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the inputs, in the outputs' shape."""
        if not self.halves:
            return inputs
        step = self._stride
        active = self.relu(inputs)
        shifted = tf.pad(active[:, 1:, 1:], [[0, 0], [0, 1], [0, 1], [0, 0]])
        parts = [half(each[:, ::step, ::step]) for half, each in zip(self.halves, (active, shifted), strict=True)]
        return self.norm(tf.concat(parts, axis=-1), training=training)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns [B, H / stride, W / stride, filters]."""
        first, second = (branch(inputs, training=training) for branch in (self.first, self.second))
        shortcut = self._shortcut(inputs, training)
        if not training:
            return shortcut + 0.5 * (first + second)
        seed = self.seed()
        weights = [rng.uniform(rng.fold_in(seed, i), [tf.shape(inputs)[0], 1, 1, 1]) for i in (0, 1)]
        return shortcut + mix_branches(first, second, *(tf.cast(weight, first.dtype) for weight in weights))


@dataclasses.dataclass(frozen=True)
class ShakeShake(Model):
    """Shake-Shake depth 2xWIDTHd, with independent coefficients of each image in each pass (S-S-I).

    Three stages of `width`, 2 `width` and 4 `width` filters, after a stem of 16; the last ends in a rectifier. Kaiming
    fan_out weights, zero bias. For 3 channels and 10 classes the trainable parameters are, with those of the paper's
    table 1,

        26 2x32d: 2,923,162 (2.9M)    26 2x96d: 26,192,922 (26.2M)

    It draws in training; see `tfaug.models.drawing`.

    Args:
      depth: 6 n + 2, as 8, 14, 20 or 26.
      width: filters of each branch in the first stage.

    Source: Gastaldi 2017 (Shake-Shake regularization), section 2 and table 1; used by `refine`.
    """

    depth: int = 26
    width: int = 32

    def __post_init__(self) -> None:
        check_whole(self, "depth", 8)
        check_whole(self, "width", 1)
        if self.depth % 6 != 2:
            raise ConfigError(f"ShakeShake.depth is {self.depth}; allowed: 6 n + 2, as 8, 14, 20 or 26")

    @property
    def name(self) -> str:
        return f"shake_{self.depth}_2x{self.width}d"

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_out")
        stem = make.chain("stem", [make.conv("conv", 16, 3), make.norm("norm")])
        return [
            Normalize(mean, std, name="normalize"),
            stem,
            *stages_of(
                make,
                ShakeBlock,
                widths=(self.width, 2 * self.width, 4 * self.width),
                num_blocks=[(self.depth - 2) // 6] * 3,
                project_first=self.width != 16,
                finish=[make.relu("relu")],
            ),
            Head(make.dense("dense", num_classes, policy="float32"), name="head"),
        ]
