"""Training with intensive augmentation, then without it (He et al. 2019, `refine`).

Every arm trains for some epochs at rates that fall at milestones, and then goes on for a few at the last of them, with
crops and flips alone. Both ends are measured, by the median of the last epochs, which needs no choice.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tfaug.augment import Augmentation, AutoAugment, CutMix, Cutout, Mixup, RandAugment
from tfaug.config import ConfigError
from tfaug.data import Augmented, DataConfig, Tfds
from tfaug.evaluate import Classification, EvaluateConfig, LastEpochs
from tfaug.experiment import Experiment, TestSet
from tfaug.export import ExportConfig
from tfaug.models import MODELS, Model
from tfaug.schedules import Linear, Step
from tfaug.study import RUN_MINUTES, Column, Figure, Published, Study, Table
from tfaug.train.cascades import STANDARD
from tfaug.train.phase import Phase, Training

# The rate is divided by 10 at epochs 150 and 275 of 400.
_MILESTONES = Step(0.1, (0.375, 0.6875), 0.1)
_HEAVY: dict[str, tuple[Augmentation, ...]] = {
    "standard": (),
    "mixup": (Mixup(),),
    "cutmix": (CutMix(p=0.5),),
    "autoaugment": (AutoAugment(), Cutout(16)),
}


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
      model: of all arms.
      data: which images.
      epochs: before and after the intensive augmentation is removed.
      num_last: epochs whose median is taken.
      risk_batches: for the cross-entropy on training images.
    """

    model: Model
    data: DataConfig
    epochs: tuple[int, int]
    num_last: int
    risk_batches: int


def _scale(name: str) -> Scale:
    """Returns a scale by its name."""
    if name == "small":
        few = DataConfig(Tfds("cifar10"), validation_fraction=0.01, num_train_examples=2000)
        return Scale(MODELS["resnet20"], few, (8, 3), 3, 4)
    if name == "paper":
        return Scale(MODELS["preact18"], DataConfig(Tfds("cifar10"), validation_fraction=0.02), (400, 50), 10, 40)
    raise ConfigError(f"scale is {name!r}; allowed: small, paper")


def removed(train: Phase, share: float, light: tuple[Augmentation, ...] = STANDARD) -> tuple[Phase, ...]:
    """Returns a phase cut in two, the second without intensive augmentation, with as many epochs and the same rates.

    Args:
      train: with a `Step` for its schedule.
      share: of its epochs before the cut, above 0 to 1; 1 leaves one phase.
      light: what augments after the cut.

    Source: `refine`, figure 4 (Mixup removed at an epoch of 400 in all).

    Example:
      >>> train = Phase("train", 400, Step(0.1, (0.375, 0.6875), 0.1), STANDARD)
      >>> [(p.epochs, round(p.schedule.initial, 4), p.schedule.boundaries) for p in removed(train, 0.5)]
      [(200, 0.1, (0.75,)), (200, 0.01, (0.375,))]
    """
    if not isinstance(train.schedule, Step) or not 0 < share <= 1:
        raise ConfigError(f"removed has {train.schedule!r}, share {share!r}; allowed: a Step, above 0 to 1")
    if share == 1:
        return (train,)
    first = round(train.epochs * share)
    cut = first / train.epochs
    before = [bound for bound in train.schedule.boundaries if bound <= cut]
    after = [bound for bound in train.schedule.boundaries if bound > cut]
    falls = dataclasses.replace(train.schedule, boundaries=tuple(bound / cut for bound in before))
    goes_on = Step(
        train.schedule.initial * train.schedule.factor ** len(before),
        tuple((bound - cut) / (1 - cut) for bound in after),
        train.schedule.factor,
    )
    return (
        dataclasses.replace(train, epochs=first, schedule=falls),
        dataclasses.replace(train, name="refine", epochs=train.epochs - first, schedule=goes_on, augment=light),
    )


class _Arms:
    """Makes the arms of a scale."""

    def __init__(self, scale: str):
        self.size = _scale(scale)

    def train(self, *heavy: Augmentation, **settings: Any) -> Phase:
        """Returns the first phase."""
        fields = {
            "name": "train",
            "epochs": self.size.epochs[0],
            "schedule": _MILESTONES,
            "augment": (*STANDARD, *heavy),
            "keep_epochs": self.size.num_last,
            "risk_batches": self.size.risk_batches,
        }
        return Phase(**{**fields, **settings})

    def refine(self, *augment: Augmentation, **settings: Any) -> Phase:
        """Returns the second phase, at the last rate of the first."""
        return self.train(
            **{"name": "refine", "epochs": self.size.epochs[1], "schedule": None, "augment": augment, **settings}
        )

    def arm(self, *phases: Phase, **settings: Any) -> Experiment:
        """Returns the experiment of some phases."""
        fields: dict[str, Any] = {
            "data": self.size.data,
            "export": ExportConfig(draws=(1,), weights=(0.8,), num_examples=10),
            "evaluate": EvaluateConfig((Classification(), LastEpochs()), attacks=(), num_sum_aug_examples=10),
        }
        trainings = (Training("model", self.size.model, phases),)
        return Experiment(name="refinement", trainings=trainings, **{**fields, **settings})


def _both(name: str, title: str, metric: str, of_phase: bool = False, **fields: Any) -> tuple[Column, Column]:
    """Returns the columns of a metric at the ends of both phases."""
    place: dict[str, Any] = {"set": "", "attack": "", "mode": ""} if of_phase else {}
    return tuple(  # type: ignore[return-value]
        Column(
            f"{name}_{phase}",
            f"{title}, {'refined' if phase == 'refine' else 'before'}",
            metric=metric,
            model=f"model/{phase}" if of_phase else phase,
            **{**place, **fields},
        )
        for phase in ("train", "refine")
    )


_MEDIAN = _both("median", "median of the last epochs", "accuracy_median_of_last")
_CHOSEN = _both("chosen", "epoch chosen by validation", "accuracy_of_chosen_epoch")
_RISKS = (
    *_both("augmented_loss", "CE on augmented training images", "augmented_loss", of_phase=True, unit="", digits=3),
    *_both("clean_loss", "CE on clean training images", "clean_loss", of_phase=True, unit="", digits=3),
)
# The arm's last phase, whichever it is.
_END = Column("end_median", "median of the last epochs", metric="accuracy_median_of_last")


def refine(scale: str = "small") -> Study:
    """Compares four augmentations before and after refinement, and when Mixup is removed; ResNet-20, CIFAR-10.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.refine:refine --workdir=build/refine
    Not run whole yet at this scale; 40 minutes on two cores at most, by the pace of single runs.
    """
    make = _Arms(scale)
    total = sum(make.size.epochs)
    arms = {name: make.arm(make.train(*heavy), make.refine(*STANDARD)) for name, heavy in _HEAVY.items()}
    whole = make.train(Mixup(), epochs=total)
    shares = {50: 0.5, 75: 0.75, 100: 1.0}
    arms |= {f"mixup_removed_at_{percent}": make.arm(*removed(whole, share)) for percent, share in shares.items()}
    removals = tuple(f"mixup_removed_at_{percent}" for percent in shares)
    return Study(
        name=f"Refinement, {scale}",
        arms=arms,
        tables=(
            Table(
                "Accuracy (tables 1 of the paper and here)",
                (*_MEDIAN, *_CHOSEN, RUN_MINUTES),
                tuple(_HEAVY),
                "standard",
            ),
            Table("Cross-entropy on training images (table 2)", _RISKS, tuple(_HEAVY)),
            Table(
                "When Mixup is removed, of as many epochs in all (figure 4)",
                (_END,),
                removals,
                removals[-1],
                note="In % of the epochs; the rates are those of the whole.",
            ),
        ),
        figures=(Figure("Mixup removed", y=_END, arms=removals),),
        paper=_PAPER,
        note="The paper has PreAct-ResNet-18 on 50,000 images, 400 + 50 epochs; its losses are of CIFAR-100.",
    )


_PAPER = tuple(
    Published(arm, f"{column}_{phase}", value, note)
    for column, note, values in (
        (
            "median",
            "table 1, PreActResNet-18",
            {
                "standard": (94.63, 94.48),
                "mixup": (95.92, 96.26),
                "cutmix": (96.21, 96.38),
                "autoaugment": (96.02, 96.20),
            },
        ),
        (
            "augmented_loss",
            "table 2, CIFAR-100",
            {
                "mixup": (1.356, 0.0047),
                "cutmix": (0.785, 0.0019),
                "autoaugment": (0.245, 0.0015),
            },
        ),
        (
            "clean_loss",
            "table 2, CIFAR-100",
            {
                "standard": (0.0011, 0.0010),
                "mixup": (0.098, 0.0024),
                "cutmix": (0.014, 0.0008),
                "autoaugment": (0.0009, 0.0008),
            },
        ),
    )
    for arm, pair in values.items()
    for phase, value in zip(("train", "refine"), pair, strict=True)
)


def refine_paper() -> Study:
    """The study of `refine` at the paper's scale, on CIFAR-10: for a larger machine.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.refine:refine_paper --workdir=build/refine_paper
    """
    return refine("paper")


def ablations(scale: str = "small") -> Study:
    """Asks what else of refinement matters: crops and flips, weakening instead of removal, lengths; ResNet-20.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.refine:ablations --workdir=build/refine_ablations
    """
    make = _Arms(scale)
    first, last = make.size.epochs
    long = make.train(*_HEAVY["autoaugment"], epochs=5 * first // 2, schedule=Step(0.1, (0.4, 0.8), 0.1))
    # Mixup is weakened by its alpha to nearly nothing, CutMix by its probability.
    arms = {
        "mixup": make.arm(make.train(Mixup()), make.refine(*STANDARD)),
        "mixup_refined_bare": make.arm(make.train(Mixup()), make.refine()),
        "standard_refined_bare": make.arm(make.train(), make.refine()),
        "bare": make.arm(make.train(augment=()), make.refine()),
        "mixup_weakened": make.arm(make.train(Mixup(alpha=Linear(1.0, 0.01))), make.refine(*STANDARD)),
        "cutmix_weakened": make.arm(make.train(CutMix(p=Linear(0.5, 0.0))), make.refine(*STANDARD)),
        "autoaugment": make.arm(make.train(*_HEAVY["autoaugment"]), make.refine(*STANDARD)),
        "autoaugment_long": make.arm(long, make.refine(*STANDARD, epochs=4 * last)),
    }
    return Study(
        name=f"Ablations of refinement, {scale}",
        arms=arms,
        tables=(Table("Accuracy", (*_MEDIAN, *_CHOSEN), against="mixup"),),
        note="`autoaugment_long`: T1 = 1000, T2 = 200 of table 3, by the same factors.",
    )


def gap_splits(scale: str = "small") -> Study:
    """Divides as many epochs otherwise between RandAugment and refinement, and asks images under RandAugment too.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.refine:gap_splits --workdir=build/gap_splits

    Source: `gap`, figures 11 to 13 (100 to 400 of 450 epochs) and table 5 (augmented validation and test images).
    """
    make = _Arms(scale)
    op, total = RandAugment(n=2, m=20), sum(make.size.epochs)
    source = Tfds("cifar10")
    augmented = (TestSet("augmented", Augmented(source, op)),)

    def split(share: float, **settings: Any) -> Experiment:
        num = round(total * share)
        phases = (make.train(op, epochs=num), make.refine(*STANDARD, epochs=total - num))
        return make.arm(*phases, test_sets=augmented, **settings)

    shares = {percent: percent / 450 for percent in (100, 200, 300, 400)}
    arms = {f"split_{percent}": split(share) for percent, share in shares.items()}
    validation = dataclasses.replace(make.size.data, augment_validation=op)
    arms["split_400_augmented_validation"] = split(400 / 450, data=validation)
    on_augmented = _both("augmented", "images under RandAugment", "accuracy", set="augmented")
    return Study(
        name=f"Epochs with RandAugment and without, {scale}",
        arms=arms,
        tables=(Table("Accuracy", (*_MEDIAN, *_CHOSEN, *on_augmented), against="split_400"),),
        note="The names have the epochs of 450 with RandAugment; here as many shares of the epochs of this scale.",
    )


def gap_lengths(scale: str = "small") -> Study:
    """Trains with RandAugment for longer and longer, and tests on images under RandAugment.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.refine:gap_lengths --workdir=build/gap_lengths

    Source: `gap`, table 7 and appendix C (100 to 1,000 epochs).
    """
    make = _Arms(scale)
    op, first = RandAugment(n=2, m=20), make.size.epochs[0]
    augmented = (TestSet("augmented", Augmented(Tfds("cifar10"), op)),)
    arms = {
        f"length_{length}": make.arm(make.train(op, epochs=round(first * length / 400)), test_sets=augmented)
        for length in (100, 200, 400, 700, 1000)
    }
    on_augmented = Column("augmented_accuracy", "images under RandAugment", set="augmented")
    return Study(
        name=f"Lengths of training with RandAugment, {scale}",
        arms=arms,
        tables=(Table("Accuracy", (_END, on_augmented), against="length_400"),),
        figures=(Figure("Accuracy on images under RandAugment", y=on_augmented),),
        paper=(
            Published("length_100", on_augmented.name, 43.36, "DenseNet-BC-100-12, static copies"),
            Published("length_400", on_augmented.name, 48.34, "flat after it, as printed"),
        ),
        note="The names have the paper's epochs; here as many shares of 400 of the epochs of this scale's first phase.",
    )
