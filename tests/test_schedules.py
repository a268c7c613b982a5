from __future__ import annotations

import dataclasses
import itertools
import math
import typing

import numpy as np
import pytest
import tensorflow as tf

from tfaug.config import ConfigError
from tfaug.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Intermittent,
    Linear,
    OneCycle,
    Step,
    Valley,
    bounds,
    gradual_weights,
)

EXAMPLES = [
    Constant(0.3),
    Linear(0.0, 0.4),
    Linear(0.4, 0.1),
    Step(0.1, (0.375, 0.6875), 0.2),
    Step(0.1, ()),
    Cosine(0.2),
    Cosine(0.2, 0.25, 0.01),
    Cosine(0.2, 1.0),
    OneCycle(0.4),
    OneCycle(0.4, 0.35, 10.0, 100.0, "triangular"),
    OneCycle(0.4, 0.0),
    OneCycle(0.4, 1.0, annealing="triangular"),
    Valley(0.4, 0.35),
    Valley(0.4, 0.1, 0.0),
    Valley(0.4, 0.1, 1.0),
    Intermittent(0.3, 0.1, 0.9, 0.2, 0.6),
    Intermittent(0.3, 0.0, 1.0, 1e-6, 0.0),
]
each_example = pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)


def test_examples_cover_every_schedule_of_the_table():
    assert {type(example) for example in EXAMPLES} == set(SCHEDULES.values())
    assert all(name == kind.__name__ for name, kind in SCHEDULES.items())


@each_example
def test_tensors_give_the_floats_eagerly_and_compiled(schedule):
    compiled = tf.function(schedule.value, jit_compile=True, autograph=False)
    for total in (1, 7, 10, 390):
        steps = np.arange(total)
        floats = [schedule.value(int(step), total) for step in steps]
        assert all(isinstance(value, float) for value in floats)
        for values in (
            schedule.value(tf.constant(steps), total),
            compiled(tf.constant(steps), tf.constant(total, tf.int64)),
        ):
            assert values.dtype == tf.float32 and values.shape == (total,)
            np.testing.assert_allclose(values, floats, rtol=2e-6, atol=1e-9)


def test_a_tensor_total_with_a_number_as_step_gives_a_scalar_tensor():
    for schedule in EXAMPLES:
        value = schedule.value(3, tf.constant(10))
        assert value.shape == () and float(value) == pytest.approx(schedule.value(3, 10), rel=1e-6)


@each_example
def test_last_is_the_value_of_the_last_step(schedule):
    assert schedule.last(40) == schedule.value(39, 40)
    assert float(schedule.last(tf.constant(40))) == pytest.approx(schedule.value(39, 40), rel=1e-6)


@each_example
def test_steps_past_the_end_keep_a_finite_value_that_is_not_negative(schedule):
    assert all(0.0 <= schedule.value(step, 10) <= 0.4 for step in range(30))


def test_constant_keeps_its_value():
    assert [Constant(0.3).value(step, 5) for step in range(5)] == [0.3] * 5


def test_step_falls_at_the_rounded_share_of_the_phase():
    values = [Step(1.0, (0.5, 0.75), 0.1).value(step, 8) for step in range(8)]
    assert values == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_step_with_the_boundaries_of_refine_falls_at_epochs_150_and_275_of_400():
    schedule = Step(0.1, (0.375, 0.6875), 0.1)
    values = [schedule.value(epoch, 400) for epoch in range(400)]
    changes = [epoch for epoch in range(1, 400) if values[epoch] != values[epoch - 1]]
    assert changes == [150, 275]
    assert schedule.last(400) == pytest.approx(1e-3)


def test_step_agrees_with_keras():
    keras = tf.keras.optimizers.schedules.PiecewiseConstantDecay([29, 69], [0.4, 0.08, 0.016])
    schedule = Step(0.4, (0.3, 0.7), 0.2)
    for step in range(100):  # Keras lowers after the boundary, so one step later
        assert schedule.value(step, 100) == pytest.approx(float(keras(step)))


@pytest.mark.parametrize("final", [0.0, 0.02])
def test_cosine_agrees_with_keras(final):
    keras = tf.keras.optimizers.schedules.CosineDecay(0.2, 50, alpha=final / 0.2)
    for step in range(60):
        assert Cosine(0.2, final=final).value(step, 50) == pytest.approx(float(keras(step)), rel=1e-5, abs=1e-8)


def test_cosine_warms_up_linearly_to_its_highest_value_then_halves_midway():
    schedule = Cosine(0.8, 0.2)
    values = [schedule.value(step, 20) for step in range(20)]
    assert values[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert values[12] == pytest.approx(0.4)  # half of the 16 steps after the warm-up
    assert all(later < earlier for earlier, later in itertools.pairwise(values[4:]))


def test_cosine_ends_just_above_its_final_value_without_a_step_at_zero():
    assert 0 < Cosine(0.2).last(100) < 1e-4
    assert 0.01 < Cosine(0.2, final=0.01).last(100) < 0.0101
    assert Cosine(0.2, final=0.01).value(100, 100) == pytest.approx(0.01)


def test_triangular_one_cycle_is_two_straight_lines():
    schedule = OneCycle(0.4, 0.25, 4.0, 8.0, "triangular")
    values = [schedule.value(step, 8) for step in range(9)]
    assert values == pytest.approx([0.1, 0.25, 0.4] + [0.4 - 0.35 * i / 6 for i in range(1, 7)])


def test_cosine_one_cycle_meets_the_triangle_at_its_corners_and_middles_only():
    smooth, straight = OneCycle(0.4, 0.5), OneCycle(0.4, 0.5, annealing="triangular")
    for step in (0, 10, 20, 30, 40):
        assert smooth.value(step, 40) == pytest.approx(straight.value(step, 40))
    assert smooth.value(5, 40) < straight.value(5, 40)
    assert smooth.value(25, 40) > straight.value(25, 40)


def test_one_cycle_starts_peaks_and_ends_where_its_divisors_say():
    schedule = OneCycle(0.5, 0.3, 25.0, 1e4)
    assert schedule.value(0, 100) == pytest.approx(0.02)
    assert schedule.value(30, 100) == 0.5 == max(schedule.value(step, 100) for step in range(100))
    assert schedule.value(100, 100) == pytest.approx(0.5e-4)


def test_intermittent_with_its_defaults_is_the_order_of_samplepairing():
    """Of 1,000 epochs: 100 without, 70 times 8 with and 2 without, 200 without."""
    values = [Intermittent().value(epoch, 1000) for epoch in range(1000)]
    assert values == [0.0] * 100 + ([1.0] * 8 + [0.0] * 2) * 70 + [0.0] * 200
    assert bounds(Intermittent(0.5)) == (0.0, 0.5)


THESIS = [
    (4, 0, [0.25, 0.25, 0.25, 0.25]),
    (4, 1 / 6, [0.2940, 0.2940, 0.2940, 0.1181]),
    (4, 1 / 3, [1 / 3, 1 / 3, 1 / 3, 0]),
    (4, 0.5, [91 / 216, 91 / 216, 34 / 216, 0]),  # f = 1/2, m = 3: c = 5/12, r = 1/6, eps = 1/108
    (4, 2 / 3, [0.5, 0.5, 0, 0]),
    (4, 1, [1, 0, 0, 0]),
    (2, 0.5, [0.875, 0.125]),
    (1, 0.3, [1]),
]


@pytest.mark.parametrize("n, t, expected", THESIS)
def test_gradual_weights_are_those_derived_by_hand(n, t, expected):
    weights = gradual_weights(n, t)
    assert weights.dtype == np.float64
    np.testing.assert_allclose(weights, expected, rtol=0, atol=5e-5)
    as_tensor = gradual_weights(n, tf.constant(t, tf.float64))
    assert as_tensor.dtype == tf.float64
    np.testing.assert_allclose(as_tensor, weights, rtol=0, atol=1e-15)


@pytest.mark.parametrize("n", [2, 3, 4, 6, 8])
def test_gradual_weights_sum_to_one_never_jump_and_never_rise_after_the_first(n):
    times = np.linspace(0, 1, 2001)
    weights = np.stack([gradual_weights(n, t) for t in times])
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, rtol=0, atol=1e-15)
    assert np.abs(np.diff(weights, axis=0)).max() < 2 * (n - 1) / 2000  # no slope above 2 (n - 1)
    assert (np.diff(weights[:, 0]) > 0).all() and (np.diff(weights, axis=1) <= 1e-15).all()


def test_legacy_weights_drift_a_little_and_then_jump():
    """As the published code does: only eps moves within a level."""
    before, after = gradual_weights(4, 1 / 3 - 1e-9, True), gradual_weights(4, 1 / 3, True)
    np.testing.assert_allclose(before, [0.25 + 1 / 108] * 3 + [0.25 - 1 / 36], atol=1e-6)
    np.testing.assert_allclose(after, [1 / 3] * 3 + [0], atol=1e-12)
    np.testing.assert_allclose(gradual_weights(4, 0.999, True), [0.5554, 0.4446, 0, 0], atol=5e-5)
    assert gradual_weights(4, 1.0, True).tolist() == [1, 0, 0, 0]
    sums = [gradual_weights(4, t, True).sum() for t in np.linspace(0, 1, 500)]
    np.testing.assert_allclose(sums, 1, rtol=0, atol=1e-15)


@pytest.mark.parametrize("legacy", [False, True])
def test_gradual_weights_under_xla_are_the_floats_also_at_the_steps_where_an_image_goes(legacy):
    total = 390  # a constant, by whose inverse XLA multiplies
    compiled = tf.function(
        lambda step: gradual_weights(4, tf.cast(step, tf.float64) / total, legacy), jit_compile=True, autograph=False
    )
    for step in (0, 1, 129, 130, 131, 259, 260, 261, 389, 390):
        np.testing.assert_allclose(
            compiled(tf.constant(step)), gradual_weights(4, step / total, legacy), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize(
    "n, t, message", [(0, 0.5, "n = 0; allowed: 1 or more"), (4, 1.01, r"t = 1.01; allowed: 0..1")]
)
def test_gradual_weights_out_of_range_are_refused(n, t, message):
    with pytest.raises(ValueError, match=message):
        gradual_weights(n, t)


def test_a_valley_falls_and_rises_along_half_cosines():
    values = [Valley(0.9, 0.5, 0.4).value(step, 10) for step in range(11)]
    falling = [0.7 + 0.2 * math.cos(math.pi * step / 4) for step in range(4)]
    rising = [0.7 - 0.2 * math.cos(math.pi * step / 6) for step in range(7)]
    assert values == pytest.approx(falling + rising)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Constant(-0.1), "initial is -0.1; allowed: 0 or more"),
        (lambda: Constant(float("nan")), "initial is nan"),
        (lambda: Step(0.1, (0.5, 0.4)), r"increasing fractions in 0..1"),
        (lambda: Step(0.1, (0.5, 1.5)), r"boundaries is \(0.5, 1.5\)"),
        (lambda: Step(0.1, (float("nan"),)), r"increasing fractions"),
        (lambda: Step(0.1, (0.5,), 10.0), "factor is 10.0; allowed: 0..1"),
        (lambda: Cosine(0.1, 1.1), "warmup_fraction is 1.1; allowed: 0..1"),
        (lambda: Cosine(0.1, final=0.2), "final is 0.2; allowed: 0..0.1"),
        (lambda: OneCycle(0.1, -0.1), "warmup_fraction is -0.1"),
        (lambda: OneCycle(0.1, initial_div=0.5), "initial_div is 0.5; allowed: 1 or more"),
        (lambda: OneCycle(0.1, final_div=0.0), "final_div is 0.0"),
        (lambda: OneCycle(0.1, annealing="triangle"), "did you mean 'triangular'"),
        (lambda: Valley(0.8, 0.9), "lowest is 0.9; allowed: 0..0.8"),
        (lambda: Valley(lowest_at=1.5), "lowest_at is 1.5; allowed: 0..1"),
        (lambda: Intermittent(-1.0), "initial is -1.0; allowed: 0 or more"),
        (lambda: Intermittent(1.0, 0.5, 0.4), "stop is 0.4; allowed: 0.5..1"),
        (lambda: Intermittent(period=0.0), "period is 0.0"),
    ],
)
def test_fields_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_impossible_steps_are_refused():
    for schedule in EXAMPLES:
        with pytest.raises(ValueError, match="total_steps is 0; allowed: 1 or more"):
            schedule.value(0, 0)
        with pytest.raises(ValueError, match="step is -1; allowed: 0 or more"):
            schedule.value(-1, 10)


@each_example
def test_schedules_are_frozen_and_their_types_resolve(schedule):
    hints = typing.get_type_hints(type(schedule))
    assert [field.name for field in dataclasses.fields(schedule)] == list(hints)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, next(iter(hints)), 1.0)
