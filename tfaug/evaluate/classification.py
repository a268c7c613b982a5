"""How often and how surely models are right about images as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfaug import metrics
from tfaug.evaluate.base import Evaluator, accuracy_row
from tfaug.predictions import CLEAN
from tfaug.workdir import Row

if TYPE_CHECKING:
    from tfaug.evaluate.context import Context


@dataclasses.dataclass(frozen=True)
class Classification(Evaluator):
    """Yields `accuracy` (Wilson's interval), `nll`, `ece` and `brier` of each model on each set in each mode.

    They are those of `tfaug.metrics.METRICS`, with 15 bins for the calibration error.
    """

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields what it measures."""
        for model in context.models:
            for name in context.sets:
                for mode in context.modes:
                    answers = context.predictions(model, name, mode=mode)
                    if answers is None:
                        continue
                    yield accuracy_row(model, name, CLEAN, mode, "accuracy", answers.correct)
                    for metric, measure in metrics.METRICS.items():
                        if metric != "accuracy":  # which has an interval, above
                            value = measure(answers.probs, answers.labels)
                            yield Row(model, name, CLEAN, mode, metric, value, n=len(answers.ids))
