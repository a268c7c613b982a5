"""tools/bench.py: what it writes, never how fast anything was."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

BENCH = pathlib.Path(__file__).parent.parent / "tools" / "bench.py"


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """Runs the program as a user does, smallest setting; returns its JSON and its standard output."""
    path = tmp_path_factory.mktemp("bench") / "new" / "bench.json"
    command = [sys.executable, str(BENCH), "augment", f"--json={path}", "--quick", "--sizes=16"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]  # Nothing half-written is left.
    return json.loads(path.read_text()), process.stdout


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """Returns the program as a module."""
    spec = importlib.util.spec_from_file_location("tfaug_bench", BENCH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_op_has_a_row_for_every_engine(quick_run: tuple[dict[str, Any], str]) -> None:
    rows = quick_run[0]["rows"]
    keys = {"op", "size", "batch", "engine", "images_per_second", "ratio_to_keras_cv", "peer", "num_rounds"}
    assert all(set(row) == keys | {"min_images_per_second", "max_images_per_second"} for row in rows)
    found = {(row["op"], row["engine"]) for row in rows if row["engine"] != "albumentations"}
    ops = {"RandAugment(2, 9)", "CutMix", "Mixup", "SumAug(2)"}
    assert found == {(op, engine) for op in ops for engine in ("tfaug", "tfaug_tf_data", "keras_cv")}
    assert {row["peer"] for row in rows if row["op"] == "SumAug(2)"} == {"keras_cv MixUp (it has no Sum-Augmentation)"}
    assert {(row["size"], row["batch"], row["num_rounds"]) for row in rows} == {(16, 16, 2)}


def test_ratios_are_quotients_of_the_rows_medians(quick_run: tuple[dict[str, Any], str]) -> None:
    rows = quick_run[0]["rows"]
    peers = {row["op"]: row["images_per_second"] for row in rows if row["engine"] == "keras_cv"}
    for row in rows:
        assert row["ratio_to_keras_cv"] == pytest.approx(row["images_per_second"] / peers[row["op"]], rel=1e-9)
        assert 0 < row["min_images_per_second"] <= row["images_per_second"] <= row["max_images_per_second"]


def test_the_header_states_machine_and_versions(quick_run: tuple[dict[str, Any], str]) -> None:
    header = quick_run[0]["header"]
    assert header["hardware"]["processor"] and header["hardware"]["num_cores"] >= 1
    assert {"tensorflow", "keras-cv", "tfaug", "python"} <= set(header["versions"])
    assert header["num_rounds"] == 2


def test_the_table_on_the_terminal_holds_every_row(quick_run: tuple[dict[str, Any], str]) -> None:
    result, output = quick_run
    assert len([line for line in output.splitlines() if " 16 " in line]) == len(result["rows"])


def test_rows_hold_medians_and_spread(bench: ModuleType) -> None:
    """Hand-derived: medians 6 and 2, so a ratio of 3; the outlier of 100 moves nothing but the spread."""
    speeds = {"tfaug": [5.0, 100.0, 6.0], "keras_cv": [2.0, 1.0, 3.0]}
    ours, peer = bench.make_rows(bench.CASES[0], 32, 8, speeds)
    assert (ours["images_per_second"], ours["ratio_to_keras_cv"]) == (6.0, 3.0)
    assert (ours["min_images_per_second"], ours["max_images_per_second"], ours["num_rounds"]) == (5.0, 100.0, 3)
    assert (peer["engine"], peer["images_per_second"], peer["ratio_to_keras_cv"]) == ("keras_cv", 2.0, 1.0)


def test_engines_take_turns_and_speeds_count_all_images(bench: ModuleType) -> None:
    """A clock with fixed seconds per batch, 1/4 and 1/16, so 8 batches (the fewest) and 16 make a turn of 1 s."""
    calls: list[tuple[str, int]] = []

    def timer(engine: str, seconds: float) -> Any:
        def run(num_batches: int) -> float:
            calls.append((engine, num_batches))
            return seconds * num_batches

        return run

    timers = {"a": timer("a", 1 / 4), "b": timer("b", 1 / 16)}
    speeds = list(bench.measure(timers, batch=8, rounds=2, seconds=1.0))
    assert speeds == [("a", 32.0), ("b", 128.0)] * 2
    assert calls[-4:] == [("a", 8), ("b", 16)] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "allowed: augment"), (["speed"], "got 'speed'"), (["augment", "--sizes=8"], "--sizes=8; allowed")],
)
def test_wrong_arguments_are_refused(bench: ModuleType, arguments: list[str], message: str) -> None:
    bench.flags.FLAGS.unparse_flags()
    positional = bench.flags.FLAGS(["bench.py", *arguments])
    with pytest.raises(bench.app.UsageError, match=message):
        bench.main(positional)
