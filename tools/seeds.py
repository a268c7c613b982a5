"""Summarise runs that differ in their seed: mean and spread of every number, as a Markdown table.

for seed in 0 1 2; do
  tfaug run --config=experiments.quickstart:cifar10 --workdir=build/c10_$seed --set seed=$seed
done
python tools/seeds.py build/c10_0 build/c10_1 build/c10_2
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from tfaug import files, metrics

# (what the row is called, where summary.json has it, factor, digits)
ROWS = (
    ("teacher, end of the first phase: plain accuracy, %", "phases.train.served.plain.clean_accuracy", 100, 2),
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
    ("student (LeNet): plain accuracy, %", "student.test_accuracy", 100, 2),
    ("gap to the shifted set, points", "gap.difference", 100, 2),
    ("whole run, minutes", "seconds", 1 / 60, 1),
)


def look_up(summary: dict[str, Any], path: str) -> float | None:
    """Returns the number at a dotted path of a summary; None where there is none, as of views that were not asked."""
    value: Any = summary
    for key in path.split("."):
        value = None if value is None else value.get(key)
    return None if value is None else float(value)


def table(summaries: Sequence[dict[str, Any]]) -> str:
    """Returns a Markdown table of mean, standard deviation and range over the runs, one row per number.

    What a run does not have is left out.
    """
    lines = ["| | mean | standard deviation | lowest to highest |", "| --- | --- | --- | --- |"]
    for name, path, factor, digits in ROWS:
        found_values = [look_up(summary, path) for summary in summaries]
        values = [factor * value for value in found_values if value is not None]
        if len(values) < len(summaries):
            continue
        found = metrics.mean_interval(values)
        spread = f"{min(values):.{digits}f} to {max(values):.{digits}f}"
        lines.append(f"| {name} | {found['mean']:.{digits}f} | {found['std']:.{digits}f} | {spread} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Prints the table of the workdirs given; they must hold finished runs of one configuration but for the seed."""
    if len(arguments) < 2:
        print("usage: python tools/seeds.py WORKDIR WORKDIR ... (two or more finished runs)", file=sys.stderr)
        return 2
    configs, summaries = [], []
    for folder in map(pathlib.Path, arguments):
        if not (folder / "summary.json").exists():
            print(f"{folder} holds no summary.json; finish it with `tfaug run` first", file=sys.stderr)
            return 2
        configs.append({**files.read_json(folder / "config.json")["config"], "seed": None})
        summaries.append(files.read_json(folder / "summary.json"))
    if any(config != configs[0] for config in configs):
        print("the workdirs hold runs that differ in more than the seed", file=sys.stderr)
        return 2
    print(f"n = {len(summaries)} runs\n\n{table(summaries)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
