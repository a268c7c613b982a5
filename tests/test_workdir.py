"""What makes two trainings the same, and what a workdir keeps over a restart: rows, seconds, checkpoints, the best."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from tfaug.augment import Flip, ManifoldMixup
from tfaug.config import ConfigError, hash_of, identity
from tfaug.data import CorruptedDigits, DataConfig
from tfaug.evaluate import EvaluateConfig
from tfaug.experiment import Experiment, TestSet, plans
from tfaug.export import ExportConfig
from tfaug.models import LeNet, ResNet
from tfaug.schedules import Constant
from tfaug.train.callbacks import EpochRecorder
from tfaug.train.methods import Distill
from tfaug.train.optimizers import SGD
from tfaug.train.order import Order
from tfaug.train.phase import Phase, Training
from tfaug.train.plateau import ReduceOnPlateau
from tfaug.train.stop import EarlyStop
from tfaug.train.teachers import FromWorkdir
from tfaug.workdir import HISTORY_FIELDS, PhaseFolder, Workdir


@dataclasses.dataclass(frozen=True)
class Backwards(Order):
    """Every example once, last to first."""


TEACHER = Training("teacher", LeNet(), (Phase("train", 9, Constant(0.1)), Phase("refine", 8, Constant(0.1))))
STUDENT = Training("student", LeNet(), (Phase("distill", 1, Constant(0.1)),), Distill("teacher"))
OTHER = Training("other", LeNet(), (Phase("alone", 1, Constant(0.1)),), Distill(FromWorkdir("build/a")))
BASE = Experiment("e", trainings=(TEACHER, STUDENT, OTHER))
# Phases by the places of their trainings and their own.
TAUGHT = {(1, 0)}
REFINED = {(0, 1), *TAUGHT}
TRAINED = {(0, 0), *REFINED}
EVERY = {*TRAINED, (2, 0)}

# Of each field another value, and the phases that are others then.
EXPERIMENT: dict[str, tuple[Any, set]] = {
    "name": ("another title", set()),
    "data": (DataConfig(split_seed=1), EVERY),
    "test_sets": ((TestSet("shifted", CorruptedDigits()),), set()),
    "export": (ExportConfig(bank_size=9), set()),
    "evaluate": (EvaluateConfig(seed=3), set()),
    "seed": (1, EVERY),
    "precision": ("fp32", EVERY),
    "deterministic": (True, EVERY),
}
TRAINING: dict[str, tuple[Any, set]] = {
    "model": (ResNet(20), TRAINED),
    "method": (Distill(FromWorkdir("build/a")), TRAINED),
    "export": ("last", set()),
}
PHASE: dict[str, Any] = {
    "name": "polish",
    "epochs": 7,
    "schedule": Constant(0.2),
    "augment": (Flip(),),
    "batch_size": 64,
    "loss": "binary_cross_entropy",
    "label_smoothing": 0.1,
    "optimizer": SGD(0.5),
    "weight_decay": 0.0,
    "augment_on": "device",
    "engine": "keras_cv",
    "mix_features": ManifoldMixup(),
    "order": Backwards(),
    "stop": EarlyStop(),
    "keep": "best",
    "batch_of": "sums",
    "accumulate": 2,
    "ema": 0.9,
    "plateau": ReduceOnPlateau(0),
    "keep_epochs": 2,
    "risk_batches": 1,
}
DISTILL: dict[str, Any] = {
    "teacher": "teacher/train",
    "alpha": 0.3,
    "temperature": 2.0,
    "direction": "student_teacher",
    "augment": "student",
    "data": CorruptedDigits(),
}
FROM_WORKDIR: dict[str, Any] = {"path": "build/b", "training": "x", "phase": 0, "which": "best"}
EXPORT: dict[str, Any] = {
    "draws": (4,),
    "num_inputs": 3,
    "weights": (0.5,),
    "bank_size": 9,
    "mirror": True,
    "num_examples": 10,
    "seed": 1,
    "precision": "bf16",
}


def changed(experiment: Experiment) -> set[tuple[int, int]]:
    """Returns the phases whose hashes are not those of `BASE`."""

    def hashes(of: Experiment) -> dict[tuple[int, int], str]:
        return {(p, i): each for p, plan in enumerate(plans(of).values()) for i, each in enumerate(plan.hashes)}

    old, new = hashes(BASE), hashes(experiment)
    assert old.keys() == new.keys()
    return {place for place in old if old[place] != new[place]}


def with_training(place: int, **changes: Any) -> Experiment:
    trainings = list(BASE.trainings)
    trainings[place] = dataclasses.replace(trainings[place], **changes)
    return dataclasses.replace(BASE, trainings=tuple(trainings))


def with_phase(index: int, **changes: Any) -> Experiment:
    phases = list(TEACHER.phases)
    phases[index] = dataclasses.replace(phases[index], **changes)
    return with_training(0, phases=tuple(phases))


def test_the_tables_have_every_field() -> None:
    for table, cls, elsewhere in (
        (EXPERIMENT, Experiment, {"trainings"}),
        (TRAINING, Training, {"name", "phases"}),
        (PHASE, Phase, set()),
        (DISTILL, Distill, set()),
        (FROM_WORKDIR, FromWorkdir, set()),
        (EXPORT, ExportConfig, set()),
    ):
        assert set(table) | elsewhere == {field.name for field in dataclasses.fields(cls)}, cls


@pytest.mark.parametrize("field", EXPERIMENT)
def test_only_data_seed_and_arithmetic_of_an_experiment_train_again(field: str) -> None:
    value, expected = EXPERIMENT[field]
    assert changed(dataclasses.replace(BASE, **{field: value})) == expected


@pytest.mark.parametrize("field", TRAINING)
def test_a_training_is_its_model_and_method(field: str) -> None:
    value, expected = TRAINING[field]
    assert changed(with_training(0, **{field: value})) == expected


@pytest.mark.parametrize("field", PHASE)
def test_a_phase_changes_itself_what_follows_and_whom_it_teaches(field: str) -> None:
    assert changed(with_phase(1, **{field: PHASE[field]})) == REFINED
    assert changed(with_phase(0, **{field: PHASE[field]})) == TRAINED


@pytest.mark.parametrize("field", DISTILL)
def test_a_method_changes_its_student_alone(field: str) -> None:
    method = dataclasses.replace(STUDENT.method, **{field: DISTILL[field]})
    assert changed(with_training(1, method=method)) == TAUGHT


@pytest.mark.parametrize("field", FROM_WORKDIR)
def test_a_teacher_from_elsewhere_is_known_by_where_it_is(field: str) -> None:
    teacher = dataclasses.replace(OTHER.method.teacher, **{field: FROM_WORKDIR[field]})
    assert changed(with_training(2, method=Distill(teacher))) == {(2, 0)}


def test_a_teacher_is_known_by_what_it_has_learned_and_not_by_its_name() -> None:
    renamed = dataclasses.replace(TEACHER, name="professor")
    student = dataclasses.replace(STUDENT, method=Distill("professor"))
    assert changed(dataclasses.replace(BASE, trainings=(renamed, student, OTHER))) == set()
    asked = dataclasses.replace(STUDENT, method=Distill("teacher/train"))
    both = [dataclasses.replace(BASE, trainings=(teacher, asked, OTHER)) for teacher in (TEACHER, TEACHER)]
    phases = (TEACHER.phases[0], dataclasses.replace(TEACHER.phases[1], epochs=9))
    both[1] = dataclasses.replace(both[1], trainings=(dataclasses.replace(TEACHER, phases=phases), asked, OTHER))
    assert plans(both[0])["student"].hashes == plans(both[1])["student"].hashes


def test_the_same_training_in_another_place_draws_otherwise() -> None:
    moved = dataclasses.replace(BASE, trainings=(OTHER, TEACHER, STUDENT))
    for name in ("teacher", "student", "other"):
        assert plans(moved)[name].hashes[0] != plans(BASE)[name].hashes[0]


def test_a_field_at_its_default_is_not_hashed() -> None:
    """So a release with a field more reads old folders."""
    fields = [("rate", float, 0.5), ("more", str, "as before")]
    known, grown = (
        dataclasses.make_dataclass("Part", fields[:count], frozen=True, namespace={"__module__": "tfaug.part"})
        for count in (1, 2)
    )
    assert hash_of(identity(known(0.1))) == hash_of(identity(grown(0.1)))
    assert hash_of(identity(known(0.1))) != hash_of(identity(grown(0.1, "otherwise")))
    for field, default in (("seed", 0), ("precision", "bf16"), ("deterministic", False), ("data", DataConfig())):
        assert changed(dataclasses.replace(BASE, **{field: default})) == set()


@pytest.mark.parametrize("field", EXPORT)
def test_every_setting_of_an_export_makes_another_one(field: str) -> None:
    assert hash_of(identity(ExportConfig(**{field: EXPORT[field]}))) != hash_of(identity(ExportConfig()))


# -- what an epoch leaves ------------------------------------------------------------------------------------------


def record(folder: PhaseFolder, accuracies: list[float], num_finished: int = 0, stop=None, on_epoch=None) -> list[int]:
    """Ends epochs of these validation accuracies as training does; returns those after which it saved the best."""
    saved: list[int] = []
    current = num_finished

    def save(path: pathlib.Path) -> None:
        assert path == folder.weights("best")
        assert len(folder.read_history()) == current  # no row yet: one that dies here does the epoch again
        saved.append(current + 1)

    state = SimpleNamespace(write=lambda partial: (partial / "state").write_text("whole"))
    recorder = EpochRecorder(folder, state, save, stop, num_finished, on_epoch)
    recorder.set_model(model := SimpleNamespace(stop_training=False))
    folder.write_history(recorder.rows)
    for accuracy in accuracies:
        model.optimizer = SimpleNamespace(
            iterations=tf.constant(3 * (current + 1)), learning_rate=tf.constant(0.5 / (current + 1))
        )
        recorder.on_epoch_begin(current)
        values = {"loss": 1.5, "accuracy": 0.5, "val_loss": 2.5 + current, "val_accuracy": accuracy}
        recorder.on_epoch_end(current, values)
        current += 1
        if model.stop_training:
            break
    return saved


def test_an_epoch_leaves_a_row_and_the_two_newest_states(tmp_path: pathlib.Path) -> None:
    folder, seconds = PhaseFolder(tmp_path / "0_train"), []
    record(folder, [0.1] * 11, on_epoch=seconds.append)
    rows = folder.read_history()
    assert [row["epoch"] for row in rows] == [str(i) for i in range(1, 12)]
    assert [float(row["seconds"]) for row in rows] == seconds
    expected = {"step": 6, "learning_rate": 0.25, "loss": 1.5, "accuracy": 0.5, "val_loss": 3.5, "val_accuracy": 0.1}
    assert {field: float(rows[1][field]) for field in expected} == expected
    assert tuple(rows[1]) == HISTORY_FIELDS
    (folder.path / "checkpoints" / ".partial-1-epoch_0012").mkdir()
    (folder.path / "checkpoints" / "epoch_0013").write_text("no folder")
    assert folder.checkpoints() == [10, 11]
    assert (folder.checkpoint(11) / "state").read_text() == "whole"


def test_the_best_is_the_earliest_of_the_highest_accuracy(tmp_path: pathlib.Path) -> None:
    assert record(PhaseFolder(tmp_path), [0.0, 0.5, 0.25, 0.5, 0.75, 0.6]) == [1, 2, 5]


def test_a_restart_keeps_the_rows_before_it_and_drops_those_after(tmp_path: pathlib.Path) -> None:
    folder = PhaseFolder(tmp_path)
    record(folder, [0.5, 0.7, 0.6, 0.9, 0.8])
    before = folder.read_history()
    for epoch in (4, 5):  # as if it had died after the rows and before the states
        shutil.rmtree(folder.checkpoint(epoch))
    saved = record(folder, [0.7, 0.8], num_finished=3)
    after = folder.read_history()
    assert after[:3] == before[:3]
    assert [(row["epoch"], row["val_accuracy"]) for row in after[3:]] == [("4", "0.7"), ("5", "0.8")]
    assert saved == [5]  # beaten is what stands in the rows kept


def test_a_stop_is_asked_with_the_rows_of_the_process_before(tmp_path: pathlib.Path) -> None:
    folder = PhaseFolder(tmp_path)
    record(folder, [0.5, 0.5])
    record(folder, [0.5] * 5, num_finished=2, stop=EarlyStop(patience=3))
    assert len(folder.read_history()) == 4  # the loss was lowest in the first


def test_a_phase_without_files_has_neither_rows_nor_states(tmp_path: pathlib.Path) -> None:
    assert PhaseFolder(tmp_path / "none").read_history() == [] == PhaseFolder(tmp_path / "none").checkpoints()


# -- the folder itself ---------------------------------------------------------------------------------------------


def test_seconds_add_up_over_processes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    clock = [0.0]
    monkeypatch.setattr("tfaug.workdir.time.perf_counter", lambda: clock[0])
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), Workdir(tmp_path).stage("train") as stage:
            clock[0] += 2.0
            stage.book()
            clock[0] += 0.5
            raise KeyboardInterrupt
    Workdir(tmp_path).add_seconds("report", 0.25)
    assert json.loads((tmp_path / "timings.json").read_text()) == {"train": 5.0, "report": 0.25}


def test_the_settings_are_those_of_the_last_command_and_the_start_that_of_the_first(tmp_path: pathlib.Path) -> None:
    workdir = Workdir(tmp_path / "run")
    workdir.begin(BASE)
    first = json.loads(workdir.config_path.read_text())
    written = workdir.config_path.stat().st_mtime_ns
    workdir.begin(BASE)
    assert workdir.config_path.stat().st_mtime_ns == written
    workdir.config_path.write_text(json.dumps({**first, "started": "long ago"}))
    workdir.begin(dataclasses.replace(BASE, name="f"))
    second = json.loads(workdir.config_path.read_text())
    assert (first["config"]["name"], second["config"]["name"], second["started"]) == ("e", "f", "long ago")
    assert first["fingerprint"] != second["fingerprint"]


def test_a_folder_serves_one_process_at_a_time(tmp_path: pathlib.Path) -> None:
    in_use = pytest.raises(ConfigError, match="is in use by another tfaug process")
    with Workdir(tmp_path).lock(), in_use, Workdir(tmp_path).lock():
        pass
    with Workdir(tmp_path).lock():
        pass


def test_what_is_no_folder_of_a_run_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file is a file; allowed: a folder"):
        Workdir(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"holds file but no config\.json"):
        Workdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    Workdir(tmp_path)
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".lock").write_text("")
    Workdir(tmp_path / "hidden")
