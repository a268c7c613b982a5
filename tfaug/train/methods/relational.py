"""Relational knowledge distillation: learning from the labels and from how a teacher places examples to each other."""

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
class RelationalKD(Method):
    """Learns by the loss of the phase + distance mean_ij h(d_S,ij - d_T,ij) + angle mean_ijk h(c_S,ijk - c_T,ijk).

    What a stage gives is an embedding, maps by their mean over the places. d_ij is the distance of the embeddings of
    examples i and j over the mean of those of different ones; c_ijk is the cosine of the angle at i between j and k;
    h is Huber's loss, x^2 / 2 up to 1 and |x| - 1/2 beyond. The means are over all pairs and triples of a replica's
    share of the batch, also those of an example with itself, which are 0. Both see the same images; the embeddings may
    have different lengths. The angles take memory by the cube of the share, 8 MiB for 128.

    Attributes:
      teacher: the name of an earlier training, as in `Distill`, or `FromWorkdir(...)`; others give no features.
      stage: of the student; "" for the one before the head.
      teacher_stage: of the teacher, likewise.
      distance: weight of the distances, 0 or more.
      angle: weight of the angles, 0 or more; 0 computes none.

    Source: Park et al. 2019 (Relational knowledge distillation), equations 5 to 9.
    """

    teacher: str | Teacher = "teacher"
    stage: str = ""
    teacher_stage: str = ""
    distance: float = 25.0
    angle: float = 50.0

    def __post_init__(self) -> None:
        check_feature_teacher(self)
        check_range(self, "distance", 0)
        check_range(self, "angle", 0)
        for name in ("stage", "teacher_stage"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"RelationalKD.{name} is {getattr(self, name)!r}; allowed: a name, or ''")

    @property
    def asks(self) -> str | Teacher:
        return self.teacher

    @property
    def stage_pairs(self) -> tuple[tuple[str, str], ...]:
        return ((self.stage, self.teacher_stage),)

    def check_phase(self, phase: Phase) -> None:
        """Refuses mixed features; see `Method.check_phase`."""
        check_plain_features(phase)

    def check_networks(self, network: StagedModel, teacher: StagedModel, image_shape: tuple[int, int, int]) -> None:
        """Refuses stages that are not there; see `Method.check_networks`."""
        check_stages(self, network, teacher, image_shape)

    def losses(self, loss: LossFunction, lesson: Lesson) -> tf.Tensor:
        """Returns the loss of each row i; see `Method.losses`."""
        student, teacher = (_embed(side[0]) for side in (lesson.features, lesson.teacher_features))
        teacher = tf.stop_gradient(teacher)
        losses = loss(lesson.labels, lesson.logits)
        losses += self.distance * tf.reduce_mean(_huber(_distances(student) - _distances(teacher)), axis=1)
        if self.angle:
            losses += self.angle * tf.reduce_mean(_huber(_angles(student) - _angles(teacher)), axis=[1, 2])
        return losses


def _embed(features: tf.Tensor) -> tf.Tensor:
    """Returns embeddings, float32 [B, D], of features [B, ..., D]."""
    return tf.reduce_mean(tf.cast(features, tf.float32), axis=list(range(1, features.shape.rank - 1)))


def _lengths(ways: tf.Tensor) -> tf.Tensor:
    """Returns the lengths [B, B] of the ways [B, B, D] between examples; the slope at 0 is 0."""
    squares = tf.reduce_sum(tf.square(ways), axis=-1)
    # XLA may compute an embedding twice, with other roundings, so that an example is not quite where it is itself.
    squares = tf.linalg.set_diag(squares, tf.zeros_like(squares[0]))
    return tf.where(squares > 0, tf.sqrt(tf.where(squares > 0, squares, 1.0)), 0.0)


def _distances(embeddings: tf.Tensor) -> tf.Tensor:
    """Returns the distances of embeddings [B, D] over their mean, [B, B]."""
    lengths = _lengths(embeddings[:, None] - embeddings[None])
    num = tf.cast(tf.shape(lengths)[0], tf.float32)
    return tf.math.divide_no_nan(lengths, tf.math.divide_no_nan(tf.reduce_sum(lengths), num * (num - 1)))


def _angles(embeddings: tf.Tensor) -> tf.Tensor:
    """Returns the cosines at i between j and k, [B, B, B], of embeddings [B, D]."""
    ways = embeddings[None] - embeddings[:, None]
    ways = tf.math.divide_no_nan(ways, _lengths(ways)[..., None])
    return tf.matmul(ways, ways, transpose_b=True)


def _huber(values: tf.Tensor) -> tf.Tensor:
    size = tf.abs(values)
    return tf.where(size <= 1, 0.5 * tf.square(values), size - 0.5)
