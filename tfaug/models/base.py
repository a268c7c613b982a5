"""What a model is: a frozen dataclass that makes stages; and the one function that builds it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug.config import ConfigError, check_frozen, read_number
from tfaug.models.stages import POLICIES, StagedModel

SMALLEST_IMAGE_PX = 12  # below it LeNet's second pooling has nothing left


class Model:
    """Gives a model its contract. The model itself is a frozen dataclass whose fields are its hyper-parameters."""

    @property
    def name(self) -> str:
        """Returns its name in a few letters and digits, such as `resnet20`."""
        return type(self).__name__.lower()

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns layers with different names, of which the first takes images 0..255 and the last gives the logits.

        Args:
          image_shape: height, width and channels.
          num_classes: K, 2 or more.
          mean, std: per channel, of the training images, in 0..1 units.
          precision: 'fp32' or 'bf16'.
          seed: of the initial weights, 0 or more.
        """
        raise NotImplementedError(f"{type(self).__name__} has no stages(...)")


def build_model(
    model: Model,
    *,
    image_shape: Sequence[int],
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    precision: str = "fp32",
    seed: int,
) -> StagedModel:
    """Builds a model with all its variables.

    The initial weights depend on `seed`, the model and its shapes alone: no global seed, device or build order.

    Args:
      model: which one.
      image_shape: height, width and channels.
      num_classes: K, 2 or more.
      mean, std: per channel, of the training images, in 0..1 units; std above 0.
      precision: 'fp32', or 'bf16' for bfloat16 arithmetic with float32 variables and logits.
      seed: 0 or more.

    Returns:
      A model from images (uint8 or float, 0..255, [B, H, W, C]) to float32 logits [B, K].

    Raises:
      ValueError: if an argument is outside what is allowed.

    Example:
      >>> from tfaug.models import LeNet
      >>> model = build_model(LeNet(), image_shape=(28, 28, 1), num_classes=10, mean=[0.13], std=[0.31], seed=0)
      >>> model.stage_names
      ('normalize', 'stage1', 'stage2', 'stage3', 'head')
    """
    if not isinstance(model, Model):
        raise ConfigError(f"model is {model!r}; allowed: a model, as in ResNet(20)")
    check_frozen(type(model), "model")
    shape = tuple(operator.index(size) for size in image_shape)
    if len(shape) != 3 or min(shape[:2]) < SMALLEST_IMAGE_PX or shape[2] < 1:
        raise ValueError(
            f"image_shape is {tuple(image_shape)!r}; allowed: height and width of {SMALLEST_IMAGE_PX} or more, channels"
        )
    num_classes = read_number("num_classes", num_classes, 2, whole=True)
    for name, values in (("mean", mean), ("std", std)):
        array = np.asarray(values, np.float64)
        if array.shape != (shape[2],) or not np.isfinite(array).all() or (name == "std" and array.min() <= 0):
            allowed = "finite numbers" + (" above 0" if name == "std" else "")
            raise ValueError(f"{name} is {values!r}; allowed: {shape[2]} {allowed}, one per channel")
    if precision not in POLICIES:
        raise ValueError(f"precision is {precision!r}; allowed: {', '.join(POLICIES)}")
    seed = read_number("seed", seed, 0, whole=True)
    stages = model.stages(
        image_shape=shape, num_classes=num_classes, mean=mean, std=std, precision=precision, seed=seed
    )
    network = StagedModel(stages, name=model.name)
    network(tf.zeros((1, *shape), tf.float32))  # makes the variables
    return network
