"""Phases that lead from sums of many images to single ones: Cascading and Gradually Cascading Sum-Augmentation.

A step learns from `sums` rows in every phase, so k times as many images are drawn for sums of k, and an epoch, which
draws every image once, has k times fewer steps (`Phase.batch_of`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tfaug.augment import Augmentation, Flip, GradualSumAug, PadCrop, SumAug
from tfaug.config import ConfigError
from tfaug.schedules import Constant, OneCycle, Valley
from tfaug.train.optimizers import SGD
from tfaug.train.phase import Phase
from tfaug.train.plateau import ReduceOnPlateau
from tfaug.train.stop import Plateau

STANDARD: tuple[Augmentation, ...] = (Flip(), PadCrop(4))


class Length(NamedTuple):
    """How long a phase of a cascade is.

    Attributes:
      plateau: epochs that may pass without a new low of the training loss before the rate is halved.
      stop: likewise before the phase ends.
      epochs: after which it ends in any case.
    """

    plateau: int
    stop: int
    epochs: int


# Of the phase of each k: for sets of 1,000 to 10,000 images and for 50,000 (the authors' command lines).
SMALL_SET = {1: Length(10, 35, 1000), 2: Length(15, 65, 1000), 4: Length(30, 130, 2000), 8: Length(60, 260, 4000)}
LARGE_SET = {1: Length(2, 6, 1000), 2: Length(3, 12, 1000), 4: Length(6, 25, 2000), 8: Length(12, 50, 4000)}


def cascade(
    ks: Sequence[int] = (8, 4, 2, 1),
    lengths: Mapping[int, Length] = LARGE_SET,
    *,
    sums: int = 100,
    augment: tuple[Augmentation, ...] = STANDARD,
    rate: float = 0.05,
    single_rate: float = 0.01,
    coefficients: str = "mean",
    single_label: bool = False,
    **settings: Any,
) -> tuple[Phase, ...]:
    """Returns the phases of Cascading Sum-Augmentation: `sum8`, `sum4`, `sum2` and `single` for ks of 8, 4, 2, 1.

    Each goes on from the best epoch of the one before by the validation images, where the authors took the best by the
    test images. Of ks = (1,) it is their baseline, at `rate`; ks that stop at 2 are what their test-time sums need.

    Args:
      ks: how many images are summed, phase by phase, descending.
      lengths: by k.
      sums: what a step learns from, over all replicas; k times as many images are drawn.
      augment: before the sums.
      rate: at which each phase begins; it is halved on plateaus of the training loss, down to 5e-5.
      single_rate: of k = 1 after other phases.
      coefficients, single_label: ablations, see `SumAug`.
      **settings: further fields of every phase; `loss="binary_cross_entropy"` is an ablation too.

    Raises:
      ConfigError: if the ks do not descend or have no length, or a setting is not allowed.

    Source: `sum`, section 3.4; the constants are those of the authors' command lines.

    Example:
      >>> [(phase.name, phase.num_drawn, phase.images_per_sum) for phase in cascade((4, 2, 1))]
      [('sum4', 400, 4), ('sum2', 200, 2), ('single', 100, 1)]
    """
    if not ks or any(high <= low for high, low in itertools.pairwise(ks)):
        raise ConfigError(f"ks is {ks!r}; allowed: one number or more, descending, as in (4, 2, 1)")
    if unknown := [k for k in ks if k not in lengths]:
        raise ConfigError(f"ks names {unknown[0]}, which has no length; allowed: {', '.join(map(str, lengths))}")
    phases = []
    for k in ks:
        length = lengths[k]
        ops = () if k == 1 else (SumAug(k, coefficients, single_label=single_label),)
        fields: dict[str, Any] = {
            "keep": "best",
            "plateau": ReduceOnPlateau(length.plateau),
            "stop": Plateau(length.stop),
            **settings,
        }
        phases.append(
            Phase(
                f"sum{k}" if k > 1 else "single",
                length.epochs,
                Constant(single_rate if k == 1 and len(ks) > 1 else rate),
                (*augment, *ops),
                sums,
                batch_of="sums",
                **fields,
            )
        )
    return tuple(phases)


def gradual(
    n: int = 4,
    epochs: int = 450,
    single_epochs: int = 150,
    *,
    sums: int = 128,
    augment: tuple[Augmentation, ...] = STANDARD,
    peak: float = 0.25,
    factor: float = 0.5,
    legacy_stepwise: bool = False,
    **settings: Any,
) -> tuple[Phase, ...]:
    """Returns the phases of Gradually Cascading Sum-Augmentation: `level0`, `level1`, .. and `single`.

    Within a level, which sums m = n - level images, the coefficients go at every step from m equal ones to m - 1; each
    level has a cycle of its own of the learning rate and, the other way round, of the momentum. The optimizer starts
    afresh in each, and the number of sums per step is constant; in the authors' code it is the number of images, of
    which B / m sums are made.

    Args:
      n: images summed at first, 2 or more.
      epochs: of all levels together, divided equally; the first ones have one more where it does not divide.
      single_epochs: on single images at the end, 0 for none.
      sums: what a step learns from, over all replicas.
      augment: before the sums.
      peak: highest rate of level 0.
      factor: what each further level multiplies it with.
      legacy_stepwise: see `GradualSumAug`.
      **settings: further fields of every phase, such as `loss="binary_cross_entropy"`, the authors' own here.

    Raises:
      ConfigError: if there are fewer epochs than levels, or a setting is not allowed.

    Source: `sum`, section 3.5, equations 3.1 to 3.6; the constants are those of the authors' configuration.

    Example:
      >>> [(phase.name, phase.epochs, phase.num_drawn) for phase in gradual(3, epochs=20, single_epochs=5, sums=10)]
      [('level0', 10, 30), ('level1', 10, 20), ('single', 5, 10)]
    """
    if n < 2 or epochs < n - 1:
        raise ConfigError(f"gradual has n = {n!r}, epochs = {epochs!r}; allowed: n of 2 or more, n - 1 epochs or more")
    phases = []
    for level in range(n if single_epochs else n - 1):
        single = level == n - 1
        fields: dict[str, Any] = {"weight_decay": 5e-5, "optimizer": SGD(Valley(0.95, 0.85, 0.3)), **settings}
        phases.append(
            Phase(
                "single" if single else f"level{level}",
                single_epochs if single else epochs // (n - 1) + (level < epochs % (n - 1)),
                OneCycle(peak * factor**level, 0.3, 10.0, 5000.0),
                augment if single else (*augment, GradualSumAug(n, legacy_stepwise, level)),
                sums,
                batch_of="sums",
                **fields,
            )
        )
    return tuple(phases)
