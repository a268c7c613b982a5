"""The numbers of the report: each one against a value worked out by hand."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib

import numpy as np
import pytest
from toy_run import WEIGHTS, measure_again, write_answers

from tfaug.report import read_run, short_table, summarize
from tfaug.report.text import duration, percent, verdict


@pytest.fixture
def summary(workdir: pathlib.Path) -> dict:
    return summarize(read_run(workdir))


def test_teacher_is_the_last_phase_asked_plainly(summary):
    teacher = summary["teacher"]
    assert teacher["test_accuracy"] == 0.9  # 9 of 10
    assert teacher["test_accuracy_ci95"] == pytest.approx([0.5958, 0.9821], abs=5e-5)  # Wilson's interval of 9 of 10
    assert teacher["weights_sha256"] == WEIGHTS["refine"]
    assert (teacher["num_parameters"], teacher["num_test"], teacher["model"]) == (272474, 10, "refine")


def test_student_is_measured_on_its_own_answers(summary):
    assert summary["student"]["test_accuracy"] == 0.7
    assert summary["student"]["weights_sha256"] == WEIGHTS["student"]
    assert summary["student"]["num_parameters"] == 61706


def test_clean_numbers_equal_hand_derived_ones(summary):
    # Nine right at a confidence of .8 and one wrong, whose label has .1 left: log-likelihoods of .8 and .1, one bin of
    # confidence .8 with an accuracy of .9, and squared errors .2^2 + 2 * .1^2 (right), .8^2 + .9^2 + .1^2 (wrong).
    plain = summary["served"]["plain"]
    assert plain["clean_accuracy"] == 0.9
    assert plain["clean_nll"] == pytest.approx(-(9 * math.log(0.8) + math.log(0.1)) / 10, abs=1e-6)
    assert plain["clean_ece"] == pytest.approx(0.1, abs=1e-6)
    assert plain["clean_brier"] == pytest.approx((9 * 0.06 + 1.46) / 10, abs=1e-6)
    # Seven right at .6, three wrong whose labels have .2 each.
    sum_aug = summary["served"]["sum_aug"]
    assert sum_aug["clean_accuracy"] == 0.7
    assert sum_aug["clean_nll"] == pytest.approx(-(7 * math.log(0.6) + 3 * math.log(0.2)) / 10, abs=1e-6)
    assert sum_aug["clean_ece"] == pytest.approx(0.1, abs=1e-6)


def test_every_phase_is_reported(summary):
    assert list(summary["phases"]) == ["train", "refine"]
    train = summary["phases"]["train"]["served"]
    assert (train["plain"]["clean_accuracy"], train["sum_aug"]["clean_accuracy"]) == (0.8, 0.9)
    assert summary["phases"]["refine"]["served"]["plain"] == summary["served"]["plain"]
    assert summary["served"]["model"] == "refine"


def test_accuracy_under_attack_counts_the_attacked_images(summary):
    plain, sum_aug = summary["served"]["plain"], summary["served"]["sum_aug"]
    assert (plain["fgsm_accuracy"], plain["pgd_accuracy"]) == (0.5, 0.0)
    assert (sum_aug["fgsm_accuracy"], sum_aug["pgd_accuracy"]) == (0.75, 0.5)
    assert plain["pgd_num_examples"] == 4
    # Images 0, 2, 4 and 6 were attacked; of these the plain answers miss image 4 when it is clean.
    assert plain["pgd_clean_accuracy"] == 0.75
    assert plain["pgd_accuracy_ci95"][0] == 0 and plain["pgd_accuracy_ci95"][1] == pytest.approx(0.4899, abs=5e-5)
    assert "fgsm_accuracy" not in summary["phases"]["train"]["served"]["plain"]
    assert summary["attacks"]["pgd"]["num_steps"] == 10


def test_gap_to_other_images_is_drawn_independently(summary):
    gap = summary["gap"]
    assert gap["difference"] == pytest.approx(0.9 - 0.6)
    assert (gap["test_accuracy"], gap["shifted_accuracy"]) == (0.9, 0.6)
    assert (gap["test_set"], gap["shifted_set"], gap["resampling"]) == ("toy test", "toy shifted", "independent")
    # The definition, image by image: a step of the percentile is 1/20.
    generator = np.random.default_rng(1)
    test, shifted = np.arange(10) != 4, np.arange(20) >= 8
    draws = [
        test[generator.integers(0, 10, 10)].mean() - shifted[generator.integers(0, 20, 20)].mean() for _ in range(20000)
    ]
    assert gap["ci95"] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.051)
    assert gap["ci95"][0] < 0.3 < gap["ci95"][1]
    assert summary["phases"]["refine"]["gap"]["sum_aug"]["difference"] == pytest.approx(0.2)
    assert summary["phases"]["train"]["gap"]["plain"] is None


def test_gap_to_the_same_images_changed_is_drawn_in_pairs(workdir):
    order = [f"test-{i}" for i in reversed(range(10))]
    labels = np.arange(10)[::-1] % 3
    write_answers(workdir, "refine/shifted.clean.plain", wrong=[5], ids=order, labels=labels)  # test-4 again
    write_answers(workdir, "refine/shifted.clean.sum_aug", wrong=[5], ids=order, labels=labels)
    measure_again(workdir)
    gap = summarize(read_run(workdir))["gap"]
    # Each image is right in both or wrong in both: no resample of pairs has any gap.
    assert (gap["resampling"], gap["difference"], gap["ci95"]) == ("paired", 0.0, [0.0, 0.0])


def test_seconds_are_the_sum_of_the_stages(summary):
    assert summary["seconds"] == 69.75
    assert summary["timings"] == {"train teacher": 61.5, "evaluate": 8.25}
    assert summary["images_per_second"] == 1500.0


def test_sum_aug_settings_come_from_the_config(summary):
    assert summary["sum_aug"] == {"draws": [4, 8], "num_inputs": 2, "bank_size": 12}


def test_gain_is_the_paired_difference_to_plain_answers(summary):
    refine, train = summary["served"], summary["phases"]["train"]["served"]
    assert refine["plain"]["gain"] is None
    # Plain misses image 4; mirror none: one of ten, so Binomial(10, .1) / 10 is drawn: quantiles 0 and 3.
    assert refine["mirror"]["gain"] == {
        **{"difference": 0.1, "ci95": [0.0, pytest.approx(0.3)]},
        **{"plain_accuracy": 0.9, "num_examples": 10},
    }
    # Sums miss 5 and 7 besides: Binomial(10, .2), quantiles 0 and 5.
    assert refine["sum_aug"]["gain"]["difference"] == pytest.approx(-0.2)
    assert refine["sum_aug"]["gain"]["ci95"] == pytest.approx([-0.5, 0.0])
    assert train["sum_aug"]["gain"]["difference"] == pytest.approx(0.1)
    assert [refine[mode]["passes"] for mode in ("plain", "mirror", "sum_aug")] == [1, 2, 8]
    assert train["sum_aug"]["passes"] is None


def test_gain_of_a_part_of_the_images_is_against_plain_answers_to_that_part(workdir):
    order = [f"test-{i}" for i in (5, 4)]
    labels = np.array([5 % 3, 4 % 3])
    for model in ("train", "refine"):
        write_answers(workdir, f"{model}/test.clean.sum_aug", wrong=[1], ids=order, labels=labels)
    measure_again(workdir)
    served = summarize(read_run(workdir))["phases"]["train"]["served"]["sum_aug"]
    # Of images 5 and 4 plain answers of train miss both.
    assert (served["gain"]["plain_accuracy"], served["gain"]["difference"], served["num_test"]) == (0.0, 0.5, 2)


def test_what_was_chosen_on_validation_images_is_told_for_each_model(summary):
    test_time = summary["phases"]["refine"]["test_time"]
    assert test_time["choice"] == {"num_draws": 8, "weight": 2 / 3, "default": "plain"}
    assert [view["mode"] for view in test_time["views"]] == ["plain", "sum_aug"]
    assert summary["phases"]["train"]["test_time"] is None


@pytest.mark.parametrize(
    ("interval", "says"),
    [([0.01, 0.03], "gain"), ([-0.03, -0.01], "loss"), ([0.0, 0.03], "no difference shown")],
)
def test_a_gain_is_one_where_the_interval_leaves_out_zero(interval, says):
    assert verdict({"difference": 0.02, "ci95": interval}) == says


def test_summary_survives_json(summary):
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_who_and_when_come_from_the_config_file(summary):
    assert (summary["name"], summary["fingerprint"]) == ("toy <run> & more", "0123456789ab")
    assert (summary["git_commit"], summary["date"]) == ("feedbeef", "2025-01-02 03:04:05 UTC")


def test_short_table_is_short_and_aligned(summary):
    lines = short_table(summary).splitlines()
    assert len(lines) <= 20
    table = lines[1:7]
    assert table[0].split() == ["model", "answers", "accuracy", "NLL", "ECE", "FGSM", "PGD"]
    assert table[3].split() == ["refine", "plain", "90.0", "%", "0.431", "0.100", "50.0", "%", "0.0", "%"]
    assert len({len(line) for line in table}) == 1
    assert "teacher  90.0 % of 10 test images (refine), 95 % interval 59.6 % to 98.2 %" in lines
    assert any(line.startswith("gap      30.0 points to toy shifted") for line in lines)
    assert lines[-1] == "time     1 min 10 s"


def test_short_table_stays_short_with_many_phases(summary):
    summary["phases"] = {f"phase{i}": summary["phases"]["refine"] for i in range(30)}
    lines = short_table(summary).splitlines()
    assert len(lines) <= 20
    assert "and 81 more rows in the report" in lines  # 30 phases in 3 modes and the student in 1, less 10 shown


def test_equal_numbers_of_draws_give_equal_summaries(workdir):
    first, second = (summarize(read_run(workdir)) for _ in range(2))
    assert first == second


def test_percent_shows_as_many_decimals_as_the_sample_bears():
    assert percent(0.1236, 1999) == "12.4 %"
    assert percent(0.1236, 2000) == "12.36 %"
    assert percent(float("nan")) == "n/a"


def test_duration_carries_seconds_into_minutes():
    assert duration(59.96) == "1 min 0 s"
    assert duration(3599.6) == "1 h 0 min"
    assert duration(0.04) == "0.0 s"


def test_what_the_stages_recorded_are_rows(workdir):
    """From these rows, and not from the files of the stages, the page has its numbers."""
    run = read_run(workdir)
    found = {
        (row.model, row.set, row.mode, row.metric): (row.value, row.low, row.high, row.n)
        for row in run.rows
        if row.set in ("", "validation")
    }
    view = ("refine", "validation", "sum_aug n=8 a=0.667")
    assert found == {
        ("teacher", "", "", "num_parameters"): (272474.0, None, None, None),
        ("teacher", "", "", "images_per_second"): (1500.0, None, None, None),
        ("student", "", "", "num_parameters"): (61706.0, None, None, None),
        ("student", "", "", "images_per_second"): (1500.0, None, None, None),
        **{
            (phase, "", "", "epochs"): (2.0, None, None, None)
            for phase in ("teacher/train", "teacher/refine", "student/distill")
        },
        ("refine", "validation", "plain", "passes"): (1.0, None, None, None),
        ("refine", "validation", "plain", "accuracy"): (0.8, 0.5, 0.95, 20),
        ("refine", "validation", "plain", "nll"): (0.5, 0.25, 0.75, 20),
        (*view, "passes"): (8.0, None, None, None),
        (*view, "accuracy"): (0.85, 0.5, 0.95, 20),
        (*view, "nll"): (0.625, 0.25, 0.75, 20),
        (*view, "gain"): (0.05, -0.05, 0.15, 20),
        ("", "", "train teacher", "seconds"): (61.5, None, None, None),
        ("", "", "evaluate", "seconds"): (8.25, None, None, None),
        ("", "", "", "seconds"): (69.75, None, None, None),
    }
    others = tuple(row for row in run.rows if row.metric not in ("num_parameters", "seconds"))
    summary = summarize(dataclasses.replace(run, rows=others))
    assert (summary["seconds"], summary["timings"], summary["teacher"]["num_parameters"]) == (None, {}, None)
