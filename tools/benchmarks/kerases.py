"""Time a training step through `Learner.fit` under Keras 3 and under tf-keras, which is Keras 2, on one TensorFlow.

A process has one Keras, so each of the two has its own; they take turns, and while one works the other waits.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import header
from benchmarks.timing import WARM_UP_STEPS, StepClock, summarize
from benchmarks.training import BATCH_SIZE, Trainer

# What TF_USE_LEGACY_KERAS says for each; the first is what the other is compared with.
KERASES = {"tf-keras": "1", "Keras 3": "0"}


class _Worker:
    """A process that takes steps when it is asked to."""

    def __init__(self, keras: str, quick: bool):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.kerases", *(["--quick"] if quick else [])],
            cwd=pathlib.Path(__file__).parents[1],
            env={**os.environ, "TF_USE_LEGACY_KERAS": KERASES[keras]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def time_steps(self, num_steps: int) -> tuple[float, float]:
        """Returns the seconds of one step, and those of its threads together."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(num_steps, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}; its messages are above")
        wall, threads = map(float, answer.split())
        return wall, threads

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def bench(rounds: int, num_steps: int, quick: bool) -> dict[str, Any]:
    """Measures the steps of both in turns.

    Args:
      rounds: turns of each.
      num_steps: timed steps in a turn.
      quick: with LeNet and small batches.
    """
    peers = {"tf-keras": importlib.metadata.version("tf-keras")}
    workers = {name: _Worker(name, quick) for name in KERASES}
    try:
        for worker in workers.values():
            worker.time_steps(1)
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                seconds[name].append(worker.time_steps(num_steps))
    finally:
        for worker in workers.values():
            worker.close()
    settings = {
        "rounds": rounds,
        "steps_per_turn": num_steps,
        "model": "lenet" if quick else "resnet20",
        "batch": 16 if quick else BATCH_SIZE,
        "precision": "bf16",
        "augmentation": "none",
        "seconds": "of one step of Learner.fit; median, min_ and max_ over the rounds",
        "thread_seconds": "likewise, of all its threads together: steadier where others use the machine",
        "ratio, thread_ratio": f"to {next(iter(KERASES))}: quotient of the medians",
        "min_ratio, max_ratio": "of the quotients round by round",
    }
    return {"header": header.describe(peers, settings), "rows": make_rows(seconds)}


def make_rows(seconds: Mapping[str, Sequence[tuple[float, float]]]) -> list[dict[str, Any]]:
    """Returns one row per Keras."""
    base, base_threads = zip(*seconds[next(iter(KERASES))], strict=True)
    rows = []
    for name, values in seconds.items():
        wall, threads = zip(*values, strict=True)
        by_round = [value / other for value, other in zip(wall, base, strict=True)]
        rows.append(
            {
                "keras": name,
                **summarize(list(wall), "seconds"),
                "ratio": statistics.median(wall) / statistics.median(base),
                "min_ratio": min(by_round),
                "max_ratio": max(by_round),
                "thread_seconds": statistics.median(threads),
                "thread_ratio": statistics.median(threads) / statistics.median(base_threads),
            }
        )
    return rows


def format_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as a table for the terminal."""
    lines = [
        f"{'keras':9} {'ms/step':>8} {'min..max':>16} {'ratio':>6} {'by round':>13} {'thread ms':>9} {'ratio':>6}",
    ]
    for row in rows:
        spread = f"{1e3 * row['min_seconds']:.1f}..{1e3 * row['max_seconds']:.1f}"
        by_round = f"{row['min_ratio']:.3f}..{row['max_ratio']:.3f}"
        lines.append(
            f"{row['keras']:9} {1e3 * row['seconds']:>8.1f} {spread:>16} {row['ratio']:>6.3f} {by_round:>13} "
            f"{1e3 * row['thread_seconds']:>9.1f} {row['thread_ratio']:>6.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Answers each line of standard input, a number of steps, with the seconds of one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    model, batch = ("lenet", 16) if parser.parse_args().quick else ("resnet20", BATCH_SIZE)
    trainer = Trainer(None, model, batch, num_steps=20)
    for line in sys.stdin:
        clock, num_steps = StepClock(), int(line)
        trainer.learner.fit(
            trainer.batches,
            steps_per_epoch=WARM_UP_STEPS + num_steps,
            shuffle=False,
            verbose=0,
            callbacks=[clock],
        )
        print(*clock.seconds / num_steps, flush=True)


if __name__ == "__main__":
    main()
