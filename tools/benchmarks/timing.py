"""Time engines in turns, so that a slow moment of the machine does not fall on one of them alone."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

PARALLEL_CALLS = 2  # For the two cores that every engine gets.
MIN_SETS = 4  # Sets of PARALLEL_CALLS batches in a turn, however slow an engine is.
WARM_UP_STEPS = 3  # Of `fit`, before the clock starts.


@dataclasses.dataclass(frozen=True)
class Timer:
    """Something that can be timed.

    Attributes:
      run: takes a number of batches, works on as many, and returns the seconds it took.
      close: gives back threads, processes and pipelines.
    """

    run: Callable[[int], float]
    close: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Engine:
    """One way to do an op.

    Attributes:
      name: for example `keras_cv`.
      path: `host` (in tf.data or a pipeline of its own), `device` (one call compiled by XLA at a time) or `alone` (one
        call in a TensorFlow graph at a time).
      settings: makers of its timers by the name of the setting; of several, the fastest in a short trial is measured.
      note: what a reader of its rows must know.
      batch: images in one of its batches; None: as many as the op's other engines take.
    """

    name: str
    path: str
    settings: Mapping[str, Callable[[], Timer]]
    note: str = ""
    batch: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Name and path, which only one engine of an op has."""
        return self.name, self.path


def time_calls(function: Callable[[int], tf.Tensor]) -> Timer:
    """Returns a timer of `function(i)`, one call after the other; it waits for the last tensor that it returns."""

    def run(num_batches: int) -> float:
        start = time.perf_counter()
        for i in range(num_batches):
            result = function(i)
        # A device may still be computing: one element is read.
        tf.reshape(result, [-1])[0].numpy()
        return time.perf_counter() - start

    return Timer(run)


def time_dataset(dataset: tf.data.Dataset) -> Timer:
    """Returns a timer of an endless data set's batches."""

    def run(num_batches: int) -> float:
        # A new iterator each time, so that nothing runs on in the background during another engine's turn. The first
        # batches are not timed: they start the threads. Calls side by side also end side by side, so both the untimed
        # and the timed batches are whole sets of them: else one that was finished before would count.
        iterator = iter(dataset)
        for _ in range(2 * PARALLEL_CALLS):
            next(iterator)
        start = time.perf_counter()
        for _ in range(num_batches):
            next(iterator)
        return time.perf_counter() - start

    return Timer(run)


class StepClock(tf.keras.callbacks.Callback):
    """Measures an epoch's seconds after its first steps, and those of the process's threads together."""

    def __init__(self) -> None:
        super().__init__()
        self._start, self.seconds = np.zeros(2), np.zeros(2)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == WARM_UP_STEPS - 1:
            float(logs["loss"])  # Waits for the step.
            self._start = np.array([time.perf_counter(), time.process_time()])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # Keras has read the epoch's metrics, so that its last step is done.
        self.seconds = np.array([time.perf_counter(), time.process_time()]) - self._start


def make_timers(engine: Engine, trial: int) -> tuple[str, Timer]:
    """Returns the name and the timer of the engine's fastest setting in one trial.

    Args:
      engine: with one setting or several.
      trial: batches that each of several settings works on; 0 takes the first setting without a trial.
    """
    settings = dict(engine.settings) if trial else dict([next(iter(engine.settings.items()))])
    found: list[tuple[float, str, Timer]] = []
    for name, make in settings.items():
        timer = make()
        timer.run(1)  # Traces and compiles.
        found.append((timer.run(trial) if len(settings) > 1 else 0.0, name, timer))
    best = min(found, key=lambda entry: entry[0])
    for entry in found:
        if entry is not best:
            entry[2].close()
    return best[1], best[2]


def measure(
    timers: Mapping[Any, Timer],
    batches: Mapping[Any, int],
    rounds: int,
    seconds: float,
    on_round: Callable[[], object] = lambda: None,
) -> dict[Any, list[float]]:
    """Times the engines in turn.

    Args:
      timers: by engine.
      batches: by engine, images in a batch.
      rounds: turns of each engine.
      seconds: that a turn should take at least; the number of batches is chosen by a first run that does not count.
      on_round: called after each round.

    Returns:
      By engine, the images per second of each of its turns.
    """
    num_batches = {}
    for engine, timer in timers.items():
        timer.run(1)
        trial = 2 * PARALLEL_CALLS
        num_sets = math.ceil(seconds / timer.run(trial) * trial / PARALLEL_CALLS)
        num_batches[engine] = PARALLEL_CALLS * max(num_sets, MIN_SETS)
    speeds: dict[Any, list[float]] = {engine: [] for engine in timers}
    for _, (engine, timer) in itertools.product(range(rounds), timers.items()):
        speeds[engine].append(num_batches[engine] * batches[engine] / timer.run(num_batches[engine]))
        if len(speeds[engine]) == len(speeds[next(reversed(speeds))]):
            on_round()
    return speeds


def summarize(values: list[float], name: str) -> dict[str, Any]:
    """Returns the median of `values` under `name`, with their least, greatest and number."""
    return {name: statistics.median(values), f"min_{name}": min(values), f"max_{name}": max(values), "n": len(values)}
