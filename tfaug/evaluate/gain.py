"""What test-time views gain over plain answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfaug import metrics
from tfaug.evaluate.base import Evaluator, accuracy_row, positions
from tfaug.predictions import CLEAN
from tfaug.workdir import Row

if TYPE_CHECKING:
    from tfaug.evaluate.context import Context


@dataclasses.dataclass(frozen=True)
class Gain(Evaluator):
    """Yields `gain`, a mode's accuracy minus the plain one on the same images, with its paired bootstrap interval.

    Beside it stands `plain_accuracy`, the plain accuracy on these images, which may be a part of the set.
    """

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields what it measures."""
        for model in context.models:
            for name in context.sets:
                plain = context.predictions(model, name)
                for mode in context.modes:
                    answers = None if mode == "plain" else context.predictions(model, name, mode=mode)
                    places = None if plain is None or answers is None else positions(plain.ids, answers.ids)
                    if plain is None or answers is None or places is None:
                        continue
                    drawn = metrics.paired_bootstrap(answers.correct, plain.correct[places])
                    low, high = drawn["ci95"]
                    yield Row(model, name, CLEAN, mode, "gain", drawn["difference"], low, high, len(places))
                    yield accuracy_row(model, name, CLEAN, mode, "plain_accuracy", plain.correct[places])
