"""Summarise runs that differ in their seed: mean and spread of every number, as Markdown tables; a study on disk.

    for seed in 0 1 2; do
      tfaug run --config=experiments.quickstart:cifar10 --workdir=build/c10_$seed --set seed=$seed
    done
    python tools/seeds.py build/c10_0 build/c10_1 build/c10_2

    python tools/seeds.py --study=docs/studies/quickstart two_phases=build/c10_0,build/c10_1 one_phase=build/one_0,...
    python tools/seeds.py --study=docs/studies/quickstart --page=README.md

With `--study` the numbers of each arm's runs are written to FOLDER/rows.csv (an arm that is not named keeps its rows),
and FOLDER/README.md is made from that file alone: what stands there by hand before the first table stays. `--page` puts
an overview of the arms into another page, between the lines `<!-- study: FOLDER -->` and `<!-- study end -->`.
"""

from __future__ import annotations

import csv
import io
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tfaug import files, metrics

# (what the row is called, where summary.json has it, factor, digits)
ROWS = (
    ("teacher, end of the first phase: plain accuracy, %", "phases.train.served.plain.clean_accuracy", 100, 2),
    (
        "teacher, end of the first phase: mirror minus plain, points",
        "phases.train.served.mirror.gain.difference",
        100,
        2,
    ),
    ("teacher, end of the first phase: Sum-Aug accuracy, %", "phases.train.served.sum_aug.clean_accuracy", 100, 2),
    (
        "teacher, end of the first phase: Sum-Aug minus plain, points",
        "phases.train.served.sum_aug.gain.difference",
        100,
        2,
    ),
    ("teacher, refined: plain accuracy, %", "served.plain.clean_accuracy", 100, 2),
    ("teacher, refined: mirror accuracy, %", "served.mirror.clean_accuracy", 100, 2),
    ("teacher, refined: mirror minus plain, points", "served.mirror.gain.difference", 100, 2),
    ("teacher, refined: Sum-Aug accuracy, %", "served.sum_aug.clean_accuracy", 100, 2),
    ("teacher, refined: Sum-Aug minus plain, points", "served.sum_aug.gain.difference", 100, 2),
    ("teacher, refined: plain ECE, %", "served.plain.clean_ece", 100, 2),
    ("teacher, refined: Sum-Aug ECE, %", "served.sum_aug.clean_ece", 100, 2),
    ("teacher, refined: plain FGSM accuracy, %", "served.plain.fgsm_accuracy", 100, 2),
    ("teacher, refined: plain PGD accuracy, %", "served.plain.pgd_accuracy", 100, 2),
    ("teacher, refined: Sum-Aug PGD accuracy (transfer), %", "served.sum_aug.pgd_accuracy", 100, 2),
    ("student: plain accuracy, %", "student.test_accuracy", 100, 2),
    ("gap to the shifted set, points", "gap.difference", 100, 2),
    ("whole run, minutes", "seconds", 1 / 60, 1),
)
USAGE = (
    "usage: python tools/seeds.py WORKDIR WORKDIR ... (two or more finished runs)\n"
    "       python tools/seeds.py --study=FOLDER [--page=PAGE] [ARM=WORKDIR,WORKDIR,... ...]"
)
# Of each model: what was chosen on validation images, and what that gains on test images.
CHOICE = ("test_time.choice.default", "test_time.choice.num_draws", "test_time.choice.weight")
GAINS = ("served.sum_aug.gain", "served.mirror.gain")
_FIELDS = ("arm", "seed", "metric", "value")
_TABLES = "<!-- tables -->"


Run: TypeAlias = dict[str, Any]  # the seed, and the values by their path in summary.json


class BadRuns(Exception):
    """Runs that are not finished, or cannot be compared."""


def _number(value: Any) -> float | str:
    """Returns a value of a row: a float, or the name of a choice."""
    try:
        return float(value)
    except ValueError:
        return str(value)


def look_up(summary: Mapping[str, Any], path: str) -> Any:
    """Returns the value at a dotted path of a summary; None where there is none, as of views that were not asked."""
    value: Any = summary
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else (value or {}).get(key)
    return value


def read_runs(folders: Sequence[str]) -> list[Run]:
    """Returns of each finished run its seed and its values, by their path in summary.json.

    Raises:
      BadRuns: if one is not finished, or they differ in another way than by a seed of each its own.
    """
    settings, runs = [], []
    for folder in map(pathlib.Path, folders):
        if not (folder / "summary.json").exists():
            raise BadRuns(f"{folder} holds no summary.json; finish it with `tfaug run` first")
        description = files.read_json(folder / "config.json")
        config, summary = description["config"], files.read_json(folder / "summary.json")
        settings.append(({**config, "seed": None}, description["versions"]))
        models = [f"phases.{name}" for name in summary["phases"]] + ["student"]
        paths = [path for _, path, _, _ in ROWS] + [f"{model}.{path}" for model in models for path in CHOICE]
        for gain in (f"{model}.{gain}" for model in models for gain in GAINS):
            paths += [f"{gain}.difference", f"{gain}.ci95.0", f"{gain}.ci95.1"]
        found = {path: look_up(summary, path) for path in paths}
        values = {path: _number(value) for path, value in found.items() if value is not None}
        runs.append({"seed": config["seed"], **values})
    if any(found != settings[0] for found in settings):
        raise BadRuns(
            "the workdirs hold runs that differ in more than the seed: in settings or in versions of libraries"
        )
    if len({run["seed"] for run in runs}) < len(runs):
        raise BadRuns(f"the workdirs hold runs of the seeds {[run['seed'] for run in runs]}; allowed: each seed once")
    return runs


def table(runs: Sequence[Run]) -> str:
    """Returns a Markdown table of mean, standard deviation and range over the runs, one row per number.

    What a run does not have is left out.
    """
    lines = ["| | mean | standard deviation | lowest to highest |", "| --- | --- | --- | --- |"]
    for name, path, factor, digits in ROWS:
        values = [factor * run[path] for run in runs if path in run]
        if len(values) < len(runs):
            continue
        found = metrics.mean_interval(values)
        spread = f"{min(values):.{digits}f} to {max(values):.{digits}f}"
        lines.append(f"| {name} | {found['mean']:.{digits}f} | {found['std']:.{digits}f} | {spread} |")
    return "\n".join(lines)


def views_table(runs: Sequence[Run]) -> str:
    """Returns a Markdown table of the test-time views: one row per model and run; empty where none were measured."""
    models = dict.fromkeys(
        path.removesuffix(f".{CHOICE[0]}") for run in runs for path in run if path.endswith(CHOICE[0])
    )
    lines = [
        "| model | seed | serves | Sum-Aug: n, a | Sum-Aug minus plain | mirror minus plain |",
        "| --- |" + " --- |" * 5,
    ]
    for model in models:
        for run in runs:
            default, draws, weight = (run.get(f"{model}.{path}") for path in CHOICE)
            cells = [model.removeprefix("phases."), str(run["seed"]), str(default), f"{draws:g}, {weight:.2f}"]
            for gain in GAINS:
                keys = [f"{model}.{gain}.{key}" for key in ("difference", "ci95.0", "ci95.1")]
                points = [100 * run[key] for key in keys if key in run]
                cells.append("{:+.2f} ({:+.2f} to {:+.2f})".format(*points) if len(points) == len(keys) else "")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) if models else ""


def overview(arms: Mapping[str, list[Run]]) -> str:
    """Returns a Markdown table of mean ± standard deviation, one row per number and one column per arm."""
    lines = ["| | " + " | ".join(f"`{arm}`, n = {len(runs)}" for arm, runs in arms.items()) + " |"]
    lines.append("| --- |" + " --- |" * len(arms))
    for name, path, factor, digits in ROWS:
        cells = []
        for runs in arms.values():
            values = [factor * run[path] for run in runs if path in run]
            found = metrics.mean_interval(values) if len(values) == len(runs) else None
            cells.append(f"{found['mean']:.{digits}f} ± {found['std']:.{digits}f}" if found else "")
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def fill_page(page: pathlib.Path, folder: pathlib.Path, text: str) -> None:
    """Puts `text` into the page's place for the study.

    Raises:
      BadRuns: if the page has no such place.
    """
    before, start, rest = page.read_text(encoding="utf-8").partition(f"<!-- study: {folder.as_posix()} -->\n")
    _, end, after = rest.partition("<!-- study end -->")
    if not end:
        raise BadRuns(f"{page} has no place <!-- study: {folder.as_posix()} --> ... <!-- study end -->")
    with files.atomic_file(page) as partial:
        pathlib.Path(partial).write_text(f"{before}{start}{text}\n{end}{after}", encoding="utf-8")


def read_rows(path: pathlib.Path) -> dict[str, list[Run]]:
    """Returns the runs of each arm of a study; none where there is no file."""
    runs: dict[str, dict[str, Run]] = {}
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                run = runs.setdefault(row["arm"], {}).setdefault(row["seed"], {"seed": int(row["seed"])})
                run[row["metric"]] = _number(row["value"])
    return {arm: list(by_seed.values()) for arm, by_seed in runs.items()}


def write_study(folder: pathlib.Path, arms: Mapping[str, list[Run]]) -> None:
    """Writes rows.csv and the page's tables."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_FIELDS)
    for arm, runs in arms.items():
        for run in runs:
            writer.writerows(
                (arm, run["seed"], metric, v if isinstance(v, str) else repr(v))
                for metric, v in run.items()
                if metric != "seed"
            )
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "README.md"
    head = page.read_text(encoding="utf-8").partition(_TABLES)[0] if page.exists() else f"# {folder.name}\n\n"
    tables = []
    for arm, runs in arms.items():
        tables.append(f"## {arm} (n = {len(runs)} runs)\n\n{table(runs)}\n")
        if views := views_table(runs):
            tables.append(f"Test-time views, run by run; points on test images, paired bootstrap, 95 %:\n\n{views}\n")
    for path, content in ((folder / "rows.csv", text.getvalue()), (page, f"{head}{_TABLES}\n\n" + "\n".join(tables))):
        with files.atomic_file(path) as partial:
            pathlib.Path(partial).write_text(content, encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Prints the table of the workdirs given, or writes a study; runs of one arm differ in the seed alone."""
    try:
        if arguments and arguments[0].startswith("--study="):
            folder = pathlib.Path(arguments[0].removeprefix("--study="))
            pages = [a.removeprefix("--page=") for a in arguments[1:] if a.startswith("--page=")]
            named = dict(a.partition("=")[::2] for a in arguments[1:] if not a.startswith("--page="))
            if not all(named.values()):
                raise BadRuns(USAGE)
            arms = {**read_rows(folder / "rows.csv"), **{arm: read_runs(w.split(",")) for arm, w in named.items()}}
            if not arms or any(len(runs) < 2 for runs in arms.values()):
                raise BadRuns(f"{folder}: each arm needs two or more finished runs\n{USAGE}")
            write_study(folder, arms)
            for page in pages:
                fill_page(pathlib.Path(page), folder, overview(arms))
            print(f"{folder / 'README.md'}: {', '.join(f'{arm} n = {len(runs)}' for arm, runs in arms.items())}")
            return 0
        if len(arguments) < 2:
            raise BadRuns(USAGE)
        runs = read_runs(arguments)
    except BadRuns as error:
        print(error, file=sys.stderr)
        return 2
    print(f"n = {len(runs)} runs\n\n{table(runs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
