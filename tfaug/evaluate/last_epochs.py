"""How right the other epochs of a phase are: what a paper reports beside, or in place of, the weights that are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tfaug.evaluate.base import Evaluator, accuracy_row
from tfaug.predictions import CLEAN
from tfaug.workdir import Row

if TYPE_CHECKING:
    from tfaug.evaluate.context import Context


@dataclasses.dataclass(frozen=True)
class LastEpochs(Evaluator):
    """Yields the accuracy of each model's phase at epochs that are chosen without a look at the set.

    `accuracy_of_last_epoch`, `accuracy_of_chosen_epoch` (the best by the validation images) and, where the phase keeps
    epochs (`Phase.keep_epochs`), `accuracy_median_of_last` with `epochs_of_median`. The answers are the plain ones of
    the networks on this machine; the best epoch on a set is no measurement of it, so it is not among them.

    Source: He et al. 2019 (`refine`), table 1: the median of the last 10 epochs.
    """

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields what it measures; see `Evaluator.rows`."""
        for model in context.models:
            for name in context.sets:
                answers = context.epochs(model, name)
                place = (model, name, CLEAN, "plain")
                for epoch, metric in (("last", "accuracy_of_last_epoch"), ("best", "accuracy_of_chosen_epoch")):
                    if (chosen := answers.pop(epoch, None)) is not None:
                        yield accuracy_row(*place, metric, chosen.correct)
                if answers:
                    accuracies = [each.correct.mean() for each in answers.values()]
                    num = len(next(iter(answers.values())).ids)
                    yield Row(*place, "accuracy_median_of_last", float(np.median(accuracies)), n=num)
                    yield Row(*place, "epochs_of_median", float(len(accuracies)), n=num)
