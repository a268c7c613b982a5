"""What an order is."""

from __future__ import annotations

import tensorflow as tf


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
