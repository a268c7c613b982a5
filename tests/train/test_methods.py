"""Methods and teachers: the tables of them by property, and each method's loss against its closed form.

What compares features: tests/train/test_features.py.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.train.by_hand import loss_and_slope
from tfaug.augment import ManifoldMixup
from tfaug.config import ConfigError, from_dict, to_dict
from tfaug.experiment import CLASSES
from tfaug.losses import LOSSES
from tfaug.schedules import Constant
from tfaug.train.methods import METHODS, AttentionTransfer, Distill, Lesson, Method, RelationalKD, Supervised
from tfaug.train.phase import Phase
from tfaug.train.teachers import TEACHERS, FromEndpoint, FromSavedModel, FromWorkdir, Teacher

ALL: dict[str, Method] = {
    "Supervised": Supervised(),
    "Distill, T = 1": Distill("t", alpha=0.5, temperature=1.0),
    "Distill, teacher first": Distill("t", alpha=0.3, temperature=4.0),
    "Distill, student first": Distill("t", alpha=0.3, temperature=4.0, direction="student_teacher"),
    "Distill, labels alone": Distill("t", alpha=0.0, temperature=4.0),
    "Distill, teacher alone": Distill("t", alpha=1.0, temperature=20.0),
    "AttentionTransfer, no maps": AttentionTransfer("t", beta=0.0),
    "RelationalKD, no relations": RelationalKD("t", distance=0.0, angle=0.0),
}
ELSEWHERE: dict[str, Teacher] = {
    "FromEndpoint": FromEndpoint("127.0.0.1:8500", "refine"),
    "FromSavedModel": FromSavedModel("export/refine/1"),
    "FromWorkdir": FromWorkdir("build/demo", "teacher", -2, "best"),
}
PHASE = Phase("train", 1, Constant(0.1))
GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.dirichlet(np.ones(5), 6).astype(np.float32)
LOGITS, ANSWERS = (GENERATOR.normal(0, 3, (6, 5)).astype(np.float32) for _ in range(2))
IMAGES = tf.constant(GENERATOR.integers(0, 256, (6, 4, 4, 1)), tf.uint8)


def own(cls: type) -> set[type]:
    return {each for each in cls.__subclasses__() if each.__module__.startswith("tfaug.")}


def test_the_tables_are_complete() -> None:
    assert set(METHODS.values()) == own(Method) == {type(method) for method in ALL.values()}
    assert set(TEACHERS.values()) == own(Teacher)
    assert {name: type(teacher) for name, teacher in ELSEWHERE.items()} == TEACHERS
    for table in (METHODS, TEACHERS):
        assert {name: cls.__name__ for name, cls in table.items()} == {name: name for name in table}


@pytest.mark.parametrize("name", [*ALL, *ELSEWHERE])
def test_each_is_a_frozen_dataclass_that_is_read_back(name: str) -> None:
    value = {**ALL, **ELSEWHERE}[name]
    assert from_dict(to_dict(value), CLASSES) == value
    hash(value)
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.anything = 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_each_row_and_its_slope_are_the_closed_form(name: str, loss: str) -> None:
    """Soft labels; no slope reaches the teacher."""
    method, phase = ALL[name], dataclasses.replace(PHASE, loss=loss)
    if isinstance(method, Distill) and loss != "cross_entropy":
        with pytest.raises(ConfigError, match="loss is 'binary_cross_entropy'.*allowed: 'cross_entropy'"):
            method.check_phase(phase)
        return
    method.check_phase(phase)
    logits, answers = tf.Variable(LOGITS), tf.Variable(ANSWERS)
    features = tuple(tf.cast(IMAGES, tf.float32) for _ in method.stage_pairs)
    with tf.GradientTape() as tape:
        asked = None if method.asks is None else answers + 0.0
        lesson = Lesson(IMAGES, tf.constant(LABELS), logits + 0.0, asked, features, features)
        losses = method.losses(LOSSES[loss], lesson)
        total = tf.reduce_sum(losses)
    expected, slope = loss_and_slope(phase, method, LABELS, LOGITS, ANSWERS)
    assert losses.dtype == tf.float32 and losses.shape == (6,)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)  # float32, times a temperature of 20 squared
    found, to_teacher = tape.gradient(total, [logits, answers])
    np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-6)
    assert to_teacher is None


def test_the_two_directions_differ_and_the_temperature_counts() -> None:
    losses = {name: loss_and_slope(PHASE, method, LABELS, LOGITS, ANSWERS)[0].sum() for name, method in ALL.items()}
    labels_alone = [name for name, value in losses.items() if value == losses["Supervised"]]
    assert labels_alone == [
        "Supervised",
        "Distill, labels alone",
        "AttentionTransfer, no maps",
        "RelationalKD, no relations",
    ]
    assert len({round(value, 3) for value in losses.values()}) == len(losses) - 3


def test_what_a_method_cannot_be_is_refused() -> None:
    for settings, message in (
        ({"teacher": ""}, "Distill.teacher is ''; allowed: the name of a training"),
        ({"teacher": None}, "Distill.teacher is None"),
        ({"alpha": 1.1}, r"Distill.alpha is 1.1; allowed: 0\.\.1"),
        ({"alpha": -0.1}, r"Distill.alpha is -0.1; allowed: 0\.\.1"),
        ({"temperature": 0}, "Distill.temperature is 0; allowed: 0.001 or more"),
        ({"direction": "both"}, "Distill.direction is 'both'"),
        ({"augment": "none"}, "Distill.augment is 'none'; allowed: both, student, teacher"),
    ):
        with pytest.raises(ConfigError, match=message):
            Distill(**settings)
    with pytest.raises(ConfigError, match="mix_features is ManifoldMixup.*allowed: None"):
        Distill().check_phase(dataclasses.replace(PHASE, mix_features=ManifoldMixup()))
    for make, message in (
        (lambda: FromWorkdir(""), "FromWorkdir.path is ''; allowed: a text"),
        (lambda: FromWorkdir("a", phase=0.5), "FromWorkdir.phase is 0.5"),
        (lambda: FromWorkdir("a", which="first"), "FromWorkdir.which is 'first'"),
        (lambda: FromSavedModel(3), "FromSavedModel.path is 3; allowed: a text"),
        (lambda: FromEndpoint("", "m"), "FromEndpoint.target is ''; allowed: a text"),
        (lambda: FromEndpoint("a:1", ""), "FromEndpoint.model is ''; allowed: a text"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()


def test_whom_a_method_asks() -> None:
    assert Supervised().asks is None and Distill().asks == "teacher"
    assert Distill(ELSEWHERE["FromWorkdir"]).asks == ELSEWHERE["FromWorkdir"]


def test_a_method_of_ones_own_says_what_it_lacks() -> None:
    with pytest.raises(NotImplementedError, match=r"Method has no losses\("):
        Method().losses(LOSSES["cross_entropy"], Lesson(IMAGES, LABELS, LOGITS))
