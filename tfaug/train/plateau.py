"""Cutting the learning rate where a loss has stopped falling: what no schedule can know."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tfaug.config import check_choice, check_range, check_whole


@dataclasses.dataclass(frozen=True)
class ReduceOnPlateau:
    """Cuts the learning rate of a phase once a loss has not fallen for more than some epochs, and again.

    With c cuts so far, and at no time above the schedule,

        rate = max(factor^c schedule, lowest)

    It is a function of the history, so that a phase that goes on after a kill is the same, bit for bit.

    Attributes:
      patience: epochs that may pass without a new low; one more cuts, and the count begins again. 0 or more.
      factor: what a cut multiplies the rate with, 0..1.
      threshold: by what share of the lowest so far a loss must be lower to count, 0..1.
      lowest: rate below which no cut brings it, 0 or more.
      monitor: `loss` on the training images, or `val_loss`.

    Source: `sum`, section 3.4 (the cascades train until a plateau); the rule is that of PyTorch's ReduceLROnPlateau,
      with the constants of the authors' runs.
    """

    patience: int = 10
    factor: float = 0.5
    threshold: float = 1e-3
    lowest: float = 5e-5
    monitor: str = "loss"

    def __post_init__(self) -> None:
        check_whole(self, "patience", 0)
        check_range(self, "factor", 0, 1)
        check_range(self, "threshold", 0, 1)
        check_range(self, "lowest", 0)
        check_choice(self, "monitor", ("loss", "val_loss"))

    @property
    def earliest(self) -> int:
        """After how many epochs it can cut at the earliest; a phase of no more epochs refuses it."""
        return self.patience + 2

    def num_cuts(self, history: Sequence[Mapping[str, float]]) -> int:
        """Returns how often the rate is cut after the epochs that lie behind; see `Stop.ends`."""
        best, since, cuts = float("inf"), 0, 0
        for epoch in history:
            if epoch[self.monitor] < best * (1 - self.threshold):
                best, since = epoch[self.monitor], 0
            else:
                since += 1
            if since > self.patience:
                cuts, since = cuts + 1, 0
        return cuts
