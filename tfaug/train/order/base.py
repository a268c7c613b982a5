"""What an order is, and what one is that asks the network."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

import tensorflow as tf

from tfaug import rng
from tfaug.config import ConfigError

REFRESH = ("step", "epoch")


class Order:
    """Gives an order its contract. The order itself is a frozen dataclass."""

    def rows(self, seed: tf.Tensor, epoch: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the examples of one epoch, first to last; what does not fill a batch at its end is left out.

        A function of its arguments alone: a training that goes on at an epoch asks again, and a graph is made of it.

        Args:
          seed: of the order in this phase, int32 [2].
          epoch: scalar integer, from 0.
          labels: float32 [N, K], each row sums to 1, of the training examples in the order in which they were read.

        Returns:
          int32 [M], places among the examples, M as large as N.
        """
        raise NotImplementedError(f"{type(self).__name__} has no rows(seed, epoch, labels)")

    def check_fits(self, *, num_batches: int, num_held_out: int, num_replicas: int) -> None:
        """Checks what only the data and the devices show, before anything is trained.

        Args:
          num_batches: in an epoch.
          num_held_out: images of the validation split, which are held out of the training images.
          num_replicas: that share a batch.

        Raises:
          ConfigError: if it cannot order such batches.
        """


class Pool(NamedTuple):
    """From what a step may take its batch.

    Attributes:
      split: int32 [S, B], a random split of the examples into the batches of this epoch.
      remaining: bool [N], the examples that this epoch has not taken yet; there are B at least.
    """

    split: tf.Tensor
    remaining: tf.Tensor


class Ask(Protocol):
    """What an order may ask of the training at a step. Nothing that it asks leaves a trace."""

    def losses(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each example, float32 [M], for its place among the training images, int32 [M].

        In inference mode, on the image as it is: no augmentation.
        """

    def errors(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns softmax(logits) - labels of each example, float32 [M, K], as `losses` asks; nothing is smoothed."""

    def deltas(self, batches: tf.Tensor, num_static: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mean losses before and after a step on each of some batches, two float32 [M].

        In inference mode, the step's gradient too, as the authors' code has it, on the batch as this step augments it.
        The step is the optimizer's own, with weight decay, at the current rate; it learns from the labels alone,
        whatever the method of the training is, and mixes no features.

        Args:
          batches: int32 [M, B], places among the training images.
          num_static: 0 for the losses of the batch itself, else of how many held-out images, another draw each epoch.
        """


class ScoringOrder(Order):
    """Gives an order that asks the network its contract. The order itself is a frozen dataclass.

    It is a scoring mechanism for learning items, batches or examples, and a strategy that makes the next batch of the
    scores. The data loader (`tfaug.train.order.loader`) calls them, within the train step, and keeps what remains.

    Attributes:
      k: how many candidates of a batch each step looks at, 1 .. batches in an epoch.
      refresh: whether a score is of the network as it is at the `step`, or at the beginning of the `epoch`, when all
        learning items are scored.
      replaces: whether what was taken may be taken again: then there are no epochs but for the history.

    Source: Simionescu 2020 (`sum`), section 2.3.
    """

    k: int
    refresh: str
    replaces: ClassVar[bool] = False

    def candidates(self, seed: tf.Tensor, pool: Pool) -> tf.Tensor:
        """Returns the learning items that a step looks at, int32 [K, b], places among the examples, b the same each."""
        raise NotImplementedError(f"{type(self).__name__} has no candidates(seed, pool)")

    def items(self, pool: Pool) -> tf.Tensor:
        """Returns all learning items at the beginning of an epoch, int32 [M, b]; of `refresh="epoch"` alone."""
        raise NotImplementedError(f"{type(self).__name__} has no items(pool)")

    def scores(self, ask: Ask, items: tf.Tensor) -> tf.Tensor:
        """Returns the score of each learning item, float32 [M], for items int32 [M, b]."""
        raise NotImplementedError(f"{type(self).__name__} has no scores(ask, items)")

    def choose(self, seed: tf.Tensor, items: tf.Tensor, scores: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Returns the next batch, int32 [B], of learning items [K, b] and their scores [K]."""
        raise NotImplementedError(f"{type(self).__name__} has no choose(seed, items, scores, batch_size)")

    def rows(self, seed: tf.Tensor, epoch: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Raises: which examples come next depends on the network."""
        raise NotImplementedError(f"{type(self).__name__} asks the network; its batches are chosen within the step")

    def check_fits(self, *, num_batches: int, num_held_out: int, num_replicas: int) -> None:
        """Refuses more candidates than there are batches, and more replicas than one; see `Order.check_fits`."""
        if self.k > num_batches:
            raise ConfigError(
                f"{type(self).__name__}.k is {self.k}, but an epoch has {num_batches} batches; "
                f"allowed: 1..{num_batches}"
            )
        if num_replicas > 1:
            raise ConfigError(
                f"order is {self!r} on {num_replicas} replicas; an order that asks the network chooses on one; "
                "allowed: Shuffled(), or one device"
            )


def draw_rows(seed: tf.Tensor, allowed: tf.Tensor, shape: tuple[int, int]) -> tf.Tensor:
    """Returns `shape` [K, B] places at which `allowed`, bool [N], is true: K random subsets of B different ones.

    Where there are fewer, others come last.
    """
    keys = rng.uniform(seed, [shape[0], int(allowed.shape[0])])
    return tf.math.top_k(tf.where(allowed, keys, -1.0), shape[1]).indices
