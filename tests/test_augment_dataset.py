"""`augment_dataset` and `augment_training`: other draws in each epoch, the op's own pixels, and what is refused."""

from __future__ import annotations

import hashlib
import itertools
import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tfaug import augment, rng
from tfaug.augment import Augmentation, Compose, CutMix, Flip, GaussianBlur, Mixup, SamplePairing, SumAug
from tfaug.augment.dataset import _seeds
from tfaug.augment.layers import Augment
from tfaug.config import ConfigError
from tfaug.keras_versions import KERAS_3
from tfaug.schedules import Linear
from tfaug.train.strategy import mirrored_strategy

SEED, NUM_CLASSES = 3, 5
IMAGES = np.random.default_rng(0).integers(0, 256, [11, 9, 7, 3], np.uint8)
CLASSES = np.arange(11) % NUM_CLASSES
ROWS = np.eye(NUM_CLASSES, dtype=np.float32)[CLASSES]
PAIR = Compose((Flip(), CutMix()))


def batches_of(images: Any = IMAGES, labels: Any = ROWS, size: int = 4) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(images if labels is None else (images, labels)).batch(size)


def epoch(batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns all images and labels of one iteration."""
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def by_hand(op: Augmentation, seed: int = SEED, num_epochs: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the epochs that the op makes of the batches when it is called on each with its seed."""
    seeds, epochs = _seeds(seed), []
    for _ in range(num_epochs):
        parts = [op(batch, words) for batch, words in zip(batches_of(), seeds, strict=False)]
        epochs.append(tuple(np.concatenate(part) for part in zip(*parts, strict=True)))
    return epochs


# Draws.


def test_each_iteration_draws_anew_what_the_op_makes_of_the_batches_with_their_seeds() -> None:
    batches = augment.augment_dataset(batches_of(), PAIR, SEED)
    found = [epoch(batches) for _ in range(3)]
    for (images, labels), (expected, rows) in zip(found, by_hand(PAIR, num_epochs=3), strict=True):
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, rows)
    for first, second in itertools.combinations([IMAGES, *(images for images, _ in found)], 2):
        assert not np.array_equal(first, second)


# Of each of two iterations the first two seeds: the same in each process, on each TensorFlow.
FIRST_SEEDS = {0: "0920b1e27b8eb2dc", 2**40 + 7: "793ec0b8e5b9bc30", -1: "c192cdef259a3f6c"}


@pytest.mark.parametrize("seed", FIRST_SEEDS)
def test_the_seeds_are_the_same_in_each_process_whatever_the_global_seed(seed: int) -> None:
    for global_seed in (None, 1):
        if global_seed is not None:
            tf.random.set_seed(global_seed)
        words, found = _seeds(seed), []
        for _ in range(2):
            found += [word.numpy() for word in words.take(2)]
        assert hashlib.sha256(np.array(found, "<i4").tobytes()).hexdigest()[:16] == FIRST_SEEDS[seed]
        assert len({tuple(word) for word in found}) == 4


def test_two_iterations_at_once_are_two_epochs_in_the_order_in_which_they_begin() -> None:
    batches = augment.augment_dataset(batches_of(), PAIR, SEED)
    first, second = iter(batches), iter(batches)
    both = [(next(second)[0].numpy(), next(first)[0].numpy()) for _ in range(3)]
    (expected, _), (later, _) = by_hand(PAIR, num_epochs=2)
    np.testing.assert_array_equal(np.concatenate([one for _, one in both]), expected)
    np.testing.assert_array_equal(np.concatenate([two for two, _ in both]), later)


def test_a_repeated_data_set_draws_anew_in_each_repetition() -> None:
    images, _ = epoch(augment.augment_dataset(batches_of(), PAIR, SEED).repeat(2))
    np.testing.assert_array_equal(images, np.concatenate([part for part, _ in by_hand(PAIR, num_epochs=2)]))


def test_replicas_share_batches_that_are_drawn_anew() -> None:
    batches = augment.augment_dataset(batches_of(IMAGES[:8], ROWS[:8]), PAIR, SEED)
    strategy = mirrored_strategy()
    shared = strategy.experimental_distribute_dataset(batches)
    epochs = []
    for _ in range(2):
        shares = [strategy.experimental_local_results(images) for images, _ in shared]
        epochs.append(np.concatenate([share for batch in shares for share in batch]))
    assert epochs[0].shape == IMAGES[:8].shape and not np.array_equal(*epochs)


@pytest.mark.parametrize("known", [True, False])
def test_a_data_set_keeps_its_length_and_its_known_shapes(known: bool) -> None:
    dataset = batches_of() if known else batches_of().filter(lambda images, labels: True)
    batches = augment.augment_dataset(dataset, PAIR, SEED)
    assert batches.cardinality() == (3 if known else tf.data.UNKNOWN_CARDINALITY)
    assert [len(images) for images, _ in batches] == [4, 4, 3]
    assert batches.element_spec[0].shape.as_list() == [None, 9, 7, 3]
    assert batches.element_spec[1].shape.as_list() == [None, NUM_CLASSES]


# Images and labels.


@pytest.mark.parametrize(
    "labels",
    [
        CLASSES,
        CLASSES[:, None],
        CLASSES.astype(np.uint8),
        CLASSES[:, None].astype(np.int32),
        ROWS,
        ROWS > 0,
        ROWS.astype(np.int64),
        ROWS.astype(np.float16),
    ],
    ids=lambda labels: f"{labels.dtype}{list(labels.shape)}",
)
def test_labels_of_every_layout_are_mixed_alike(labels: np.ndarray) -> None:
    op = SumAug(2)
    images, rows = epoch(augment.augment_dataset(batches_of(labels=labels), op, SEED, num_classes=NUM_CLASSES))
    (expected, expected_rows), *_ = by_hand(op)
    assert rows.dtype == np.float32 and len(rows) == 5
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(images, np.round(expected))


@pytest.mark.parametrize(
    "labels",
    [
        CLASSES,
        CLASSES[:, None].astype(np.uint8),
        CLASSES.astype(np.float32),
        np.array([*"abcdefghijk"]),
        {"a": CLASSES},
    ],
    ids=["numbers", "column", "floats", "texts", "dict"],
)
def test_labels_that_are_not_mixed_pass_untouched(labels: Any) -> None:
    dataset = batches_of(labels=labels)
    batches = augment.augment_dataset(dataset, Compose((Flip(), SamplePairing())), SEED)
    assert batches.element_spec == dataset.element_spec
    for (_, found), (_, given) in zip(batches, dataset, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, found, given)


def test_images_alone_stay_alone() -> None:
    [*found] = augment.augment_dataset(batches_of(labels=None), Flip(), SEED)
    expected, _ = by_hand(Flip())[0]
    np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize(
    ("dtype", "value_range"),
    [("float32", (0, 255)), ("float32", (0, 1)), ("float16", (0, 1)), ("float64", (-1.0, 1.0))],
)
@pytest.mark.parametrize("op", [Flip(), Mixup(0.4), GaussianBlur()], ids=["moves", "blends", "levels"])
def test_float_images_keep_their_range_and_type(op: Augmentation, dtype: str, value_range: tuple[float, float]) -> None:
    low, high = value_range
    images = (IMAGES / 255 * (high - low) + low).astype(dtype)
    found, _ = epoch(augment.augment_dataset(batches_of(images), op, SEED, value_range=value_range))
    assert found.dtype == dtype and found.min() >= low and found.max() <= high
    expected = by_hand(op)[0][0] / 255 * (high - low) + low
    np.testing.assert_allclose(found, expected, rtol=0, atol=(high - low) * (1e-3 if dtype == "float16" else 1e-6))


@pytest.mark.parametrize("value_range", [(0, 1), (-1.0, 1.0)])
def test_floats_are_bit_equal_where_the_op_counts_in_no_levels(value_range: tuple[float, float]) -> None:
    low, high = value_range
    images = (IMAGES / 255 * (high - low) + low).astype(np.float32)
    found, _ = epoch(augment.augment_dataset(batches_of(images), PAIR, SEED, value_range=value_range))
    of_whole_levels = by_hand(PAIR)[0][0]
    np.testing.assert_array_equal(found, (of_whole_levels / 255 * (high - low) + low).astype(np.float32))
    layer = Augment("Flip(p=1.0) + PadCrop(2, 'reflect')", value_range)
    np.testing.assert_array_equal(layer(images, seed=SEED), Augment(layer.op)(images, seed=SEED))


def test_black_is_the_lowest_value() -> None:
    op = Compose((augment.PadCrop(2), augment.Cutout(3)))
    for low, high in ((0, 1), (-1, 1)):
        images = (IMAGES / 255 * (high - low) + low).astype(np.float32)
        found, _ = epoch(augment.augment_dataset(batches_of(images), op, SEED, value_range=(low, high)))
        expected = (by_hand(op)[0][0] / 255 * (high - low) + low).astype(np.float32)
        np.testing.assert_allclose(found, expected, rtol=0, atol=0 if low == 0 else 1e-6)


def test_uint8_images_stay_so_and_blends_are_rounded_half_to_even() -> None:
    pairs = np.array([[0, 0, 1, 2], [1, 3, 2, 3]], np.uint8).reshape(2, 4, 1, 1)
    [(found, _)] = augment.augment_dataset(batches_of(pairs, np.eye(2)), SumAug(2), SEED)
    assert found.numpy().ravel().tolist() == [0, 2, 2, 2]  # of 0.5, 1.5, 1.5 and 2.5


@pytest.mark.parametrize(
    ("images", "value_range", "op", "said"),
    [
        (IMAGES / 255, (0, 255), GaussianBlur(), True),
        (IMAGES / 255, (0, 255), PAIR, False),
        (IMAGES / 255, (0, 1), GaussianBlur(), False),
        (IMAGES / 1, (0, 255), GaussianBlur(), False),
        (IMAGES, (0, 255), GaussianBlur(), False),
    ],
)
def test_floats_of_0_to_1_that_are_said_to_be_grey_levels_are_told_of_once_an_epoch(
    images: np.ndarray,
    value_range: tuple[float, float],
    op: Augmentation,
    said: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    batches = augment.augment_dataset(batches_of(images), op, SEED, value_range=value_range)
    for _ in range(2):
        epoch(batches)
    errors = [line for line in capfd.readouterr().err.splitlines() if "augment_dataset" in line]
    assert len(errors) == (2 if said else 0)
    assert all("floats in 0..1" in line and "value_range=(0, 1)" in line for line in errors)


# What is refused.

RAGGED = tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[[[1.0]]], [[[1.0]], [[2.0]]]])).batch(2)
FLOATS = IMAGES.astype(np.float32)


@pytest.mark.parametrize(
    ("dataset", "op", "settings", "message"),
    [
        ((IMAGES, ROWS), PAIR, {}, "given a tuple; allowed: a tf.data.Dataset; .*from_tensor_slices"),
        (batches_of().unbatch(), PAIR, {}, r"images are uint8 \(9, 7, 3\); .*: batch the data set first"),
        (batches_of(IMAGES[..., 0]), PAIR, {}, r"images are uint8 \(None, 9, 7\); allowed: .*\[B, H, W, C\]"),
        (batches_of().batch(2), PAIR, {}, r"images are uint8 \(None, None, 9, 7, 3\)"),
        (RAGGED, Flip(), {}, "images are a RaggedTensor; allowed"),
        (batches_of({"images": IMAGES}, None), Flip(), {}, r"a dict of \['images'\]; allowed: .*\(images, labels\)"),
        (batches_of((IMAGES, ROWS, CLASSES), None), Flip(), {}, "batches of 3 parts"),
        (batches_of((IMAGES,), None), Flip(), {}, "batches of 1 parts"),
        (batches_of(IMAGES.astype(np.uint16)), Flip(), {}, "images are uint16 .*; allowed: uint8 or floats"),
        (batches_of(IMAGES.astype(np.int32)), Flip(), {}, "images are int32"),
        (batches_of(IMAGES > 9), Flip(), {}, "images are bool"),
        (batches_of(), Flip(), {"value_range": (0, 1)}, r"uint8 and value_range is \(0, 1\); allowed: \(0, 255\)"),
        (batches_of(FLOATS), Flip(), {"value_range": (1, 0)}, r"value_range is \(1, 0\); allowed: \(lowest, highest\)"),
        (batches_of(FLOATS), Flip(), {"value_range": (0, 0)}, "value_range is"),
        (batches_of(FLOATS), Flip(), {"value_range": (0, 1, 2)}, "value_range is"),
        (batches_of(FLOATS), Flip(), {"value_range": 255}, "value_range is 255"),
        (batches_of(FLOATS), Flip(), {"value_range": (0, np.inf)}, "value_range is"),
        (batches_of(), "Flip()", {}, r"op is 'Flip\(\)'; allowed: an op; augment.compose"),
        (batches_of(), [Flip()], {}, r"op is \[Flip.*; allowed: an op; augment.compose"),
        (batches_of(), CutMix(p=Linear(0, 1)), {}, "CutMix.p is Linear.*, which augment_dataset cannot follow"),
        (batches_of(), Compose((Flip(alternate=True),)), {}, "Flip.alternate is True, which augment_dataset cannot"),
        (batches_of(), augment.GradualSumAug(), {}, "GradualSumAug .* which augment_dataset cannot follow"),
        (batches_of(), PAIR, {"num_classes": 1}, "num_classes is 1; allowed: a whole number, 2 or more"),
        (batches_of(), PAIR, {"num_classes": 5.0}, "num_classes is 5.0"),
        (batches_of(), PAIR, {"num_classes": 6}, r"float32 \(None, 5\) with num_classes=6; allowed: rows \[B, 6\]"),
        (
            batches_of(labels=CLASSES),
            PAIR,
            {},
            r"Compose mixes labels, and got class numbers, int64 \(None,\): say num",
        ),
        (batches_of(labels=None), CutMix(), {}, "CutMix mixes labels, and got none; allowed: class numbers"),
        (batches_of(labels={"a": ROWS}), CutMix(), {}, "CutMix mixes labels, and got dict"),
        (
            batches_of(labels=CLASSES / 1),
            CutMix(),
            {"num_classes": 5},
            r"got float64 \(None,\); allowed: class numbers",
        ),
        (batches_of(labels=CLASSES[:, None] / 1), CutMix(), {"num_classes": 5}, r"got float64 \(None, 1\); allowed"),
        (batches_of(labels=ROWS.astype(str)), CutMix(), {"num_classes": 5}, r"got string \(None, 5\); allowed"),
        (batches_of(), Flip(), {"seed": 1.5}, "1.5"),
    ],
)
def test_what_cannot_be_augmented_is_refused_by_name(
    dataset: Any, op: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        augment.augment_dataset(dataset, op, **{"seed": SEED, **settings})


@pytest.mark.parametrize("wrong", [-1, NUM_CLASSES])
def test_a_class_number_out_of_range_is_refused_when_it_comes(wrong: int) -> None:
    labels = np.where(np.arange(11) == 9, wrong, CLASSES)
    batches = iter(augment.augment_dataset(batches_of(labels=labels), CutMix(), SEED, num_classes=NUM_CLASSES))
    next(batches)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"class numbers in 0\.\.4"):
        list(batches)


# Arrays, inside `model.fit`.


def test_a_model_that_is_fitted_on_arrays_draws_anew_at_each_step() -> None:
    model, found = tiny.recorder(NUM_CLASSES)
    augment.augment_training(model, Flip(), 99)  # The second call takes its place.
    augment.augment_training(model, PAIR, SEED, num_classes=NUM_CLASSES)
    history = model.fit(
        IMAGES, CLASSES, batch_size=11, epochs=3, shuffle=False, validation_data=(IMAGES, ROWS), verbose=0
    ).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"} and len(found) == 3
    for step, (images, labels) in enumerate(found):
        seed = rng.fold_in(rng.fold_in(rng.make_seed(SEED), step), 0)
        expected, rows = PAIR((IMAGES, ROWS), seed)
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, rows)
    assert not np.array_equal(found[0][0], found[1][0])


def test_the_draws_of_a_compiled_step_are_those_of_an_eager_one_and_the_model_may_have_been_trained_before() -> None:
    losses = []
    for jit_compile in (False, True):
        tf.keras.utils.set_random_seed(1)
        model = tf.keras.Sequential(
            [tf.keras.layers.Rescaling(1 / 255), tf.keras.layers.Flatten(), tf.keras.layers.Dense(5)]
        )
        model.compile("sgd", tf.keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=jit_compile)
        model.fit(IMAGES, ROWS, verbose=0)
        augment.augment_training(model, Mixup(), SEED, num_classes=NUM_CLASSES)
        losses.append(model.fit(IMAGES, CLASSES, verbose=0, shuffle=False).history["loss"])
        if jit_compile:
            assert np.isnan(model.fit(IMAGES, CLASSES + NUM_CLASSES, verbose=0).history["loss"]).all()
        else:
            with pytest.raises(tf.errors.InvalidArgumentError):
                model.fit(IMAGES, CLASSES + NUM_CLASSES, verbose=0)
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_weights_and_batches_that_cannot_be_augmented_are_refused_in_fit() -> None:
    model, _ = tiny.recorder(NUM_CLASSES)
    augment.augment_training(model, CutMix(), SEED)
    with pytest.raises(ValueError, match="sample or class weights; allowed: none"):
        model.fit(IMAGES, ROWS, sample_weight=np.ones(11), verbose=0)
    with pytest.raises(ValueError, match="got class numbers"):
        model.fit(IMAGES, CLASSES, verbose=0)
    with pytest.raises(ConfigError, match="augment_training.op is 3"):
        augment.augment_training(model, 3, SEED)
    model.optimizer = None
    with pytest.raises(ValueError, match="needs the model's optimizer, which counts the steps"):
        model.fit(IMAGES, ROWS, verbose=0)


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 accumulates no gradients")
def test_an_optimizer_that_counts_several_steps_as_one_is_refused() -> None:
    model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(NUM_CLASSES)])
    model.compile(tf.keras.optimizers.SGD(gradient_accumulation_steps=4), "mse")
    augment.augment_training(model, CutMix(), SEED)
    with pytest.raises(ValueError, match="gradient_accumulation_steps=4, which counts them as one"):
        model.fit(IMAGES, ROWS, verbose=0)


def classifier(kind: Any = tf.keras.Sequential) -> tf.keras.Model:
    return kind([tf.keras.layers.Flatten(), tf.keras.layers.Dense(NUM_CLASSES)])


def test_a_train_step_that_steps_another_optimizer_is_refused() -> None:
    other = tf.keras.optimizers.SGD()

    class Classifier(tf.keras.Sequential):
        def train_step(self, data: Any) -> dict[str, Any]:
            weights = self.trainable_variables
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self(data[0], training=True))
            other.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return {"loss": loss}

    model = classifier(Classifier)
    model.build((None, *IMAGES.shape[1:]))
    other.build(model.trainable_variables)
    model.compile("sgd", "mse", jit_compile=False)
    augment.augment_training(model, Flip(), SEED)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"goes by Classifier\.optimizer\.iterations, which this"):
        model.fit(IMAGES / 255, ROWS, batch_size=11, verbose=0)


def test_two_replicas_that_take_two_steps_at_once_are_not_refused() -> None:
    with mirrored_strategy().scope():
        model = classifier()
        model.compile("sgd", "mse", steps_per_execution=2)
    augment.augment_training(model, Flip(), SEED)
    model.fit(IMAGES[:8] / 255, ROWS[:8], batch_size=2, verbose=0)
    assert int(tf.convert_to_tensor(model.optimizer.iterations)) == 4


def test_a_step_left_out_since_the_scaled_loss_overflows_is_not_refused() -> None:
    model = classifier()
    model.compile(tf.keras.mixed_precision.LossScaleOptimizer(tf.keras.optimizers.SGD()), "mse")
    augment.augment_training(model, Flip(), SEED)
    model.fit(np.full_like(IMAGES, np.inf, np.float32), ROWS, batch_size=11, verbose=0)
    assert int(model.optimizer.iterations) == (0 if KERAS_3 else 1)


def test_the_three_lines_of_the_documentation_run() -> None:
    text = (tiny.ROOT / "docs" / "augmentations.md").read_text().partition("## In `model.fit`")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert [len(block.splitlines()) for block in blocks] == [3, 3]
    for block in blocks:
        model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(10, "softmax")])
        model.compile("sgd", "categorical_crossentropy")
        images, labels = np.zeros([256, 8, 8, 1], np.uint8), np.arange(256) % 10
        exec(block, {"tf": tf, "augment": augment, "images": images, "labels": labels, "model": model})
        assert int(model.optimizer.iterations) == 6


# Sequences of ops, where a user would write them.


@pytest.mark.parametrize(
    "written", [[Flip(), CutMix()], (Flip(), CutMix()), "Flip(), CutMix()", "[Flip(), CutMix()]", "Flip() + CutMix()"]
)
def test_a_layer_takes_several_ops(written: Any) -> None:
    assert Augment(written).op == repr(Compose((Flip(), CutMix())))


@pytest.mark.parametrize("written", [[Flip(), 3], ["Flip()"], [Flip]])
def test_a_layer_refuses_a_list_of_anything_else(written: Any) -> None:
    with pytest.raises(ConfigError, match=r"Compose\.ops\[\d\] is .*; allowed: ops"):
        Augment(written)
