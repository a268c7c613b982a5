"""The main job: two phases, a student, exports, a served evaluation and a report.

Both experiments train first on sums of augmented images and then refine on lightly augmented single ones (He et al.
2019, `refine`; Simionescu 2020, `sum`). The first phase ends on sums because test-time Sum-Augmentation suits a model
trained on them; the report shows both ends. One-cycle ends at a rate of about zero, so the refinement states its own
small one.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

from tfaug.augment import Flip, PadCrop, RandAugment, SumAug
from tfaug.data import DataConfig
from tfaug.evaluate.predict import EvaluateConfig
from tfaug.experiment import Experiment
from tfaug.export import ExportConfig
from tfaug.models import ModelConfig
from tfaug.schedules import Cosine, Linear, OneCycle
from tfaug.train.optimizers import Muon
from tfaug.train.phases import Phase, Student

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
        data=DataConfig(name="digits", shifted="digits_corrupted"),
        model=ModelConfig("resnet20"),
        phases=(
            Phase("train", 20, OneCycle(0.2), (*light, RandAugment(n=1, m=9), SumAug(k=2)), batch_size=64),
            Phase("refine", 6, Cosine(0.02), light, batch_size=64),
        ),
        student=Student(ModelConfig("lenet"), (Phase("distill", 40, OneCycle(0.05), light, batch_size=64),)),
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
        data=DataConfig(name="cifar10", shifted=_shifted_cifar10()),
        model=ModelConfig("whitened"),
        phases=(sums, refine),
        student=Student(ModelConfig("whitened_small"), (distill,)),
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
        phases=(whole,),
        student=None,
        evaluate=EvaluateConfig(attacks=()),
    )


def _shifted_cifar10() -> str:
    """Returns the natural shift at hand: CIFAR-10.1 of TFDS, or else a CINIC-10 sample beside the TFDS folder."""
    folder = pathlib.Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    sample = folder.parent / "npz" / "cinic10_imagenet.npz"
    return str(sample) if sample.exists() and not (folder / "cifar10_1").exists() else "cifar10_1"
