"""Measure a training step next to that of plain Keras: `fit` of the same network on the same batches."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from benchmarks import header, training
from benchmarks.timing import WARM_UP_STEPS, StepClock, summarize
from tfaug import models
from tfaug.augment import Flip, PadCrop
from tfaug.keras_versions import OPTIMIZER_SETTINGS
from tfaug.train.callbacks import Pace, StopOnNonFinite

# Plain Keras has no seed for layers that draw.
MODELS = tuple(name for name, model in models.MODELS.items() if not isinstance(model, models.ShakeShake))
_OPS = (Flip(), PadCrop(4))


class FittedPair:
    """A network twice, with the same weights: one learns as a phase does, the other as Keras has it.

    Both take the same batches, augmented in the same `tf.data` pipeline, and make the same update but for the weight
    decay: Keras's is not coupled to the momentum.

    Args:
      model: in `MODELS`.
      precision: 'fp32' or 'bf16'.
      batch_size: images in a step.
      num_steps: timed steps in a turn.
    """

    def __init__(self, model: str, precision: str, batch_size: int, num_steps: int):
        self._num_steps = num_steps
        trainer = training.Trainer("host", model, batch_size, WARM_UP_STEPS + num_steps, precision, _OPS)
        self._batches = trainer.batches
        plain = training.make_network(model, precision)
        plain.compile(
            tf.keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-4, **OPTIMIZER_SETTINGS),
            tf.keras.losses.CategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        self.networks = {"tfaug": trainer.learner.network, "keras": plain}
        self._fitted: dict[str, tf.keras.Model] = {"tfaug": trainer.learner, "keras": plain}
        # What a phase calls after every step.
        self._callbacks = {"tfaug": [StopOnNonFinite("bench"), Pace("bench", lambda *_: None)], "keras": []}

    def images_per_second(self, name: str, batch_size: int) -> float:
        """Takes steps with `tfaug` or `keras` and returns the images that it learned from in a second."""
        clock = StepClock()
        self._fitted[name].fit(
            self._batches,
            steps_per_epoch=WARM_UP_STEPS + self._num_steps,
            shuffle=False,
            verbose=0,
            callbacks=[*self._callbacks[name], clock],
        )
        return self._num_steps * batch_size / float(clock.seconds[0])


def bench(names: Sequence[str], precisions: Sequence[str], rounds: int, num_steps: int, quick: bool) -> dict[str, Any]:
    """Measures each network in each precision, ours and Keras's steps in turns.

    Args:
      names: of networks, in `MODELS`.
      precisions: each 'fp32' or 'bf16'.
      rounds: turns of each.
      num_steps: timed steps in a turn.
      quick: with LeNet and small batches.
    """
    names, batch_size = (["lenet"], 16) if quick else (names, training.BATCH_SIZE)
    rows = []
    with tqdm(total=len(names) * len(precisions) * (rounds + 1), unit="round", file=sys.stderr) as progress:
        for model in names:
            for precision in precisions:
                progress.set_description(f"train: {model}, {precision}")
                pair = FittedPair(model, precision, batch_size, num_steps)
                speeds: dict[str, list[float]] = {name: [] for name in pair.networks}
                for turn in range(rounds + 1):
                    for name, values in speeds.items():
                        speed = pair.images_per_second(name, batch_size)
                        values += [speed] if turn else []  # The first compiles.
                    progress.update()
                rows.append(make_row(model, precision, batch_size, speeds))
    settings = {
        "rounds": rounds,
        "steps_per_turn": num_steps,
        "images": "random uint8 in memory, 32 x 32, 3 channels",
        "augmentation": " + ".join(repr(op) for op in _OPS) + ", on the host",
        "keras": "fit of the same network: SGD with Nesterov momentum and weight decay, categorical cross-entropy",
        "images_per_second": "of Learner.fit; median, min_ and max_ over the rounds; keras_ for plain Keras",
        "ratio_to_keras": "quotient of the medians",
        "min_ratio, max_ratio": "of the quotients round by round",
    }
    return {"header": header.describe({}, settings), "rows": rows}


def make_row(model: str, precision: str, batch_size: int, speeds: Mapping[str, list[float]]) -> dict[str, Any]:
    """Returns the row of one network in one precision, from the images per second of each turn."""
    ours, keras = speeds["tfaug"], speeds["keras"]
    by_round = [own / theirs for own, theirs in zip(ours, keras, strict=True)]
    return {
        "name": f"{model}, {precision}",
        "model": model,
        "precision": precision,
        "batch": batch_size,
        **summarize(ours, "images_per_second"),
        **summarize(keras, "keras_images_per_second"),
        "ratio_to_keras": statistics.median(ours) / statistics.median(keras),
        "min_ratio": min(by_round),
        "max_ratio": max(by_round),
    }


def format_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as a table for the terminal."""
    lines = [f"{'':20} {'batch':>5} {'images/s':>9} {'min..max':>18} {'Keras':>9} {'x Keras':>8} {'by round':>13}"]
    for row in rows:
        spread = f"{row['min_images_per_second']:.1f}..{row['max_images_per_second']:.1f}"
        by_round = f"{row['min_ratio']:.3f}..{row['max_ratio']:.3f}"
        lines.append(
            f"{row['name']:20} {row['batch']:>5} {row['images_per_second']:>9.1f} {spread:>18} "
            f"{row['keras_images_per_second']:>9.1f} {row['ratio_to_keras']:>8.3f} {by_round:>13}"
        )
    return "\n".join(lines)
