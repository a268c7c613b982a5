"""What a method is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from tfaug.data import Source
from tfaug.models import StagedModel
from tfaug.train.teachers import Teacher

if TYPE_CHECKING:
    from tfaug.train.phase import Phase

LossFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # labels and logits [B, K] -> [B]


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """A teacher that was found; it answers in inference mode.

    Attributes:
      ask: images [B, H, W, C], 0..255 -> logits float32 [B, K].
      key: what the answers follow from: the SHA-256 of its weights, or where it is served.
      network: of which features can be had; None where it gives logits alone.
    """

    ask: Callable[[tf.Tensor], tf.Tensor]
    key: str
    network: StagedModel | None = None

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits."""
        return self.ask(images)


class Lesson(NamedTuple):
    """What a step learns from: one replica's share of a batch, as the network and the teacher answered it.

    Attributes:
      images: as the network saw them, uint8 or float32 [B, H, W, C], 0..255.
      labels: float32 [B, K], each row sums to 1; smoothed, if the phase does so.
      logits: of the network, float32 [B, K].
      answers: the teacher's logits, float32 [B, K]; None where the method asks nobody.
      features: what the stages of `Method.stage_pairs` gave in the network, float [B, ...] each.
      teacher_features: and in the teacher, to the same images.
    """

    images: tf.Tensor
    labels: tf.Tensor
    logits: tf.Tensor
    answers: tf.Tensor | None = None
    features: tuple[tf.Tensor, ...] = ()
    teacher_features: tuple[tf.Tensor, ...] = ()


class Method:
    """Gives a method its contract. The method itself is a frozen dataclass."""

    augment: str = "both"  # who sees the augmented images, see `Distill`
    data: Source | None = None  # of the images that it learns from; None for those of the experiment

    @property
    def asks(self) -> str | Teacher | None:
        """The teacher whom it asks: `TRAINING` or `TRAINING/PHASE` of the experiment, one from elsewhere, or None."""
        return None

    @property
    def stage_pairs(self) -> tuple[tuple[str, str], ...]:
        """Of which stages it compares what they give: one of the network and one of the teacher, "" for the one before
        the head."""
        return ()

    def asks_once(self, phase: Phase) -> bool:
        """Whether the teacher answers the same to an example at every step of such a phase, and is asked once."""
        return False

    def check_phase(self, phase: Phase) -> None:
        """Raises a ConfigError if it cannot run such a phase."""

    def check_networks(self, network: StagedModel, teacher: StagedModel, image_shape: tuple[int, int, int]) -> None:
        """Raises a ConfigError if the stages that it compares are not there, or what they give cannot be compared.

        Called where it has `stage_pairs`, before anything is trained.
        """

    def losses(self, loss: LossFunction, lesson: Lesson) -> tf.Tensor:
        """Returns the loss of each row, [B], of which the step takes the mean.

        Args:
          loss: of the phase.
          lesson: images, labels and what was answered.
        """
        raise NotImplementedError(f"{type(self).__name__} has no losses(loss, lesson)")
