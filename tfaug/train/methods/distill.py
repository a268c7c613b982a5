"""Knowledge distillation: learning from the labels and from a teacher."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import tensorflow as tf

from tfaug.augment import compose
from tfaug.config import ConfigError, check_choice, check_kind, check_range
from tfaug.data import Source
from tfaug.losses import distillation_loss
from tfaug.train.methods.base import Lesson, LossFunction, Method
from tfaug.train.methods.features import check_plain_features
from tfaug.train.teachers import Teacher, check_teacher

if TYPE_CHECKING:
    from tfaug.train.phase import Phase


@dataclasses.dataclass(frozen=True)
class Distill(Method):
    """Learns by (1 - alpha) CE(labels, student) + alpha T^2 KL(teacher^T || student^T).

    The teacher runs in inference mode and is never updated. Where it sees the images as they are, because no op is
    applied or `augment` is `student`, it is asked once about each training image, before the first step, and the
    answers lie in the training's folder: the losses are those of asking at every step but for rounding.

    Attributes:
      teacher: the name of an earlier training of the experiment, asked as it is at its end, or at the end of a phase,
        `teacher/refine`; or `FromWorkdir(...)`, `FromSavedModel(...)` or `FromEndpoint(...)`.
      alpha: weight of the teacher's term, 0..1.
      temperature: T, more than 0; softens both distributions.
      direction: `teacher_student` is KL(teacher || student), Hinton's; `student_teacher` is what Das et al. 2020
        (`distill`) write.
      augment: who sees the images that the phase augments: `both`, the same ones; or the `student` or the `teacher`
        alone, the other the plain images of the same examples, which takes ops that mix no images: the answer to a
        mixture is none to an image. `teacher` also takes augment_on='device', where the step has both.
      data: a source of the images that the student learns from in place of the experiment's, its part `train` or all of
        it where it is one part, without those that are also in a part of the experiment's data: a set that the teacher
        has not seen. It has the experiment's image shape and classes; alpha=1 makes nothing of its labels. None for the
        experiment's training images.

    Source: Hinton et al. 2015, section 2; Das et al. 2020 (`distill`), equation 1, which writes the divergence the
      other way round. Whether a teacher was *trained* with an augmentation, or its student, or both (`distill`, tables
      6 to 8), is a matter of their phases. That the student should learn from held-out images: `distill`, section 6.
    """

    teacher: str | Teacher = "teacher"
    alpha: float = 0.5
    temperature: float = 4.0
    direction: str = "teacher_student"
    augment: str = "both"
    data: Source | None = None

    def __post_init__(self) -> None:
        check_teacher(self)
        check_range(self, "alpha", 0, 1)
        check_range(self, "temperature", 1e-3)
        check_choice(self, "direction", ("teacher_student", "student_teacher"))
        check_choice(self, "augment", ("both", "student", "teacher"))
        if self.data is not None:
            check_kind(self, "data", Source, "None or a source, as in Tfds('cifar10')")

    @property
    def asks(self) -> str | Teacher:
        return self.teacher

    def asks_once(self, phase: Phase) -> bool:
        """Whether the teacher sees the images as they are; see `Method.asks_once`."""
        return self.augment == "student" or not phase.augment

    def check_phase(self, phase: Phase) -> None:
        """Refuses a loss of its own, mixed features, and views that cannot be told apart; see `Method.check_phase`."""
        if phase.loss != "cross_entropy":
            raise ConfigError(
                f"loss is {phase.loss!r}; a student learns by the loss of distillation; allowed: 'cross_entropy'"
            )
        check_plain_features(phase)
        if self.augment == "both":
            return
        if compose(phase.augment).mixes_images:
            raise ConfigError(
                f"augment is {phase.augment!r} for the {self.augment} alone; an op mixes images, and the answer to a "
                "mixture is none to an image; allowed: ops that mix none, or Distill(augment='both')"
            )
        if self.augment == "teacher" and phase.augment and phase.augment_on != "device":
            raise ConfigError(
                f"augment_on is {phase.augment_on!r} with Distill(augment='teacher'); only a step that augments has "
                "the student's plain images too; allowed: 'device'"
            )

    def losses(self, loss: LossFunction, lesson: Lesson) -> tf.Tensor:
        """Returns the loss of each row; see `Method.losses`."""
        return distillation_loss(
            lesson.labels,
            lesson.logits,
            lesson.answers,
            alpha=self.alpha,
            temperature=self.temperature,
            direction=self.direction,
        )
