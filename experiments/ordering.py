"""The orderings of `sum`, chapter 2."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfaug.augment import Flip, PadCrop
from tfaug.config import ConfigError
from tfaug.data import DataConfig, Tfds
from tfaug.evaluate import Classification, EvaluateConfig
from tfaug.experiment import Experiment
from tfaug.export import ExportConfig
from tfaug.models import Model, PreActResNet, ResNet
from tfaug.perfect_ordering import PerfectOrdering
from tfaug.schedules import Constant
from tfaug.study import RUN_MINUTES, Column, Figure, Published, Study, Table
from tfaug.train.optimizers import SGD
from tfaug.train.order import LossOrder, MaxLossDelta, Order, Shuffled
from tfaug.train.phase import Phase, Training

# Test accuracy after epochs 1..10: tables 2.2 (ascending), 2.3 and 2.4, K = 8; their first column is the same baseline.
_PAPER: dict[str, tuple[float, ...]] = {
    "shuffled": (39.26, 60.05, 56.16, 64.15, 69.80, 73.95, 69.26, 77.09, 69.26, 78.75),
    "loss_ascending": (44.22, 55.64, 59.84, 65.98, 66.93, 67.37, 72.83, 74.85, 73.55, 76.48),
    "max_loss_delta": (46.63, 61.29, 65.18, 66.33, 71.14, 70.11, 75.52, 74.61, 76.43, 79.83),
    "max_loss_delta_static": (47.05, 60.22, 65.31, 68.93, 66.84, 72.46, 76.26, 75.37, 75.82, 80.90),
}
_TABLES = {"shuffled": "2.2", "loss_ascending": "2.2", "max_loss_delta": "2.3", "max_loss_delta_static": "2.4"}


@dataclasses.dataclass(frozen=True)
class OrderingScale:
    """How large the study is.

    Attributes:
      model: of all arms.
      data: which images.
      epochs: how many, each of them measured.
      batch_size: of all arms.
      num_static: held-out images of the static batch.
    """

    model: Model
    data: DataConfig
    epochs: int
    batch_size: int
    num_static: int


_SCALES = {
    "small": OrderingScale(ResNet(20), DataConfig(Tfds("cifar10"), num_train_examples=3000), 2, 64, 128),
    "paper": OrderingScale(PreActResNet(56), DataConfig(Tfds("cifar10")), 10, 128, 512),
}


def approximations(scale: str = "small") -> Study:
    """Compares orders that ask the network with a shuffled one in the first epochs of CIFAR-10.

    `small` is ResNet-20 on 3,000 images for two epochs; `paper` is the authors' setting. An epoch is a phase, so that
    its end is measured on the test set; the momentum begins anew with each, in all arms alike.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.ordering:approximations --workdir=build/orders
    Source: Simionescu 2020 (`sum`), section 2.4, tables 2.2 to 2.4.
    """
    if scale not in _SCALES:
        raise ConfigError(f"scale is {scale!r}; allowed: {', '.join(_SCALES)}")
    size = _SCALES[scale]

    def arm(order: Order) -> Experiment:
        phases = tuple(
            Phase(
                f"epoch_{epoch}",
                1,
                Constant(0.05),
                (Flip(), PadCrop(4)),
                batch_size=size.batch_size,
                optimizer=SGD(),
                augment_on="device",
                order=order,
            )
            for epoch in range(1, size.epochs + 1)
        )
        return Experiment(
            name="orderings",
            data=size.data,
            trainings=(Training("model", size.model, phases),),
            export=ExportConfig(draws=(1,), weights=(0.5,), num_examples=100),
            evaluate=EvaluateConfig(evaluators=(Classification(),), attacks=(), num_sum_aug_examples=100),
        )

    columns = tuple(
        Column(f"epoch_{epoch}", f"after epoch {epoch}", model=f"epoch_{epoch}") for epoch in range(1, size.epochs + 1)
    )
    notes: dict[str, Any] = {name: f"table {table}, one run" for name, table in _TABLES.items()}
    notes["max_loss_delta_static"] += "; its static batch is of test images"
    return Study(
        name=f"Orders that ask the network, {scale}",
        arms={
            "shuffled": arm(Shuffled()),
            "loss_ascending": arm(LossOrder(8)),
            "max_loss_delta": arm(MaxLossDelta(8)),
            "max_loss_delta_static": arm(MaxLossDelta(8, on="static", num_static=size.num_static)),
        },
        tables=(Table("Test accuracy", (*columns, RUN_MINUTES), against="shuffled"),),
        figures=(Figure("Accuracy after the first epoch", y=columns[0]),),
        paper=tuple(
            Published(name, column.name, value, notes[name])
            for name, values in _PAPER.items()
            for column, value in zip(columns, values, strict=False)
        ),
        note="The paper's numbers are of single runs of PreResNet-56 on all of CIFAR-10, in batches of 128; on another "
        "scale they show the shape of the comparison, not what to expect.",
    )


def approximations_paper() -> Study:
    """The study in the authors' setting: PreResNet-56 on all of CIFAR-10, ten epochs.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.ordering:approximations_paper --workdir=build/paper
    """
    return approximations("paper")


def perfect() -> PerfectOrdering:
    """Trains every order of six batches of MNIST's zeros and ones: table 2.1, figures 2.1 and 2.2.

    With `--set "source=Digits()"` of scikit-learn's digits 0 and 1, which need no network; 73 are there to test on.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.ordering:perfect --workdir=build/perfect
    Time: about half an hour on two free cores; with --set quick=true (120 orders, 6 epochs, 256 test images) a tenth of
      that; with --set test_images=2048, as in the paper, well over an hour.
    """
    return PerfectOrdering()
