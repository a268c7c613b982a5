"""The study of `experiments/distill.py`: what each arm trains, and what it shares with the others."""

from __future__ import annotations

import pytest

from experiments import distill
from tfaug.config import ConfigError
from tfaug.experiment import plans

SCALES = ("small", "paper")


@pytest.mark.parametrize("scale", SCALES)
def test_each_table_trains_what_it_compares(scale):
    """By whether the teacher and the student see augmented images: tables 1 and 6, 7 and 8."""
    study = distill.augmentations(scale)
    assert list(study.arms) == ["baseline", "augment", "cutout", "mixup", "cutmix"] and study.seeds == (0, 1, 2)
    for name, experiment in study.arms.items():
        ops = {training.name: training.phases[0].augment for training in experiment.trainings}
        own = distill._OPS[name]
        students = {"lenet": ((), own), "alexnet": ((), own), "lenet_student": (own, ()), "lenet_both": (own, own)}
        seen = {}
        for training in experiment.trainings:
            if training.name in students:
                assert (training.method.temperature, training.method.alpha) == (20, 0.5)
                assert training.method.augment == "both"
                seen[training.name] = (ops[training.name], ops[training.method.teacher])
        if name == "baseline":
            students = {"lenet": ((), ()), "alexnet": ((), ())}
        assert seen == students


def test_equal_teachers_are_trained_once():
    """The plain teacher in all arms, and nothing else."""
    study = distill.augmentations()
    found = {name: plans(experiment) for name, experiment in study.arms.items()}
    plain = found["baseline"]["teacher"].hashes
    for name in ("augment", "cutout", "mixup", "cutmix"):
        assert found[name]["baseline"].hashes == plain
    hashes = [plan.hashes[-1] for each in found.values() for plan in each.values()]
    assert len(hashes) == 3 + 4 * 6 and len(set(hashes)) == len(hashes) - 4


def test_what_the_paper_prints_stands_beside_every_column():
    study = distill.augmentations()
    printed = {(each.arm, each.column): (each.value, each.note) for each in study.paper}
    assert len(printed) == len(study.paper) == 9 + 4 * 11
    assert printed["baseline", "lenet"] == (65.2, "table 1")
    assert printed["mixup", "alexnet_ece"][0] == 13.0 and printed["mixup", "lenet_student"] == (64.7, "table 7")
    assert printed["cutout", "lenet_both"] == (63.6, "table 8")
    assert "0.474" in printed["augment", "lenet"][1] and "63.0" in printed["augment", "teacher_cinic"][1]
    with pytest.raises(ConfigError, match="scale is 'large'; allowed: small, paper"):
        distill.augmentations("large")
