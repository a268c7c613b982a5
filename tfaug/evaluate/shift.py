"""How much accuracy falls from the test set to the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tfaug import metrics
from tfaug.evaluate.base import Evaluator, positions
from tfaug.predictions import CLEAN, Predictions
from tfaug.workdir import Row

if TYPE_CHECKING:
    from tfaug.evaluate.context import Context


@dataclasses.dataclass(frozen=True)
class Shift(Evaluator):
    """Yields `gap`, the accuracy on the test set minus that on another, with its bootstrap interval.

    Where both hold the same images, one of them changed, an image that is hard in one is hard in the other, so both
    are drawn together; else each is drawn apart from the other. `gap_is_paired` says which, 1 or 0.
    """

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields what it measures; `n` is the number of images of the other set."""
        first, *others = context.sets
        for model in context.models:
            for name in others:
                for mode in context.modes:
                    test = context.predictions(model, first, mode=mode)
                    other = context.predictions(model, name, mode=mode)
                    if test is None or other is None:
                        continue
                    places = _pairs(test, other)
                    if places is None:
                        drawn = metrics.bootstrap_difference(test.correct, other.correct)
                    else:
                        drawn = metrics.paired_bootstrap(test.correct, other.correct[places])
                    low, high = drawn["ci95"]
                    num = len(other.ids)
                    yield Row(model, name, CLEAN, mode, "gap", drawn["difference"], low, high, num)
                    yield Row(model, name, CLEAN, mode, "gap_is_paired", float(places is not None), n=num)


def _pairs(test: Predictions, other: Predictions) -> np.ndarray | None:
    """Returns where each image of `test` stands in `other`; None where they do not hold the same ones."""
    places = positions(other.ids, test.ids)
    same = places is not None and len(other.ids) == len(test.ids) and (other.labels[places] == test.labels).all()
    return places if same else None
