"""Shapes that are known only at run time, and must be right there too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def held_to(values: Any, shape: Sequence[int | tf.Tensor], what: str) -> tf.Tensor:
    """Returns `values`, which must have a shape that is known only at run time.

    An assertion refuses another one; under XLA, which drops assertions, a reshape does when it compiles. The reshape
    alone is not enough: elsewhere the graph optimizer leaves it out where one size is unknown.

    Args:
      values: a tensor of known rank.
      shape: as many sizes, integers or scalar int32 tensors.
      what: of the values, such as `as many labels as images`; the error says it, under XLA with underscores.

    Raises:
      tf.errors.InvalidArgumentError: when the graph runs.
    """
    shape = tf.stack(shape)
    with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(values), shape, f"needed: {what}")]):
        return tf.reshape(values, shape, name=what.replace(" ", "_"))
