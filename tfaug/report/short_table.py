"""The table that ends `tfaug run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfaug.report.summary import served_rows
from tfaug.report.text import MODE_TITLES, decimals, duration, percent

_MAX_LINES = 20
_MAX_MODELS = 10


def short_table(summary: Mapping[str, Any]) -> str:
    """Writes a run in at most 20 lines of plain text.

    Args:
      summary: what `summarize` returned, or summary.json read back.

    Returns:
      The lines, joined, without a final newline.
    """
    attacks = summary["attacks"]
    header = ["model", "answers", "accuracy", "NLL", "ECE", *(attack["title"] for attack in attacks.values())]
    table = [header]
    for model, mode, numbers in served_rows(summary):
        row = [model, MODE_TITLES[mode], percent(numbers["clean_accuracy"], numbers["num_test"])]
        row += [decimals(numbers["clean_nll"], 3), decimals(numbers["clean_ece"], 3)]
        row += [percent(numbers.get(f"{attack}_accuracy"), numbers.get(f"{attack}_num_examples")) for attack in attacks]
        table.append(row)
    rest = len(table) - 1 - _MAX_MODELS
    table = table[: 1 + _MAX_MODELS]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = [f"{summary['name']}  {summary['fingerprint'][:12]}"]
    for row in table:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[:2] = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        lines.append("  ".join(cells).rstrip())
    if rest > 0:
        lines.append(f"and {rest} more rows in the report")
    last = []
    gap = summary.get("gap")
    if gap:
        low, high = gap["ci95"]
        last.append(
            f"gap      {100 * gap['difference']:.1f} points to {gap['shifted_set']}, "
            f"95 % interval {100 * low:.1f} to {100 * high:.1f}"
        )
    if summary.get("seconds") is not None:
        last.append(f"time     {duration(summary['seconds'])}")
    trainings = [_training_line(name, block) for name, block in summary["trainings"].items()]
    trainings = [line for line in trainings if line][: _MAX_LINES - len(lines) - len(last) - 1]
    return "\n".join([*lines, "", *trainings, *last])


def _training_line(name: str, block: Mapping[str, Any]) -> str:
    """Writes the test accuracy of a training's last model with its interval; "" where there is none."""
    if block["test_accuracy"] is None:
        return ""
    num_test = block["num_test"]
    interval = ""
    if block["test_accuracy_ci95"]:
        low, high = block["test_accuracy_ci95"]
        interval = f", 95 % interval {percent(low, num_test)} to {percent(high, num_test)}"
    model = "" if block["model"] == name else f" ({block['model']})"
    images = "" if num_test is None else f" of {num_test:,} test images"
    return f"{name}  {percent(block['test_accuracy'], num_test)}{images}{model}{interval}"
