"""OneOf: of each image the result of one op, drawn by the weights. The contract is in test_augment_conformance.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfaug import augment, rng
from tfaug.augment import (
    Batch,
    Compose,
    CutMix,
    Flip,
    Mixup,
    OneOf,
    RandomCrop,
    RandomResizedCrop,
    SamplePairing,
    SumAug,
)
from tfaug.augment.keras_cv import keras_cv_pipeline
from tfaug.augment.layers import Augment
from tfaug.config import ConfigError, to_dict
from tfaug.schedules import Linear, Progress

SEED = 7
IMAGES = np.random.default_rng(0).integers(0, 256, [12, 8, 6, 3], np.uint8)
LABELS = np.eye(12, dtype=np.float32)


@pytest.mark.parametrize(
    "ops", [(CutMix(), Mixup(), Compose(())), (Flip(1.0), SamplePairing()), (SumAug(2), SumAug(2))]
)
def test_each_image_and_label_is_what_its_op_makes_of_the_batch(ops: tuple[Any, ...]) -> None:
    op, seed = OneOf(ops), rng.make_seed(SEED)
    index = op.sample(seed, IMAGES.shape)["op_index"].numpy()
    images, labels = op((IMAGES, LABELS), SEED)
    results = [inner((IMAGES, LABELS), rng.fold_in(seed, i)) for i, inner in enumerate(ops)]
    assert len(images) == len(index) and len({*index}) > 1
    for row, i in enumerate(index):
        np.testing.assert_array_equal(images[row], results[i].images[row])
        np.testing.assert_array_equal(labels[row], results[i].labels[row])


@pytest.mark.parametrize(
    ("weights", "shares"),
    [(None, (1 / 3, 1 / 3, 1 / 3)), ((1, 2, 1), (0.25, 0.5, 0.25)), ((1e30, 3e30, 1e-9), (0.25, 0.75, 0))],
)
def test_ops_are_drawn_by_their_weights(weights: Any, shares: tuple[float, ...]) -> None:
    num = 20_000
    index = OneOf((Flip(), CutMix(), Mixup()), weights).sample(rng.make_seed(SEED), (num, 2, 2, 1))["op_index"]
    counts = np.bincount(index, minlength=3)
    np.testing.assert_allclose(counts / num, shares, rtol=0, atol=4 * np.sqrt(0.25 / num))


@pytest.mark.parametrize(
    ("ops", "dtype"),
    [((Flip(), CutMix()), "uint8"), ((CutMix(), Mixup()), "float32"), ((Compose(()),), "uint8")],
)
def test_one_type_comes_out(ops: tuple[Any, ...], dtype: str) -> None:
    assert OneOf(ops)((IMAGES, LABELS), SEED).images.dtype == dtype


def test_labels_of_any_kind_are_the_same_object_where_no_op_mixes_them() -> None:
    op, labels = OneOf((Flip(), SamplePairing())), tf.constant(["a"] * 12)
    assert op.apply(Batch(tf.constant(IMAGES), labels), op.sample(rng.make_seed(SEED), IMAGES.shape)).labels is labels
    assert op(IMAGES, SEED).shape == IMAGES.shape


def test_schedules_inside_follow_the_progress() -> None:
    op = OneOf((Flip(p=Linear(0, 1)),))
    np.testing.assert_array_equal(op(IMAGES, SEED, Progress(0, 10)), IMAGES)
    with pytest.raises(ValueError, match="Flip.p is a schedule"):
        op(IMAGES, SEED)
    with pytest.raises(ConfigError, match="Flip.p is .* a Keras layer cannot follow"):
        Augment(op)


def test_it_is_written_as_any_op() -> None:
    op = OneOf((CutMix(p=0.5), Flip()), [1, 3])
    assert augment.parse_op(repr(op)) == op == augment.parse_op("OneOf((CutMix(p=0.5), Flip()), weights=(1, 3))")
    assert to_dict(op)["class"] == "OneOf" and to_dict(op)["weights"] == [1.0, 3.0]
    assert [part["class"] for part in to_dict(op)["ops"]] == ["CutMix", "Flip"]
    assert hash(op) == hash(OneOf((CutMix(p=0.5), Flip()), (1.0, 3.0)))
    layer = Augment("OneOf((CutMix(), Mixup()))")
    assert layer({"images": IMAGES, "labels": LABELS}, seed=SEED)["labels"].shape == (12, 12)
    with pytest.raises(ConfigError, match="keras-cv has no counterpart of OneOf"):
        keras_cv_pipeline(op)


@pytest.mark.parametrize(
    ("ops", "weights", "message"),
    [
        ((), None, r"OneOf.ops is \(\); allowed: one op or more"),
        ([Flip()], None, r"OneOf.ops is \[Flip.*; allowed: a tuple of ops"),
        ((Flip(), Mixup), None, r"OneOf.ops\[1\] is .*; a class was given, not an op"),
        ((Flip(), "CutMix()"), None, r"OneOf.ops\[1\] is 'CutMix\(\)'"),
        (
            (Flip(), RandomCrop(4, resize=False)),
            None,
            r"OneOf.ops Flip\(.* and RandomCrop\(.* of another size or number",
        ),
        ((RandomResizedCrop(32), RandomResizedCrop(24)), None, "another size or number"),
        ((SumAug(2), Mixup()), None, r"OneOf.ops SumAug\(.* and Mixup\("),
        ((Flip(), CutMix()), (1,), r"OneOf.weights is \(1,\); allowed: 2 finite numbers above 0"),
        ((Flip(), CutMix()), (1, 0), r"OneOf.weights is \(1, 0\)"),
        ((Flip(), CutMix()), (1, -1), "OneOf.weights"),
        ((Flip(), CutMix()), (1, float("nan")), "OneOf.weights"),
        ((Flip(), CutMix()), (1, float("inf")), "OneOf.weights"),
        ((Flip(), CutMix()), (1, True), "OneOf.weights"),
        ((Flip(), CutMix()), (1, "2"), "OneOf.weights"),
        ((Flip(), CutMix()), 2, "OneOf.weights is 2"),
    ],
)
def test_what_is_no_choice_among_ops_is_refused_by_name(ops: Any, weights: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OneOf(ops, weights)
