"""Distillation by who sees the augmented images, and teachers that are asked once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.train import by_hand
from tests.train.by_hand import Normed, fold
from tests.train.test_joints import assert_history, assert_trained_as, job_of, weights_in
from tfaug import predictions, rng
from tfaug.augment import CutMix, Flip
from tfaug.config import ConfigError, from_dict, to_dict
from tfaug.data import Digits, Parts, Source, load_others
from tfaug.experiment import CLASSES, Experiment
from tfaug.schedules import Constant
from tfaug.train import fit
from tfaug.train.methods import AttentionTransfer, Distill, Supervised
from tfaug.train.optimizers import SGD
from tfaug.train.phase import Phase, Training
from tfaug.train.strategy import mirrored_strategy
from tfaug.trained import answers_of
from tfaug.workdir import PhaseFolder, TrainingFolder

DATA = by_hand.make_data()
# Every image is mirrored, so what was shown can be told from the plain images without a draw.
MIRRORED = Phase("train", 2, Constant(0.1), (Flip(1.0),), batch_size=26, optimizer=SGD(0.9), weight_decay=0.0)
PLAIN = dataclasses.replace(MIRRORED, augment=())


@pytest.fixture(scope="module")
def teacher() -> tf.keras.Model:
    network = by_hand.build(Normed(5), DATA, 1)
    generator = np.random.default_rng(0)
    network.set_weights([weight + generator.uniform(0.1, 0.9, weight.shape) for weight in network.get_weights()])
    return network


def mirrored(network: tf.keras.Model):
    """Returns a network that answers the mirrored images."""
    return lambda images, training: network(tf.reverse(images, [2]), training=training)


def run_of(folder, teacher, method: Distill, data=DATA, devices=("CPU:0",)) -> fit.TrainingRun:
    return fit.TrainingRun(
        TrainingFolder(folder),
        data,
        mirrored_strategy(list(devices)),
        rng.make_seed(2),
        folder / "tb",
        method=method,
        teacher=answers_of(teacher),
    )


@pytest.mark.parametrize(
    ("augment", "settings", "devices"),
    [
        ("student", {}, ("CPU:0", "CPU:1")),
        ("student", {"augment_on": "device"}, ("CPU:0",)),
        ("teacher", {"augment_on": "device"}, ("CPU:0", "CPU:1")),
    ],
)
def test_one_of_the_two_sees_the_plain_images_of_the_same_examples(teacher, tmp_path, augment, settings, devices):
    method = Distill(alpha=0.6, augment=augment)
    phase = dataclasses.replace(MIRRORED, **settings)
    run = run_of(tmp_path, teacher, method, devices=devices)
    with run.strategy.scope():
        network = by_hand.build(Normed(), DATA, 0)
    fit.train_phases(run, network, (phase,))
    expected = by_hand.build(Normed(), DATA, 0)
    start = expected.get_weights()
    history, _ = by_hand.train_by_hand(
        expected,
        DATA,
        MIRRORED if augment == "student" else PLAIN,  # what the student sees
        fold(rng.make_seed(2), 0),
        np.full(5, 0.1),
        num_replicas=len(devices),
        method=method,
        teacher=mirrored(teacher),  # of the mirrored images it sees the plain ones, and of these the others
    )
    assert_trained_as(network.get_weights(), expected.get_weights(), start)
    assert_history(PhaseFolder(tmp_path / "0_train"), history)
    assert run.folder.answers.exists() == (augment == "student")


def test_a_teacher_is_asked_once_where_its_answers_do_not_change():
    for phase, augment, once in (
        (PLAIN, "both", True),
        (PLAIN, "teacher", True),
        (MIRRORED, "both", False),
        (MIRRORED, "teacher", False),
        (MIRRORED, "student", True),
    ):
        assert Distill(augment=augment).asks_once(phase) == once
    assert not Supervised().asks_once(PLAIN) and not AttentionTransfer().asks_once(PLAIN)


def test_answers_are_kept_by_what_they_follow_from(teacher, tmp_path):
    run = run_of(tmp_path, teacher, Distill())
    path, expected = run.folder.answers, teacher(DATA.train.images, training=False).numpy()

    def again(run: fit.TrainingRun = run) -> np.ndarray:
        return fit.ask_once(run).numpy()

    np.testing.assert_allclose(again(), expected, rtol=1e-4, atol=1e-4)
    held = predictions.read_features(path)
    np.testing.assert_array_equal(held.ids, DATA.train.ids)
    predictions.write(path, dataclasses.replace(held, values=held.values + 1))
    np.testing.assert_array_equal(again(), held.values + 1)  # read, not asked
    path.write_bytes(path.read_bytes()[:-10])
    np.testing.assert_array_equal(again(), held.values)
    changed = DATA.train.images.copy()
    changed[3] = 255 - changed[3]
    other = dataclasses.replace(DATA, train=dataclasses.replace(DATA.train, images=changed))
    assert (again(run_of(tmp_path, teacher, Distill(), other)) != held.values).any(1).tolist() == [
        place == 3 for place in range(52)
    ]
    teacher_2 = by_hand.build(Normed(5), DATA, 2)
    assert (again(run_of(tmp_path, teacher_2, Distill())) != held.values).any(1).all()


def test_views_that_cannot_be_told_apart_are_refused():
    def student(phase: Phase, augment: str) -> Training:
        return Training("s", Normed(), (phase,), Distill(augment=augment))

    mixing = dataclasses.replace(MIRRORED, augment=(Flip(), CutMix()), augment_on="device")
    student(mixing, "both")
    for augment in ("student", "teacher"):
        with pytest.raises(
            ConfigError, match=rf"s: phases\.0\.augment is .*CutMix.* for the {augment} alone; an op mix"
        ):
            student(mixing, augment)
    with pytest.raises(ConfigError, match="augment_on is 'host' with Distill.*allowed: 'device'"):
        student(MIRRORED, "teacher")
    student(dataclasses.replace(MIRRORED, augment_on="device"), "teacher")
    student(PLAIN, "teacher")


# -- other images --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Others(Source):
    """Images of which the first 52 are those of `DATA.train`."""

    num: int = 80
    class_names: tuple[str, ...] = by_hand.CLASS_NAMES

    def load(self, parts, cache_dir=None) -> Parts:
        assert tuple(parts) == ("train",)
        return Parts({"train": by_hand.make_split("train", self.num)}, self.class_names)


@dataclasses.dataclass(frozen=True)
class OnePart(Others):
    """The same as one part."""

    one_part = True

    def test_set(self, cache_dir=None) -> Parts:
        return Parts({"test": by_hand.make_split("train", self.num)}, self.class_names)


def test_other_images_are_those_in_no_part_of_the_data():
    held_out = dataclasses.replace(DATA, validation=by_hand.make_split("train", 56).take(np.arange(53, 56)))
    for source in (Others(), OnePart()):
        assert load_others(source, like=held_out).ids.tolist() == ["train/52", *(f"train/{i}" for i in range(56, 80))]
    for source, message in (
        (Others(52), "'others' has no image that is not in a part of 'textures' too"),
        (Others(class_names=("a", "b", "c")), r"train set 'others' has classes a, b, c; allowed: flat, rows, columns"),
        (Digits(), r"train set 'digits' has images \[32, 32, 3\]; allowed: \[12, 12, 1\]"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_others(source, like=DATA)
    with pytest.raises(ConfigError, match="Distill.data is 'cifar10'; allowed: None or a source"):
        Distill(data="cifar10")
    assert from_dict(to_dict(Distill(data=Digits())), CLASSES) == Distill(data=Digits())


def test_a_student_learns_from_images_that_its_teacher_has_not_seen(tmp_path, monkeypatch):
    """Validation, classes and the constants of normalisation are the experiment's."""
    phase = dataclasses.replace(PLAIN, batch_size=14)
    method = Distill(alpha=1.0, data=Others())
    experiment = Experiment(
        "others",
        trainings=(
            Training("teacher", Normed(5), (dataclasses.replace(PLAIN, epochs=1),), export="last"),
            Training("student", Normed(), (phase,), method, export="last"),
        ),
        precision="fp32",
    )
    job = job_of(tmp_path / "run", experiment, DATA, ["CPU:0"])
    job.load()
    job.train()
    teacher, expected = by_hand.build(Normed(5), DATA), by_hand.build(Normed(), DATA)
    teacher.set_weights(weights_in(job.workdir.training("teacher").path / "0_train" / "last.weights.h5", Normed(5)))
    start = expected.get_weights()
    others = dataclasses.replace(DATA, train=by_hand.make_split("train", 80).take(np.arange(52, 80)))
    history, _ = by_hand.train_by_hand(
        expected, others, phase, fold(rng.make_seed(0), 1, 0), np.full(5, 0.1), method=method, teacher=teacher
    )
    folder = job.workdir.training("student")
    assert_trained_as(weights_in(folder.path / "0_train" / "last.weights.h5", Normed()), expected.get_weights(), start)
    assert_history(PhaseFolder(folder.path / "0_train"), history)
    job_of(tmp_path / "run", experiment, DATA, ["CPU:0"]).load()
    monkeypatch.setattr(by_hand, "make_split", lambda name, num, make=by_hand.make_split: make(name, num - 1))
    with pytest.raises(ConfigError, match="holds student, trained on other images or labels than Others"):
        job_of(tmp_path / "run", experiment, DATA, ["CPU:0"]).load()
