"""tfaug/keras_versions.py: tf.keras is the only door to Keras, and one module knows which Keras it is."""

from __future__ import annotations

import ast
import pathlib
import re

import numpy as np
import tensorflow as tf

from tfaug import keras_versions

ROOT = pathlib.Path(__file__).parents[1]
FILES = [path for folder in ("tfaug", "serving", "experiments") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_tf_keras_is_the_only_door_to_keras() -> None:
    """So that TF_USE_LEGACY_KERAS=1, which changes what `tf.keras` is, changes it everywhere."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in names:
                assert name.split(".")[0] not in ("keras", "tf_keras") and "keras" not in name.split(".")[1:2], path


def test_one_module_asks_for_versions() -> None:
    asking = [
        path.name
        for path in FILES
        if re.search(r"KERAS_3|TF_USE_LEGACY_KERAS|(tf|tensorflow|keras)\.__version__|tf\.version", path.read_text())
    ]
    assert asking == ["keras_versions.py"]


def test_a_layers_training_argument_is_seen() -> None:
    class Quiet(tf.keras.layers.Layer):
        def call(self, inputs):
            return inputs

    assert keras_versions.takes_training(tf.keras.layers.Dropout(0.5))
    assert not keras_versions.takes_training(Quiet())


def test_all_variables_of_a_model_and_an_optimizer_are_tensorflows_own(tmp_path: pathlib.Path) -> None:
    model = tf.keras.Sequential([tf.keras.Input([2]), tf.keras.layers.Dense(3, name="dense")])
    optimizer = tf.keras.optimizers.SGD(0.1, 0.9, **keras_versions.OPTIMIZER_SETTINGS)
    optimizer.build(model.trainable_variables)
    held = [keras_versions.tf_variables(owner) for owner in (model, optimizer)]
    assert all(isinstance(variable, tf.Variable) for variables in held for variable in variables)
    shapes = [tuple(variable.shape) for variable in held[1]]
    assert {(2, 3), (3,)} <= set(shapes)  # the momenta
    assert any(variable.dtype == tf.int64 for variable in held[1])  # the number of steps
    held[0][0].assign(tf.ones([2, 3]))
    np.testing.assert_array_equal(model(np.ones((1, 2))), [[2.0, 2.0, 2.0]])
    assert re.search(r"dense/kernel", keras_versions.variable_path(model.variables[0]))
