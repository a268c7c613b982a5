"""Manifold Mixup: where, with what weights and between whom features are mixed, and what the network makes of it."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfaug import rng
from tfaug.augment import AUGMENTATIONS, Augmentation, ManifoldMixup
from tfaug.config import ConfigError
from tfaug.models import MODELS, ResNet, StagedModel, build_model
from tfaug.schedules import Linear, Progress

NUM, CLASSES = 6, 4
SHAPE = (NUM, 16, 12, 3)


@functools.cache
def network(name: str = "lenet", precision: str = "fp32") -> StagedModel:
    settings = dict(image_shape=SHAPE[1:], num_classes=CLASSES, mean=[0.4] * 3, std=[0.3] * 3)
    return build_model(MODELS[name], **settings, precision=precision, seed=3)


def images_and_labels() -> tuple[tf.Tensor, tf.Tensor]:
    generator = np.random.default_rng(5)
    images = generator.integers(0, 256, SHAPE).astype(np.uint8)
    return tf.constant(images), tf.one_hot(generator.integers(0, CLASSES, NUM), CLASSES)


def choice_of(place: int, weight: float | np.ndarray) -> dict[str, tf.Tensor]:
    weights = np.broadcast_to(np.float32(weight), [NUM])
    return {"place": tf.constant(place), "partner": tf.constant([1, 2, 0, 5, 4, 3]), "weight": tf.constant(weights)}


@functools.cache
def forward_under_xla(op: ManifoldMixup):
    function = functools.partial(op.forward, network(), training=False)
    return tf.function(function, jit_compile=True, autograph=False)


WEIGHTS = np.array([0.25, 0.5, 1.0, 0.0, 0.75, 0.125])


@pytest.mark.parametrize("name", ["lenet", "resnet20"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_features_are_mixed_at_the_place_drawn_and_nowhere_else(name: str, place: int) -> None:
    """Oracle: the network is cut in two at the place, and numpy mixes."""
    op, model, (images, labels) = ManifoldMixup(), network(name), images_and_labels()
    choice = choice_of(place, WEIGHTS)
    logits, mixed = op.forward(model, images, labels, choice, training=False)
    cut = None if place == 0 else model.stage_names.index(op.stages[place]) + 1
    before = tf.cast(images, tf.float32) if cut is None else model.forward(images, stop=cut)
    partner = choice["partner"].numpy()

    def mix(values: np.ndarray) -> np.ndarray:
        weight = WEIGHTS.reshape([-1] + [1] * (values.ndim - 1))
        return (weight * values + (1 - weight) * values[partner]).astype(np.float32)

    expected = model.forward(tf.constant(mix(before.numpy())), start=0 if cut is None else cut)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mixed, mix(labels.numpy()), rtol=0, atol=1e-7)
    plain = model(images, training=False).numpy()
    changed = np.abs(logits.numpy() - plain).max(1) > 1e-3
    assert changed.tolist() == [True, True, False, True, False, True]  # weight 1, and its own partner, change nothing


def test_the_order_in_which_places_are_named_does_not_matter() -> None:
    images, labels = images_and_labels()
    backwards = ManifoldMixup(stages=("stage2", "stage1", "input"))
    for place in range(3):
        ours, _ = backwards.forward(network(), images, labels, choice_of(place, WEIGHTS), training=False)
        same, _ = ManifoldMixup().forward(network(), images, labels, choice_of(2 - place, WEIGHTS), training=False)
        np.testing.assert_array_equal(ours, same)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_weight_of_one_is_the_network_as_it_is(precision: str) -> None:
    """Also in bfloat16, and for what batch normalisation learns: the network runs once."""
    images, labels = images_and_labels()
    plain, mixed = (
        build_model(
            ResNet(20),
            image_shape=SHAPE[1:],
            num_classes=CLASSES,
            mean=[0.4] * 3,
            std=[0.3] * 3,
            precision=precision,
            seed=3,
        )
        for _ in range(2)
    )
    expected = plain(images, training=True)
    logits, same = ManifoldMixup().forward(mixed, images, labels, choice_of(1, 1.0))
    np.testing.assert_array_equal(logits, expected)
    np.testing.assert_array_equal(same, labels)
    assert not np.array_equal(plain.non_trainable_weights[0], network("resnet20").non_trainable_weights[0])
    for ours, theirs in zip(mixed.non_trainable_weights, plain.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_xla_computes_the_same_with_one_program_for_all_places() -> None:
    op, (images, labels) = ManifoldMixup(), images_and_labels()
    for place in range(3):
        choice = choice_of(place, WEIGHTS)
        expected, expected_labels = op.forward(network(), images, labels, choice, training=False)
        logits, mixed = forward_under_xla(op)(images, labels, choice)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(mixed, expected_labels)
    assert forward_under_xla(op).experimental_get_tracing_count() == 1


@pytest.mark.parametrize("place", [0, 2])
def test_gradients_flow_to_both_images_and_all_weights(place: int) -> None:
    op, (images, labels) = ManifoldMixup(), images_and_labels()
    floats = tf.cast(images, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(floats)
        logits, _ = op.forward(network(), floats, labels, choice_of(place, 0.5))
        first = tf.reduce_sum(logits[0] ** 2)
    gradients = tape.gradient(first, [floats, *network().trainable_variables])
    reached = np.abs(gradients[0].numpy()).max((1, 2, 3)) > 0
    assert reached.tolist() == [True, True, False, False, False, False]
    assert all(np.abs(gradient.numpy()).max() > 0 for gradient in gradients[1:])


def test_a_batch_draws_one_place_and_each_image_its_weight_and_partner() -> None:
    op, num = ManifoldMixup(), 20_000
    choice = op.sample(rng.make_seed(1), (num, 8, 8, 3))
    assert choice["place"].shape == () and sorted(choice["partner"].numpy()) == list(range(num))
    weights = choice["weight"].numpy()
    assert scipy.stats.kstest(weights, scipy.stats.beta(2, 2).cdf).statistic < 1.63 / np.sqrt(num)
    draw = tf.function(lambda seed: op.sample(seed, (1, 8, 8, 3))["place"])
    places = [int(draw(rng.make_seed(seed))) for seed in range(300)]
    assert scipy.stats.chisquare(np.bincount(places, minlength=3)).pvalue > 0.01


def test_alpha_and_p_may_be_schedules() -> None:
    op = ManifoldMixup(Linear(0.1, 2.0), p=Linear(0, 1))
    early, late = (op.sample(rng.make_seed(1), (10_000, 8, 8, 3), Progress(step, 100))["weight"] for step in (10, 90))
    for weight, p, alpha in ((early.numpy(), 0.1, 0.29), (late.numpy(), 0.9, 1.81)):
        mixed = weight[weight != 1]
        assert len(mixed) / len(weight) == pytest.approx(p, abs=0.015)
        assert mixed.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)
    with pytest.raises(ValueError, match=r"ManifoldMixup\.\w+ is a schedule"):
        op.sample(rng.make_seed(1), (4, 8, 8, 3))


def test_it_is_no_op_on_a_batch() -> None:
    assert not issubclass(ManifoldMixup, Augmentation) and "ManifoldMixup" not in AUGMENTATIONS


@pytest.mark.parametrize("rows", [1, 3])
def test_class_numbers_and_other_numbers_of_labels_are_refused(rows: int) -> None:
    images, labels = images_and_labels()
    mix, choice = ManifoldMixup(stages=("input",)), choice_of(0, 0.5)
    for wrong, message in ((labels[:rows], f"and {rows} labels"), (tf.argmax(labels, 1), "tf.one_hot")):
        with pytest.raises(ValueError, match=message):
            mix.forward(network(), images, wrong, choice)


def test_a_stage_that_the_network_lacks_is_refused_with_those_it_has() -> None:
    images, labels = images_and_labels()
    for stage in ("layer1", "head"):
        with pytest.raises(ConfigError, match=rf"{stage}.*lenet allows: input, normalize, stage1, stage2, stage3$"):
            ManifoldMixup(stages=(stage,)).forward(network(), images, labels, choice_of(0, 0.5))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 0.0}, r"ManifoldMixup\.alpha is 0\.0; allowed: a finite number above 0"),
        ({"p": 1.5}, r"ManifoldMixup\.p is 1\.5; allowed: 0\.\.1"),
        ({"stages": ()}, r"ManifoldMixup\.stages is \(\)"),
        ({"stages": ["input"]}, "allowed: a tuple of different names"),
        ({"stages": ("input", "input")}, "allowed: a tuple of different names"),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(fields: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ManifoldMixup(**fields)
