"""What holds of every evaluator, and of one in a user's own file. Their numbers: tests/report/test_report_summary.py."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.train import by_hand
from tfaug.config import ConfigError, from_dict, identity, to_dict
from tfaug.data.split import Split
from tfaug.evaluate import (
    EVALUATORS,
    Classification,
    Context,
    EvaluateConfig,
    Evaluator,
    Gain,
    LastEpochs,
    Shift,
    UnderAttack,
)
from tfaug.evaluate import context as contexts
from tfaug.evaluate.base import accuracy_row, measure, positions
from tfaug.evaluate.context import Served
from tfaug.evaluate.features import WriteFeatures
from tfaug.experiment import CLASSES
from tfaug.expressions import override
from tfaug.predictions import Features, Predictions
from tfaug.train.fit import predict_logits, save_weights
from tfaug.workdir import Row, Workdir, read_rows, write_rows

DATA = by_hand.make_data()
ALL: list[Evaluator] = [Classification(), Gain(), LastEpochs(), Shift(), UnderAttack(), WriteFeatures(("head",))]
# The modes that stand for the epochs of a phase which keeps three.
EPOCHS = {"last": "plain", "best": "mirror", "epoch_2": "sum_aug", "epoch_3": "mirror", "epoch_4": "plain"}
SETS = {"test": 30, "shifted": 20, "other": 30}


@dataclasses.dataclass
class Answers:
    """A context in memory; `None` in place of what is not asked."""

    given: Mapping[tuple[str, str, str, str], Predictions]
    models: tuple[str, ...] = ("first", "last")
    sets: tuple[str, ...] = tuple(SETS)
    attacks: tuple[str, ...] = ("weak", "strong")
    attacked: tuple[str, ...] = ("last",)
    modes: tuple[str, ...] = ("plain", "mirror", "sum_aug")

    def predictions(self, model, set_name, attack="clean", mode="plain"):
        assert model in self.models and set_name in self.sets and attack in ("clean", *self.attacks)
        return self.given.get((model, set_name, attack, mode))

    def epochs(self, model, set_name):
        found = {name: self.given.get((model, set_name, "clean", mode)) for name, mode in EPOCHS.items()}
        return {name: each for name, each in found.items() if each is not None}

    def features(self, model, set_name, stage):
        assert model in self.models and set_name in self.sets
        return Features(np.zeros((2, 3), np.float32), np.zeros(2, np.int64), np.array(["a", "b"]), {})


def predictions(num: int, seed: int, name: str) -> Predictions:
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(4, 0.5), num).astype(np.float32)
    ids = np.array([f"{name}-{i}" for i in range(num)])
    return Predictions(probs, np.log(probs + 1e-6), np.arange(num) % 4, ids, {})


def everything() -> Answers:
    """Every model, set, attack and mode; `other` holds the images of the test set."""
    given, seed = {}, 0
    for model in Answers.models:
        for mode in Answers.modes:
            for name, num in SETS.items():
                seed += 1
                given[model, name, "clean", mode] = predictions(num, seed, "test" if name == "other" else name)
            for attack in Answers.attacks if mode != "mirror" and model == "last" else ():
                seed += 1
                given[model, "test", attack, mode] = predictions(8, seed, "test")
    return Answers(given)


def test_the_conformance_table_is_complete():
    assert {type(evaluator) for evaluator in ALL} == set(EVALUATORS.values())
    assert {name: cls.__name__ for name, cls in EVALUATORS.items()} == {name: name for name in EVALUATORS}
    assert set(EVALUATORS) <= set(CLASSES)


each = pytest.mark.parametrize("evaluator", ALL, ids=lambda evaluator: type(evaluator).__name__)


@each
def test_an_evaluator_is_its_configuration(evaluator):
    assert from_dict(json.loads(json.dumps(to_dict(evaluator))), CLASSES) == evaluator
    assert override(EvaluateConfig(), f"evaluators=({evaluator!r},)", CLASSES).evaluators == (evaluator,)
    with pytest.raises(dataclasses.FrozenInstanceError):
        evaluator.stages = ()


@each
def test_rows_name_what_was_asked_and_repeat(evaluator, tmp_path):
    given = everything()
    rows = measure([evaluator], given)
    assert rows == measure([evaluator], given)
    assert bool(rows) == (type(evaluator) is not WriteFeatures)
    for row in rows:
        assert (row.model, row.set, row.attack, row.mode) in given.given
        assert row.n == len(given.predictions(row.model, row.set, row.attack, row.mode).ids)
        assert (row.low is None) == (row.high is None)
        assert row.low is None or row.low <= row.value <= row.high
        assert math.isfinite(row.value) and (row.arm, row.seed) == ("", None)
    write_rows(tmp_path / "rows.csv", rows)
    assert read_rows(tmp_path / "rows.csv") == rows


@each
def test_of_what_was_not_asked_there_is_no_row(evaluator):
    assert measure([evaluator], Answers({})) == []
    given = everything()
    plain = {place: answers for place, answers in given.given.items() if place[2:] == ("clean", "plain")}
    for row in measure([evaluator], Answers(plain)):
        assert (row.model, row.set, row.attack, row.mode) in plain


def test_all_of_them_stand_side_by_side():
    rows = measure(ALL, everything())
    assert {row.metric for row in rows} == {
        *("accuracy", "nll", "ece", "brier", "gain", "plain_accuracy", "gap", "gap_is_paired", "clean_accuracy"),
        *("accuracy_of_last_epoch", "accuracy_of_chosen_epoch", "accuracy_median_of_last", "epochs_of_median"),
    }


def test_every_other_set_has_a_gap_in_pairs_where_the_images_are_the_same():
    found = {(row.set, row.metric): row.value for row in measure([Shift()], everything()) if row.model == "last"}
    assert (found["shifted", "gap_is_paired"], found["other", "gap_is_paired"]) == (0.0, 1.0)
    given = everything()
    accuracy = {name: given.predictions("last", name, mode="sum_aug").correct.mean() for name in SETS}
    assert found["other", "gap"] == pytest.approx(accuracy["test"] - accuracy["other"])
    for place in [place for place in given.given if place[1] == "other"]:  # the same names, of other classes
        given.given[place] = dataclasses.replace(given.given[place], labels=(given.given[place].labels + 1) % 4)
    paired = {row.value for row in measure([Shift()], given) if (row.set, row.metric) == ("other", "gap_is_paired")}
    assert paired == {0.0}


def test_a_context_asks_the_weights_of_each_epoch_once(tmp_path, monkeypatch):
    networks = [by_hand.build(by_hand.Normed(), DATA, seed) for seed in range(3)]
    paths = {name: tmp_path / f"{name}.weights.h5" for name in ("last", "best", "epoch_0001")}
    for network, path in zip(networks, paths.values(), strict=True):
        save_weights(network, path)
    built = []

    def load() -> tf.keras.Model:
        built.append(1)
        return by_hand.build(by_hand.Normed(), DATA, 7)

    workdir, split = begun(tmp_path / "run"), DATA.test
    for _ in range(2):
        context = Context(workdir, EvaluateConfig(), {"m": Served("aa", load, epochs=paths)}, {"test": split}, None)
        found = context.epochs("m", "test")
        assert list(found) == list(paths)
        for network, answers in zip(networks, found.values(), strict=True):
            np.testing.assert_allclose(answers.logits, network(split.images, training=False), atol=1e-4)
            assert answers.correct.tolist() == (answers.logits.argmax(1) == split.labels).tolist()
    assert built == [1]
    save_weights(networks[0], paths["best"])
    again = Context(workdir, EvaluateConfig(), {"m": Served("aa", load, epochs=paths)}, {"test": split}, None)
    np.testing.assert_allclose(again.epochs("m", "test")["best"].logits, found["last"].logits, atol=1e-4)

    asked = []
    monkeypatch.setattr(contexts, "predict_logits", lambda *args: asked.append(1) or predict_logits(*args))
    fresh = Context(
        begun(tmp_path / "b"), EvaluateConfig(), {"m": Served("aa", load, epochs=paths)}, {"test": split}, None
    )
    answers = fresh.epochs("m", "test")
    np.testing.assert_array_equal(answers["best"].logits, answers["last"].logits)
    assert len(asked) == 2 and len(list((tmp_path / "b" / "predictions" / "m").iterdir())) == 3


def test_the_median_is_of_the_kept_epochs_alone():
    found = {row.metric: row.value for row in measure([LastEpochs()], everything()) if (row.model, row.set) == PAIR}
    means = {mode: everything().predictions(*PAIR, mode=mode).correct.mean() for mode in Answers.modes}
    assert len(set(means.values())) == 3 and found == {
        "accuracy_of_last_epoch": means["plain"],
        "accuracy_of_chosen_epoch": means["mirror"],
        "accuracy_median_of_last": sorted(means.values())[1],
        "epochs_of_median": 3.0,
    }


def test_an_accuracy_is_a_share_with_its_interval():
    row = accuracy_row("m", "test", "clean", "plain", "accuracy", np.array([True] * 9 + [False]))
    assert (row.value, row.n) == (0.9, 10)
    assert (row.low, row.high) == pytest.approx((0.5958, 0.9821), abs=5e-5)


def test_positions_are_those_of_the_names():
    ids = np.array(["a", "b", "c"])
    assert positions(ids, np.array(["c", "a"])).tolist() == [2, 0]
    assert positions(ids, np.array(["c", "d"])) is None


@dataclasses.dataclass(frozen=True)
class Yields(Evaluator):
    what: tuple

    def rows(self, context):
        yield from self.what


PAIR = ("last", "shifted")
PLACE = ("m", "test", "clean", "plain", "x")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ((0.5,), r"Yields\(.*\) yields 0\.5; allowed: a Row\(\.\.\.\)"),
        ((Row(*PLACE, float("nan")),), "allowed: a value that is a finite number"),
        ((Row(*PLACE, "0.5"),), "allowed: a value that is a finite number"),
        ((Row(*PLACE, 0.5), Row(*PLACE, 0.6)), r"value=0\.6.*, which was yielded before; allowed: each place once"),
    ],
)
def test_what_is_no_row_is_refused_by_the_evaluators_name(what, message):
    with pytest.raises(ConfigError, match=message):
        measure([Yields(what)], Answers({}))


def test_an_evaluator_without_rows_says_so():
    with pytest.raises(NotImplementedError, match="Evaluator has no rows"):
        Evaluator().rows(Answers({}))


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    rows = measure([Yields((Row(*PLACE, np.float32(0.5), n=np.int64(3)),))], Answers({}))
    write_rows(tmp_path / "rows.csv", [*rows, Row(*PLACE[:4], "y", np.float64(0.1))])
    assert read_rows(tmp_path / "rows.csv") == [Row(*PLACE, 0.5, n=3), Row(*PLACE[:4], "y", 0.1)]


@pytest.mark.parametrize("make", [lambda: EvaluateConfig(attacked="a"), lambda: WriteFeatures(stages=("a", 1))])
def test_names_are_a_tuple_of_texts(make):
    with pytest.raises(ConfigError, match=r"(attacked|stages) is .*; allowed: a tuple of names, as in \('a',\)"):
        make()
    assert EvaluateConfig(attacked=["a"]).attacked == ("a",)


@pytest.mark.parametrize("setting", ["attacked=hard", "attacked=refine,trian"])
def test_an_experiment_refuses_to_attack_what_it_does_not_export(setting):
    with pytest.raises(
        ConfigError, match="EvaluateConfig.attacked names .*; allowed: exported models, train, refine, st"
    ):
        override(tiny.run(), f"evaluate.{setting}", CLASSES)


def test_the_first_training_is_attacked_unless_told_otherwise():
    assert tiny.run().attacked() == ("train", "refine")
    assert override(tiny.run(), "evaluate.attacked=student", CLASSES).attacked() == ("student",)


# -- of the user's own ---------------------------------------------------------------------------------------------

EVALUATOR, ATTACK = tiny.documented("my_evaluator.py"), tiny.documented("my_attack.py")


class Linear:
    """A network, and the client of an endpoint that serves it."""

    def __call__(self, images: Any, training: bool = False) -> tf.Tensor:
        return tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 3])[:, :3]

    def predict(self, model: str, inputs: Mapping[str, np.ndarray], **_: Any) -> dict[str, np.ndarray]:
        logits = self(inputs["images"])
        return {"logits": logits.numpy(), "probs": tf.nn.softmax(logits).numpy()}


def test_an_evaluator_and_an_attack_of_ones_own_need_no_table(tmp_path, monkeypatch):
    (tmp_path / "my_evaluator.py").write_text(EVALUATOR)
    (tmp_path / "my_attack.py").write_text(ATTACK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    config = EvaluateConfig()
    for setting in (
        "evaluators.4=my_evaluator.Confidence()",
        "attacks=(my_attack.Noise(4), my_attack.Noise(std=60.5))",
    ):
        config = override(config, setting, CLASSES)
    assert from_dict(to_dict(config), CLASSES) == config
    assert "source" in identity(config)["attacks"][0] and "source" in identity(config)["evaluators"][4]
    images = np.random.default_rng(0).integers(90, 160, (12, 4, 4, 1)).astype(np.uint8)
    split = Split(images, np.arange(12) % 3, np.array([f"i{i}" for i in range(12)]))
    network = Linear()
    workdir = begun(tmp_path / "run")
    context = Context(
        workdir,
        config,
        {"m": Served("aa", lambda: network)},
        {"test": split},
        lambda: network,
        attacked=("m",),
        progress=False,
    )
    rows = {(row.attack, row.mode, row.metric): row for row in measure(config.evaluators, context)}
    probs = tf.nn.softmax(network(images)).numpy()
    assert rows["clean", "plain", "confidence"].value == pytest.approx(probs.max(1).mean())
    for attack, std in (("noise_std_4", 4), ("noise_std_60_5", 60.5)):
        noisy = np.clip(images + np.random.default_rng(0).normal(0, std, images.shape), 0, 255).astype(np.float32)
        right = network(noisy).numpy().argmax(1) == split.labels
        assert rows[attack, "plain", "accuracy"].value == right.mean()
        assert workdir.predictions("m", "test", attack, "plain").exists()


def begun(folder: pathlib.Path) -> Workdir:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return Workdir(folder)
