"""The main job as a user runs it: whole, killed and resumed, refused, served."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import pathlib
import re
import shutil
import signal
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest
from tfaug.serving import client

from tests import tiny
from tfaug import augment, metrics
from tfaug.config import ConfigError
from tfaug.data import DataConfig, load_data
from tfaug.data.split import stratified_subset
from tfaug.experiment import CLASSES, Experiment
from tfaug.export import load_exported
from tfaug.expressions import override
from tfaug.models import LeNet
from tfaug.run import Job
from tfaug.schedules import Constant, Linear
from tfaug.train.phase import Phase
from tfaug.workdir import Workdir, read_rows

KEYS = (
    "teacher.test_accuracy",
    "teacher.weights_sha256",
    "student.test_accuracy",
    "served.plain.clean_accuracy",
    "served.plain.pgd_accuracy",
    "served.sum_aug.clean_accuracy",
    "served.sum_aug.pgd_accuracy",
    "gap.difference",
    "gap.ci95",
    "seconds",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """A run that nobody killed, with deterministic kernels."""
    workdir = tmp_path_factory.mktemp("run") / "whole"
    tiny.check_done(tiny.tfaug("run", workdir, "--set", "deterministic=true"))
    return workdir


def summary_of(workdir: pathlib.Path) -> dict:
    return json.loads((workdir / "summary.json").read_text())


def test_a_run_leaves_a_summary_with_the_promised_keys(whole):
    for key in KEYS:
        value = summary_of(whole)
        for part in key.split("."):
            value = value[part]
        assert value is not None, key
    low, high = summary_of(whole)["gap"]["ci95"]
    assert low <= summary_of(whole)["gap"]["difference"] <= high


def test_every_number_is_computed_from_the_predictions_on_disk(whole):
    summary = summary_of(whole)
    for mode in ("plain", "sum_aug"):
        with np.load(whole / "predictions" / "refine" / f"test.clean.{mode}.npz") as held:
            probs, labels = held["probs"], held["labels"]
        assert summary["served"][mode]["clean_accuracy"] == pytest.approx(np.mean(probs.argmax(1) == labels))
        assert summary["served"][mode]["clean_nll"] == pytest.approx(metrics.nll(probs, labels))
    assert summary["teacher"]["test_accuracy"] == summary["served"]["plain"]["clean_accuracy"]


def test_what_is_served_was_chosen_on_validation_images(whole):
    experiment = tiny.run()
    validation = load_data(experiment.data).validation
    chosen = validation.take(stratified_subset(validation.labels, 12, seed=0))
    for name in ("train", "refine", "student"):
        held = json.loads((whole / "export" / name / "test_time.json").read_text())
        model = load_exported(whole / "export" / name)
        assert held["num_examples"] == 12 and model.info["test_time"] == held and model.info["choice"] == held["choice"]
        plain, *sums = held["views"]
        assert [(view["num_draws"], view["weight"]) for view in sums] == [(1, 0.5), (2, 0.5), (1, 0.8), (2, 0.8)]
        right = [each for each in sums if each["num_draws"] == held["choice"]["num_draws"]]
        (right,) = [each for each in right if each["weight"] == held["choice"]["weight"]]
        for view, signature in ((plain, "plain"), (right, "sum_aug")):
            probs = model.predict({"images": chosen.images}, signature)["probs"]
            assert view["nll"] == pytest.approx(metrics.nll(probs, chosen.labels), abs=1e-5)
        told = summary_of(whole)
        told = (told["phases"] | {"student": told["student"]})[name]["test_time"]
        assert told["choice"] == held["choice"] and told["views"] == held["views"]


def test_a_resumed_export_reads_what_was_chosen_for_the_same_weights(tmp_path, monkeypatch):
    """And nothing but the validation split is seen: the data have no other here."""
    seen = []

    def choose(network, bank, validation, config, *, name, progress):
        seen.append((network, validation, name))
        return {"choice": {"num_draws": 8, "weight": 0.5, "default": "plain"}, "num_examples": 3}

    monkeypatch.setattr("tfaug.run.choose_test_time", choose)
    job = Job(Workdir(tmp_path / "run"), tiny.run())
    job.__dict__["data"] = SimpleNamespace(validation="validation images")
    keys = [
        {"weights_sha256": weights, "settings": settings}
        for weights, settings in (("f0", "1"), ("ba", "1"), ("ba", "2"))
    ]
    for i, key in enumerate(keys, start=1):
        first = job._test_time("refine", f"network {i}", None, key)
        assert (
            job._test_time("refine", "another", None, key) == first and first["weights_sha256"] == key["weights_sha256"]
        )
        assert len(seen) == i and seen[-1] == (f"network {i}", "validation images", "refine")


def test_the_config_is_written_with_its_fingerprint_and_versions(whole):
    written = json.loads((whole / "config.json").read_text())
    assert written["config"]["trainings"][0]["phases"][0]["augment"][1] == {
        **{"class": "SumAug", "k": 2},
        **{"coefficients": "mean", "alpha": 0.4, "single_label": False},
    }
    assert re.fullmatch("[0-9a-f]{16}", written["fingerprint"])
    assert written["versions"]["tensorflow"] == importlib.metadata.version("tensorflow")
    assert written["git_commit"]


def test_the_same_command_again_changes_nothing(whole):
    kept = {path: path.stat().st_mtime_ns for path in whole.rglob("*.npz")} | {
        path: path.stat().st_mtime_ns for path in whole.rglob("*.h5")
    }
    sha256 = summary_of(whole)["teacher"]["weights_sha256"]
    tiny.check_done(tiny.tfaug("run", whole, "--set", "deterministic=true"))
    assert summary_of(whole)["teacher"]["weights_sha256"] == sha256
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def kill_when(workdir: pathlib.Path, condition, *flags: str) -> None:
    """Starts the run and kills it as soon as `condition` holds."""
    process = subprocess.Popen(
        tiny.command("run", workdir, *flags), cwd=tiny.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 240
    try:
        while not condition():
            assert process.poll() is None, f"ended before it could be killed: {process.stderr.read().decode()[-2000:]}"
            assert time.monotonic() < deadline
            time.sleep(0.0005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()


def test_a_run_killed_anywhere_ends_with_the_weights_of_one_that_never_was(whole, tmp_path):
    workdir = tmp_path / "killed"
    flags = ("--set", "deterministic=true")

    def being_written(pattern: str):
        return lambda: any(workdir.glob(pattern))

    moments = {
        "second phase, while a checkpoint is being written": being_written("teacher/1_refine/checkpoints/.partial-*"),
        "while an export is being written": being_written("export/refine/.partial-*"),
        "while predictions are being written": being_written("predictions/train/test.clean.plain.npz"),
        "while the report is being written, after its numbers and before its page": being_written("summary.json"),
    }
    for moment, condition in moments.items():
        for _ in range(3):  # A busy machine may look only after the page was written: then it is written again.
            for made in ("summary.json", "report.html"):
                (workdir / made).unlink(missing_ok=True)
            kill_when(workdir, condition, *flags)
            if not (workdir / "report.html").exists():
                break
        assert not (workdir / "report.html").exists(), moment
    tiny.check_done(tiny.tfaug("run", workdir, *flags))
    assert summary_of(workdir)["teacher"]["weights_sha256"] == summary_of(whole)["teacher"]["weights_sha256"]
    results = [json.loads((run / "student" / "result.json").read_text()) for run in (whole, workdir)]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
    assert summary_of(workdir)["served"] == summary_of(whole)["served"]
    assert not tiny.files_below(workdir / "export", [".partial-*"])


def test_a_workdir_of_another_config_is_refused_and_left_as_it_was(whole):
    before = (whole / "config.json").read_bytes()
    refused = tiny.tfaug("run", whole, "--set", "deterministic=true", "--set", "phases.0.epochs=5")
    assert refused.returncode == 2
    assert "phases.0.epochs: 3 -> 5" in refused.stderr
    assert (whole / "config.json").read_bytes() == before


def test_a_folder_with_somebodys_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    refused = tiny.tfaug("train", tmp_path)
    assert refused.returncode == 2
    assert "thesis.tex" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_teacher_that_is_not_there_is_named(tmp_path):
    asked = f'trainings.student.method.teacher=FromWorkdir("{tmp_path / "nobody"}")'
    refused = tiny.tfaug("train", tmp_path / "run", "--set", asked)
    assert refused.returncode == 2
    assert "nobody holds no run" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_serve_answers_until_it_is_stopped(whole):
    process = subprocess.Popen(
        [*tiny.command("serve", whole, "--set", "deterministic=true"), "--port=0", "--rest_port=0"],
        cwd=tiny.ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            if match := re.search(r"gRPC on (\S+?:\d+)", line):
                break
        else:
            pytest.fail("the server never said where it listens")
        images = np.zeros([1, 32, 32, 3], np.uint8)
        answer = client.Client(match[1]).predict("refine", {"images": images})
        np.testing.assert_allclose(answer["probs"].sum(), 1.0, atol=1e-5)
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest


def test_evaluate_asks_the_endpoint_it_is_given(whole, tmp_path):
    refused = tiny.tfaug("evaluate", whole, "--set", "deterministic=true", "--endpoint=127.0.0.1:1")
    assert refused.returncode != 0
    assert "127.0.0.1:1" in refused.stderr


class InProcess:
    """Answers as the endpoint of these exports would."""

    def __init__(self, exports):
        self.exports = exports

    def predict(self, model, inputs, signature, **_):
        return load_exported(self.exports[model]).predict(inputs, signature)


def test_other_attacks_on_a_finished_run_train_nothing_and_stand_in_the_report(whole, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    kept = {path: path.read_bytes() for path in workdir.rglob("*") if path.suffix in (".npz", ".h5", ".pb")}
    config = tiny.run()
    for setting in ("deterministic=true", "evaluate.attacks=(PGD(epsilon=4/255, num_steps=2), PGD(num_steps=2))"):
        config = override(config, setting, CLASSES)
    monkeypatch.setattr("tfaug.run._client", lambda target, exports: contextlib.nullcontext(InProcess(exports)))
    job = Job(Workdir(workdir), config)
    job.workdir.begin(config)
    job.evaluate()
    job.report()
    assert {path: path.read_bytes() for path in kept} == kept
    old, new = summary_of(whole), summary_of(workdir)
    assert [attack["title"] for attack in new["attacks"].values()] == ["PGD 4/255", "PGD 8/255"]
    served = new["phases"]["train"]["served"]["plain"]
    assert served["pgd_8_255_accuracy"] == old["phases"]["train"]["served"]["plain"]["pgd_accuracy"]
    assert served["pgd_4_255_accuracy"] >= served["pgd_8_255_accuracy"]
    assert (new["teacher"], new["student"], new["gap"]) == (old["teacher"], old["student"], old["gap"])
    assert new["notes"] == {}
    page = (workdir / "report.html").read_text()
    assert "PGD 4/255" in page and "PGD 8/255" in page and "FGSM" not in page
    rows = read_rows(workdir / "rows.csv")
    assert {row.attack for row in rows} == {"clean", "pgd_4_255", "pgd_8_255"}
    assert [dataclasses.asdict(row) for row in rows] == new["rows"][: len(rows)]  # then what the stages recorded


@dataclasses.dataclass(frozen=True)
class Halve(augment.Augmentation):
    """Keeps every second row and column."""

    def sample(self, seed, shape, progress=None):
        return {}

    def apply(self, batch, choice):
        return augment.Batch(batch.images[:, ::2, ::2], batch.labels)


@dataclasses.dataclass(frozen=True)
class Refuse(augment.Augmentation):
    """Takes no image."""

    def sample(self, seed, shape, progress=None):
        raise ConfigError(f"images of {shape[1]} px are too small")


def test_the_pictures_show_every_operation_that_takes_the_images(tmp_path, monkeypatch, capsys):
    """Scheduled ones as in the middle of a phase, those of another size scaled, a refusal with a note; where trainings are
    shared, those of the phases alone."""
    monkeypatch.setattr(augment, "AUGMENTATIONS", {"Halve": Halve, "Refuse": Refuse})
    ops = (augment.Flip(alternate=True), augment.GradualSumAug(2), augment.CutMix(p=Linear(0, 1)))
    experiment = Experiment("e", model=LeNet(), phases=(Phase("train", 1, Constant(0.1), ops),))
    data = load_data(DataConfig(num_train_examples=40), cache_dir=tmp_path)
    found = {}
    for name, trainings in (("alone", None), ("shared", tmp_path / "trainings")):
        job = Job(Workdir(tmp_path / name, trainings), experiment)
        job.__dict__["data"] = data
        job._draw_augmentations()
        with np.load(job.workdir.augmentations) as held:
            found[name] = held["names"].tolist(), held["images"]
    names, images = found["alone"]
    assert names == ["original", "Halve()", *map(repr, ops), "phase train"]
    assert found["shared"][0] == [name for name in names if name != "Halve()"]
    np.testing.assert_array_equal(images[1, :, ::2, ::2], images[0, :, ::2, ::2])
    np.testing.assert_array_equal(images[1, :, 1::2], images[1, :, ::2])
    assert "Refuse" in (said := capsys.readouterr().err) and "images of 32 px are too small" in said
