"""What a network costs: its parameters, and the floating-point operations of one image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from tfaug.config import ConfigError
from tfaug.models.base import Model, build_model


def num_parameters(network: tf.keras.Model) -> int:
    """Returns how many numbers are trained."""
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


def cost_of(model: Model, image_shape: Sequence[int], num_classes: int) -> tuple[int, int]:
    """Returns `num_parameters` and `count_flops` of a model for such images and classes.

    Raises:
      ConfigError: if there is no such network.
    """
    middle = [0.5] * image_shape[2]
    try:
        network = build_model(
            model, image_shape=image_shape, num_classes=num_classes, mean=middle, std=middle, precision="fp32", seed=0
        )
    except ValueError as error:
        raise ConfigError(f"{model!r} for images {tuple(image_shape)}: {error}") from None
    return num_parameters(network), count_flops(network, image_shape)


def count_flops(network: tf.keras.Model, image_shape: Sequence[int]) -> int:
    """Returns the floating-point operations of one image's forward pass, two for each multiply-add.

    Convolutions and products of matrices count, as they stand in the graph of `network(image, training=False)`. What
    goes number by number (normalisation, activation, pooling) does not: it is a hundredth of it or less.

    Args:
      network: from images [B, H, W, C] to logits, with its variables made.
      image_shape: H, W, C.

    Example:
      >>> from tfaug.models import LeNet, build_model
      >>> network = build_model(LeNet(), image_shape=(28, 28, 1), num_classes=10, mean=[0.1], std=[0.3], seed=0)
      >>> count_flops(network, (28, 28, 1))
      833040
    """
    image = tf.TensorSpec((1, *image_shape), tf.float32)
    return _flops(tf.function(lambda images: network(images, training=False)).get_concrete_function(image).graph)


def _flops(graph: tf.Graph) -> int:
    """Returns the operations of a graph and of the functions that it calls."""
    total = 0
    for op in graph.get_operations():
        if op.type in ("Conv2D", "DepthwiseConv2dNative"):
            height, width, inputs, _ = op.inputs[1].shape
            each = height * width * (inputs if op.type == "Conv2D" else 1)
            total += 2 * math.prod(op.outputs[0].shape) * each
        elif op.type == "MatMul":
            each = op.inputs[0].shape[0 if op.get_attr("transpose_a") else 1]
            total += 2 * math.prod(op.outputs[0].shape) * each
        elif op.type in ("PartitionedCall", "StatefulPartitionedCall"):
            total += _flops(graph._get_function(op.get_attr("f").name).graph)
    return total
