"""What is read of a workdir, what is refused, and what is passed over."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toy_run import write_history, write_json

from tfaug.report import read_run, summarize


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("config.json", "tfaug run"),
        ("teacher/result.json", "tfaug train"),
        ("student/result.json", "tfaug train"),
        ("rows.csv", "tfaug evaluate"),
        ("rows.json", "tfaug evaluate"),
    ],
)
def test_missing_needed_file_names_the_command_that_makes_it(workdir, name, command):
    (workdir / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing; `{command} --config=MODULE:FUNCTION --workdir="):
        read_run(workdir)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"probs": np.full((10, 3), 0.5)}, "sums to 1.5"),
        ({"probs": np.full((10, 3), np.nan)}, "allowed: 0..1"),
        ({"labels": np.full(10, 3)}, "labels go from 3 to 3; allowed: 0..2"),
        ({"labels": np.zeros(9, np.int64)}, r"labels has the shape \(9,\)"),
        ({"ids": np.array(["same"] * 10)}, "all different"),
        ({"ids": np.array(["a"])}, "one per label"),
    ],
)
def test_wrong_predictions_are_refused_with_the_file_and_the_reason(workdir, arrays, message):
    path = workdir / "predictions/refine/test.clean.plain.npz"
    with np.load(path) as old:
        np.savez(path, **{**old, **arrays})
    with pytest.raises(ValueError, match=message) as error:
        read_run(workdir)
    assert "test.clean.plain.npz" in str(error.value)


def test_file_that_is_no_npz_is_refused(workdir):
    (workdir / "predictions/refine/test.clean.plain.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match=r"is not a whole file of probs, .* `tfaug evaluate`"):
        read_run(workdir)


def test_prediction_file_without_probs_is_refused(workdir):
    np.savez(workdir / "predictions/refine/test.clean.plain.npz", labels=np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="'probs is not a file in the archive'"):
        read_run(workdir)


def test_predictions_of_what_is_no_longer_measured_are_not_read(workdir):
    before = summarize(read_run(workdir))
    for stale in ("refine/test.loud.plain", "refine/elsewhere.clean.plain", "train/test.clean.mirror"):
        (workdir / f"predictions/{stale}.npz").write_bytes(b"old")
    assert summarize(read_run(workdir)) == before


def test_rows_of_other_weights_are_refused(workdir):
    result = json.loads((workdir / "teacher/result.json").read_text())
    result["phases"][1]["weights_sha256"] = "d" * 64
    write_json(workdir / "teacher/result.json", result)
    with pytest.raises(
        ValueError, match=r"rows.csv was made with the weights b{12}, but refine has d{12}; run `tfaug evaluate`"
    ):
        read_run(workdir)


def test_figures_of_other_weights_than_the_rows_are_refused(workdir):
    path = workdir / "predictions/refine/test.clean.plain.npz"
    with np.load(path) as old:
        np.savez(path, **{**old, "key": np.array(json.dumps({"weights_sha256": "e" * 64}))})
    with pytest.raises(
        ValueError, match=r"test.clean.plain.npz was made with the weights e{12}, .*rows.csv with b{12}"
    ):
        read_run(workdir)


def test_rows_of_other_settings_than_the_configuration_are_told(workdir):
    meanings = json.loads((workdir / "rows.json").read_text())
    config = json.loads((workdir / "config.json").read_text())
    attack = {"class": "PGD", "epsilon": 0.25}
    write_json(workdir / "rows.json", {**meanings, "settings": {"evaluate": {"attacks": [attack]}}})
    for epsilon, told in ((0.25, None), (0.5, "evaluate.attacks.0.epsilon: 0.25 -> 0.5")):
        config["config"]["evaluate"] = {"attacks": [{**attack, "epsilon": epsilon}]}
        write_json(workdir / "config.json", config)
        note = read_run(workdir).notes.get("rows")
        assert note == (told and f"Measured with other settings, which `tfaug evaluate` mends: {told}.")


def test_a_line_that_is_no_row_is_refused(workdir):
    with open(workdir / "rows.csv", "a") as file:
        file.write(",,refine,test,clean,plain,accuracy,high,,,10\n")
    with pytest.raises(ValueError, match=r"rows.csv, line \d+, is no row"):
        read_run(workdir)


def test_a_run_without_trainings_or_sets_is_refused(workdir):
    write_json(workdir / "rows.json", {"sets": {}})
    with pytest.raises(ValueError, match=r"rows.json names no set; make it again with `tfaug evaluate`"):
        read_run(workdir)
    write_json(workdir / "config.json", {"config": {}})
    with pytest.raises(ValueError, match=r"config.json names no training; make it again with `tfaug run`"):
        read_run(workdir)


def test_broken_json_names_file_and_command(workdir):
    (workdir / "rows.json").write_text("{")
    with pytest.raises(ValueError, match=r"rows.json is not JSON .* `tfaug evaluate`"):
        read_run(workdir)


def test_histories_keep_phase_order_and_skip_cut_off_rows(workdir):
    config = json.loads((workdir / "config.json").read_text())
    config["config"]["trainings"][0]["phases"] += [{"name": "more"}] * 9
    write_json(workdir / "config.json", config)
    for i in range(2, 11):
        write_history(workdir, f"teacher/{i}_more", ["1,5,0.001,1.25,0.6,,,3.0"])
    write_history(workdir, "teacher/1_refine", ["1,5,0.1,2.0,0.3,1.5,0.5,3.0", "1,5,0.1,4.0,0.3,1.5,0.5,3.0", "2,1e"])
    write_history(workdir, "teacher/0_train", ["1,5,0.1,2.0,0.3,1.5,0.5,3.0", "zwei,5,0.1"])
    run = read_run(workdir)
    teacher = [history for history in run.histories if history.training == "teacher"]
    assert [history.phase for history in teacher][::10] == ["0_train", "10_more"]
    assert np.isnan(teacher[2].columns["val_loss"]).all()
    assert teacher[1].columns["loss"].tolist() == [4.0]  # the last row of an epoch counts
    assert run.notes["training"] == (
        "Unreadable rows of history.csv were left out: 1 in teacher/0_train, 1 in teacher/1_refine."
    )
