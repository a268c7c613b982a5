"""The main job: two phases, a student, exports, a served evaluation and a report.

Both experiments train first on sums of augmented images and then refine on lightly augmented single ones (He et al.
2019, `refine`; Simionescu 2020, `sum`). The first phase ends on sums because test-time Sum-Augmentation suits a model
trained on them; the report shows both ends. One-cycle ends at a rate of about zero, so the refinement states its own
small one.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tfaug.augment import Flip, PadCrop, RandAugment, SumAug
from tfaug.data import CorruptedDigits, DataConfig, Digits, Tfds
from tfaug.evaluate import EvaluateConfig
from tfaug.experiment import Experiment, TestSet
from tfaug.export import ExportConfig
from tfaug.models import LeNet, ResNet, Whitened
from tfaug.schedules import Cosine, Linear, OneCycle
from tfaug.study import RUN_MINUTES, Column, Figure, Study, Table
from tfaug.train.methods import Distill
from tfaug.train.optimizers import Muon
from tfaug.train.phase import Phase, Training

_LIGHT = (Flip(alternate=True), PadCrop(2, padding="reflect"))
_FAST: dict[str, Any] = dict(optimizer=Muon(), weight_decay=0.0, label_smoothing=0.2)


def digits() -> Experiment:
    """Trains ResNet-20 on scikit-learn's digits, which need no network, and distils it into LeNet.

    Command: tfaug run --config=experiments.quickstart:digits --workdir=build/demo
    Time and accuracy: see the README.
    """
    light = (PadCrop(2),)
    return Experiment(
        name="quickstart on digits",
        data=DataConfig(Digits()),
        test_sets=(TestSet("shifted", CorruptedDigits()),),
        trainings=(
            Training(
                "teacher",
                ResNet(20),
                (
                    Phase("train", 20, OneCycle(0.2), (*light, RandAugment(n=1, m=9), SumAug(k=2)), batch_size=64),
                    Phase("refine", 6, Cosine(0.02), light, batch_size=64),
                ),
            ),
            Training(
                "student",
                LeNet(),
                (Phase("distill", 40, OneCycle(0.05), light, batch_size=64),),
                Distill(teacher="teacher"),
                export="last",
            ),
        ),
        export=ExportConfig(draws=(4, 8, 16), weights=(1 / 2, 2 / 3, 0.8)),
    )


def cifar10() -> Experiment:
    """Trains a whitened network on CIFAR-10 with Muon, on sums and then on single images, and distils a smaller one.

    Command: TFDS_DATA_DIR=... tfaug run --config=experiments.quickstart:cifar10 --workdir=build/c10
    Time and accuracy: see the README.
    """
    sums = Phase("train", 4, Linear(0.24, 0.0), (*_LIGHT, SumAug(k=2)), batch_size=2000, **_FAST)
    refine = Phase("refine", 9, Linear(0.2, 0.0), _LIGHT, batch_size=1000, **_FAST)
    distill = Phase("distill", 4, Linear(0.2, 0.0), _LIGHT, batch_size=1000, **_FAST)
    return Experiment(
        name="quickstart on CIFAR-10",
        data=DataConfig(Tfds("cifar10")),
        test_sets=(TestSet("shifted", Tfds("cifar10_1")),),
        trainings=(
            Training("teacher", Whitened(), (sums, refine)),
            Training("student", Whitened((32, 64, 128)), (distill,), Distill(teacher="teacher"), export="last"),
        ),
        export=ExportConfig(draws=(4, 8, 16), weights=(2 / 3, 0.8, 0.9), mirror=True, precision="bf16"),
    )


def cifar10_one_phase() -> Experiment:
    """Trains the teacher of `cifar10` in one phase of as many steps of 1,000 images: what do the two phases cost?

    495 steps in place of 88 on sums and 405 on single images; there is no student and no attack.

    Command: TFDS_DATA_DIR=... tfaug run --config=experiments.quickstart:cifar10_one_phase --workdir=build/one
    Accuracy: see docs/studies/quickstart.
    """
    whole = Phase("train", 11, Linear(0.24, 0.0), _LIGHT, batch_size=1000, **_FAST)
    return dataclasses.replace(
        cifar10(),
        name="quickstart on CIFAR-10, one phase",
        trainings=(Training("teacher", Whitened(), (whole,)),),
        evaluate=EvaluateConfig(attacks=()),
    )


def digits_study() -> Study:
    """Asks on scikit-learn's digits whether refinement pays: the last epochs on single images, against none.

    Both arms make 30 epochs; `refined` makes the last 6 of them on lightly augmented single images.

    Command: tfaug study run --config=experiments.quickstart:digits_study --workdir=build/study
    Time and accuracy: see the README.
    """
    light = (PadCrop(2),)
    sums = (*light, RandAugment(n=1, m=9), SumAug(k=2))
    whole = Experiment(
        name="LeNet on digits",
        data=DataConfig(Digits()),
        test_sets=(TestSet("shifted", CorruptedDigits()),),
        model=LeNet(),
        phases=(Phase("train", 30, OneCycle(0.05), sums, batch_size=64),),
        export=ExportConfig(draws=(4, 8), weights=(2 / 3, 0.8), num_examples=64),
        evaluate=EvaluateConfig(attacks=()),
    )
    train = dataclasses.replace(whole.trainings[0].phases[0], epochs=24)
    refine = Phase("refine", 6, Cosine(0.02), light, batch_size=64)
    shifted = Column("shifted_accuracy", set="shifted")
    return Study(
        name="Does refinement pay on digits?",
        arms={
            "one_phase": whole,
            "refined": dataclasses.replace(whole, trainings=(Training("model", LeNet(), (train, refine)),)),
        },
        tables=(Table("Accuracy", (Column("test_accuracy"), shifted), against="one_phase"),),
        figures=(Figure("Accuracy on the test set"), Figure("Shifted over test", y=shifted, x=Column("test_accuracy"))),
    )


def quickstart_study() -> Study:
    """Compares the two phases of `cifar10` with one of as many steps, beside `digits`: the numbers of the README.

    Command: TFDS_DATA_DIR=... tfaug study run --config=experiments.quickstart:quickstart_study --workdir=build/c10
    Time and accuracy: see docs/studies/quickstart.
    """
    first, refined = "teacher, end of the first phase", "teacher, refined"

    def column(name: str, title: str, **fields: Any) -> Column:
        return Column(name, title, **{"model": "teacher", **fields})

    def gain(name: str, title: str, **fields: Any) -> Column:
        return column(name, title, metric="gain", unit="points", **fields)

    columns = (
        column("first_plain", f"{first}: plain accuracy", model="train"),
        gain("first_mirror_gain", f"{first}: mirror minus plain", model="train", mode="mirror"),
        column("first_sum_aug", f"{first}: Sum-Aug accuracy", model="train", mode="sum_aug"),
        gain("first_sum_aug_gain", f"{first}: Sum-Aug minus plain", model="train", mode="sum_aug"),
        column("plain", f"{refined}: plain accuracy"),
        column("mirror", f"{refined}: mirror accuracy", mode="mirror"),
        gain("mirror_gain", f"{refined}: mirror minus plain", mode="mirror"),
        column("sum_aug", f"{refined}: Sum-Aug accuracy", mode="sum_aug"),
        gain("sum_aug_gain", f"{refined}: Sum-Aug minus plain", mode="sum_aug"),
        column("plain_ece", f"{refined}: plain ECE", metric="ece"),
        column("sum_aug_ece", f"{refined}: Sum-Aug ECE", metric="ece", mode="sum_aug"),
        column("plain_fgsm", f"{refined}: plain FGSM accuracy", attack="fgsm"),
        column("plain_pgd", f"{refined}: plain PGD accuracy", attack="pgd"),
        column("sum_aug_pgd", f"{refined}: Sum-Aug PGD accuracy (transfer)", attack="pgd", mode="sum_aug"),
        column("student", "student: plain accuracy", model="student"),
        gain("student_mirror_gain", "student: mirror minus plain", model="student", mode="mirror"),
        gain("student_sum_aug_gain", "student: Sum-Aug minus plain", model="student", mode="sum_aug"),
        column("gap", "gap to the shifted set", metric="gap", set="shifted", unit="points"),
        RUN_MINUTES,
    )
    return Study(
        name="The quickstart over three seeds",
        arms={"two_phases": cifar10(), "digits": digits(), "one_phase": cifar10_one_phase()},
        tables=(
            Table("All arms", columns),
            Table("Two phases against one", columns[4:9], arms=("one_phase", "two_phases"), against="one_phase"),
        ),
        figures=(Figure("Accuracy on CIFAR-10", y=columns[4], arms=("two_phases", "one_phase")),),
    )
