"""How often models are right about attacked images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfaug.evaluate.base import Evaluator, accuracy_row, positions
from tfaug.workdir import Row

if TYPE_CHECKING:
    from tfaug.evaluate.context import Context


@dataclasses.dataclass(frozen=True)
class UnderAttack(Evaluator):
    """Yields `accuracy` on attacked images and `clean_accuracy` on the same images unharmed, with Wilson's intervals.

    The images are made on the *local, plain* model and sent to the endpoint. For `plain` that is a white-box attack.
    For `sum_aug` it is a transfer attack: the attacker knows neither that images will be mixed nor with what, so the
    accuracy is an upper bound and says nothing of robustness to an adaptive attack (one that averages gradients over
    draws).
    """

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields what it measures."""
        name = context.sets[0]
        for model in context.attacked:
            for attack in context.attacks:
                for mode in context.modes:
                    answers = context.predictions(model, name, attack, mode)
                    if answers is None:
                        continue
                    yield accuracy_row(model, name, attack, mode, "accuracy", answers.correct)
                    clean = context.predictions(model, name, mode=mode)
                    places = None if clean is None else positions(clean.ids, answers.ids)
                    if clean is not None and places is not None:
                        yield accuracy_row(model, name, attack, mode, "clean_accuracy", clean.correct[places])
