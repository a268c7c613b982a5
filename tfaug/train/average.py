"""An average of the weights over the steps of a phase."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfaug.keras_versions import tf_variables


class Average:
    """Averages all weights and batch statistics of a network: `decay * average + (1 - decay) * weights`, step by step.

    Statistics that each replica has for itself enter as their mean.

    Args:
      network: with the weights with which the average begins.
      decay: 0..1.
      strategy: under which the network was built; also entered for the variables.
    """

    def __init__(self, network: tf.keras.Model, decay: float, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self._weights = tf_variables(network)
        with strategy.scope():
            self.variables = [tf.Variable(weight.numpy(), trainable=False) for weight in self._weights]

        def update() -> None:
            for average, weight in zip(self.variables, self._weights, strict=True):
                average.assign(decay * average + (1.0 - decay) * tf.convert_to_tensor(weight))

        self._update = tf.function(update, autograph=False)

    def update(self) -> None:
        """Takes the weights of one more step."""
        with self._strategy.scope():
            self._update()

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the averages in the place of the weights for a while; each replica gets its own back."""
        places = [(weight, self._strategy.experimental_local_results(weight)) for weight in self._weights]
        held = [[own.numpy() for own in owns] for _, owns in places]
        for average, (_, owns) in zip(self.variables, places, strict=True):
            for own in owns:
                own.assign(average.numpy())
        try:
            yield
        finally:
            for values, (_, owns) in zip(held, places, strict=True):
                for own, value in zip(owns, values, strict=True):
                    own.assign(value)


class KeepAverage(tf.keras.callbacks.Callback):
    """Updates an average after each step, and lets it be what is validated."""

    def __init__(self, average: Average):
        super().__init__()
        self._average, self._in_place = average, contextlib.ExitStack()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._average.update()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._in_place.enter_context(self._average.in_place())

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self._in_place.close()
