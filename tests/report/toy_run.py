"""A finished run, written by hand, whose every number can be worked out on paper."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np

from tfaug.evaluate import Classification, Evaluator, Gain, Shift, UnderAttack
from tfaug.evaluate.base import measure
from tfaug.predictions import Predictions, read_predictions
from tfaug.workdir import Workdir, write_rows

NUM_TEST = 10
NUM_CLASSES = 3
ATTACKED = [0, 2, 4, 6]
TRAININGS = {"teacher": ["train", "refine"], "student": ["distill"]}
WEIGHTS = {"train": "a" * 64, "refine": "b" * 64, "student": "c" * 64}


def write_json(path: pathlib.Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_answers(
    workdir: pathlib.Path,
    name: str,
    *,
    wrong: list[int],
    confidence: float = 0.8,
    ids: list[str] | None = None,
    labels: np.ndarray | None = None,
    weights: str = "",
) -> None:
    """Writes predictions/NAME.npz: each answer has the same confidence, the rest is shared by the other classes."""
    ids = [f"test-{i}" for i in range(NUM_TEST)] if ids is None else ids
    labels = np.arange(len(ids), dtype=np.int64) % NUM_CLASSES if labels is None else labels
    chosen = labels.copy()
    chosen[wrong] = (labels[wrong] + 1) % NUM_CLASSES
    probs = np.full((len(ids), NUM_CLASSES), (1 - confidence) / (NUM_CLASSES - 1), np.float32)
    probs[np.arange(len(ids)), chosen] = confidence
    path = workdir / "predictions" / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    key = json.dumps({"weights_sha256": WEIGHTS[weights or name.split("/")[0]]})
    np.savez(path, probs=probs, logits=np.log(probs), labels=labels, ids=np.array(ids), key=np.array(key))


def write_attacked(workdir: pathlib.Path, name: str, *, wrong: list[int]) -> None:
    """Writes answers to the attacked images, a part of the test set."""
    ids = [f"test-{i}" for i in ATTACKED]
    write_answers(workdir, name, wrong=wrong, ids=ids, labels=np.array(ATTACKED, np.int64) % NUM_CLASSES)


def write_result(workdir: pathlib.Path, who: str, phases: list[str], num_parameters: int) -> None:
    hashes = [WEIGHTS.get(phase, WEIGHTS["student"]) for phase in phases]
    write_json(
        workdir / who / "result.json",
        {
            "weights_sha256": hashes[-1],
            "num_parameters": num_parameters,
            "phases": [
                {
                    "name": phase,
                    "epochs": 2,
                    "val_accuracy": 0.9,
                    "val_nll": 0.3,
                    "seconds": 4.0,
                    "weights_sha256": each,
                }
                for phase, each in zip(phases, hashes, strict=True)
            ],
            "images_per_second": 1500.0,
        },
    )


def write_history(workdir: pathlib.Path, folder: str, rows: list[str]) -> None:
    path = workdir / folder / "history.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    header = "epoch,step,learning_rate,loss,accuracy,val_loss,val_accuracy,seconds"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


EVALUATORS = (Classification(), Gain(), Shift(), UnderAttack())


class Answers:
    """A context that hands out the predictions on disk."""

    modes = ("plain", "mirror", "sum_aug")

    def __init__(self, workdir: pathlib.Path):
        meanings = json.loads((workdir / "rows.json").read_text())
        self.models, self.sets, self.attacks = (tuple(meanings[kind]) for kind in ("models", "sets", "attacks"))
        self.attacked = self.models
        self._workdir = Workdir(workdir)

    def predictions(self, model: str, set_name: str, attack: str = "clean", mode: str = "plain") -> Predictions | None:
        path = self._workdir.predictions(model, set_name, attack, mode)
        return read_predictions(path) if path.exists() else None


def measure_again(workdir: pathlib.Path, evaluators: tuple[Evaluator, ...] = EVALUATORS) -> None:
    """Writes the rows of the predictions on disk."""
    write_rows(workdir / "rows.csv", measure(evaluators, Answers(workdir)))


def forget(workdir: pathlib.Path, *patterns: str) -> None:
    """Removes files and folders, and measures what is left."""
    for pattern in patterns:
        found = list(workdir.glob(pattern))
        assert found, pattern
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    measure_again(workdir)


def write_run(workdir: pathlib.Path) -> None:
    """Writes a run of two phases and a student, with attacks, a shifted set and everything else."""
    write_json(
        workdir / "config.json",
        {
            "config": {
                "class": "Experiment",
                "name": "toy <run> & more",
                "trainings": [
                    {"name": name, "phases": [{"name": phase} for phase in phases]}
                    for name, phases in TRAININGS.items()
                ],
                "export": {"class": "ExportConfig", "draws": [4, 8], "num_inputs": 2, "bank_size": 12},
            },
            "fingerprint": "0123456789ab",
            "versions": {"numpy": "1.26.4", "tensorflow": "2.15.1"},
            "git_commit": "feedbeef",
            "started": "2025-01-02T03:04:05Z",
        },
    )
    write_answers(workdir, "train/test.clean.plain", wrong=[4, 5])
    write_answers(workdir, "train/test.clean.sum_aug", wrong=[4], confidence=0.6)
    write_answers(workdir, "refine/test.clean.plain", wrong=[4])
    write_answers(workdir, "refine/test.clean.mirror", wrong=[], confidence=0.7)
    write_answers(workdir, "refine/test.clean.sum_aug", wrong=[4, 5, 7], confidence=0.6)
    write_answers(workdir, "student/test.clean.plain", wrong=[4, 5, 7])
    shifted = [f"other-{i}" for i in range(20)]
    write_answers(workdir, "refine/shifted.clean.plain", wrong=list(range(8)), ids=shifted)
    write_answers(workdir, "refine/shifted.clean.sum_aug", wrong=list(range(10)), ids=shifted)
    write_attacked(workdir, "refine/test.fgsm.plain", wrong=[0, 1])
    write_attacked(workdir, "refine/test.fgsm.sum_aug", wrong=[0])
    write_attacked(workdir, "refine/test.pgd.plain", wrong=[0, 1, 2, 3])
    write_attacked(workdir, "refine/test.pgd.sum_aug", wrong=[0, 1])
    fgsm = {"class": "FGSM", "epsilon": 8 / 255}
    pgd = {"class": "PGD", "epsilon": 8 / 255, "step_size": 2 / 255, "num_steps": 10, "random_start": False}
    places = {"train": ("teacher", 0), "refine": ("teacher", 1), "student": ("student", 0)}
    write_json(
        workdir / "rows.json",
        {
            "models": {
                name: {"training": training, "phase": phase, "weights_sha256": WEIGHTS[name]}
                for name, (training, phase) in places.items()
            },
            "sets": {
                "test": {"title": "toy test", "description": "", "num_examples": NUM_TEST},
                "shifted": {"title": "toy shifted", "description": "toy shifted: other toys", "num_examples": 20},
            },
            "attacks": {
                name: {"title": name.upper(), "settings": settings, "num_examples": len(ATTACKED)}
                for name, settings in (("fgsm", fgsm), ("pgd", pgd))
            },
        },
    )
    measure_again(workdir)
    view = {"accuracy_ci95": [0.5, 0.95], "nll_ci95": [0.25, 0.75]}
    gain = {"difference": 0.05, "ci95": [-0.05, 0.15]}
    write_json(
        workdir / "export/refine/test_time.json",
        {
            "weights_sha256": WEIGHTS["refine"],
            "choice": {"num_draws": 8, "weight": 2 / 3, "default": "plain"},
            "rule": "the best one",
            "num_examples": 20,
            "views": [
                {"mode": "plain", "passes": 1, "accuracy": 0.8, "nll": 0.5, **view, "gain": None},
                {
                    **{"mode": "sum_aug", "num_draws": 8, "weight": 2 / 3, "passes": 8},
                    **{"accuracy": 0.85, "nll": 0.625, **view, "gain": gain},
                },
            ],
        },
    )
    write_result(workdir, "teacher", TRAININGS["teacher"], 272474)
    write_result(workdir, "student", TRAININGS["student"], 61706)
    write_history(workdir, "teacher/0_train", ["1,5,0.1,2.0,0.3,1.5,0.5,3.0", "2,10,0.05,1.5,0.5,1.0,0.75,3.0"])
    write_history(workdir, "teacher/1_refine", ["1,5,0.001,1.25,0.6,0.9,0.8,3.0"])
    write_history(workdir, "student/0_distill", ["1,5,0.1,2.0,0.3,1.5,0.5,3.0"])
    images = np.arange(3 * 4 * 8 * 8 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 4, 8, 8, 3)
    (workdir / "figures").mkdir()
    names = np.array(["original", "Flip(p=0.5)", "phase train"])
    np.savez_compressed(workdir / "figures/augmentations.npz", names=names, images=images)
    write_json(workdir / "timings.json", {"train teacher": 61.5, "evaluate": 8.25})
