"""Predictions and features: what is asked of an endpoint, what is written, and when it is made again."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from tfaug.serving.client import Client, start_server

from tfaug.config import ConfigError
from tfaug.data.split import Split, stratified_subset
from tfaug.evaluate import FGSM, PGD, Attack, Context, EvaluateConfig, WriteFeatures
from tfaug.evaluate.base import measure
from tfaug.evaluate.context import Served
from tfaug.evaluate.predict import predict_set
from tfaug.experiment import CLASSES
from tfaug.export import ExportConfig, export_model, load_exported
from tfaug.expressions import override
from tfaug.models import LeNet, build_model
from tfaug.predictions import Predictions, read_features, read_predictions
from tfaug.workdir import Row, Workdir

SHAPE = (4, 4, 1)
NUM_CLASSES = 3


def make_split(num: int, seed: int = 0) -> Split:
    """Noise with a brighter column for each class: a linear model tells the classes apart."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(num) % NUM_CLASSES).astype(np.int64)
    images = generator.integers(90, 140, (num, *SHAPE))
    images[np.arange(num), :, labels] += 25
    return Split(images.astype(np.uint8), labels, np.array([f"example_{seed}_{i}" for i in range(num)]))


class ColumnModel(tf.Module):
    """Compares the brightness of three columns: logits = scale * mean of column k."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = tf.Variable(scale)

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        assert not training
        return self.scale * tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 3])[:, :NUM_CLASSES]


class FakeClient:
    """Answers like a served model and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, np.dtype, int]] = []
        self.change = lambda answer: answer

    def predict(self, model, inputs, signature, *, batch_size, progress):
        images = inputs["images"]
        self.asked.append((model, signature, images.dtype, batch_size))
        progress(len(images))
        logits = 0.2 * images.astype(np.float32).mean(axis=(1, 3))[:, :NUM_CLASSES]
        return self.change({"logits": logits, "probs": scipy.special.softmax(logits, axis=1)})


def ask(client, split: Split, path: pathlib.Path, images=None, mode: str = "plain", **key) -> Predictions:
    images = split.images if images is None else images
    return predict_set(client, "m", images, split.labels, split.ids, mode=mode, path=path, batch_size=7, key=key)


@pytest.mark.parametrize(
    ("mode", "dtype", "signature"),
    [
        ("plain", np.uint8, "plain_uint8"),
        ("plain", np.float32, "plain"),
        ("mirror", np.uint8, "mirror_uint8"),
        ("sum_aug", np.uint8, "sum_aug_uint8"),
        ("sum_aug", np.float32, "sum_aug"),
    ],
)
def test_mode_and_dtype_choose_the_signature(tmp_path, mode, dtype, signature):
    client, split = FakeClient(), make_split(5)
    ask(client, split, tmp_path / "p.npz", split.images.astype(dtype), mode)
    assert client.asked == [("m", signature, np.dtype(dtype), 7)]


def test_file_holds_the_answers_with_labels_ids_and_key(tmp_path):
    split = make_split(8)
    returned = ask(FakeClient(), split, tmp_path / "a" / "p.npz", weights_sha256="f00", set="test")
    with np.load(tmp_path / "a" / "p.npz", allow_pickle=False) as file:
        assert set(file) == {"probs", "logits", "labels", "ids", "key"}
        logits = 0.2 * split.images.astype(np.float64).mean(axis=(1, 3))[:, :3]
        np.testing.assert_allclose(file["logits"], logits, rtol=1e-6)
        np.testing.assert_allclose(file["probs"], scipy.special.softmax(logits, axis=1), atol=1e-6)
        np.testing.assert_array_equal(file["labels"], split.labels)
        assert file["ids"].tolist() == [f"example_0_{i}" for i in range(8)]
        assert [file[name].dtype for name in ("probs", "logits", "labels")] == [np.float32, np.float32, np.int64]
        key = json.loads(str(file["key"]))
    assert {
        "weights_sha256": "f00",
        "set": "test",
        "model": "m",
        "mode": "plain",
        "num_examples": 8,
    }.items() <= key.items()
    again = read_predictions(tmp_path / "a" / "p.npz")
    for name in ("probs", "logits", "labels", "ids"):
        np.testing.assert_array_equal(getattr(again, name), getattr(returned, name))
    assert again.key == returned.key == key


def test_same_key_is_asked_once_and_any_change_is_asked_again(tmp_path):
    client, split, path = FakeClient(), make_split(6), tmp_path / "p.npz"
    first = ask(client, split, path, weights_sha256="f00")
    written = path.read_bytes()
    again = ask(client, split, path, weights_sha256="f00")
    assert len(client.asked) == 1 and path.read_bytes() == written
    np.testing.assert_array_equal(again.probs, first.probs)
    ask(client, split, path, weights_sha256="ba2")
    assert len(client.asked) == 2
    ask(client, split, path, mode="sum_aug", weights_sha256="ba2")
    assert len(client.asked) == 3
    changed = split.images.copy()
    changed[0, 0, 0, 0] ^= 1
    ask(client, split, path, changed, mode="sum_aug", weights_sha256="ba2")
    assert len(client.asked) == 4
    ask(client, make_split(5), path, mode="sum_aug", weights_sha256="ba2")
    assert len(client.asked) == 5
    assert len(read_predictions(path).labels) == 5
    relabelled = dataclasses.replace(make_split(5), labels=np.zeros(5, np.int64))
    assert ask(client, relabelled, path, mode="sum_aug", weights_sha256="ba2").labels.tolist() == [0] * 5
    renamed = dataclasses.replace(relabelled, ids=np.array(list("abcde")))
    assert ask(client, renamed, path, mode="sum_aug", weights_sha256="ba2").ids.tolist() == list("abcde")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_half_a_file_is_not_taken_for_a_whole_one(tmp_path, share):
    client, split, path = FakeClient(), make_split(6), tmp_path / "p.npz"
    ask(client, split, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"p\.npz is not a whole file of probs, logits, labels, ids and key"):
        read_predictions(path)
    ask(client, split, path)
    assert len(client.asked) == 2
    assert path.read_bytes() == whole


def test_failure_in_the_middle_leaves_no_file(tmp_path):
    client = FakeClient()

    def fail(answer):
        raise ConnectionError("gone")

    client.change = fail
    with pytest.raises(ConnectionError):
        ask(client, make_split(6), tmp_path / "p.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"probs": a["probs"]}, r"'m' answered \{'probs': \[6, 3\]\}; allowed: probs and logits"),
        (lambda a: {**a, "logits": a["logits"][:, :2]}, "'m' answered"),
        (lambda a: {**a, "probs": a["logits"]}, "allowed"),
        (lambda a: {**a, "probs": a["probs"] * np.nan}, "allowed"),
        (lambda a: {name: array[:5] for name, array in a.items()}, "allowed"),
        (
            lambda a: {name: array[:, :2] / array[:, :2].sum(1, keepdims=True) for name, array in a.items()},
            "labels go from",
        ),
    ],
)
def test_answers_that_are_no_distributions_are_not_written(tmp_path, change, message):
    client = FakeClient()
    client.change = change
    with pytest.raises(ValueError, match=message):
        ask(client, make_split(6), tmp_path / "p.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "sumaug"}, "mode is 'sumaug'; allowed: plain, mirror, sum_aug"),
        ({"images": make_split(6).images.astype(np.float64)}, "images are float64"),
        ({"images": make_split(3).images[:0]}, r"images are uint8 \[0, 4, 4, 1\]"),
        ({"labels": np.zeros(5, np.int64)}, "6 images, 5 labels, 6 ids; allowed: as many of each"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, changes, message):
    split = make_split(6)
    arguments = {"images": split.images, "labels": split.labels, "ids": split.ids, "mode": "plain", **changes}
    with pytest.raises(ValueError, match=message):
        predict_set(FakeClient(), "m", path=tmp_path / "p.npz", **arguments)


def test_reading_what_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_predictions(tmp_path / "none.npz")


def test_subset_keeps_the_class_shares_and_follows_its_seed():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    chosen = stratified_subset(labels, 20, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [12, 6, 2]
    assert sorted(set(chosen.tolist())) == chosen.tolist()
    np.testing.assert_array_equal(chosen, stratified_subset(labels, 20, seed=1))
    assert chosen.tolist() != stratified_subset(labels, 20, seed=2).tolist()
    np.testing.assert_array_equal(stratified_subset(labels, 1000, seed=1), np.arange(100))


def test_settings_are_read_from_the_command_line_and_refused_out_of_range():
    config = override(EvaluateConfig(), "attacks.1.num_steps=3")
    assert config.attacks == (FGSM(), PGD(num_steps=3))
    config = override(EvaluateConfig(), "attacks=(PGD(epsilon=4/255), PGD(epsilon=8/255))", CLASSES)
    assert config.attacks == (PGD(epsilon=4 / 255), PGD(epsilon=8 / 255))
    config = override(EvaluateConfig(), "evaluators.4=WriteFeatures(('stage1',))", CLASSES)
    assert config.evaluators == (*EvaluateConfig().evaluators, WriteFeatures(("stage1",)))
    for setting in (
        "num_attack_examples=0",
        "num_sum_aug_examples=0",
        "batch_size=0",
        "seed=-1",
        "attacks.0.epsilon=2",
        "evaluators=Digits()",
    ):
        with pytest.raises(ConfigError, match="allowed: "):
            override(EvaluateConfig(), setting)


# -- through a real endpoint ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Endpoint:
    client: Client
    models: dict[str, ColumnModel]
    paths: dict[str, pathlib.Path]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    models = {"sharp": ColumnModel(0.4), "soft": ColumnModel(0.1)}
    bank = make_split(9, seed=5).images
    paths = {
        name: export_model(
            folder / name,
            model,
            bank_images=bank,
            config=ExportConfig(draws=(3,), weights=(0.5,), bank_size=9, mirror=True),
            warmup_images=bank[:1],
            image_shape=SHAPE,
        )
        for name, model in models.items()
    }
    with start_server({name: str(folder / name) for name in models}) as server, Client(server.grpc_target) as client:
        yield Endpoint(client, models, paths)


CONFIG = EvaluateConfig(attacks=(FGSM(epsilon=0.1), PGD(epsilon=0.1)), num_attack_examples=15, batch_size=10)
WEIGHTS = {"sharp": "aa", "soft": "bb"}


def begun(folder: pathlib.Path) -> Workdir:
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / "config.json").write_text("{}")
    return Workdir(folder / "run")


def context(endpoint: Endpoint, folder: pathlib.Path, config: EvaluateConfig = CONFIG, **changes) -> Context:
    models = changes.pop("models", endpoint.models)
    weights, sums = changes.pop("weights", WEIGHTS), changes.pop("sum_aug", {name: {"num_draws": 3} for name in models})
    arguments = {
        "served": {name: Served(weights[name], lambda name=name: models[name], "fp32", sums[name]) for name in models},
        "sets": {"test": make_split(45, seed=1), "shifted": make_split(12, seed=2)},
        "connect": lambda: endpoint.client,
        "attacked": ("sharp",),
        "progress": False,
        **changes,
    }
    return Context(begun(folder), config, **arguments)


def evaluate(endpoint: Endpoint, folder: pathlib.Path, config: EvaluateConfig = CONFIG, **changes) -> list[Row]:
    return measure(config.evaluators, context(endpoint, folder, config, **changes))


@pytest.fixture(scope="module")
def evaluated(endpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    return folder, evaluate(endpoint, folder)


def snapshot(folder: pathlib.Path) -> dict[str, tuple[int, bytes]]:
    folder = folder / "run/predictions"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def copy(evaluated: tuple[pathlib.Path, list[Row]], folder: pathlib.Path, *left_out: str) -> None:
    for path, (_, content) in snapshot(evaluated[0]).items():
        if path not in left_out:
            target = folder / "run/predictions" / path
            target.parent.mkdir(exist_ok=True, parents=True)
            target.write_bytes(content)


def held(folder: pathlib.Path, name: str) -> Predictions:
    return read_predictions(folder / "run/predictions" / f"{name}.npz")


@pytest.mark.parametrize("name", ["test", "shifted"])
def test_an_empty_set_is_refused_by_name(tmp_path, name):
    sets = {"test": make_split(3), "shifted": make_split(3), name: make_split(3).take(np.arange(0))}
    with pytest.raises(ValueError, match=f"the {name} set has 0 images; allowed: 1 or more"):
        Context(Workdir(tmp_path), CONFIG, {}, sets, lambda: None)


def test_every_model_set_attack_and_mode_is_written_and_measured(evaluated):
    folder, rows = evaluated
    clean = [f"{split}.clean.{mode}.npz" for split in ("test", "shifted") for mode in ("plain", "sum_aug")]
    attacked = [f"test.{attack}.{mode}.npz" for attack in ("fgsm", "pgd") for mode in ("plain", "sum_aug")]
    expected = {f"{name}/{file}" for name in ("sharp", "soft") for file in clean} | {f"sharp/{f}" for f in attacked}
    assert set(snapshot(folder)) == expected
    accuracies = {f"{row.model}/{row.set}.{row.attack}.{row.mode}.npz" for row in rows if row.metric == "accuracy"}
    assert accuracies == expected
    assert {row.n for row in rows if row.attack == "pgd"} == {15}


@pytest.mark.parametrize("name", ["sharp", "soft"])
@pytest.mark.parametrize("mode", ["plain", "sum_aug"])
def test_endpoint_gives_what_the_saved_model_gives(endpoint, evaluated, name, mode):
    found = held(evaluated[0], f"{name}/test.clean.{mode}")
    local = load_exported(endpoint.paths[name]).predict({"images": make_split(45, seed=1).images}, mode)
    np.testing.assert_allclose(found.probs, local["probs"], atol=1e-6)
    np.testing.assert_allclose(found.logits, local["logits"], atol=1e-5)
    assert found.key["weights_sha256"] == WEIGHTS[name]


def test_attacked_predictions_are_those_of_the_local_models_attack(endpoint, evaluated):
    folder, _ = evaluated
    test = make_split(45, seed=1)
    subset = test.take(stratified_subset(test.labels, 15, seed=0))
    adversarial = FGSM(epsilon=0.1).attack(endpoint.models["sharp"], subset.images, subset.labels)
    exported = load_exported(endpoint.paths["sharp"])
    for mode in ("plain", "sum_aug"):
        found = held(folder, f"sharp/test.fgsm.{mode}")
        np.testing.assert_array_equal(found.ids, subset.ids)
        np.testing.assert_array_equal(found.labels, subset.labels)
        np.testing.assert_allclose(found.probs, exported.predict({"images": adversarial}, mode)["probs"], atol=1e-5)
    clean, attacked = held(folder, "sharp/test.clean.plain"), held(folder, "sharp/test.fgsm.plain")
    assert clean.correct.mean() > 0.9
    assert attacked.correct.mean() < 0.2


def refuse(*_, **__):
    raise AssertionError("asked or attacked again")


def test_second_evaluation_asks_and_attacks_nothing_that_is_there(endpoint, evaluated, monkeypatch):
    folder, rows = evaluated
    before = snapshot(folder)
    monkeypatch.setattr(FGSM, "attack", refuse)
    monkeypatch.setattr(PGD, "attack", refuse)
    assert evaluate(endpoint, folder, connect=refuse) == rows
    assert snapshot(folder) == before


def test_interrupted_evaluation_makes_only_what_is_missing(endpoint, evaluated, tmp_path):
    copy(evaluated, tmp_path, "sharp/test.pgd.sum_aug.npz", "soft/shifted.clean.plain.npz")
    kept = snapshot(tmp_path)
    evaluate(endpoint, tmp_path)
    after, before = snapshot(tmp_path), snapshot(evaluated[0])
    assert {path: content for path, (_, content) in after.items()} == {path: c for path, (_, c) in before.items()}
    assert {path: after[path] for path in kept} == kept


def test_other_attacks_ask_about_these_alone_and_leave_the_old_ones_unread(endpoint, evaluated, tmp_path):
    copy(evaluated, tmp_path)
    before = snapshot(tmp_path)
    config = dataclasses.replace(CONFIG, attacks=(FGSM(epsilon=0.1), FGSM(epsilon=4 / 255)))
    rows = evaluate(endpoint, tmp_path, config)
    after = snapshot(tmp_path)
    names = ("fgsm_0_1", "fgsm_4_255")
    assert set(after) - set(before) == {f"sharp/test.{a}.{mode}.npz" for a in names for mode in ("plain", "sum_aug")}
    assert {path: after[path] for path in before} == before
    assert {row.attack for row in rows} == {"clean", *names}
    stronger, weaker = (
        next(row for row in rows if (row.attack, row.mode, row.metric) == (name, "plain", "accuracy")) for name in names
    )
    assert stronger.value < weaker.value


def test_an_attack_of_other_settings_under_the_same_name_is_made_again(endpoint, evaluated, tmp_path):
    copy(evaluated, tmp_path)
    before = snapshot(tmp_path)
    evaluate(endpoint, tmp_path, dataclasses.replace(CONFIG, attacks=(FGSM(epsilon=0.05), PGD(epsilon=0.1))))
    changed = [path for path, content in snapshot(tmp_path).items() if content != before[path]]
    assert changed == ["sharp/test.fgsm.plain.npz", "sharp/test.fgsm.sum_aug.npz"]


def test_attacks_on_other_images_of_the_same_names_are_made_again(endpoint, evaluated, tmp_path):
    """Everything is asked again, for all images have changed by a level; labels and ids have not."""
    copy(evaluated, tmp_path)
    before = snapshot(tmp_path)
    split = make_split(45, seed=1)
    images = np.where(split.images < 255, split.images + 1, 254).astype(np.uint8)
    sets = {"test": dataclasses.replace(split, images=images), "shifted": make_split(12, seed=2)}
    evaluate(endpoint, tmp_path, sets=sets)
    after = snapshot(tmp_path)
    assert {path for path in after if after[path] == before[path]} == {path for path in before if "shifted" in path}


def test_mirror_views_and_a_part_of_the_images_through_sums(endpoint, evaluated, tmp_path):
    config = EvaluateConfig(attacks=(FGSM(epsilon=0.1),), num_attack_examples=15, num_sum_aug_examples=6, batch_size=10)
    evaluate(endpoint, tmp_path, config, mirror=True)
    names = ("test.clean.plain", "test.clean.mirror", "test.clean.sum_aug", "test.fgsm.plain", "test.fgsm.sum_aug")
    found = {name: held(tmp_path, f"sharp/{name}") for name in names}
    assert [len(answers.ids) for answers in found.values()] == [45, 45, 6, 15, 6]
    # Two of each of the three classes; the attacked ones are the same images.
    assert np.bincount(found["test.clean.sum_aug"].labels).tolist() == [2, 2, 2]
    assert found["test.fgsm.sum_aug"].ids.tolist() == found["test.clean.sum_aug"].ids.tolist()
    assert found["test.clean.sum_aug"].key["setting"] == {"num_draws": 3}
    local = load_exported(endpoint.paths["sharp"]).predict({"images": make_split(45, seed=1).images}, "mirror")
    np.testing.assert_allclose(found["test.clean.mirror"].probs, local["probs"], atol=1e-6)
    before = snapshot(tmp_path)
    evaluate(endpoint, tmp_path, config, mirror=True, sum_aug={"sharp": {"num_draws": 4}, "soft": {"num_draws": 3}})
    changed = [path for path, content in snapshot(tmp_path).items() if content != before[path]]
    assert changed == ["sharp/shifted.clean.sum_aug.npz", "sharp/test.clean.sum_aug.npz", "sharp/test.fgsm.sum_aug.npz"]


def test_other_weights_are_asked_again(endpoint, evaluated, tmp_path):
    copy(evaluated, tmp_path)
    evaluate(endpoint, tmp_path, weights={"sharp": "cc", "soft": "bb"}, attacked=())
    assert held(tmp_path, "sharp/test.clean.plain").key["weights_sha256"] == "cc"
    assert held(tmp_path, "soft/test.clean.plain").key["weights_sha256"] == "bb"


def test_endpoint_that_serves_another_model_is_refused(endpoint, tmp_path):
    models = {"sharp": ColumnModel(-0.4)}
    with pytest.raises(ValueError, match="'sharp' is not the model of this workdir: its probabilities differ by"):
        evaluate(endpoint, tmp_path, models=models)
    with pytest.raises(ValueError, match="'sharp' is not the model of this workdir: its probabilities differ by"):
        context(endpoint, tmp_path, models=models).client.check(["sharp"])
    assert not (tmp_path / "run/predictions").exists()


def test_one_set_and_no_attack_is_a_clean_evaluation(endpoint, tmp_path):
    config = EvaluateConfig(attacks=())
    models, sets = {"soft": endpoint.models["soft"]}, {"test": make_split(45, seed=1)}
    rows = evaluate(endpoint, tmp_path, config, models=models, sets=sets, attacked=())
    assert set(snapshot(tmp_path)) == {"soft/test.clean.plain.npz", "soft/test.clean.sum_aug.npz"}
    assert {row.metric for row in rows} == {"accuracy", "nll", "ece", "brier", "gain", "plain_accuracy"}


def test_names_that_are_not_there_are_refused_with_near_ones(endpoint, tmp_path):
    with pytest.raises(
        ConfigError, match=r"a model to attack is 'shrp' \(did you mean 'sharp'\?\); allowed: sharp, soft"
    ):
        context(endpoint, tmp_path, attacked=("shrp",))
    given = context(endpoint, tmp_path)
    for call, message in (
        (lambda: given.predictions("hard", "test"), "the model is 'hard' .*; allowed: sharp, soft"),
        (lambda: given.predictions("sharp", "tests"), "the set is 'tests' .*; allowed: test, shifted"),
        (lambda: given.predictions("sharp", "test", "pdg"), "the attack is 'pdg' .*; allowed: clean, fgsm, pgd"),
        (
            lambda: given.predictions("sharp", "test", mode="mirrored"),
            "the mode is 'mirrored' .*; allowed: plain, mirror, s",
        ),
        (lambda: given.network("hard"), "the model is 'hard'"),
        (lambda: given.split("tests"), "the set is 'tests'"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


def test_what_is_not_asked_is_none(endpoint, tmp_path):
    given = context(endpoint, tmp_path, connect=refuse)
    assert given.predictions("soft", "test", "fgsm") is None  # not attacked
    assert given.predictions("sharp", "shifted", "fgsm") is None  # another set
    assert given.predictions("sharp", "test", mode="mirror") is None
    assert given.predictions("sharp", "test", "fgsm", "mirror") is None


@dataclasses.dataclass(frozen=True)
class Broken(Attack):
    kind: str

    def attack(self, model_fn, images, labels, *, batch_size, progress):
        made = images.astype(np.float32)
        return {"double": made.astype(np.float64), "one less": made[1:], "NaN": made * np.nan, "dark": made - 300}[
            self.kind
        ]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("double", r"the attack broken returned float64 \[15, 4, 4, 1\]; allowed: float32 \[15, 4, 4, 1\]"),
        ("one less", r"returned float32 \[14, 4, 4, 1\]"),
        ("NaN", r"returned pixels in nan\.\.nan; allowed: 0\.\.255"),
        ("dark", r"returned pixels in -\d+\.\.-\d+; allowed: 0\.\.255"),
    ],
)
def test_an_attack_that_returns_no_images_is_refused(endpoint, tmp_path, kind, message):
    given = context(endpoint, tmp_path, dataclasses.replace(CONFIG, attacks=(Broken(kind),)))
    with pytest.raises(ConfigError, match=message):
        given.predictions("sharp", "test", "broken")


# -- features ------------------------------------------------------------------------------------------------------


class Stages:
    """Doubles, then sums over the columns; counts the images that it is asked about."""

    stage_names = ("double", "sum")
    num_asked = 0

    def forward(self, images, stop):
        self.num_asked += len(images)
        doubled = 2 * tf.cast(images, tf.float32)
        return doubled if stop == 1 else tf.cast(tf.reduce_sum(doubled, axis=2), tf.float64)


def test_features_of_any_stage_are_written_once_beside_the_predictions(tmp_path):
    network, split = Stages(), make_split(23)

    def given(weights: str = "aa", split: Split = split, precision: str = "fp32") -> Context:
        served = {"m": Served(weights, lambda: network, precision)}
        return Context(begun(tmp_path), EvaluateConfig(batch_size=10), served, {"test": split}, refuse)

    first = given().features("m", "test", "double")
    np.testing.assert_array_equal(first.values, 2.0 * split.images)
    second = given().features("m", "test", "sum")
    np.testing.assert_array_equal(second.values, 2.0 * split.images.astype(np.float32).sum(axis=2))
    assert (first.values.dtype, second.values.dtype, network.num_asked) == (np.float32, np.float32, 2 * 23)
    written = read_features(tmp_path / "run/features/m/test.sum.npz")
    np.testing.assert_array_equal(written.values, second.values)
    assert written.ids.tolist() == split.ids.tolist() and written.labels.tolist() == split.labels.tolist()
    assert written.key["weights_sha256"] == "aa" and written.key["stage"] == "sum"
    assert list(WriteFeatures(("double", "sum")).rows(given())) == []
    assert network.num_asked == 2 * 23
    given(weights="bb").features("m", "test", "sum")
    assert network.num_asked == 3 * 23
    given(weights="bb", split=make_split(23, seed=1)).features("m", "test", "sum")
    assert network.num_asked == 4 * 23
    given(weights="bb", split=make_split(23, seed=1), precision="bf16").features("m", "test", "sum")
    assert network.num_asked == 5 * 23
    with pytest.raises(ConfigError, match=r"the stage of m is 'summ' \(did you mean 'sum'\?\); allowed: double, sum"):
        given().features("m", "test", "summ")


def test_features_of_a_networks_last_stage_are_its_logits(tmp_path):
    settings = {"image_shape": (32, 32, 1), "mean": (0.4,), "std": (0.25,), "precision": "bf16", "seed": 0}
    network = build_model(LeNet(), num_classes=3, **settings)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 1)).astype(np.uint8)
    split = Split(images, np.arange(5) % 3, np.array(list("abcde")))
    served = {"m": Served("aa", lambda: network)}
    given = Context(begun(tmp_path), EvaluateConfig(batch_size=5), served, {"test": split}, refuse)
    for stage in network.stage_names:
        assert given.features("m", "test", stage).values.dtype == np.float32
    np.testing.assert_array_equal(given.features("m", "test", "head").values, network(images, training=False).numpy())
