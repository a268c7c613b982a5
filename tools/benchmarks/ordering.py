"""Measure what Max Loss Delta costs: a step that tries K batches against K + 1 separate steps."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from benchmarks import header
from benchmarks.timing import summarize
from benchmarks.training import BATCH_SIZE, Trainer
from tfaug.augment import Flip, PadCrop
from tfaug.train.order import MaxLossDelta, Shuffled

NUM_CANDIDATES = (1, 4, 8, 16)
_OPS = (Flip(), PadCrop(4))


def bench(precisions: Sequence[str], rounds: int, num_steps: int, quick: bool) -> dict[str, Any]:
    """Measures the plain step and that of each K, in turns; a turn of K candidates has fewer steps.

    Args:
      precisions: each 'fp32' or 'bf16'.
      rounds: turns of each.
      num_steps: timed plain steps in a turn.
      quick: with LeNet, small batches and K up to 2.
    """
    model, batch = ("lenet", 16) if quick else ("resnet20", BATCH_SIZE)
    counts = (0, *(k for k in NUM_CANDIDATES if k <= 2 or not quick))
    num_batches = 2 * max(counts) + num_steps + 2
    rows = []
    with tqdm(total=len(precisions) * len(counts) * (rounds + 1), unit="turn", file=sys.stderr) as progress:
        for precision in precisions:
            seconds: dict[int, list[float]] = {k: [] for k in counts}
            trainers = {}
            for k in counts:
                progress.set_description(f"ordering: {precision}, K = {k} starts")
                order = MaxLossDelta(k) if k else Shuffled()
                trainers[k] = Trainer("device", model, batch, num_batches, precision, _OPS, order)
                trainers[k].time_steps(1)
                progress.update()
            for _ in range(rounds):
                for k, trainer in trainers.items():
                    progress.set_description(f"ordering: {precision}, K = {k}")
                    seconds[k].append(trainer.time_steps(max(2, num_steps // (k + 1))))
                    progress.update()
            rows += make_rows(model, precision, batch, seconds)
    settings = {
        "rounds": rounds,
        "steps_per_turn": num_steps,
        "model": model,
        "images": "random uint8 in memory, 32 x 32, 3 channels",
        "augmentation": " + ".join(repr(op) for op in _OPS),
        "order": "MaxLossDelta(k) on the same batch; k = 0 is Shuffled(), the plain step",
        "seconds": "of one step; median, min_ and max_ over the rounds",
        "ratio_to_separate": "over K + 1 plain steps; quotient of the medians",
        "min_ratio, max_ratio": "of the quotients round by round",
    }
    return {"header": header.describe({}, settings), "rows": rows}


def make_rows(model: str, precision: str, batch: int, seconds: Mapping[int, list[float]]) -> list[dict[str, Any]]:
    """Returns one row per K, 0 for the plain step, of one precision."""
    plain = statistics.median(seconds[0])
    rows = []
    for k, values in seconds.items():
        by_round = [value / ((k + 1) * base) for value, base in zip(values, seconds[0], strict=True)]
        rows.append(
            {
                "name": f"{f'Max Loss Delta, K = {k}' if k else 'plain step'}, {precision}",
                "model": model,
                "precision": precision,
                "batch": batch,
                "k": k,
                **summarize(values, "seconds"),
                "steps": statistics.median(values) / plain,
                "ratio_to_separate": statistics.median(values) / ((k + 1) * plain),
                "min_ratio": min(by_round),
                "max_ratio": max(by_round),
            }
        )
    return rows


def format_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as a table for the terminal."""
    lines = [f"{'':30} {'ms/step':>8} {'plain steps':>12} {'over K + 1':>11} {'by round':>13}"]
    for row in rows:
        by_round = f"{row['min_ratio']:.3f}..{row['max_ratio']:.3f}"
        lines.append(
            f"{row['name']:30} {1e3 * row['seconds']:>8.1f} {row['steps']:>12.2f} {row['ratio_to_separate']:>11.3f} "
            f"{by_round:>13}"
        )
    return "\n".join(lines)
