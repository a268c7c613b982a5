"""Keras models of one's own: what becomes of their layers, seeds, identities, and one from training to its export."""

from __future__ import annotations

import dataclasses
import linecache
import random
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tfaug import rng
from tfaug.config import ConfigError, fingerprint, from_dict, to_dict
from tfaug.experiment import CLASSES, Experiment
from tfaug.export import ExportConfig, load_exported
from tfaug.expressions import read_value
from tfaug.keras_versions import tf_variables
from tfaug.models import KerasModel, build_model, drawing
from tfaug.models.cost import num_parameters
from tfaug.models.stages import Dropout, Norm
from tfaug.run import Job
from tfaug.schedules import Constant
from tfaug.train.phase import Phase, Training
from tfaug.workdir import Workdir

layers = tf.keras.layers
SHAPE = (16, 16, 3)
SEED = rng.make_seed(3)


def graph(image_shape, num_classes):
    """A residual network with batch statistics and dropout, one of its blocks a network itself."""
    inputs = layers.Input(image_shape)
    inner = layers.Input((*image_shape[:2], 4))
    block = tf.keras.Model(inner, layers.SpatialDropout2D(0.5, name="maps")(layers.Conv2D(4, 3, padding="same")(inner)))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(inputs)
    x = layers.BatchNormalization(momentum=0.7, epsilon=0.01, name="norm")(x)
    x = layers.Activation("relu")(x)
    x = layers.Dropout(0.25, name="dropout")(layers.GlobalAveragePooling2D()(layers.add([x, block(x)])))
    return tf.keras.Model(inputs, layers.Dense(num_classes, name="dense")(x))


def row(image_shape, num_classes):
    """Layers in a row, of which one draws."""
    return tf.keras.Sequential(
        [
            layers.Input(image_shape),
            layers.Conv2D(4, 3, 2, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(name="flatten"),
            layers.Dropout(0.5, name="dropout"),
            layers.Dense(num_classes, name="scores"),
        ]
    )


def row_as_graph(image_shape, num_classes):
    inputs = layers.Input(image_shape)
    return tf.keras.Model(inputs, layers.Dense(num_classes, name="scores")(layers.Flatten(name="flatten")(inputs)))


def of_probabilities(image_shape, num_classes):
    return tf.keras.Sequential(
        [layers.Input(image_shape), layers.Flatten(), layers.Dense(num_classes, activation="softmax")]
    )


def of_seven(image_shape, num_classes):
    return row(image_shape, 7)


def of_noise(image_shape, num_classes):
    return tf.keras.Sequential(
        [
            layers.Input(image_shape),
            layers.GaussianNoise(0.1, name="noise"),
            layers.Flatten(),
            layers.Dense(num_classes),
        ]
    )


def of_nothing(image_shape, num_classes):
    return layers.Dense(num_classes)


class Subclass(tf.keras.Model):
    def __init__(self, num_classes):
        super().__init__()
        self.flatten, self.dense = layers.Flatten(), layers.Dense(num_classes)

    def call(self, images):
        return self.dense(self.flatten(images))


def of_a_subclass(image_shape, num_classes):
    return Subclass(num_classes)


def build(made, shape=SHAPE, num_classes=5, precision="fp32", seed=0, normalize=True):
    model = made if isinstance(made, KerasModel) else KerasModel(made, normalize)
    settings = {"image_shape": shape, "num_classes": num_classes, "mean": [0.4] * 3, "std": [0.25] * 3}
    return build_model(model, **settings, precision=precision, seed=seed)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, *SHAPE), np.uint8)


def test_layers_in_a_row_are_the_stages_and_a_graph_is_one(images):
    network = build(row)
    assert network.stage_names == ("normalize", "conv", "norm", "flatten", "dropout", "scores")
    assert build(row_as_graph).stage_names == ("normalize", "flatten", "scores")
    assert build(graph).stage_names == ("normalize", "network")
    assert build(of_a_subclass).stage_names == ("normalize", "network")
    assert network.forward(images, stop="flatten").shape == (6, 7, 7, 4)
    scaled = (images / 255.0 - 0.4) / 0.25
    kernel, bias = (variable.numpy() for variable in network.trainable_variables[:2])
    patches = np.stack([scaled[:, i : i + 13 : 2, j : j + 13 : 2] for i in range(3) for j in range(3)], axis=3)
    convolved = patches.reshape(6, 7, 7, 27) @ kernel.reshape(27, 4) + bias
    np.testing.assert_allclose(network.forward(images, stop="norm"), convolved, atol=1e-4)
    np.testing.assert_array_equal(build(row, normalize=False).forward(images, stop="conv"), images)


def test_layers_of_ours_stand_where_keras_draws_or_cannot_be_trained_on_replicas(images):
    network = build(graph).stages[1].inside
    norm, dropout = network.get_layer("norm"), network.get_layer("dropout")
    assert isinstance(norm, Norm) and isinstance(dropout, Dropout)
    (block,) = (layer for layer in network.layers if isinstance(layer, tf.keras.Model))
    assert isinstance(block.get_layer("maps"), Dropout)
    features = tf.cast(images, tf.float32)[..., :1] / tf.constant([50.0, 60.0, 70.0, 80.0])
    mean, variance = features.numpy().mean((0, 1, 2)), features.numpy().var((0, 1, 2))
    wanted = (features - mean) / np.sqrt(variance + 0.01)
    np.testing.assert_allclose(norm(features, training=True), wanted, atol=1e-4)
    np.testing.assert_allclose(norm.moving_mean.numpy(), 0.3 * mean, rtol=1e-4)
    with drawing(SEED):
        maps = block.get_layer("maps")(tf.ones([9, 16, 16, 4]), training=True).numpy()
        kept = dropout(tf.ones([6, 4]), training=True).numpy()
    assert (maps == maps[:, :1, :1]).all() and set(np.unique(maps)) == {0.0, 2.0}
    assert set(np.unique(kept).round(3).tolist()) == {0.0, float(np.float32(1.333))}


@pytest.mark.parametrize("made", [graph, row])
def test_a_step_draws_by_its_seed_alone(made, images):
    network = build(made)

    @tf.function(autograph=False)
    def train(seed):
        with drawing(seed):
            return network(images, training=True)

    first, again, other = train(SEED), train(SEED), train(rng.fold_in(SEED, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(network(images), network(images))


def test_answers_are_those_of_keras_with_the_same_weights(images):
    network = build(graph)
    keras = graph(SHAPE, 5)
    keras.set_weights([weight.numpy() for weight in network.stages[1].inside.weights])
    scaled = (images / 255.0 - 0.4) / 0.25
    np.testing.assert_allclose(network(images), keras(scaled.astype(np.float32), training=False), atol=1e-5)


def test_first_weights_follow_the_seed_and_nothing_else(images):
    tf.keras.utils.set_random_seed(9)
    state = random.getstate()
    first = build(graph, seed=1)
    assert random.getstate() == state
    random.random()
    again, other = build(graph, seed=1), build(graph, seed=2)
    np.testing.assert_array_equal(first(images), again(images))
    assert np.abs(first(images) - other(images)).max() > 1e-3
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_half_precision_is_inside_alone(images):
    network = build(row, precision="bf16")
    assert network.forward(images, stop="flatten").dtype == tf.bfloat16
    assert network(images).dtype == tf.float32
    assert {tf.as_dtype(variable.dtype) for variable in tf_variables(network)} == {tf.dtypes.float32}


def test_one_of_kerass_own_networks():
    model = read_value('KerasModel("tf.keras.applications.MobileNet")', CLASSES)
    assert model.name == "mobilenet" and model == from_dict(to_dict(model), CLASSES)
    network = build(model, shape=(32, 32, 3), num_classes=1000)
    assert num_parameters(network) == 4_231_976  # as Keras documents it: 4,253,864 with the 21,888 moving statistics
    assert len(network.stages) > 80 and network(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 1000)


OWN = """
import tensorflow as tf

def make(image_shape, num_classes):
    first = [tf.keras.layers.Input(image_shape), tf.keras.layers.Flatten()]
    return tf.keras.Sequential([*first, tf.keras.layers.Dense(num_classes)])
"""


def test_what_is_edited_in_the_function_is_another_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    prints = []
    for text in (OWN, OWN.replace("def", "# a comment\n\ndef"), OWN.replace("classes)])", "classes, None)])")):
        (tmp_path / "own_network.py").write_text(text)
        sys.modules.pop("own_network", None)
        linecache.clearcache()
        model = KerasModel("own_network.make")
        assert model == from_dict(to_dict(model), {"KerasModel": KerasModel})
        prints.append(fingerprint(model))
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KerasModel("row"), "KerasModel.build is 'row'; allowed: MODULE.FUNCTION"),
        (lambda: KerasModel("tests.test_models_keras.rwo"), r"has no function 'rwo' \(did you mean 'row'\?\)"),
        (lambda: KerasModel("tf.keras.applications.MobilNet"), r"no function 'MobilNet' \(did you mean 'MobileNet"),
        (lambda: KerasModel("no_such_module.row"), "names the module 'no_such_module'"),
        (lambda: KerasModel(lambda shape, classes: None), "allowed: a function that stands in a module by its name"),
        (lambda: KerasModel(3), "KerasModel.build is 3; allowed: a function"),
        (lambda: KerasModel(row, normalize=1), "KerasModel.normalize is 1; allowed: True, False"),
        (lambda: build(of_probabilities), "so probabilities; allowed: logits"),
        (lambda: build(of_seven), r"gives \[4, 7\] for 4 images; allowed: \[4, 5\]"),
        (lambda: build(of_noise), r"has the layer 'noise' \(GaussianNoise\), which draws by itself; allowed: Dropout"),
        (lambda: build(of_nothing), "allowed: a tf.keras.Model"),
    ],
)
def test_what_is_no_such_model_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_one_is_trained_exported_and_measured(tmp_path):
    model = KerasModel(graph)
    phase = Phase("train", 1, Constant(0.05), batch_size=40)
    export = ExportConfig(draws=(2,), weights=(0.5,), bank_size=4, num_examples=6)
    data, evaluate = tiny.run().data, dataclasses.replace(tiny.run().evaluate, attacks=())
    training = Training("own", model, (phase,), export="last")
    experiment = Experiment("own", data=data, trainings=(training,), export=export, evaluate=evaluate, precision="fp32")
    job = Job(Workdir(tmp_path / "run"), experiment)
    job.load()
    job.workdir.begin(experiment)
    job.train()
    job.export()
    network = job.trained("own")
    start = build_model(
        model,
        image_shape=job.data.image_shape,
        num_classes=10,
        mean=job.data.mean,
        std=job.data.std,
        seed=experiment.seed,
    )
    assert all(
        np.any(one.numpy() != other.numpy())
        for one, other in zip(network.trainable_variables, start.trainable_variables, strict=True)
    )
    images = job.data.test.images[:5]
    exported = load_exported(next((tmp_path / "run").rglob("saved_model.pb")).parent)
    np.testing.assert_allclose(exported.logits(tf.cast(images, tf.float32)), network(images), atol=1e-4)
