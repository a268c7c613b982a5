"""Any Keras model of the user, as a model of tfaug."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import keras_versions
from tfaug.config import FUNCTION, ConfigError, find_function
from tfaug.losses import check_logits
from tfaug.models.base import Model
from tfaug.models.stages import POLICIES, Dropout, Norm, Normalize

_LAYERS = tf.keras.layers


class Whole(tf.keras.layers.Layer):
    """Runs a layer, or a whole network, and gives its answer in float32."""

    def __init__(self, inside: tf.keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.inside = inside
        self._takes_training = keras_versions.takes_training(inside)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns float32."""
        outputs = self.inside(inputs, training=training) if self._takes_training else self.inside(inputs)
        return tf.cast(outputs, tf.float32)


class AdoptedNorm(Norm):
    """`Norm` in a graph of Keras's layers, whose normalisation is called with a mask, of which images have none."""

    def call(self, inputs: tf.Tensor, training: bool = False, mask: Any = None) -> tf.Tensor:
        """Returns the normalised images [B, H, W, C], in the inputs' type."""
        return super().call(inputs, training=bool(training))


@dataclasses.dataclass(frozen=True)
class KerasModel(Model):
    """A Keras model that a function builds: trained, exported and measured as every other.

    Where its layers stand in a row (a `Sequential`, or a graph that is one) they are the stages, under their own names;
    else the whole network is one stage, `network`, after `normalize`.

    In its graph Keras's Dropout and SpatialDropout2D become layers of the same rate that draw by the seed of the step,
    and BatchNormalization (unless it is frozen) one of the same constants and weights that several replicas can train,
    whose moving variance is the population's. Other layers that draw are refused, for a training with them could not be
    stopped and continued. A subclass of `tf.keras.Model` is taken as it is.

    Initial weights are those of the model, seeded: Keras's own initializers follow the seed of the training. Its
    regularizers are not asked: the weight decay is that of the phase.

    Args:
      build: a function, or its name `module.function`, called as `build(image_shape, num_classes)`; it returns a model
        from images [B, H, W, C] to logits [B, K]. Or one of Keras's, as `tf.keras.applications.MobileNetV2`, called
        with those and no pretrained weights. The function's source is part of a training's identity, what it calls
        elsewhere is not.
      normalize: whether the images are scaled by the mean and deviation of the training images; else the model gets
        float32 in 0..255.

    Raises:
      ConfigError: if there is no such function; when it is built, if it gives no such model.

    Example:
      KerasModel("my_model.build"), KerasModel("tf.keras.applications.MobileNetV2")
    """

    build: str | Callable[..., Any] = dataclasses.field(metadata=FUNCTION)
    normalize: bool = True

    def __post_init__(self) -> None:
        build = self.build
        if callable(build):
            object.__setattr__(self, "build", f"{build.__module__}.{build.__qualname__}")
        if not isinstance(self.build, str):
            raise ConfigError(f"KerasModel.build is {self.build!r}; allowed: a function, or MODULE.FUNCTION in quotes")
        if "<" in self.build:
            raise ConfigError(
                f"KerasModel.build is {self.build}; allowed: a function that stands in a module by its name"
            )
        if not isinstance(self.normalize, bool):
            raise ConfigError(f"KerasModel.normalize is {self.normalize!r}; allowed: True, False")
        find_function(self.build, "KerasModel.build")

    @property
    def name(self) -> str:
        return str(self.build).rpartition(".")[2].lower()

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        channels = image_shape[2]
        if not self.normalize:
            mean, std = [0.0] * channels, [1 / 255] * channels
        with _policy(POLICIES[precision]), keras_versions.seeded(seed):
            network = self._build(tuple(image_shape), num_classes)
        in_a_row = _layers_in_a_row(network)
        network = _adopt(network)
        layers = [network] if in_a_row is None else [each for each in network.layers if not _is_input(each)]
        for layer in network._flatten_layers():
            if keras_versions.draws(layer):
                raise ConfigError(
                    f"{self!r} has the layer {layer.name!r} ({type(layer).__name__}), which draws by itself; allowed: "
                    "Dropout and SpatialDropout2D in a graph of layers"
                )
        last = Whole(layers[-1], name="network" if in_a_row is None else layers[-1].name)
        return [Normalize(mean, std, name="normalize"), *layers[:-1], last]

    def _build(self, image_shape: tuple[int, ...], num_classes: int) -> tf.keras.Model:
        """Calls the function and checks what it gives."""
        build = find_function(str(self.build), "KerasModel.build")
        if "classifier_activation" in inspect.signature(build).parameters:
            network = build(input_shape=image_shape, classes=num_classes, weights=None, classifier_activation=None)
        else:
            network = build(image_shape, num_classes)
        if not isinstance(network, tf.keras.Model):
            raise ConfigError(f"{self!r} gives {network!r}; allowed: a tf.keras.Model")
        images = np.random.default_rng(0).normal(0, 1, (4, *image_shape)).astype(np.float32)
        try:
            answers = check_logits(tf.cast(network(images, training=False), tf.float32))
        except ValueError as error:
            raise ConfigError(f"{self!r}: {error}") from None
        if answers.shape[1] != num_classes:
            raise ConfigError(f"{self!r} gives {list(answers.shape)} for 4 images; allowed: [4, {num_classes}]")
        return network


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    """Makes layers in a dtype policy."""
    held = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(held)


def _is_input(layer: tf.keras.layers.Layer) -> bool:
    return isinstance(layer, _LAYERS.InputLayer)


def _is_graph(network: tf.keras.layers.Layer) -> bool:
    """Whether a network is a graph of layers, which can be cloned, and no subclass."""
    return type(network) in (tf.keras.Sequential, tf.keras.Model) or type(network).__name__ == "Functional"


def _layers_in_a_row(network: tf.keras.Model) -> list[tf.keras.layers.Layer] | None:
    """Returns the layers of a network of which each takes what the last gave and nothing else; None for another one."""
    if not _is_graph(network):
        return None
    layers = [layer for layer in network.layers if not _is_input(layer)]
    if isinstance(network, tf.keras.Sequential):
        return layers
    try:
        ends = [network.inputs[0], *(layer.output for layer in layers)]
        starts = [*(layer.input for layer in layers), network.outputs[0]]
    except (AttributeError, ValueError):  # a layer that is called twice
        return None
    alone = len(network.inputs) == len(network.outputs) == 1
    return layers if alone and all(a is b for a, b in zip(ends, starts, strict=True)) else None


def _adopt(network: tf.keras.Model) -> tf.keras.Model:
    """Returns the network with layers of ours where Keras's draw from its state or cannot be trained on replicas."""
    places, replaced = itertools.count(), []

    def adopted(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        if _is_graph(layer):
            return tf.keras.models.clone_model(layer, clone_function=adopted)
        if type(layer) in (_LAYERS.Dropout, _LAYERS.SpatialDropout2D):
            sizes = enumerate(getattr(layer, "noise_shape", None) or ())
            over = [1, 2] if type(layer) is _LAYERS.SpatialDropout2D else [axis for axis, size in sizes if size == 1]
            return Dropout(layer.rate, next(places), over, dtype=layer.dtype_policy, name=layer.name)
        if type(layer) is _LAYERS.BatchNormalization and layer.trainable and _is_of_maps(layer):
            norm = AdoptedNorm(layer.momentum, layer.epsilon, layer.scale, name=layer.name)
            replaced.append((layer, norm))
            return norm
        return layer

    network = adopted(network)
    for old, new in replaced:
        new.set_weights(old.get_weights())
    return network


def _is_of_maps(norm: tf.keras.layers.BatchNormalization) -> bool:
    """Whether a normalisation is over the last axis of images, with a shift, as `Norm` is."""
    spec = norm.input_spec
    return norm.center and spec.ndim == 4 and set(spec.axes) <= {3, -1}
