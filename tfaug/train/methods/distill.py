"""Knowledge distillation: learning from the labels and from a teacher."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import tensorflow as tf

from tfaug.config import ConfigError, check_choice, check_range
from tfaug.losses import distillation_loss
from tfaug.train.methods.base import Answers, LossFunction, Method
from tfaug.train.teachers import Teacher

if TYPE_CHECKING:
    from tfaug.train.phase import Phase


@dataclasses.dataclass(frozen=True)
class Distill(Method):
    """Learns by (1 - alpha) CE(labels, student) + alpha T^2 KL(teacher^T || student^T).

    The teacher sees the same augmented images as the student and runs in inference mode; it is never updated.

    Attributes:
      teacher: the name of an earlier training of the experiment, asked as it is at its end, or at the end of a phase,
        `teacher/refine`; or `FromWorkdir(...)`, `FromSavedModel(...)` or `FromEndpoint(...)`.
      alpha: weight of the teacher's term, 0..1.
      temperature: T, more than 0; softens both distributions.
      direction: `teacher_student` is KL(teacher || student), Hinton's; `student_teacher` is what Das et al. 2020
        (`distill`) write.

    Source: Hinton et al. 2015, section 2; Das et al. 2020 (`distill`), equation 1, which writes the divergence the
      other way round.
    """

    teacher: str | Teacher = "teacher"
    alpha: float = 0.5
    temperature: float = 4.0
    direction: str = "teacher_student"

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, (str, Teacher)) or not self.teacher:
            raise ConfigError(
                f"Distill.teacher is {self.teacher!r}; allowed: the name of a training, FromWorkdir(PATH)"
            )
        check_range(self, "alpha", 0, 1)
        check_range(self, "temperature", 1e-3)
        check_choice(self, "direction", ("teacher_student", "student_teacher"))

    @property
    def asks(self) -> str | Teacher:
        return self.teacher

    def check_phase(self, phase: Phase) -> None:
        """Refuses a loss of its own, and mixed features; see `Method.check_phase`."""
        if phase.loss != "cross_entropy":
            raise ConfigError(
                f"loss is {phase.loss!r}; a student learns by the loss of distillation; allowed: 'cross_entropy'"
            )
        if phase.mix_features is not None:
            raise ConfigError(
                f"mix_features is {phase.mix_features!r}; the teacher's answer to mixed features is not defined; "
                "allowed: None"
            )

    def losses(
        self, loss: LossFunction, images: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor, teacher: Answers | None
    ) -> tf.Tensor:
        """Returns the loss of each row; see `Method.losses`."""
        assert teacher is not None
        return distillation_loss(
            labels,
            logits,
            tf.stop_gradient(teacher(images)),
            alpha=self.alpha,
            temperature=self.temperature,
            direction=self.direction,
        )
