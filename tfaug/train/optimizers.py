"""Optimizers that a phase may use: frozen dataclasses that make a Keras optimizer for a learning rate."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import tensorflow as tf

from tfaug.config import check_range, check_whole
from tfaug.keras_versions import OPTIMIZER_SETTINGS, momentum_of
from tfaug.schedules import Progress, Schedule, check_scheduled, value_at

# The quintic whose iteration brings singular values of 0..1 near 1 (Jordan 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)


@dataclasses.dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent as in Keras: `m <- momentum m - rate g`, `w <- w + m`.

    So a gradient keeps the rate of its own step, where PyTorch takes all of them at the rate of the newest.

    Attributes:
      momentum: 0..1, or a schedule that stays there and runs over the phase.
      nesterov: whether the step is `momentum m - rate g`, with the new m.
    """

    momentum: float | Schedule = 0.9
    nesterov: bool = True

    def __post_init__(self) -> None:
        check_scheduled(self, "momentum", 0, 1)

    def make(self, rate: Any) -> tf.keras.optimizers.Optimizer:
        """Returns the Keras optimizer for a learning rate, a number or a Keras schedule.

        Where the momentum is scheduled, the rate has the attribute `total_steps`, as `tfaug.train.fit.PhaseRate`.
        """
        if not isinstance(self.momentum, (int, float)):
            return ScheduledSGD(self, rate)
        return tf.keras.optimizers.SGD(rate, self.momentum, self.nesterov, **OPTIMIZER_SETTINGS)


@dataclasses.dataclass(frozen=True)
class Muon:
    """Momentum whose step is orthogonalised, for the kernels of convolutions; gradient descent for all other weights.

    For a kernel w [h, w, I, O], taken as a matrix [h w I, O],

        m <- momentum m + g,   w <- sqrt(O) w / |w| - rate orthogonalize(g + momentum m)

    so a kernel keeps its length, and all directions of its step are equally long. Any other weight v, with the rate
    q = `vector_rate` (biases, scales) or `matrix_rate` (classifiers) times the schedule's,

        m <- other_momentum m + g + decay / q' v,   v <- v - q (g + decay / q' v + other_momentum m),   q' = q / rate

    so that in the long run a step takes `rate decay / (1 - other_momentum)` of v away, whatever its own rate.

    Attributes:
      momentum: of kernels, 0..1.
      num_iterations: of the orthogonalisation, 1 or more.
      other_momentum: of all other weights, 0..1.
      vector_rate: learning rate of vectors over that of kernels, above 0.
      matrix_rate: learning rate of matrices over that of kernels, above 0.
      decay: see above, 0 or more.

    Source: Jordan 2024 (Muon: an optimizer for hidden layers in neural networks). The constants are those of his
      CIFAR-10 speed runs, converted to the mean loss of a batch and to a classifier whose logits are not divided by
      the number of features.
    """

    momentum: float = 0.6
    num_iterations: int = 3
    other_momentum: float = 0.85
    vector_rate: float = 440.0
    matrix_rate: float = 0.085
    decay: float = 1 / 60

    def __post_init__(self) -> None:
        check_range(self, "momentum", 0, 1)
        check_whole(self, "num_iterations", 1)
        check_range(self, "other_momentum", 0, 1)
        check_range(self, "vector_rate", 1e-6)
        check_range(self, "matrix_rate", 1e-6)
        check_range(self, "decay", 0)

    def make(self, rate: Any) -> tf.keras.optimizers.Optimizer:
        """Returns the Keras optimizer for a learning rate of the kernels, a number or a Keras schedule."""
        return MuonOptimizer(self, rate)


Optimizer: TypeAlias = SGD | Muon
OPTIMIZERS: dict[str, type[Optimizer]] = {"Muon": Muon, "SGD": SGD}


class ScheduledSGD(tf.keras.optimizers.SGD):
    """Takes the steps of `SGD` with a momentum that is scheduled; a Keras SGD but for the update."""

    def __init__(self, settings: SGD, rate: Any):
        # Any momentum above 0 makes Keras create the momenta.
        super().__init__(rate, 0.5, name="scheduled_sgd", **OPTIMIZER_SETTINGS)
        self._settings, self._total_steps = settings, rate.total_steps

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: Any = None) -> None:
        """Takes one step; see `MuonOptimizer.update_step`."""
        progress = Progress(tf.convert_to_tensor(self.iterations), self._total_steps)
        momentum = tf.cast(value_at(self._settings, "momentum", progress), tf.float32)
        rate = tf.cast(self.learning_rate if learning_rate is None else learning_rate, tf.float32)
        m, step = momentum_of(self, variable), rate * tf.cast(gradient, tf.float32)
        m.assign(momentum * m - step)
        change = momentum * m - step if self._settings.nesterov else tf.convert_to_tensor(m)
        variable.assign(tf.convert_to_tensor(variable) + change)


class MuonOptimizer(tf.keras.optimizers.SGD):
    """Takes the steps of `Muon`; a Keras SGD, whose momenta it keeps, but for the update."""

    def __init__(self, settings: Muon, rate: Any):
        # Any momentum above 0 makes Keras create the momenta.
        super().__init__(rate, 0.5, name="muon", **OPTIMIZER_SETTINGS)
        self._settings = settings

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: Any = None) -> None:
        """Takes one step; Keras 2 leaves the rate to the optimizer, Keras 3 hands it over.

        Args:
          gradient: float, of the variable's shape.
          variable: a weight: a kernel if it has four axes, a classifier if it has two, else a vector.
          learning_rate: scalar, of kernels; None takes the optimizer's.
        """
        settings = self._settings
        rate = tf.cast(self.learning_rate if learning_rate is None else learning_rate, tf.float32)
        m = momentum_of(self, variable)
        value, gradient = tf.convert_to_tensor(variable), tf.cast(gradient, tf.float32)
        if len(variable.shape) == 4:
            m.assign(settings.momentum * m + gradient)
            step = orthogonalize(gradient + settings.momentum * m, settings.num_iterations)
            length = tf.sqrt(float(variable.shape[-1]))
            variable.assign(value * length * tf.math.divide_no_nan(1.0, tf.norm(value)) - rate * step)
            return
        factor = settings.matrix_rate if len(variable.shape) == 2 else settings.vector_rate
        gradient += settings.decay / factor * value
        m.assign(settings.other_momentum * m + gradient)
        variable.assign(value - rate * factor * (gradient + settings.other_momentum * m))


def orthogonalize(kernel: tf.Tensor, num_iterations: int) -> tf.Tensor:
    """Returns nearly U V^T, where U S V^T is the singular value decomposition of the matrix [h w I, O] of a kernel.

        X_0 = kernel / |kernel|,   X <- a X + (b X X^T + c (X X^T)^2) X

    Singular values above about 0.1 |kernel| come to 0.5..1.3 in three iterations, smaller ones grow tenfold or more.

    Args:
      kernel: float32 [h, w, I, O].
      num_iterations: 1 or more; five bring almost all singular values near 1.

    Returns:
      float32 of the same shape; zero for zero.

    Source: Jordan 2024 (Muon), the Newton-Schulz iteration.
    """
    x = tf.reshape(kernel, [-1, kernel.shape[-1]])
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else tf.transpose(x)
    x = tf.math.divide_no_nan(x, tf.norm(x))
    a, b, c = _QUINTIC
    for _ in range(num_iterations):
        square = tf.matmul(x, x, transpose_b=True)
        x = a * x + tf.matmul(b * square + c * tf.matmul(square, square), x)
    return tf.reshape(x if wide else tf.transpose(x), kernel.shape)
