"""tools/seeds.py: mean and spread over runs of one configuration."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests import tiny


def write_run(folder, seed: int, accuracy: float, epochs: int = 3, tensorflow: str = "2.21.0"):
    block = {"clean_accuracy": accuracy, "clean_ece": 0.1, "fgsm_accuracy": 0.2, "pgd_accuracy": 0.1}
    gain = {"difference": accuracy - 0.7, "ci95": [accuracy - 0.71, accuracy - 0.69]}
    served = {"plain": block, "sum_aug": {**block, "gain": gain}}
    chosen = {"choice": {"default": "plain", "num_draws": 8, "weight": 2 / 3}}
    summary = {
        "phases": {"train": {"served": served, "test_time": chosen}},
        "served": served,
        "student": {"test_accuracy": 0.5},
        "gap": {"difference": 0.25},
        "seconds": 600 + 60 * seed,
    }
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(summary))
    description = {"config": {"seed": seed, "epochs": epochs}, "versions": {"tensorflow": tensorflow}}
    (folder / "config.json").write_text(json.dumps(description))
    return str(folder)


def seeds(*folders: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(tiny.ROOT / "tools" / "seeds.py"), *folders]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_table_holds_mean_standard_deviation_and_range(tmp_path):
    ran = seeds(*(write_run(tmp_path / str(s), s, a) for s, a in enumerate([0.80, 0.81, 0.85])))
    assert ran.returncode == 0, ran.stderr
    assert "n = 3 runs" in ran.stdout
    # (80 + 81 + 85) / 3 = 82; the deviations -2, -1, 3 give sqrt(14 / 2) = 2.65
    assert "| teacher, refined: plain accuracy, % | 82.00 | 2.65 | 80.00 to 85.00 |" in ran.stdout
    assert "| teacher, refined: Sum-Aug minus plain, points | 12.00 | 2.65 | 10.00 to 15.00 |" in ran.stdout
    assert "mirror" not in ran.stdout  # which these runs were not asked
    assert "| whole run, minutes | 11.0 | 1.0 | 10.0 to 12.0 |" in ran.stdout


@pytest.mark.parametrize("case", ["one run", "other settings", "other versions", "a seed twice", "unfinished"])
def test_runs_that_cannot_be_compared_are_refused(tmp_path, case):
    folders = [write_run(tmp_path / "a", 0, 0.8)]
    if case == "other settings":
        folders.append(write_run(tmp_path / "b", 1, 0.8, epochs=4))
    if case == "other versions":
        folders.append(write_run(tmp_path / "b", 1, 0.8, tensorflow="2.15.1"))
    if case == "a seed twice":
        folders.append(write_run(tmp_path / "b", 0, 0.8))
    if case == "unfinished":
        (tmp_path / "c").mkdir()
        folders.append(str(tmp_path / "c"))
    ran = seeds(*folders)
    assert ran.returncode == 2
    assert ran.stderr and not ran.stdout


def test_a_study_keeps_its_rows_and_its_page_is_made_from_them(tmp_path):
    folders = [write_run(tmp_path / str(s), s, a) for s, a in enumerate([0.80, 0.81, 0.85])]
    study = tmp_path / "study"
    assert seeds(f"--study={study}", f"two={','.join(folders)}").returncode == 0
    page = study / "README.md"
    page.write_text("# What was asked\n\n" + page.read_text().partition("\n\n")[2])
    first_rows = (study / "rows.csv").read_text()
    assert "two,2,served.plain.clean_accuracy,0.85\n" in first_rows
    assert seeds(f"--study={study}", f"one={','.join(folders[:2])}").returncode == 0
    text = page.read_text()
    assert text.startswith("# What was asked\n") and (study / "rows.csv").read_text().startswith(first_rows)
    assert "## two (n = 3 runs)" in text and "## one (n = 2 runs)" in text
    assert "| teacher, refined: plain accuracy, % | 82.00 | 2.65 | 80.00 to 85.00 |" in text
    assert "| train | 2 | plain | 8, 0.67 | +15.00 (+14.00 to +16.00) |  |" in text
    assert "| teacher, refined: plain accuracy, % | 80.50 | 0.71 | 80.00 to 81.00 |" in text
    (study / "rows.csv").write_text(first_rows.replace("0.85", "0.82"))
    other = tmp_path / "page.md"
    other.write_text(f"a\n<!-- study: {study} -->\nold\n<!-- study end -->\nb\n")
    assert seeds(f"--study={study}", f"--page={other}").returncode == 0
    assert other.read_text().startswith(f"a\n<!-- study: {study} -->\n| | `two`, n = 3 |\n| --- | --- |\n")
    assert "| teacher, refined: plain accuracy, % | 81.00 ± 1.00 |\n" in other.read_text()
    assert other.read_text().endswith("\n<!-- study end -->\nb\n") and "old" not in other.read_text()
    assert "| 81.00 | 1.00 | 80.00 to 82.00 |" in page.read_text() and "## one" not in page.read_text()


@pytest.mark.parametrize("arguments", [["one="], [], ["one=single"]], ids=["no runs", "no arm", "one run"])
def test_a_study_of_too_little_is_refused_and_nothing_is_written(tmp_path, arguments):
    write_run(tmp_path / "single", 0, 0.8)
    arguments = [argument.replace("single", str(tmp_path / "single")) for argument in arguments]
    ran = seeds(f"--study={tmp_path / 'study'}", *arguments)
    assert ran.returncode == 2 and ran.stderr and not (tmp_path / "study").exists()
