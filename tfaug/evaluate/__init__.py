"""Measure trained networks: evaluators, attacks, and what they are given. `EVALUATORS` and `ATTACKS` are the tables.

An evaluator is a frozen dataclass that yields rows (`tfaug.workdir.Row`) of what it asks of a `Context`; predictions
and features are kept on disk, so that each is made once.
"""

from __future__ import annotations

from tfaug.evaluate.attacks import ATTACKS, FGSM, PGD, Attack
from tfaug.evaluate.base import Evaluator
from tfaug.evaluate.classification import Classification
from tfaug.evaluate.config import EvaluateConfig
from tfaug.evaluate.context import Context
from tfaug.evaluate.features import WriteFeatures
from tfaug.evaluate.gain import Gain
from tfaug.evaluate.last_epochs import LastEpochs
from tfaug.evaluate.shift import Shift
from tfaug.evaluate.under_attack import UnderAttack

EVALUATORS: dict[str, type[Evaluator]] = {
    "Classification": Classification,
    "Gain": Gain,
    "LastEpochs": LastEpochs,
    "Shift": Shift,
    "UnderAttack": UnderAttack,
    "WriteFeatures": WriteFeatures,
}

__all__ = [
    "ATTACKS",
    "EVALUATORS",
    "FGSM",
    "PGD",
    "Attack",
    "Classification",
    "Context",
    "EvaluateConfig",
    "Evaluator",
    "Gain",
    "LastEpochs",
    "Shift",
    "UnderAttack",
    "WriteFeatures",
]
