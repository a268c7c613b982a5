"""Predictions through an endpoint: what is asked, what is written, when it is asked again; the gap of two sets."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from tfaug.serving.client import start_server

from tfaug.config import ConfigError, override
from tfaug.data.split import Split, stratified_subset
from tfaug.evaluate.attacks import FGSM, PGD
from tfaug.evaluate.predict import EvaluateConfig, Predictions, evaluate_models, predict_set, read_predictions
from tfaug.export import ExportConfig, export_model, load_exported

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


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_half_a_file_is_not_taken_for_a_whole_one(tmp_path, share):
    client, split, path = FakeClient(), make_split(6), tmp_path / "p.npz"
    ask(client, split, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"p\.npz is not a whole file of predictions"):
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
    for setting in (
        "num_attack_examples=0",
        "num_sum_aug_examples=0",
        "batch_size=0",
        "seed=-1",
        "attacks.0.epsilon=2",
    ):
        with pytest.raises(ConfigError, match="allowed: "):
            override(EvaluateConfig(), setting)


# -- through a real endpoint ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Endpoint:
    target: str
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
    with start_server({name: str(folder / name) for name in models}) as server:
        yield Endpoint(server.grpc_target, models, paths)


def evaluate(endpoint: Endpoint, out_dir: pathlib.Path, **changes):
    arguments = {
        "endpoint_target": endpoint.target,
        "models": endpoint.models,
        "test": make_split(45, seed=1),
        "shifted": make_split(12, seed=2),
        "config": EvaluateConfig(attacks=(FGSM(epsilon=0.1), PGD(epsilon=0.1)), num_attack_examples=15, batch_size=10),
        "out_dir": out_dir,
        "weights_sha256": {"sharp": "aa", "soft": "bb"},
        "attacked": ("sharp",),
        "progress": False,
        **changes,
    }
    return evaluate_models(**arguments)


@pytest.fixture(scope="module")
def evaluated(endpoint, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("run") / "predictions"
    return out_dir, evaluate(endpoint, out_dir)


def snapshot(folder: pathlib.Path) -> dict[str, tuple[int, bytes]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.parametrize("name", ["test", "shifted"])
def test_an_empty_set_is_refused_by_name(tmp_path, name):
    arguments = {"test": make_split(3), "shifted": make_split(3), name: make_split(3).take(np.arange(0))}
    with pytest.raises(ValueError, match=f"the {name} set has 0 images; allowed: 1 or more"):
        evaluate_models(
            endpoint_target="nobody",
            models={},
            **arguments,
            config=EvaluateConfig(),
            out_dir=tmp_path,
            weights_sha256={},
            attacked=(),
        )


def test_every_model_set_attack_and_mode_is_written(evaluated):
    out_dir, info = evaluated
    clean = [f"{split}.clean.{mode}.npz" for split in ("test", "shifted") for mode in ("plain", "sum_aug")]
    attacked = [f"test.{attack}.{mode}.npz" for attack in ("fgsm", "pgd") for mode in ("plain", "sum_aug")]
    assert set(snapshot(out_dir)) == {f"{name}/{file}" for name in ("sharp", "soft") for file in clean} | {
        f"sharp/{file}" for file in attacked
    }
    assert info["test"] == {"num_examples": 45} and info["shifted"] == {"num_examples": 12}
    assert info["attacks"]["pgd"]["num_steps"] == 10 and info["attacks"]["pgd"]["num_examples"] == 15
    json.dumps(info)


@pytest.mark.parametrize("name", ["sharp", "soft"])
@pytest.mark.parametrize(("mode", "signature"), [("plain", "plain"), ("sum_aug", "sum_aug")])
def test_endpoint_gives_what_the_saved_model_gives(endpoint, evaluated, name, mode, signature):
    found = read_predictions(evaluated[0] / name / f"test.clean.{mode}.npz")
    local = load_exported(endpoint.paths[name]).predict({"images": make_split(45, seed=1).images}, signature)
    np.testing.assert_allclose(found.probs, local["probs"], atol=1e-6)
    np.testing.assert_allclose(found.logits, local["logits"], atol=1e-5)
    assert found.key["weights_sha256"] == {"sharp": "aa", "soft": "bb"}[name]


def test_attacked_predictions_are_those_of_the_local_models_attack(endpoint, evaluated):
    out_dir, _ = evaluated
    test = make_split(45, seed=1)
    subset = test.take(stratified_subset(test.labels, 15, seed=0))
    adversarial = FGSM(epsilon=0.1).attack(endpoint.models["sharp"], subset.images, subset.labels)
    exported = load_exported(endpoint.paths["sharp"])
    for mode, signature in (("plain", "plain"), ("sum_aug", "sum_aug")):
        found = read_predictions(out_dir / "sharp" / f"test.fgsm.{mode}.npz")
        np.testing.assert_array_equal(found.ids, subset.ids)
        np.testing.assert_array_equal(found.labels, subset.labels)
        expected = exported.predict({"images": adversarial}, signature)["probs"]
        np.testing.assert_allclose(found.probs, expected, atol=1e-5)
    clean = read_predictions(out_dir / "sharp" / "test.clean.plain.npz")
    attacked = read_predictions(out_dir / "sharp" / "test.fgsm.plain.npz")
    assert (clean.probs.argmax(1) == clean.labels).mean() > 0.9
    assert (attacked.probs.argmax(1) == attacked.labels).mean() < 0.2


def test_second_evaluation_asks_and_attacks_nothing_that_is_there(endpoint, evaluated, monkeypatch):
    out_dir, info = evaluated
    before = snapshot(out_dir)

    def refuse(*_, **__):
        raise AssertionError("attacked again")

    monkeypatch.setattr(FGSM, "attack", refuse)
    monkeypatch.setattr(PGD, "attack", refuse)
    assert evaluate(endpoint, out_dir) == info
    assert snapshot(out_dir) == before


def test_interrupted_evaluation_makes_only_what_is_missing(endpoint, evaluated, tmp_path):
    before = snapshot(evaluated[0])
    for path, (_, content) in before.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        if path not in ("sharp/test.pgd.sum_aug.npz", "soft/shifted.clean.plain.npz"):
            (tmp_path / path).write_bytes(content)
    kept = snapshot(tmp_path)
    evaluate(endpoint, tmp_path)
    after = snapshot(tmp_path)
    assert {path: content for path, (_, content) in after.items()} == {path: c for path, (_, c) in before.items()}
    assert {path: after[path] for path in kept} == kept


def test_mirror_views_and_a_part_of_the_images_through_sums(endpoint, evaluated, tmp_path):
    config = EvaluateConfig(attacks=(FGSM(epsilon=0.1),), num_attack_examples=15, num_sum_aug_examples=6, batch_size=10)
    settings = {name: {"num_draws": 3} for name in endpoint.models}
    evaluate(endpoint, tmp_path, config=config, mirror=True, sum_aug=settings)
    found = {
        path: read_predictions(tmp_path / "sharp" / f"{path}.npz")
        for path in (
            "test.clean.plain",
            "test.clean.mirror",
            "test.clean.sum_aug",
            "test.fgsm.plain",
            "test.fgsm.sum_aug",
        )
    }
    assert [len(answers.ids) for answers in found.values()] == [45, 45, 6, 15, 6]
    # Two of each of the three classes; the attacked ones are the same images.
    assert np.bincount(found["test.clean.sum_aug"].labels).tolist() == [2, 2, 2]
    assert found["test.fgsm.sum_aug"].ids.tolist() == found["test.clean.sum_aug"].ids.tolist()
    assert found["test.clean.sum_aug"].key["setting"] == {"num_draws": 3}
    local = load_exported(endpoint.paths["sharp"]).predict({"images": make_split(45, seed=1).images}, "mirror")
    np.testing.assert_allclose(found["test.clean.mirror"].probs, local["probs"], atol=1e-6)
    before = snapshot(tmp_path)
    evaluate(endpoint, tmp_path, config=config, mirror=True, sum_aug={**settings, "sharp": {"num_draws": 4}})
    changed = [path for path, content in snapshot(tmp_path).items() if content != before[path]]
    assert changed == ["sharp/shifted.clean.sum_aug.npz", "sharp/test.clean.sum_aug.npz", "sharp/test.fgsm.sum_aug.npz"]


def test_other_weights_are_asked_again(endpoint, evaluated, tmp_path):
    for path, (_, content) in snapshot(evaluated[0]).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    evaluate(endpoint, tmp_path, weights_sha256={"sharp": "cc", "soft": "bb"}, attacked=())
    assert read_predictions(tmp_path / "sharp" / "test.clean.plain.npz").key["weights_sha256"] == "cc"


def test_endpoint_that_serves_another_model_is_refused(endpoint, tmp_path):
    models = {"sharp": ColumnModel(-0.4)}
    with pytest.raises(ValueError, match="'sharp' is not the model of this workdir: its probabilities differ by"):
        evaluate(endpoint, tmp_path, models=models)
    assert not list(tmp_path.iterdir())


def test_no_shifted_set_and_no_attack_is_a_clean_evaluation(endpoint, tmp_path):
    config = EvaluateConfig(attacks=())
    info = evaluate(
        endpoint, tmp_path, models={"soft": endpoint.models["soft"]}, shifted=None, config=config, attacked=()
    )
    assert set(snapshot(tmp_path)) == {"soft/test.clean.plain.npz", "soft/test.clean.sum_aug.npz"}
    assert info == {"test": {"num_examples": 45}, "shifted": None, "attacks": {}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attacked": ("hard",)}, "attacked does not fit models: hard; models: sharp, soft"),
        ({"weights_sha256": {"sharp": "aa"}}, "weights_sha256 does not fit models: soft"),
    ],
)
def test_names_that_do_not_fit_are_refused(endpoint, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(endpoint, tmp_path, **changes)
