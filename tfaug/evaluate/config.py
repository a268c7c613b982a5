"""Settings of the evaluation."""

from __future__ import annotations

import dataclasses

from tfaug.config import check_kind, check_whole
from tfaug.evaluate.attacks import ATTACKS, FGSM, PGD, Attack, name_attacks
from tfaug.evaluate.base import Evaluator, check_names
from tfaug.evaluate.classification import Classification
from tfaug.evaluate.gain import Gain
from tfaug.evaluate.shift import Shift
from tfaug.evaluate.under_attack import UnderAttack


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Says what is measured; none of it trains anything again.

    Attributes:
      evaluators: what is measured.
      attacks: attacks on the test set, any number, also several of a class.
      attacked: names of the exported models that are attacked; () for those of the first training.
      num_attack_examples: test images attacked, a seeded class-stratified subset; all where there are fewer.
      num_sum_aug_examples: images of each set asked in mode `sum_aug`, whose every answer costs n forward passes; a
        seeded class-stratified subset, all where there are fewer. Of attacked images those among them are asked.
      batch_size: images per request and per attack step, 1 or more.
      endpoint: gRPC HOST:PORT of a running server; empty to start one on a free port.
      seed: chooses these images.
    """

    evaluators: tuple[Evaluator, ...] = (Classification(), Gain(), Shift(), UnderAttack())
    attacks: tuple[Attack, ...] = (FGSM(), PGD())
    attacked: tuple[str, ...] = ()
    num_attack_examples: int = 1000
    num_sum_aug_examples: int = 2000
    batch_size: int = 256
    endpoint: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        check_kind(self, "evaluators", Evaluator, "evaluators, as in Classification()", several=True)
        check_kind(self, "attacks", Attack, f"attacks: {', '.join(ATTACKS)}", several=True)
        check_names(self, "attacked")
        check_whole(self, "num_attack_examples", 1)
        check_whole(self, "num_sum_aug_examples", 1)
        check_whole(self, "batch_size", 1)
        check_whole(self, "seed", 0, 2**31 - 1)
        name_attacks(self.attacks)
