"""What a training run is: a list of phases, each with its augmentation, schedule and length.

He et al. 2019 (`refine`) train with intensive augmentation and then *refine* with light augmentation at the last
learning rate; Simionescu 2020 (`sum`) cascades from sums of many images to single ones. Both are lists of phases.
"""

from __future__ import annotations

import dataclasses

import tfaug.augment as augment_ops
from tfaug import schedules
from tfaug.config import ConfigError, check_choice, check_range, check_whole
from tfaug.losses import LOSSES
from tfaug.models import ModelConfig
from tfaug.schedules import Schedule
from tfaug.train.optimizers import SGD, Muon, Optimizer

AUGMENT_ON = ("host", "device")
PRECISIONS = ("bf16", "fp32")
ENGINES = ("tfaug", "keras_cv")


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase of training; the optimizer starts afresh in each, the weights go on.

    Attributes:
      name: what the end of the phase is called in exports, predictions and the report.
      epochs: passes over the training images, 1 or more.
      schedule: learning rate over the phase; None goes on at the last rate of the phase before.
      augment: operations, applied in order; their schedules run over the phase.
      batch_size: images drawn per step over all replicas, before Sum-Augmentation divides them by k.
      loss: `cross_entropy` or `binary_cross_entropy`, on soft labels.
      label_smoothing: share of each label that is spread evenly over the classes in the training loss, 0 to below 1.
      optimizer: `SGD(...)` or `Muon(...)`.
      weight_decay: L2 penalty added to every gradient (coupled, as in the papers' PyTorch code), 0 or more; 0 with
        `Muon`, which has its own.
      augment_on: `host` (in tf.data) or `device` (inside the train step): the same pixels and labels for one seed.
      engine: `tfaug`, or `keras_cv` for keras-cv's own layers in tf.data (for comparison; host only).
      mix_features: mixes features and labels inside the network, after `augment`; None leaves them.
    """

    name: str
    epochs: int
    schedule: Schedule | None
    augment: tuple[augment_ops.Augmentation, ...] = ()
    batch_size: int = 128
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    optimizer: Optimizer = SGD()
    weight_decay: float = 1e-4
    augment_on: str = "host"
    engine: str = "tfaug"
    mix_features: augment_ops.ManifoldMixup | None = None

    def __post_init__(self) -> None:
        if not self.name.replace("_", "").isalnum():
            raise ConfigError(f"Phase.name is {self.name!r}; allowed: letters, digits and underscores")
        check_whole(self, "epochs", 1)
        check_whole(self, "batch_size", 1)
        check_range(self, "label_smoothing", 0, 0.999)
        check_range(self, "weight_decay", 0)
        check_choice(self, "loss", LOSSES)
        check_choice(self, "augment_on", AUGMENT_ON)
        check_choice(self, "engine", ENGINES)
        if isinstance(self.optimizer, Muon) and self.weight_decay:
            raise ConfigError(
                f"Phase.weight_decay is {self.weight_decay!r} with {self.optimizer!r}, which has a decay of its own; "
                "allowed: weight_decay=0"
            )
        if self.engine == "keras_cv" and self.augment_on == "device":
            raise ConfigError(
                "Phase.engine is 'keras_cv' with augment_on 'device'; keras-cv's layers do not compile under XLA: "
                "allowed: augment_on='host'"
            )


def check_phases(phases: tuple[Phase, ...]) -> None:
    """Checks what only the list shows: unique names, and a usable rate where a phase goes on at the last one.

    Raises:
      ConfigError: naming the phase.
    """
    if not phases:
        raise ConfigError("phases is empty; allowed: one phase or more")
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise ConfigError(f"phases have the names {', '.join(names)}; each name may be used once")
    resolve_schedules(phases)


def resolve_schedules(phases: tuple[Phase, ...]) -> list[Schedule]:
    """Returns each phase's schedule, with the last rate of the phase before where a phase has none.

    Source: He et al. 2019, section 4: refinement runs at the last learning rate of the first phase; after a cosine,
      whose last rate is about zero, at a small one that must be stated.

    Raises:
      ConfigError: if the first phase has no schedule, or the rate to go on at is less than a ten-thousandth of the
        highest of its phase, or would be another one if the phase had more steps (as at the end of a fall to zero).
    """
    resolved: list[Schedule] = []
    for index, phase in enumerate(phases):
        if phase.schedule is not None:
            resolved.append(phase.schedule)
            continue
        if not resolved:
            raise ConfigError(f"phases.0 ({phase.name}) has no schedule, and there is no phase before it to go on from")
        total_steps = 1_000
        last = float(resolved[-1].last(total_steps))
        highest = max(float(resolved[-1].value(step, total_steps)) for step in range(total_steps))
        if last < 1e-4 * highest or float(resolved[-1].last(10 * total_steps)) < 0.9 * last:
            raise ConfigError(
                f"phases.{index} ({phase.name}) goes on at the last learning rate of {phases[index - 1].name}, "
                f"which is {last:g}; state a small one: schedule=Constant(0.01)"
            )
        resolved.append(schedules.Constant(last))
    return resolved


@dataclasses.dataclass(frozen=True)
class Student:
    """A student that learns from a trained teacher: (1 - alpha) CE + alpha T^2 KL.

    Attributes:
      model: the student's network.
      phases: as for the teacher.
      alpha: weight of the teacher's term, 0..1.
      temperature: T, more than 0; softens both distributions.
      direction: `teacher_student` is KL(teacher || student), Hinton's; `student_teacher` is what Das et al. 2020
        (`distill`) write.
      teacher_workdir: a workdir whose trained teacher is used; empty: the teacher of this run.
    """

    model: ModelConfig
    phases: tuple[Phase, ...]
    alpha: float = 0.5
    temperature: float = 4.0
    direction: str = "teacher_student"
    teacher_workdir: str = ""

    def __post_init__(self) -> None:
        check_range(self, "alpha", 0, 1)
        check_range(self, "temperature", 1e-3)
        check_choice(self, "direction", ("teacher_student", "student_teacher"))
        check_phases(self.phases)
        for index, phase in enumerate(self.phases):
            if phase.loss != "cross_entropy":
                raise ConfigError(
                    f"Student.phases.{index}.loss is {phase.loss!r}; a student learns by the loss of distillation; "
                    "allowed: 'cross_entropy'"
                )
            if phase.mix_features is not None:
                raise ConfigError(
                    f"Student.phases.{index}.mix_features is {phase.mix_features!r}; the teacher's answer to mixed "
                    "features is not defined; allowed: None"
                )
