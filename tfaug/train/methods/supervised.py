"""Learning from the labels."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tfaug.train.methods.base import Lesson, LossFunction, Method


@dataclasses.dataclass(frozen=True)
class Supervised(Method):
    """Learns from the labels alone, by the loss of the phase."""

    def losses(self, loss: LossFunction, lesson: Lesson) -> tf.Tensor:
        """Returns the loss of each row; see `Method.losses`."""
        return loss(lesson.labels, lesson.logits)
