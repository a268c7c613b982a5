"""Cascading Sum-Augmentation against what is usual on few images (Simionescu 2020, `sum`, chapter 3).

Each arm trains until the training loss stops falling, and hands on the best epoch by validation images; in the authors'
code that was the best by test images. A batch is counted in sums, 50 in each step, so sums of k draw 50 k images.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tfaug.augment import Augmentation, Mixup, SamplePairing
from tfaug.config import ConfigError
from tfaug.data import DataConfig, Tfds
from tfaug.evaluate import Classification, EvaluateConfig, Gain, LastEpochs
from tfaug.experiment import Experiment
from tfaug.export import ExportConfig
from tfaug.models import MODELS, Model
from tfaug.schedules import Intermittent
from tfaug.study import RUN_MINUTES, Column, Figure, Published, Study, Table
from tfaug.train.cascades import LARGE_SET, SMALL_SET, STANDARD, Length, cascade, gradual
from tfaug.train.phase import Phase, Training

# Of the authors' patience for small sets a tenth to a thirtieth, and fewer epochs at most.
_SHORT = {1: Length(1, 4, 12), 2: Length(1, 4, 18), 4: Length(2, 6, 22), 8: Length(3, 8, 28)}


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the study is.

    Attributes:
      model: of all arms.
      lengths: of the phases of a cascade, by k.
      data: which images.
      sums: that a step learns from.
      gradual_epochs: of all levels together, and on single images.
      num_sum_aug: test images that are asked with sums.
    """

    model: Model
    lengths: dict[int, Length]
    data: DataConfig
    sums: int
    gradual_epochs: tuple[int, int]
    num_sum_aug: int


def _scale(name: str) -> Scale:
    """Returns a scale by its name; 1,000 images, class-balanced, but for `paper_50k`."""
    few = DataConfig(Tfds("cifar10"), validation_fraction=0.01, num_train_examples=1000)
    if name == "small":
        return Scale(MODELS["resnet20"], _SHORT, few, 50, (18, 6), 100)
    if name == "paper":
        # The validation images are not among the authors' 1,000, which chose by test images.
        few = dataclasses.replace(few, validation_fraction=0.1)
        return Scale(MODELS["wrn_28_10"], SMALL_SET, few, 50, (450, 150), 10_000)
    if name == "paper_50k":
        return Scale(MODELS["wrn_28_10"], LARGE_SET, DataConfig(Tfds("cifar10")), 100, (450, 150), 10_000)
    raise ConfigError(f"scale is {name!r}; allowed: small, paper, paper_50k")


def sums(scale: str = "small") -> Study:
    """Compares cascades of sums with a baseline, Mixup and SamplePairing on 1,000 images of CIFAR-10; ResNet-20.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.sums:sums --workdir=build/sums
    Not run whole yet at this scale; 40 minutes on two cores at most, by the pace of single runs.
    """
    size = _scale(scale)

    def arm(phases: tuple[Phase, ...], draws: int = 64) -> Experiment:
        measured = tuple(phase.name for phase in phases if phase.name in ("sum2", phases[-1].name))
        return Experiment(
            name="sums of images",
            data=size.data,
            trainings=(Training("model", size.model, phases, export=measured),),
            export=ExportConfig(draws=(draws,), weights=(0.5,), num_examples=100),
            evaluate=EvaluateConfig(
                evaluators=(Classification(), Gain(), LastEpochs()),
                attacks=(),
                num_sum_aug_examples=size.num_sum_aug,
            ),
        )

    def cascaded(*ks: int, **settings: Any) -> tuple[Phase, ...]:
        return cascade(ks, size.lengths, sums=size.sums, **settings)

    def with_op(op: Augmentation) -> tuple[Phase, ...]:
        return cascaded(1, augment=(*STANDARD, op))

    # Off at first and at last, and now and then in between; so it is not for a plateau to end it.
    pairing = SamplePairing(p=Intermittent(1.0, start=0.1, stop=0.8, period=0.1))
    paired = dataclasses.replace(with_op(pairing)[0], stop=None)
    arms = {
        "baseline": arm(cascaded(1)),
        "mixup": arm(with_op(Mixup())),
        "sample_pairing": arm((paired,)),
        "cascade_2_1": arm(cascaded(2, 1)),
        "cascade_4_2_1": arm(cascaded(4, 2, 1)),
        "cascade_8_4_2_1": arm(cascaded(8, 4, 2, 1)),
        "gradual_4": arm(gradual(4, *size.gradual_epochs, sums=size.sums, loss="binary_cross_entropy")),
    }
    cascades = tuple(name for name in arms if name.startswith("cascade"))
    # The same trainings, exported with fewer draws.
    arms |= {f"{name}_n8": arm(arms[name].trainings[0].phases, draws=8) for name in cascades}
    gain: dict[str, Any] = {"metric": "gain", "mode": "sum_aug", "unit": "points"}
    at_sums = (
        Column("sum2_plain", "stopped at k = 2: plain", model="sum2"),
        Column("sum2_sum_aug", "stopped at k = 2: test-time sums", model="sum2", mode="sum_aug"),
        Column("sum2_gain", "stopped at k = 2: gain", model="sum2", **gain),
        Column("gain", "at the end: gain", **gain),
    )
    accuracy = Column("test_accuracy", "accuracy at the end")
    trained = tuple(name for name in arms if not name.endswith("_n8"))
    return Study(
        name=f"Sums of images, {scale}",
        arms=arms,
        tables=(
            Table(
                "Accuracy",
                (accuracy, Column("last_accuracy", "last epoch", metric="accuracy_of_last_epoch"), RUN_MINUTES),
                arms=trained,
                against="baseline",
                note="The end of the last phase; its best epoch is chosen by validation images.",
            ),
            Table(
                "Test-time sums, n = 64 and n = 8",
                at_sums,
                arms=tuple(f"{name}{draws}" for name in cascades for draws in ("", "_n8")),
                note="k = 2, a = 0.5, on a part of the test images; the authors drew n = 125, or 64.",
            ),
        ),
        figures=(Figure("Accuracy on the test set", y=accuracy, arms=trained),),
        paper=_published(scale),
    )


def _published(scale: str) -> tuple[Published, ...]:
    """Returns what the thesis prints of WRN-28-10, as accuracies in %."""
    if scale == "paper_50k":
        return (
            Published("baseline", "test_accuracy", 95.32, "table 3.1"),
            Published("cascade_2_1", "test_accuracy", 96.56, "table 3.1"),
            Published("cascade_4_2_1", "test_accuracy", 96.89, "table 3.1; stages in the logs: 77.48, 94.65"),
            Published("cascade_8_4_2_1", "test_accuracy", 96.72, "table 3.1; stages in the logs: 49.05, 78.23, 94.42"),
            Published("gradual_4", "test_accuracy", 97.05, "table 3.4"),
            Published("cascade_2_1", "sum2_plain", 94.26, "table 3.5"),
            Published("cascade_2_1", "sum2_sum_aug", 94.61, "table 3.5"),
            Published("cascade_4_2_1", "sum2_plain", 94.65, "table 3.5"),
            Published("cascade_4_2_1", "sum2_sum_aug", 94.91, "table 3.5"),
            Published("cascade_8_4_2_1", "sum2_plain", 94.42, "table 3.5"),
            Published("cascade_8_4_2_1", "sum2_sum_aug", 94.89, "table 3.5"),
        )
    wide = "WRN-28-10, one run, the best epoch by test images; table 3.1"
    return (
        Published("baseline", "test_accuracy", 56.53, f"{wide}; the log has 56.63"),
        Published("cascade_2_1", "test_accuracy", 69.01, f"{wide}; the log has 69.11"),
        Published("cascade_4_2_1", "test_accuracy", 69.64, wide),
        Published("cascade_8_4_2_1", "test_accuracy", 70.66, wide),
        Published("mixup", "test_accuracy", 62.40, "from figure 3.6: 13.5 % less error than the baseline"),
    )


def sums_paper() -> Study:
    """The study of `sums` with the authors' network and lengths, on 1,000 images: for a larger machine.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.sums:sums_paper --workdir=build/sums_paper
    """
    return sums("paper")


def sums_paper_50k() -> Study:
    """The study of `sums` with the authors' network and lengths, on all images: for a larger machine.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.sums:sums_paper_50k --workdir=build/sums_50k
    """
    return sums("paper_50k")


def ablations(scale: str = "small") -> Study:
    """Asks what a sum owes to its labels, its coefficients and its loss: sums of two, ResNet-20, 1,000 images.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.sums:ablations --workdir=build/sum_ablations
    """
    size, base = _scale(scale), sums(scale).arms["cascade_2_1"]

    def arm(**settings: Any) -> Experiment:
        phases = cascade((2, 1), size.lengths, sums=size.sums, **settings)
        return dataclasses.replace(base, trainings=(dataclasses.replace(base.trainings[0], phases=phases),))

    return Study(
        name=f"Ablations of Sum-Augmentation, {scale}",
        arms={
            "averaged": base,
            "single_label": arm(single_label=True),
            "beta_per_pixel": arm(coefficients="beta"),
            "uniform_per_pixel": arm(coefficients="uniform"),
            "binary_cross_entropy": arm(loss="binary_cross_entropy"),
        },
        tables=(Table("Accuracy", (Column("test_accuracy"), Column("sum2_plain", model="sum2")), against="averaged"),),
    )
