"""Learning from the labels."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tfaug.train.methods.base import Answers, LossFunction, Method


@dataclasses.dataclass(frozen=True)
class Supervised(Method):
    """Learns from the labels alone, by the loss of the phase."""

    def losses(
        self, loss: LossFunction, images: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor, teacher: Answers | None
    ) -> tf.Tensor:
        """Returns the loss of each row; see `Method.losses`."""
        return loss(labels, logits)
