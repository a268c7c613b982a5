"""When a phase ends before its last epoch. `STOPS` is the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tfaug.config import check_range, check_whole


class Stop:
    """Gives a rule its contract. The rule itself is a frozen dataclass."""

    @property
    def earliest(self) -> int:
        """After how many epochs it can end a phase at the earliest; a phase of no more epochs refuses it."""
        return 0

    def ends(self, history: Sequence[Mapping[str, float]]) -> bool:
        """Tells whether the phase ends after the epochs that lie behind it.

        Args:
          history: of each epoch `loss`, `accuracy`, `val_loss`, `val_accuracy` and what else `history.csv` holds.
        """
        raise NotImplementedError(f"{type(self).__name__} has no ends(history)")


@dataclasses.dataclass(frozen=True)
class _Patience(Stop):
    """Ends a phase once a loss has not fallen for some epochs."""

    patience: int = 5
    min_delta: float = 0.0
    monitor: ClassVar[str]

    def __post_init__(self) -> None:
        check_whole(self, "patience", 1)
        check_range(self, "min_delta", 0)

    @property
    def earliest(self) -> int:
        """The first epoch is always the lowest so far, and `patience` follow."""
        return self.patience + 1

    def ends(self, history: Sequence[Mapping[str, float]]) -> bool:
        """Tells whether the last `patience` epochs brought no loss lower by `min_delta`; see `Stop.ends`."""
        best, since = float("inf"), 0
        for epoch in history:
            fell = epoch[self.monitor] < best - self.min_delta
            best, since = (epoch[self.monitor], 0) if fell else (best, since + 1)
        return since >= self.patience


@dataclasses.dataclass(frozen=True)
class EarlyStop(_Patience):
    """Ends a phase once the loss on the validation images has not fallen for some epochs.

    Attributes:
      patience: how many epochs, 1 or more.
      min_delta: by how much it must fall to count, 0 or more.
    """

    monitor: ClassVar[str] = "val_loss"


@dataclasses.dataclass(frozen=True)
class Plateau(_Patience):
    """Ends a phase once the loss on the training images has not fallen for some epochs.

    Attributes:
      patience: how many epochs, 1 or more.
      min_delta: by how much it must fall to count, 0 or more.
    """

    monitor: ClassVar[str] = "loss"


STOPS: dict[str, type[Stop]] = {"EarlyStop": EarlyStop, "Plateau": Plateau}
