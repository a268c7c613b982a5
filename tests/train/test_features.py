"""Methods that compare what stages give: their losses against numpy, the steps that they take, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.train import by_hand
from tests.train.by_hand import Normed, fold
from tests.train.test_joints import assert_trained_as, job_of
from tfaug import rng
from tfaug.augment import Flip, ManifoldMixup
from tfaug.config import ConfigError
from tfaug.experiment import Experiment
from tfaug.losses import LOSSES
from tfaug.schedules import Constant
from tfaug.train import fit
from tfaug.train.methods import AttentionTransfer, Lesson, Method, RelationalKD
from tfaug.train.methods.features import run_stages
from tfaug.train.optimizers import SGD
from tfaug.train.phase import Phase, Training
from tfaug.train.strategy import mirrored_strategy
from tfaug.train.teachers import FromEndpoint, FromSavedModel, FromWorkdir
from tfaug.trained import answers_of
from tfaug.workdir import TrainingFolder

DATA = by_hand.make_data()
GENERATOR = np.random.default_rng(0)
LABELS = np.eye(3, dtype=np.float32)[[0, 2, 1, 1]]
LOGITS = GENERATOR.normal(0, 2, (4, 3)).astype(np.float32)
IMAGES = tf.zeros([4, 2, 3, 1], tf.uint8)


def drawn(*shape: int) -> np.ndarray:
    return GENERATOR.normal(0, 1, shape)


def attention_terms(student: np.ndarray, teacher: np.ndarray, beta: float) -> np.ndarray:
    """The maps' part of the loss of each row, image by image and place by place."""
    terms = []
    for one, other in zip(student, teacher, strict=True):
        maps = [[sum(value**2 for value in place) for row in each for place in row] for each in (one, other)]
        maps = [np.array(each) / sum(value**2 for value in each) ** 0.5 for each in maps]
        terms.append(beta * sum((maps[0] - maps[1]) ** 2) / len(maps[0]))
    return np.array(terms)


def relation_terms(student: np.ndarray, teacher: np.ndarray, distance: float, angle: float) -> np.ndarray:
    """The relations' part of the loss of each row, pair by pair and triple by triple."""
    num, placed = len(student), []
    for maps in (student, teacher):
        points = maps.reshape(num, -1, maps.shape[-1]).mean(1)
        lengths = np.array([[np.linalg.norm(a - b) for b in points] for a in points])
        cosines = np.zeros((num, num, num))
        for i, j, k in np.ndindex(num, num, num):
            if lengths[i, j] > 0 and lengths[i, k] > 0:
                cosines[i, j, k] = (points[j] - points[i]) @ (points[k] - points[i]) / lengths[i, j] / lengths[i, k]
        placed.append((lengths / lengths[lengths > 0].mean(), cosines))

    def huber(values: np.ndarray) -> np.ndarray:
        return np.where(np.abs(values) > 1, np.abs(values) - 0.5, values**2 / 2)

    lengths, cosines = (huber(one - other) for one, other in zip(*placed, strict=True))
    return distance * lengths.sum(1) / num + angle * cosines.sum((1, 2)) / num**2


def slope_of(terms: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """The slope of the sum of all terms, by differences."""
    slope = np.zeros_like(values)
    for place in np.ndindex(values.shape):
        step = np.zeros_like(values)
        step[place] = 1e-5
        slope[place] = (terms(values + step).sum() - terms(values - step).sum()) / 2e-5
    return slope


TERMS: dict[str, tuple[Method, tuple[np.ndarray, np.ndarray], Callable[..., np.ndarray]]] = {
    "attention": (
        AttentionTransfer("t", ("a",), beta=7.0),
        (drawn(4, 2, 3, 5), drawn(4, 2, 3, 2)),
        lambda student, teacher: attention_terms(student, teacher, 7.0),
    ),
    # One example far from the others, so that some differences are above 1.
    "distances": (
        RelationalKD("t", distance=3.0, angle=0.0),
        (drawn(4, 2, 3, 5), drawn(4, 6) * [[1], [1], [1], [40]]),
        lambda student, teacher: relation_terms(student, teacher, 3.0, 0.0),
    ),
    "angles": (
        RelationalKD("t", distance=0.0, angle=5.0),
        (drawn(4, 2, 3, 5), drawn(4, 2)),
        lambda student, teacher: relation_terms(student, teacher, 0.0, 5.0),
    ),
}


@pytest.mark.parametrize("name", TERMS)
def test_the_loss_of_each_row_and_its_slope_are_those_written_out(name: str) -> None:
    """Beside the cross-entropy of the labels, as it is and under XLA; the teacher's features have no slope."""
    method, (student, teacher), terms = TERMS[name]
    own, theirs = (tf.Variable(values, dtype=tf.float32) for values in (student, teacher))

    def learn() -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            lesson = Lesson(IMAGES, tf.constant(LABELS), tf.constant(LOGITS), None, (own + 0.0,), (theirs + 0.0,))
            losses = method.losses(LOSSES["cross_entropy"], lesson)
            total = tf.reduce_sum(losses)
        return losses, *tape.gradient(total, [own, theirs])

    plain = -np.log(by_hand.softmax(LOGITS.astype(np.float64)))[np.arange(4), LABELS.argmax(1)]
    slope = slope_of(lambda values: terms(values, teacher), student)
    for function in (learn, tf.function(learn, jit_compile=True, autograph=False)):
        losses, found, to_teacher = function()
        np.testing.assert_allclose(losses, plain + terms(student, teacher), rtol=1e-5)
        np.testing.assert_allclose(found, slope, rtol=1e-3, atol=1e-5)
        assert to_teacher is None


def test_examples_in_one_place_have_no_relations_and_no_slope_that_is_no_number() -> None:
    method, points = RelationalKD("t"), tf.Variable([[1.0, 2.0]] * 3)
    with tf.GradientTape() as tape:
        lesson = Lesson(IMAGES, LABELS[:3], LOGITS[:3], None, (points + 0.0,), (tf.zeros([3, 2]),))
        total = tf.reduce_sum(method.losses(LOSSES["cross_entropy"], lesson))
    np.testing.assert_array_equal(tape.gradient(total, points), np.zeros((3, 2)))


def test_several_stages_are_added_up_and_named_by_pairs() -> None:
    method = AttentionTransfer("t", ("b", "a"), ("d", "c"), beta=2.0)
    assert method.stage_pairs == (("b", "d"), ("a", "c"))
    assert AttentionTransfer("t", ["a"]).stage_pairs == (("a", "a"),)
    assert RelationalKD().stage_pairs == (("", ""),)
    pairs = [(drawn(4, 2, 2, 2), drawn(4, 2, 2, 3)), (drawn(4, 3, 1, 2), drawn(4, 3, 1, 2))]
    own, theirs = (tuple(tf.constant(each, tf.float32) for each in side) for side in zip(*pairs, strict=True))
    losses = method.losses(lambda labels, logits: tf.zeros([4]), Lesson(IMAGES, LABELS, LOGITS, None, own, theirs))
    np.testing.assert_allclose(losses, sum(attention_terms(*pair, 2.0) for pair in pairs), rtol=1e-5)


def test_run_stages_gives_what_each_stage_gives() -> None:
    network = by_hand.build(Normed(), DATA)
    images = DATA.test.images
    logits, (stem, scaled, last) = run_stages(network, images, ("stem", "normalize", ""))
    np.testing.assert_array_equal(logits, network(images))
    np.testing.assert_array_equal(scaled, network.stages[0](images))
    np.testing.assert_array_equal(stem, network.stages[1](network.stages[0](images)))
    assert last is stem


# -- in a training -------------------------------------------------------------------------------------------------


def train_by_hand(network: tf.keras.Model, teacher: tf.keras.Model, phase: Phase, beta: float) -> None:
    """Takes the steps of one epoch of `AttentionTransfer` on `stem`, without weight decay; the slope by the closed form.

    With q = f / |f| and f_p = sum_c a_pc^2, the slope by f is (g - q (g q)) / |f| for the slope g by q.
    """
    weights, momenta = network.trainable_variables, [0.0] * len(network.trainable_variables)
    seed = fold(rng.make_seed(2), 0)
    places = rng.permutation(fold(seed, 0, 0), 52).numpy()
    for step in range(52 // phase.batch_size):
        rows = places[step * phase.batch_size :][: phase.batch_size]
        images = Flip()(tf.constant(DATA.train.images[rows]), fold(seed, 1, step, 0, 0))
        labels = np.eye(3)[DATA.train.labels[rows]]
        theirs = teacher.stages[1](teacher.stages[0](images), training=False).numpy().astype(np.float64)
        with tf.GradientTape() as tape:
            own = network.stages[1](network.stages[0](images), training=True)
            logits = network.stages[2](own)
        given = own.numpy().astype(np.float64)
        maps = [(side**2).sum(-1).reshape(len(rows), -1) for side in (given, theirs)]
        lengths = [np.linalg.norm(side, axis=1, keepdims=True) for side in maps]
        q, other = (side / length for side, length in zip(maps, lengths, strict=True))
        g = 2 * beta * (q - other) / q.shape[1]
        by_map = ((g - q * (g * q).sum(1, keepdims=True)) / lengths[0]).reshape(*given.shape[:3], 1)
        slopes = [by_hand.softmax(logits.numpy()) - labels, 2 * given * by_map]
        slopes = [tf.constant(slope / len(rows), tf.float32) for slope in slopes]
        gradients = tape.gradient([logits, own], weights, output_gradients=slopes)
        for i, weight in enumerate(weights):
            gradient = 0.0 if gradients[i] is None else gradients[i].numpy()
            value, momenta[i] = by_hand.updated(phase.optimizer, weight.numpy(), momenta[i], gradient, 0.1)
            weight.assign(value)


def test_a_student_takes_the_steps_that_are_written_out(tmp_path) -> None:
    """Batch statistics and a teacher of its own; it does not move."""
    phase = Phase("train", 1, Constant(0.1), (Flip(),), batch_size=13, optimizer=SGD(0.9), weight_decay=0.0)
    strategy = mirrored_strategy(["CPU:0"])
    teacher = by_hand.build(Normed(5), DATA, 1)
    variables = list(teacher.weights)  # in this order: Keras 2 has another for a network that is not trained
    before = [variable.numpy() for variable in variables]
    with strategy.scope():
        network = by_hand.build(Normed(), DATA, 0)
    expected = by_hand.build(Normed(), DATA, 0)
    start = expected.get_weights()
    method = AttentionTransfer(stages=("stem",), beta=30.0)
    run = fit.TrainingRun(
        TrainingFolder(tmp_path),
        DATA,
        strategy,
        rng.make_seed(2),
        tmp_path / "tb",
        method=method,
        teacher=answers_of(teacher),
    )
    fit.train_phases(run, network, (phase,))
    train_by_hand(expected, teacher, phase, beta=30.0)
    assert_trained_as(network.get_weights(), expected.get_weights(), start)
    for old, new in zip(before, variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    assert not TrainingFolder(tmp_path).answers.exists()


def experiment(method: Method) -> Experiment:
    phase = Phase("train", 1, Constant(0.1), batch_size=26)
    return Experiment(
        "features",
        trainings=(
            Training("teacher", Normed(4), (phase,), export="last"),
            Training("student", Normed(3), (phase,), method, export="last"),
        ),
        precision="fp32",
    )


def test_what_cannot_be_compared_is_refused_before_anything_runs(tmp_path) -> None:
    for method, message in (
        (AttentionTransfer(stages=("stam",)), r"student: AttentionTransfer\(.*names 'stam' \(did you mean 'stem'\?\); the "
         "student is a normed and has the stages normalize, stem$"),
        (AttentionTransfer(stages=("stem",), teacher_stages=("head",)), "names 'head'.*; the teacher is a normed"),
        (RelationalKD(teacher_stage="stage9"), "names 'stage9'.*; the teacher is a normed"),
    ):  # fmt: skip
        job = job_of(tmp_path / "run", experiment(method), DATA, ["CPU:0"])
        with pytest.raises(ConfigError, match=message):
            job.load()
        assert not job.workdir.training("teacher").path.exists()
    job_of(tmp_path / "run", experiment(RelationalKD()), DATA, ["CPU:0"]).load()


@dataclasses.dataclass(frozen=True)
class Halved(Normed):
    """Maps half as high and wide."""

    def stages(self, **settings: Any) -> list[tf.keras.layers.Layer]:
        normalize, stem, head = super().stages(**settings)
        return [normalize, tf.keras.layers.AveragePooling2D(2, name="half"), stem, head]


def test_maps_of_other_sizes_are_refused() -> None:
    one, other = by_hand.build(Normed(), DATA), by_hand.build(Halved(), DATA)
    method = AttentionTransfer(stages=("stem",))
    method.check_networks(one, one, by_hand.SHAPE)
    with pytest.raises(ConfigError, match=r"compares stem of the student, \[12, 12, 4\], with stem .*\[6, 6, 4\]"):
        method.check_networks(one, other, by_hand.SHAPE)
    RelationalKD().check_networks(one, other, by_hand.SHAPE)


def test_what_a_method_of_features_cannot_be_is_refused() -> None:
    no_features = "which gives logits and no features; allowed: the name of a training, FromWorkdir"
    for make, message in (
        (lambda: AttentionTransfer(FromSavedModel("export/a/1")), f"AttentionTransfer.teacher is .*{no_features}"),
        (lambda: RelationalKD(FromEndpoint("a:1", "m")), f"RelationalKD.teacher is .*{no_features}"),
        (lambda: RelationalKD(""), "RelationalKD.teacher is ''; allowed: the name of a training"),
        (lambda: AttentionTransfer(stages=()), r"AttentionTransfer.stages is \(\)"),
        (lambda: AttentionTransfer(stages="stem"), "AttentionTransfer.stages is 'stem'; allowed: a tuple of names"),
        (lambda: AttentionTransfer(stages=("",)), r"AttentionTransfer.stages is \('',\)"),
        (lambda: AttentionTransfer(stages=("a",), teacher_stages=("a", "b")), "as many of the teacher"),
        (lambda: AttentionTransfer(beta=-1), "AttentionTransfer.beta is -1"),
        (lambda: RelationalKD(distance=-1), "RelationalKD.distance is -1"),
        (lambda: RelationalKD(angle=-1), "RelationalKD.angle is -1"),
        (lambda: RelationalKD(stage=3), "RelationalKD.stage is 3; allowed: a name, or ''"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()
    mixing = Phase("train", 1, Constant(0.1), mix_features=ManifoldMixup())
    for method in (AttentionTransfer(), RelationalKD()):
        with pytest.raises(ConfigError, match="mix_features is ManifoldMixup.*allowed: None"):
            method.check_phase(mixing)
    assert AttentionTransfer(FromWorkdir("a")).asks == FromWorkdir("a")
