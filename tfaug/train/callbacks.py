"""Keras callbacks: the loud stop on NaN, the checkpoint and history of every epoch, pictures for TensorBoard."""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import files
from tfaug.keras_versions import rate_of, variable_path
from tfaug.train.state import State
from tfaug.train.stop import Stop
from tfaug.workdir import HISTORY_FIELDS, PhaseFolder


class NonFiniteLoss(RuntimeError):
    """Training met a loss or a weight that is not a number; the last good checkpoint is untouched."""


class StopOnNonFinite(tf.keras.callbacks.Callback):
    """Raises `NonFiniteLoss` at the first batch whose running mean loss, or epoch whose weights, are not finite."""

    def __init__(self, phase: str):
        super().__init__()
        self.phase = phase
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            self._stop(f"the mean loss is {loss} at batch {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for variable in self.model.network.weights:
            if not np.isfinite(variable.numpy()).all():
                self._stop(f"{variable_path(variable)} holds values that are not finite")

    def _stop(self, what: str) -> None:
        raise NonFiniteLoss(
            f"phase {self.phase}, epoch {self._epoch + 1}: {what}. Training stopped; the last good checkpoint is kept. "
            "A lower learning rate (--set phases.0.schedule.peak=...) or precision=fp32 usually helps."
        )


class EpochRecorder(tf.keras.callbacks.Callback):
    """Writes the history, the best weights and a checkpoint after every epoch; each is whole or absent.

    The two newest checkpoints are kept. The best weights are those of the highest validation accuracy, of equals the
    earliest; a process that goes on compares with the history.

    Args:
      folder: of the phase.
      state: of the training.
      save_weights: writes the network's weights to a path.
      stop: ends the phase; None for the last epoch alone.
      num_finished: epochs finished before this process started; later rows of an older history are dropped.
      on_epoch: called with the epoch's seconds, for the run's own book-keeping.
      follow: given the history, sets the learning rate by it; called after every epoch.
      measure: returns what else is to be written of an epoch, by its field.
      num_kept: of how many of the last epochs the weights are kept.
    """

    def __init__(
        self,
        folder: PhaseFolder,
        state: State,
        save_weights: Callable[[pathlib.Path], None],
        stop: Stop | None,
        num_finished: int,
        on_epoch: Callable[[float], None] | None = None,
        follow: Callable[[Sequence[Mapping[str, float]]], None] = lambda history: None,
        measure: Callable[[], dict[str, float]] = dict,
        num_kept: int = 0,
    ):
        super().__init__()
        self.follow, self.measure, self.num_kept = follow, measure, num_kept
        self.folder, self.state, self.save_weights = folder, state, save_weights
        self.stop, self.on_epoch = stop, on_epoch
        self.rows = [row for row in folder.read_history() if int(row["epoch"]) <= num_finished]
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        seconds = time.perf_counter() - self._started
        logs = {} if logs is None else logs
        logs.update(self.measure())  # for TensorBoard too
        optimizer = self.model.optimizer
        values = {**logs, "epoch": epoch + 1, "step": int(optimizer.iterations.numpy()), "seconds": seconds}
        self.follow(to_numbers([*self.rows, format_row(values)]))
        values["learning_rate"] = rate_of(optimizer)
        best = max((float(row["val_accuracy"]) for row in self.rows), default=-1.0)
        if values["val_accuracy"] > best:
            # Before the history says so: a process that dies in between does the epoch again.
            self.save_weights(self.folder.weights("best"))
        if self.num_kept:
            self.save_weights(self.folder.weights(f"epoch_{epoch + 1:04d}"))
        self.rows.append(format_row(values))
        self.folder.write_history(self.rows)
        with files.atomic_directory(self.folder.checkpoint(epoch + 1)) as partial:
            self.state.write(partial)
        for old in self.folder.checkpoints()[:-2]:
            files.remove_directory(self.folder.checkpoint(old))
        for name in self.folder.epochs()[: -self.num_kept or None]:
            self.folder.weights(name).unlink()
        if self.on_epoch is not None:
            self.on_epoch(seconds)
        if ends(self.stop, self.rows):
            self.model.stop_training = True


def ends(stop: Stop | None, rows: Sequence[Mapping[str, str]]) -> bool:
    """Tells whether a phase with these rows of history ends here, before its last epoch."""
    return stop is not None and stop.ends(to_numbers(rows))


def format_row(values: Mapping[str, Any]) -> dict[str, str]:
    """Returns a row of history as the file holds it; what decides goes by that, in the next process too."""
    return {field: str(values.get(field, "")) for field in HISTORY_FIELDS}


def to_numbers(rows: Sequence[Mapping[str, str]]) -> list[dict[str, float]]:
    """Returns rows of history as numbers, without what is not there."""
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


class Pace(tf.keras.callbacks.Callback):
    """Tells the median seconds of a step once, after 20 steps; the first ones, which compile, hardly count in it.

    Args:
      phase: its name.
      tell: called with it and the seconds.
    """

    NUM_STEPS = 20

    def __init__(self, phase: str, tell: Callable[[str, float], None]):
        super().__init__()
        self.phase, self.tell = phase, tell
        self._ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if len(self._ends) == self.NUM_STEPS:
            return
        self._ends.append(time.perf_counter())
        if len(self._ends) == self.NUM_STEPS:
            self.tell(self.phase, float(np.median(np.diff(self._ends))))


class ProgressPictures(tf.keras.callbacks.Callback):
    """Writes the learning rate of every epoch and, once, the augmented images to TensorBoard."""

    def __init__(self, folder: pathlib.Path, images: tf.Tensor):
        super().__init__()
        self.folder, self.images = folder, images
        self._writer: tf.summary.SummaryWriter | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._writer = tf.summary.create_file_writer(str(self.folder / "augmentation"))
        with self._writer.as_default():
            tf.summary.image(
                "augmented", tf.cast(self.images, tf.float32) / 255.0, step=0, max_outputs=len(self.images)
            )
        self._writer.flush()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert self._writer is not None
        with self._writer.as_default():
            tf.summary.scalar("learning_rate", rate_of(self.model.optimizer), step=epoch)
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._writer is not None:
            self._writer.close()
