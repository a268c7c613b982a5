"""What a method is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow as tf

from tfaug.train.teachers import Teacher

if TYPE_CHECKING:
    from tfaug.train.phase import Phase

LossFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # labels and logits [B, K] -> [B]
Answers = Callable[[tf.Tensor], tf.Tensor]  # images [B, H, W, C], 0..255 -> logits [B, K]


class Method:
    """Gives a method its contract. The method itself is a frozen dataclass."""

    @property
    def asks(self) -> str | Teacher | None:
        """The teacher whom it asks: `TRAINING` or `TRAINING/PHASE` of the experiment, one from elsewhere, or None."""
        return None

    def check_phase(self, phase: Phase) -> None:
        """Raises a ConfigError if it cannot run such a phase."""

    def losses(
        self, loss: LossFunction, images: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor, teacher: Answers | None
    ) -> tf.Tensor:
        """Returns the loss of each row, [B].

        Args:
          loss: of the phase.
          images: as the network saw them, uint8 or float32 [B, H, W, C], 0..255.
          labels: float32 [B, K], each row sums to 1; smoothed, if the phase does so.
          logits: of the network, float32 [B, K].
          teacher: answers with logits, in inference mode; None where the method asks nobody.
        """
        raise NotImplementedError(f"{type(self).__name__} has no losses(loss, images, labels, logits, teacher)")
