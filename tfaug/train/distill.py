"""Knowledge distillation as a Keras model: the student learns from labels and from a teacher."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfaug.losses import distillation_loss
from tfaug.models import StagedModel
from tfaug.train.phases import Student
from tfaug.train.step import Learner


class Distiller(Learner):
    """Trains a student with (1 - alpha) CE(labels, student) + alpha T^2 KL(teacher^T || student^T).

    The teacher sees the same augmented images as the student and runs in inference mode; it is never updated.

    Source: Hinton et al. 2015, section 2; Das et al. 2020 (`distill`), equation 1, which writes the divergence the
      other way round (`direction="student_teacher"`).
    """

    def __init__(self, network: StagedModel, *, teacher: StagedModel, student: Student, **arguments: Any):
        super().__init__(network, **arguments)
        self.teacher = teacher
        self.teacher.trainable = False
        self.student = student

    def losses_of(self, images: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the distillation loss of each row, [B]."""
        return distillation_loss(
            labels,
            logits,
            tf.stop_gradient(self.teacher(images, training=False)),
            alpha=self.student.alpha,
            temperature=self.student.temperature,
            direction=self.student.direction,
        )
