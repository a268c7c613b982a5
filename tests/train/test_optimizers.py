"""The optimizers of a phase against numpy, on one device and on two."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfaug.config import ConfigError
from tfaug.schedules import Linear
from tfaug.train.fit import PhaseRate
from tfaug.train.optimizers import SGD, Muon, orthogonalize
from tfaug.train.strategy import mirrored_strategy

SHAPES = {"kernel": (3, 3, 4, 6), "wide_kernel": (1, 1, 2, 5), "matrix": (6, 3), "vector": (3,)}
MUON = Muon(momentum=0.6, num_iterations=3, other_momentum=0.8, vector_rate=2.0, matrix_rate=0.5, decay=0.1)


def drawn(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def newton_schulz(kernel: np.ndarray, num_iterations: int) -> np.ndarray:
    """The iteration on the singular values alone, in float64: s <- a s + b s^3 + c s^5."""
    matrix = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.linalg.norm(s)
    for _ in range(num_iterations):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u @ np.diag(s) @ v).reshape(kernel.shape)


def weight(value: np.ndarray):
    """Returns a weight as a layer has it."""
    return tf.keras.layers.Layer().add_weight(
        name="weight", shape=value.shape, initializer=lambda shape, dtype=None, **_: tf.constant(value)
    )


def take_steps(settings, rate, steps: int, devices=("CPU:0",)) -> dict[str, np.ndarray]:
    """Weights after some steps with the gradients drawn(1), drawn(2), ..., which the replicas share equally."""
    strategy = mirrored_strategy(list(devices))
    with strategy.scope():
        variables = {name: weight(value) for name, value in drawn(0).items()}
        optimizer = settings.make(rate)
        optimizer.build(list(variables.values()))

    def update(gradients):
        shares = [gradient / len(devices) for gradient in gradients]
        optimizer.apply_gradients(list(zip(shares, variables.values(), strict=True)))

    @tf.function(autograph=False)
    def step(gradients):
        strategy.run(update, [gradients])

    for index in range(steps):
        step(list(drawn(index + 1).values()))
    return {name: variable.numpy() for name, variable in variables.items()}


def muon_by_numpy(settings: Muon, rate: float, steps: int) -> dict[str, np.ndarray]:
    weights = {name: value.astype(np.float64) for name, value in drawn(0).items()}
    momenta = {name: np.zeros_like(value) for name, value in weights.items()}
    for index in range(steps):
        for name, gradient in drawn(index + 1).items():
            w = weights[name]
            if w.ndim == 4:
                momenta[name] = settings.momentum * momenta[name] + gradient
                update = newton_schulz(gradient + settings.momentum * momenta[name], settings.num_iterations)
                weights[name] = w * np.sqrt(w.shape[-1]) / np.linalg.norm(w) - rate * update
                continue
            factor = settings.matrix_rate if w.ndim == 2 else settings.vector_rate
            g = gradient + settings.decay / factor * w
            momenta[name] = settings.other_momentum * momenta[name] + g
            weights[name] = w - rate * factor * (g + settings.other_momentum * momenta[name])
    return weights


@pytest.mark.parametrize("devices", [["CPU:0"], ["CPU:0", "CPU:1"]], ids=["one", "two"])
def test_muon_takes_the_steps_of_its_formula(devices) -> None:
    expected = muon_by_numpy(MUON, 0.1, steps=3)
    for name, value in take_steps(MUON, 0.1, 3, devices).items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-4, atol=2e-5, err_msg=name)


def test_sgd_is_keras_own() -> None:
    weights = take_steps(SGD(momentum=0.5, nesterov=False), 0.1, 2)
    for name, start in drawn(0).items():
        first, second = drawn(1)[name], drawn(2)[name]
        np.testing.assert_allclose(weights[name], start - 0.1 * (1.5 * first + second), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_momentum_may_be_scheduled_over_the_steps_of_the_phase(nesterov) -> None:
    settings, momenta = SGD(Linear(0.8, 0.0), nesterov), {name: np.zeros(shape) for name, shape in SHAPES.items()}
    weights = take_steps(settings, PhaseRate(Linear(0.1, 0.3), 4), 3, ["CPU:0", "CPU:1"])
    expected = drawn(0)
    for step, (rate, momentum) in enumerate(((0.1, 0.8), (0.15, 0.6), (0.2, 0.4))):
        for name, gradient in drawn(step + 1).items():
            momenta[name] = momentum * momenta[name] - rate * gradient
            expected[name] = expected[name] + (
                momentum * momenta[name] - rate * gradient if nesterov else momenta[name]
            )
    for name, value in weights.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    with pytest.raises(ConfigError, match=r"SGD\.momentum is Linear.*; allowed: 0\.\.1"):
        SGD(Linear(0.5, 1.5))


def test_a_gradient_of_zero_leaves_a_kernel_but_for_its_length() -> None:
    with mirrored_strategy(["CPU:0"]).scope():
        kernel = weight(drawn(0)["kernel"])
        optimizer = MUON.make(0.1)
        optimizer.build([kernel])
    optimizer.apply_gradients([(tf.zeros_like(kernel), kernel)])
    start = drawn(0)["kernel"]
    np.testing.assert_allclose(kernel.numpy(), start * np.sqrt(6) / np.linalg.norm(start), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (1, 1, 4, 32)], ids=["tall", "wide"])
def test_orthogonalized_kernels_keep_their_directions_and_even_out_their_lengths(shape) -> None:
    kernel = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    result = orthogonalize(tf.constant(kernel), 5).numpy()
    np.testing.assert_allclose(result, newton_schulz(kernel, 5), atol=1e-4)
    lengths = np.linalg.svd(result.reshape(-1, shape[-1]), compute_uv=False)
    assert lengths.min() > 0.6 and lengths.max() < 1.3
    assert not orthogonalize(tf.zeros(shape), 3).numpy().any()


@pytest.mark.parametrize(
    "settings, named",
    [
        (lambda: Muon(momentum=1.5), "Muon.momentum is 1.5; allowed: 0..1"),
        (lambda: Muon(num_iterations=0), "Muon.num_iterations is 0; allowed: a whole number, 1 or more"),
        (lambda: Muon(vector_rate=0.0), "Muon.vector_rate is 0.0; allowed: 1e-06 or more"),
        (lambda: SGD(momentum=-0.1), "SGD.momentum is -0.1; allowed: 0..1"),
    ],
)
def test_a_wrong_setting_names_what_is_allowed(settings, named) -> None:
    with pytest.raises(ConfigError, match=named):
        settings()
