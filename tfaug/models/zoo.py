"""The table of models, and the one function that builds them."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfaug.config import check_choice, read_number
from tfaug.models.classic import lenet
from tfaug.models.resnet import resnet20, resnet32
from tfaug.models.stages import POLICIES, StagedModel
from tfaug.models.whitened import whitened, whitened_small

MODELS: dict[str, Callable[..., list[tf.keras.layers.Layer]]] = {
    "resnet20": resnet20,
    "resnet32": resnet32,
    "lenet": lenet,
    "whitened": whitened,
    "whitened_small": whitened_small,
}

SMALLEST_IMAGE_PX = 12  # below it LeNet's second pooling has nothing left


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Says which model.

    Args:
      name: a key of MODELS.
    """

    name: str = "resnet20"

    def __post_init__(self) -> None:
        check_choice(self, "name", MODELS)


def build_model(
    config: ModelConfig,
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
      config: which model.
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
      >>> config = ModelConfig("lenet")
      >>> model = build_model(config, image_shape=(28, 28, 1), num_classes=10, mean=[0.13], std=[0.31], seed=0)
      >>> model.stage_names
      ('normalize', 'stage1', 'stage2', 'stage3', 'head')
    """
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
    stages = MODELS[config.name](
        image_shape=shape, num_classes=num_classes, mean=mean, std=std, precision=precision, seed=seed
    )
    model = StagedModel(stages, name=config.name)
    model(tf.zeros((1, *shape), tf.float32))  # makes the variables
    return model
