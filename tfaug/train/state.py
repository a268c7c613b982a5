"""All that a training is at a moment: weights, batch statistics, slots of the optimizer and its steps."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug.keras_versions import tf_variables


class State:
    """Takes and restores the state of a network and of its optimizer, in memory or in a folder.

    What a step draws follows from the seed and the optimizer's steps, and what an epoch visits from the seed and its
    number, so there is no other state.

    Args:
      network: with its variables.
      optimizer: built for them.
      average: variables of the average of the weights; none without one.
    """

    def __init__(self, network: tf.keras.Model, optimizer: Any, average: Sequence[tf.Variable] = ()):
        # By their variables: the network itself would not lead to all of them in Keras 3.
        parts = {"network": tf_variables(network), "optimizer": tf_variables(optimizer)}
        if average:
            parts["average"] = list(average)
        self._variables = [variable for part in parts.values() for variable in part]
        self._checkpoint = tf.train.Checkpoint(**parts)

    def snapshot(self) -> list[np.ndarray]:
        """Returns a copy of everything, in memory."""
        return [variable.numpy() for variable in self._variables]

    def restore(self, snapshot: Sequence[np.ndarray]) -> None:
        """Sets everything to what `snapshot` returned."""
        for variable, value in zip(self._variables, snapshot, strict=True):
            variable.assign(value)

    def write(self, folder: pathlib.Path) -> None:
        """Writes everything into a folder that is there."""
        self._checkpoint.write(str(folder / "state"))

    def read(self, folder: pathlib.Path) -> None:
        """Sets everything to what `write` wrote.

        Raises:
          AssertionError: if the folder holds less, or more.
        """
        self._checkpoint.read(str(folder / "state")).assert_consumed()
