"""The studies of sums and of refinement are whole; what they train is what the papers say."""

from __future__ import annotations

import dataclasses

import pytest

from experiments import refine, sums
from tfaug.augment import Flip, Mixup, PadCrop, SumAug
from tfaug.config import ConfigError
from tfaug.experiment import plans
from tfaug.schedules import Constant, Step
from tfaug.train.phase import Phase, resolve_schedules


@pytest.mark.parametrize(
    "make",
    [
        *(sums.sums, sums.sums_paper, sums.sums_paper_50k, sums.ablations),
        *(refine.refine, refine.refine_paper, refine.ablations, refine.gap_splits, refine.gap_lengths),
    ],
)
def test_every_study_is_built_with_three_seeds(make):
    study = make()
    assert study.seeds == (0, 1, 2) and study.tables
    for experiment in study.arms.values():
        assert plans(experiment) and not experiment.evaluate.attacks
        assert "LastEpochs" in {type(each).__name__ for each in experiment.evaluate.evaluators}


def test_a_cascade_is_that_of_the_authors():
    phases = sums.sums("paper").arms["cascade_8_4_2_1"].trainings[0].phases
    assert [(p.name, p.num_drawn, p.schedule.initial) for p in phases] == [
        *(("sum8", 400, 0.05), ("sum4", 200, 0.05), ("sum2", 100, 0.05), ("single", 50, 0.01)),
    ]
    assert [(p.plateau.patience, p.stop.patience, p.epochs) for p in phases] == [
        *((60, 260, 4000), (30, 130, 2000), (15, 65, 1000), (10, 35, 1000)),
    ]
    assert {p.keep for p in phases} == {"best"} and phases[0].augment == (Flip(), PadCrop(4), SumAug(8))
    study = sums.sums()
    for name in ("cascade_2_1", "cascade_4_2_1", "cascade_8_4_2_1"):
        assert study.arms[f"{name}_n8"].trainings == study.arms[name].trainings  # so they are trained once
        assert list(study.arms[name].exported()) == ["sum2", "single"]
        assert [study.arms[f"{name}{end}"].export.draws for end in ("", "_n8")] == [(64,), (8,)]


def test_refinement_goes_on_at_the_last_rate_with_crops_and_flips():
    for name, heavy in refine._HEAVY.items():
        train, last = refine.refine("paper").arms[name].trainings[0].phases
        assert (train.epochs, last.epochs, train.keep_epochs) == (400, 50, 10)
        assert (train.augment, last.augment) == ((*refine.STANDARD, *heavy), refine.STANDARD)
        rate, small = resolve_schedules((train, last))
        assert [rate.value(epoch, 400) for epoch in (149, 150, 274, 275)] == pytest.approx([0.1, 0.01, 0.01, 0.001])
        assert isinstance(small, Constant) and small.initial == pytest.approx(0.001)


@pytest.mark.parametrize("share", [0.25, 0.375, 0.5, 0.9])
def test_a_phase_that_is_cut_takes_the_rates_of_the_whole(share):
    whole = Phase("train", 40, Step(0.1, (0.375, 0.6875), 0.1), (*refine.STANDARD, Mixup()))
    before, after = refine.removed(whole, share)
    assert before.epochs + after.epochs == 40 and before.epochs == 40 * share
    rates = [phase.schedule.value(10 * e, 10 * phase.epochs) for phase in (before, after) for e in range(phase.epochs)]
    assert rates == pytest.approx([whole.schedule.value(10 * e, 400) for e in range(40)])
    assert (before.augment, after.augment) == (whole.augment, refine.STANDARD)
    assert refine.removed(whole, 1) == (whole,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sums.sums("large"), "scale is 'large'; allowed: small, paper, paper_50k"),
        (lambda: refine.refine("large"), "scale is 'large'; allowed: small, paper"),
        (lambda: refine.removed(Phase("a", 4, Constant(0.1)), 0.5), "allowed: a Step, above 0 to 1"),
        (lambda: refine.removed(dataclasses.replace(Phase("a", 4, Step())), 0.0), "share 0.0; allowed"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
