"""Keras callbacks: the loud stop on NaN, the checkpoint and history of every epoch, pictures for TensorBoard."""

from __future__ import annotations

import csv
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import files
from tfaug.keras_versions import variable_path

HISTORY_FIELDS = ("epoch", "step", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")


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
    """Writes the history and a checkpoint after every epoch; both are whole or absent.

    A checkpoint is a folder `checkpoints/epoch_0003`, published by a rename; the two newest are kept.

    Args:
      folder: of the phase.
      checkpoint: holds the network and the optimizer.
      num_finished: epochs finished before this process started; later rows of an older history are dropped.
      on_epoch: called with the epoch's seconds, for the run's own book-keeping.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        checkpoint: tf.train.Checkpoint,
        num_finished: int,
        on_epoch: Callable[[float], None] | None = None,
    ):
        super().__init__()
        self.folder, self.checkpoint, self.on_epoch = folder, checkpoint, on_epoch
        self.rows = [row for row in read_history(folder / "history.csv") if int(row["epoch"]) <= num_finished]
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        seconds = time.perf_counter() - self._started
        optimizer = self.model.optimizer
        values = {
            **(logs or {}),
            "epoch": epoch + 1,
            "step": int(optimizer.iterations.numpy()),
            "learning_rate": float(optimizer.learning_rate.numpy()),
            "seconds": seconds,
        }
        self.rows.append({field: str(values.get(field, "")) for field in HISTORY_FIELDS})
        write_history(self.folder / "history.csv", self.rows)
        with files.atomic_directory(checkpoint_folder(self.folder, epoch + 1)) as partial:
            self.checkpoint.write(str(partial / "state"))
        for old in finished_checkpoints(self.folder)[:-2]:
            files.remove_directory(checkpoint_folder(self.folder, old))
        if self.on_epoch is not None:
            self.on_epoch(seconds)


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
            tf.summary.scalar("learning_rate", float(self.model.optimizer.learning_rate.numpy()), step=epoch)
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._writer is not None:
            self._writer.close()


def checkpoint_folder(folder: pathlib.Path, num_epochs: int) -> pathlib.Path:
    """Returns where the checkpoint after `num_epochs` epochs of a phase stands."""
    return folder / "checkpoints" / f"epoch_{num_epochs:04d}"


def finished_checkpoints(folder: pathlib.Path) -> list[int]:
    """Returns the epochs of which whole checkpoints exist, ascending."""
    return sorted(int(path.name.split("_")[1]) for path in (folder / "checkpoints").glob("epoch_*") if path.is_dir())


def read_history(path: pathlib.Path) -> list[dict[str, str]]:
    """Reads the rows of a history; there are none where there is no file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_history(path: pathlib.Path, rows: list[dict[str, str]]) -> None:
    """Writes the rows of a history, whole or not at all."""
    with files.atomic_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY_FIELDS)
        writer.writeheader()
        writer.writerows(rows)
