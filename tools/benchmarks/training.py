"""Measure what augmentation adds to a training step of ResNet-20 in bf16."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from benchmarks import header
from benchmarks.timing import summarize
from tfaug import augment, rng
from tfaug.data import Split
from tfaug.data.pipeline import augmentation_seed, order_seed, training_batches
from tfaug.models import MODELS, StagedModel, build_model
from tfaug.schedules import Constant
from tfaug.train.fit import PhaseRate, batch_function, make_learner
from tfaug.train.methods import Supervised
from tfaug.train.order import Order, ScoringOrder, Shuffled
from tfaug.train.order.loader import DataLoader
from tfaug.train.phase import Phase
from tfaug.train.strategy import mirrored_strategy

BATCH_SIZE = 128
_NUM_EPOCHS = 1_000  # More than are ever run.
_OPS = (augment.Flip(), augment.PadCrop(4), augment.RandAugment(2, 9.0), augment.CutMix())
_SHUFFLED = Shuffled()
AUGMENTATIONS = {"none": None, "host": "host", "device": "device"}


def make_network(model: str, precision: str) -> StagedModel:
    """Returns a network for the images of the trainers; its weights are the same each time."""
    return build_model(
        MODELS[model],
        image_shape=(32, 32, 3),
        num_classes=10,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        precision=precision,
        seed=0,
    )


class Trainer:
    """A network and its step, with the augmentation where `augment_on` says and the batches that `order` chooses."""

    def __init__(
        self,
        augment_on: str | None,
        model: str,
        batch_size: int,
        num_steps: int,
        precision: str = "bf16",
        ops: tuple[augment.Augmentation, ...] = _OPS,
        order: Order = _SHUFFLED,
    ):
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        self._strategy = mirrored_strategy([devices[0].name])
        schedule = Constant(0.1)
        phase = Phase(
            "bench", _NUM_EPOCHS, schedule, ops, batch_size=batch_size, augment_on=augment_on or "host", order=order
        )
        function, seed = batch_function(phase), rng.make_seed(0)
        generator = np.random.default_rng(0)
        split = Split(
            generator.integers(0, 256, (num_steps * batch_size, 32, 32, 3), np.uint8),
            generator.integers(0, 10, num_steps * batch_size).astype(np.int64),
            np.arange(num_steps * batch_size).astype(str),
        )
        self.batches = training_batches(
            split,
            num_classes=10,
            batch_size=batch_size,
            seed=seed,
            first_epoch=0,
            num_epochs=_NUM_EPOCHS,
            augment=function if augment_on == "host" else None,
            with_examples=augment_on == "device",
        )
        with self._strategy.scope():
            network = make_network(model, precision)
            rate = PhaseRate(schedule, _NUM_EPOCHS * num_steps)
            self.learner = make_learner(network, phase, rate, augmentation_seed(seed), function, Supervised(), None)
        if isinstance(order, ScoringOrder):
            self.learner.loader = DataLoader(
                order, self.learner, split, split, 10, order_seed(seed), batch_size, self._strategy
            )
            self.batches = self.learner.loader.placeholders(0, _NUM_EPOCHS)
        self.learner.make_train_function()

    def time_steps(self, num_steps: int) -> float:
        """Takes steps as `fit` does and returns the seconds of one."""
        if self.learner.loader is not None:
            self.learner.loader.begin_epoch(0)
        # A new iterator each time, so that no batches are made during another's turn; its first steps start it.
        iterator = iter(self._strategy.experimental_distribute_dataset(self.batches))
        for _ in range(2):
            self.learner.train_function(iterator)
        start = time.perf_counter()
        for _ in range(num_steps):
            logs = self.learner.train_function(iterator)
        float(logs["loss"])
        return (time.perf_counter() - start) / num_steps


def bench(rounds: int, num_steps: int, quick: bool) -> dict[str, Any]:
    """Measures the steps without augmentation and with it on the host and on the device, in turns.

    Args:
      rounds: turns of each.
      num_steps: timed steps in a turn.
      quick: with LeNet and small batches.
    """
    model, batch = ("lenet", 16) if quick else ("resnet20", BATCH_SIZE)
    seconds: dict[str, list[float]] = {name: [] for name in AUGMENTATIONS}
    with tqdm(total=len(AUGMENTATIONS) * (rounds + 1), unit="turn", file=sys.stderr) as progress:
        trainers = {}
        for name, augment_on in AUGMENTATIONS.items():
            progress.set_description(f"training: {name} starts")
            trainers[name] = Trainer(augment_on, model, batch, num_steps)
            trainers[name].time_steps(1)
            progress.update()
        for _ in range(rounds):
            for name, trainer in trainers.items():
                progress.set_description(f"training: {name}")
                seconds[name].append(trainer.time_steps(num_steps))
                progress.update()
    settings = {
        "rounds": rounds,
        "steps_per_turn": num_steps,
        "model": model,
        "precision": "bf16",
        "images": "random uint8 in memory, 32 x 32, 3 channels",
        "augmentation": " + ".join(repr(op) for op in _OPS),
        "seconds": "of one step; median, min_ and max_ over the rounds",
        "ratio_to_none": "quotient of the medians",
        "min_ratio, max_ratio": "of the quotients round by round",
    }
    return {"header": header.describe({}, settings), "rows": make_rows(model, batch, seconds)}


def make_rows(model: str, batch: int, seconds: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """Returns one row per place of the augmentation."""
    none = statistics.median(seconds["none"])
    rows = []
    for name, values in seconds.items():
        by_round = [value / base for value, base in zip(values, seconds["none"], strict=True)]
        rows.append(
            {
                "model": model,
                "batch": batch,
                "augmentation": name,
                **summarize(values, "seconds"),
                "ratio_to_none": statistics.median(values) / none,
                "min_ratio": min(by_round),
                "max_ratio": max(by_round),
            }
        )
    return rows


def format_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as a table for the terminal."""
    lines = [
        f"{'model':9} {'batch':>5} {'augmentation':12} {'ms/step':>8} {'min..max':>16} {'x none':>7} {'by round':>13}"
    ]
    for row in rows:
        spread = f"{1e3 * row['min_seconds']:.1f}..{1e3 * row['max_seconds']:.1f}"
        by_round = f"{row['min_ratio']:.3f}..{row['max_ratio']:.3f}"
        lines.append(
            f"{row['model']:9} {row['batch']:>5} {row['augmentation']:12} {1e3 * row['seconds']:>8.1f} {spread:>16} "
            f"{row['ratio_to_none']:>7.3f} {by_round:>13}"
        )
    return "\n".join(lines)
