"""Every example once in an epoch, in another order each time."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tfaug.data.pipeline import shuffled_rows
from tfaug.train.order.base import Order


@dataclasses.dataclass(frozen=True)
class Shuffled(Order):
    """Every example once, in a permutation that is a function of the seed and the epoch."""

    def rows(self, seed: tf.Tensor, epoch: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the permutation; see `Order.rows`."""
        return shuffled_rows(seed, epoch, labels)
