"""A run small enough for tests: 200 digits, LeNet, one or two epochs; and a model that keeps what it is trained on."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfaug.augment import Flip, PadCrop, SumAug
from tfaug.data import CorruptedDigits, DataConfig
from tfaug.evaluate import FGSM, PGD, EvaluateConfig
from tfaug.experiment import Experiment, TestSet
from tfaug.export import ExportConfig
from tfaug.models import LeNet
from tfaug.schedules import Constant, OneCycle
from tfaug.study import Study
from tfaug.train.methods import Distill
from tfaug.train.optimizers import Muon
from tfaug.train.phase import Phase, Training

# Its rates for biases and classifiers are made for a network without scales; LeNet's take those of SGD.
_MUON = Muon(vector_rate=1.0, matrix_rate=1.0)
ROOT = pathlib.Path(__file__).parent.parent


def run() -> Experiment:
    """Everything that the quickstart does, in miniature."""
    return Experiment(
        name="tiny",
        data=DataConfig(num_train_examples=200),
        test_sets=(TestSet("shifted", CorruptedDigits()),),
        precision="fp32",
        trainings=(
            Training(
                "teacher",
                LeNet(),
                (
                    Phase("train", 3, OneCycle(0.05), (PadCrop(2), SumAug(k=2)), batch_size=40),
                    Phase("refine", 3, Constant(0.01), (Flip(alternate=True),), 40, optimizer=_MUON, weight_decay=0.0),
                ),
            ),
            Training(
                "student", LeNet(), (Phase("distill", 1, Constant(0.01), batch_size=40),), Distill(), export="last"
            ),
        ),
        export=ExportConfig(draws=(1, 2), weights=(0.5, 0.8), bank_size=8, num_examples=12),
        evaluate=EvaluateConfig(attacks=(FGSM(), PGD(num_steps=2)), num_attack_examples=20),
    )


def command(name: str, workdir: pathlib.Path, *flags: str, config: str = "tests.tiny:run") -> list[str]:
    """Returns the command line `tfaug NAME` for a workdir."""
    return [sys.executable, "-m", "tfaug.cli", name, f"--config={config}", f"--workdir={workdir}", *flags]


def tfaug(name: str, workdir: pathlib.Path, *flags: str, **settings) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        command(name, workdir, *flags, **settings), cwd=ROOT, capture_output=True, text=True, check=False
    )


def check_done(finished: subprocess.CompletedProcess[str]) -> None:
    """Fails with what the command printed, unless it exited with 0."""
    assert finished.returncode == 0, f"{finished.args} exited with {finished.returncode}:\n{finished.stderr[-4000:]}"


def documented(name: str) -> str:
    """Returns the file of that name that docs/extending.md shows."""
    page = (ROOT / "docs" / "extending.md").read_text()
    return page.partition(f"```python\n# {name}\n")[2].partition("```")[0]


def files_below(folder: pathlib.Path, patterns: Sequence[str] = ("*",)) -> list[str]:
    """Lists what is below a folder."""
    return sorted(str(path.relative_to(folder)) for pattern in patterns for path in folder.rglob(pattern))


def recorder(num_classes: int = 10) -> tuple[tf.keras.Model, list[tuple[np.ndarray, np.ndarray]]]:
    """Returns a classifier, compiled for rows of labels, and the list to which `fit` adds each batch it trains on."""
    batches = []

    class Recorder(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.scores = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(num_classes)])

        def call(self, images, training=None):
            return self.scores(tf.cast(images, tf.float32) / 255)

        def train_step(self, data):
            batches.append(tuple(part.numpy() for part in data))
            return super().train_step(data)

    model = Recorder()
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True)
    return model, batches


def study() -> Study:
    """Two arms over two seeds: the tiny teacher alone, and with its student."""
    both = run()
    teacher = dataclasses.replace(both, name="tiny teacher", trainings=both.trainings[:1])
    return Study("tiny study", {"alone": teacher, "taught": both}, seeds=(0, 1))
