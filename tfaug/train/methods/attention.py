"""Attention transfer: learning from the labels and from where a teacher looks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import tensorflow as tf

from tfaug.config import ConfigError, check_range
from tfaug.models import StagedModel
from tfaug.train.methods.base import Lesson, LossFunction, Method
from tfaug.train.methods.features import check_feature_teacher, check_plain_features, check_stages
from tfaug.train.teachers import Teacher

if TYPE_CHECKING:
    from tfaug.train.phase import Phase


@dataclasses.dataclass(frozen=True)
class AttentionTransfer(Method):
    """Learns by the loss of the phase + beta sum_j mean_p (q_student,j,p - q_teacher,j,p)^2.

    q_j is the attention map of stage j: at each place p the sum over the channels of the squares of what the stage
    gives, the whole map divided by its length. The mean of the squares over the places is what beta = 1000 is made for;
    equation 2 has half the length of the difference instead, which has no slope where the maps agree. Teacher and
    student see the same images.

    Attributes:
      teacher: the name of an earlier training, as in `Distill`, or `FromWorkdir(...)`; others give no features.
      stages: of the student, whose maps are compared; one or more.
      teacher_stages: of the teacher, as many, with maps as high and as wide; () for those of the same names.
      beta: weight of the maps, 0 or more.

    Source: Zagoruyko and Komodakis 2017 (Paying more attention to attention), section 3.1, with p = 2.
    """

    teacher: str | Teacher = "teacher"
    stages: tuple[str, ...] = ("stage2", "stage3")
    teacher_stages: tuple[str, ...] = ()
    beta: float = 1000.0

    def __post_init__(self) -> None:
        check_feature_teacher(self)
        check_range(self, "beta", 0)
        for name in ("stages", "teacher_stages"):
            names = getattr(self, name)
            if not isinstance(names, (tuple, list)) or not all(isinstance(each, str) and each for each in names):
                raise ConfigError(f"AttentionTransfer.{name} is {names!r}; allowed: a tuple of names")
            object.__setattr__(self, name, tuple(names))
        if not self.stages or len(self.teacher_stages) not in (0, len(self.stages)):
            raise ConfigError(
                f"AttentionTransfer.stages is {self.stages!r} and teacher_stages {self.teacher_stages!r}; allowed: one "
                "stage or more, and as many of the teacher, or () for the same names"
            )

    @property
    def asks(self) -> str | Teacher:
        return self.teacher

    @property
    def stage_pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple(zip(self.stages, self.teacher_stages or self.stages, strict=True))

    def check_phase(self, phase: Phase) -> None:
        """Refuses mixed features; see `Method.check_phase`."""
        check_plain_features(phase)

    def check_networks(self, network: StagedModel, teacher: StagedModel, image_shape: tuple[int, int, int]) -> None:
        """Refuses stages without maps and maps of different sizes; see `Method.check_networks`."""
        for (one, other), shapes in zip(
            self.stage_pairs, check_stages(self, network, teacher, image_shape), strict=True
        ):
            if any(len(shape) != 3 for shape in shapes) or shapes[0][:2] != shapes[1][:2]:
                raise ConfigError(
                    f"{self!r} compares {one} of the student, {list(shapes[0])}, with {other} of the teacher, "
                    f"{list(shapes[1])}; allowed: maps [H, W, C] of one height and width"
                )

    def losses(self, loss: LossFunction, lesson: Lesson) -> tf.Tensor:
        """Returns the loss of each row; see `Method.losses`."""
        losses = loss(lesson.labels, lesson.logits)
        for one, other in zip(lesson.features, lesson.teacher_features, strict=True):
            difference = _attention(one) - _attention(tf.stop_gradient(other))
            losses += self.beta * tf.reduce_mean(tf.square(difference), axis=-1)
        return losses


def _attention(features: tf.Tensor) -> tf.Tensor:
    """Returns the maps of features [B, H, W, C], float32 [B, H W], each of length 1."""
    squares = tf.reduce_sum(tf.square(tf.cast(features, tf.float32)), axis=-1)
    return tf.math.l2_normalize(tf.reshape(squares, [-1, features.shape[1] * features.shape[2]]), axis=-1)
