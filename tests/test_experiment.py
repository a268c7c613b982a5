"""An experiment's names: which may stand beside each other, and whom and what they mean."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tfaug.config import ConfigError
from tfaug.data import CorruptedDigits
from tfaug.evaluate import EvaluateConfig
from tfaug.experiment import Experiment, TestSet
from tfaug.models import LeNet
from tfaug.schedules import Constant
from tfaug.train.methods import Distill
from tfaug.train.phase import Phase, Training

PHASES = (Phase("train", 1, Constant(0.1)), Phase("refine", 1, None))
TEACHER = Training("teacher", LeNet(), PHASES)
STUDENT = Training("student", LeNet(), (Phase("distill", 1, Constant(0.1)),), Distill("teacher"), export="last")
BASE = Experiment("e", trainings=(TEACHER, STUDENT))


def student(**changes: Any) -> Training:
    return dataclasses.replace(STUDENT, **changes)


def test_the_short_form_is_one_training_called_model() -> None:
    short = Experiment("e", model=LeNet(), phases=PHASES)
    assert short == Experiment("e", trainings=(Training("model", LeNet(), PHASES),))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"trainings is \(\); allowed: one training or more"),
        ({"model": LeNet()}, "a model or phases; allowed: both, or trainings instead"),
        ({"phases": PHASES}, "a model or phases; allowed: both"),
        ({"model": LeNet(), "phases": PHASES, "trainings": (TEACHER,)}, "allowed: both, or trainings instead"),
        ({"trainings": (TEACHER, TEACHER)}, "the trainings are named teacher, teacher; teacher is used twice"),
        (
            {"trainings": (TEACHER, student(name="again", phases=PHASES, export="all"))},
            "the exported models are named train, refine, train, refine; refine is used twice",
        ),
        (
            {"trainings": (TEACHER, student(name="train"))},
            "the exported models are named train, refine, train; train is used twice",
        ),
        (
            {"trainings": (TEACHER,), "test_sets": (TestSet("a", CorruptedDigits()), TestSet("a", CorruptedDigits()))},
            "the test sets are named a, a; a is used twice",
        ),
        (
            {"trainings": (dataclasses.replace(TEACHER, name="export"),)},
            "a training is named 'export'; allowed: another",
        ),
        ({"trainings": (STUDENT, TEACHER)}, "student asks the teacher 'teacher'.*before it: there is none"),
        ({"trainings": (student(method=Distill("student")),)}, "student asks the teacher 'student'"),
        (
            {"trainings": (TEACHER, student(method=Distill("nobody")))},
            "asks the teacher 'nobody'.*the trainings before it: teacher",
        ),
        (
            {"trainings": (TEACHER, student(method=Distill("teacher/polish")))},
            "student asks 'teacher/polish'; teacher has the phases train, refine",
        ),
        ({"trainings": (TEACHER,), "evaluate": EvaluateConfig(attacked=("refin",))}, "'refin' .did you mean 'refine'"),
        ({"trainings": (TEACHER,), "precision": "fp16"}, "Experiment.precision is 'fp16'.*allowed: bf16, fp32"),
        ({"trainings": (TEACHER,), "seed": -1}, r"Experiment.seed is -1; allowed: a whole number, 0\.\."),
        (
            {
                "trainings": (TEACHER, student(phases=(Phase("d", 1, Constant(0.1), engine="keras_cv"),))),
                "deterministic": True,
            },
            "deterministic is true with engine='keras_cv'",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Experiment("e", **settings)


@pytest.mark.parametrize("export", ["best", (), ("distill", "refine"), ("distill", "distill"), 1])
def test_what_is_exported_is_a_phase(export: Any) -> None:
    with pytest.raises(ConfigError, match="training student: export is .*; allowed: 'all', 'last' or some of distill"):
        student(export=export)


@pytest.mark.parametrize("name", ["test", "validation", "", "a b", "a/b"])
def test_a_test_sets_name_is_that_of_files(name: str) -> None:
    with pytest.raises(
        ConfigError, match="TestSet.name is .*; allowed: letters, digits and underscores, but not 'test'"
    ):
        TestSet(name, CorruptedDigits())


def test_what_the_names_mean() -> None:
    assert BASE.training("student") is STUDENT
    assert BASE.exported() == {"train": (TEACHER, 0), "refine": (TEACHER, 1), "student": (STUDENT, 0)}
    assert [BASE.asked(name) for name in ("teacher", "teacher/train", "teacher/refine")] == [
        (TEACHER, 1),
        (TEACHER, 0),
        (TEACHER, 1),
    ]
    assert BASE.attacked() == ("train", "refine")
    assert dataclasses.replace(BASE, evaluate=EvaluateConfig(attacked=("student",))).attacked() == ("student",)
    assert dataclasses.replace(TEACHER, export="last").exported() == {"teacher": 1}
    assert dataclasses.replace(TEACHER, export=["refine"]).exported() == {"refine": 1}
