"""What an evaluator is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from tfaug import metrics
from tfaug.config import ConfigError, is_number, to_python
from tfaug.workdir import Row

if TYPE_CHECKING:
    from tfaug.evaluate.context import Context


class Evaluator:
    """Gives an evaluator its contract. The evaluator itself is a frozen dataclass, and its fields are its settings."""

    def rows(self, context: Context) -> Iterator[Row]:
        """Yields what it measures; what it asks of the context is made where it is not on disk yet."""
        raise NotImplementedError(f"{type(self).__name__} has no rows(context)")


def measure(evaluators: Iterable[Evaluator], context: Context) -> list[Row]:
    """Returns the rows of all evaluators, in their order.

    Raises:
      ConfigError: if what one yields is no row, has a value that is no finite number, or stands twice.
    """
    rows: dict[tuple[str, ...], Row] = {}
    for evaluator in evaluators:
        for row in evaluator.rows(context):
            if not isinstance(row, Row):
                raise ConfigError(f"{evaluator!r} yields {row!r}; allowed: a Row(...)")
            value = to_python(row.value)
            if not is_number(value) or not math.isfinite(value):
                raise ConfigError(f"{evaluator!r} yields {row!r}; allowed: a value that is a finite number")
            place = (row.model, row.set, row.attack, row.mode, row.metric)
            if place in rows:
                raise ConfigError(f"{evaluator!r} yields {row!r}, which was yielded before; allowed: each place once")
            rows[place] = row
    return list(rows.values())


def check_names(owner: object, *fields: str) -> None:
    """Raises a ConfigError where a field is no tuple of texts; a list becomes one."""
    for field in fields:
        names = getattr(owner, field)
        if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{type(owner).__name__}.{field} is {names!r}; allowed: a tuple of names, as in ('a',)")
        object.__setattr__(owner, field, tuple(names))


def accuracy_row(model: str, set_name: str, attack: str, mode: str, metric: str, correct: np.ndarray) -> Row:
    """Returns a share of right answers with Wilson's 95 % interval.

    Args:
      model, set_name, attack, mode, metric: see `Row`.
      correct: bool [N], N of 1 or more.
    """
    low, high = metrics.wilson_interval(int(correct.sum()), len(correct))
    return Row(model, set_name, attack, mode, metric, float(correct.mean()), low, high, len(correct))


def positions(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """Returns where each of `wanted`, str [M], stands among `ids`, str [N]: int64 [M]; None where one is not there."""
    places = {name: i for i, name in enumerate(ids.tolist())}
    found = [places.get(name, -1) for name in wanted.tolist()]
    return None if -1 in found else np.asarray(found, np.int64)
