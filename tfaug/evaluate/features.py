"""Features written beside the predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfaug.evaluate.base import Evaluator, check_names
from tfaug.workdir import Row

if TYPE_CHECKING:
    from tfaug.evaluate.context import Context


@dataclasses.dataclass(frozen=True)
class WriteFeatures(Evaluator):
    """Writes the output of stages to features/MODEL/SET.STAGE.npz, and yields no row.

    Attributes:
      stages: names of stages of the network, such as `stage3`.
      models: names of exported models; () for all.
      sets: names of sets; () for all.
    """

    stages: tuple[str, ...]
    models: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_names(self, "stages", "models", "sets")

    def rows(self, context: Context) -> Iterator[Row]:
        """Writes what is not on disk yet."""
        for model in self.models or context.models:
            for name in self.sets or context.sets:
                for stage in self.stages:
                    context.features(model, name, stage)
        yield from ()
