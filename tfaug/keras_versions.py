"""What differs between Keras 2 and Keras 3: the one module that asks which of the two `tf.keras` is.

`tf.keras` is Keras 2.15 in TensorFlow 2.15, Keras 3 since 2.16, and tf-keras, which is Keras 2, where the environment
says TF_USE_LEGACY_KERAS=1. Everything else in tfaug takes what it needs from `tf.keras` and runs on all three.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import random
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

KERAS_3 = hasattr(tf.keras, "Variable")  # Keras 2 has no variables of its own and, in 2.15, no __version__

# Given to every optimizer. On a GPU those of Keras 2 would compile the update of each variable by itself; those of
# Keras 3 compile nothing.
OPTIMIZER_SETTINGS: dict[str, Any] = {} if KERAS_3 else {"jit_compile": False}


def momentum_of(optimizer: tf.keras.optimizers.SGD, variable: Any) -> Any:
    """Returns the momentum that an optimizer keeps for a weight, a variable of the weight's shape."""
    if KERAS_3:
        return optimizer.momentums[optimizer._get_variable_index(variable)]
    return optimizer.momentums[optimizer._index_dict[optimizer._var_key(variable)]]


def rate_of(optimizer: tf.keras.optimizers.Optimizer) -> float:
    """Returns the learning rate of the step that an optimizer takes next; Keras 2 itself tells that of the last one."""
    rate = optimizer.learning_rate if KERAS_3 else optimizer._learning_rate
    return float(rate(optimizer.iterations) if callable(rate) else rate)


def takes_training(layer: tf.keras.layers.Layer) -> bool:
    """Tells whether the layer's `call` has the argument `training`."""
    return "training" in inspect.signature(layer.call).parameters


def add_statistic(layer: tf.keras.layers.Layer, name: str, size: int, initializer: str) -> Any:
    """Makes a variable that each replica assigns for itself and that reads as the mean over the replicas elsewhere.

    Keras 3 has no such argument of `add_weight`: there, a replica's assignment to what `add_weight` makes is refused
    (so two replicas cannot train its own BatchNormalization).

    Args:
      layer: keeps the variable, which is not trained, as an attribute.
      name: of the variable.
      size: of the vector.
      initializer: name of a Keras initializer.

    Returns:
      The variable, float32 [size].
    """
    if KERAS_3:
        return tf.keras.Variable(
            initializer=tf.keras.initializers.get(initializer),
            shape=(size,),
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="mean",
            synchronization="on_read",
            name=name,
        )
    return layer.add_weight(
        name=name,
        shape=(size,),
        dtype="float32",
        initializer=initializer,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
    )


def tf_variables(owner: Any) -> list[tf.Variable]:
    """Returns the variables of a model or an optimizer as TensorFlow's own.

    Those of Keras 3 are not: a `tf.Module` does not save them, and a `tf.train.Checkpoint` does not find all of a
    model's.
    """
    return [v if isinstance(v, tf.Variable) else v.value for v in owner.variables]


def variable_path(variable: Any) -> str:
    """Returns the variable's name with those of its layers, such as `stage1/conv/kernel`."""
    return getattr(variable, "path", variable.name)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the initial weights that Keras's own initializers draw within, and leaves Python's generator as it was."""
    held = random.getstate()
    random.seed(seed)
    # Keras 2 draws from a generator of its own once anybody has called tf.keras.utils.set_random_seed.
    own: Any = None
    if not KERAS_3:
        own = importlib.import_module(f"{tf.keras.Model.__module__.partition('.')[0]}.src.backend")._SEED_GENERATOR
    generator = getattr(own, "generator", None)
    if generator is not None:
        own.generator = random.Random(seed)
    try:
        yield
    finally:
        random.setstate(held)
        if generator is not None:
            own.generator = generator


def draws(layer: tf.keras.layers.Layer) -> bool:
    """Whether a Keras layer itself draws from a generator of Keras."""
    if KERAS_3:
        return bool(layer._seed_generators)
    return hasattr(layer, "_random_generator")


def fit_across_workers(model: tf.keras.Model) -> None:
    """Makes `fit` of a model run under MultiWorkerMirroredStrategy, where Keras 3 itself fails (keras issue 20585).

    To build a model that is not built, it averages a batch over the workers, which they cannot do with what they hold;
    and it averages what a step returns over an axis that a scalar does not have.

    Args:
      model: built, with metrics in what `train_step` and `test_step` return.
    """
    if not KERAS_3:
        return
    model._maybe_symbolic_build = lambda *args, **kwargs: None

    def rows(step: Any) -> Any:
        return lambda data: {name: tf.expand_dims(value, 0) for name, value in step(data).items()}

    model.train_step, model.test_step = rows(model.train_step), rows(model.test_step)
