"""Schedules: a value, such as a learning rate or a magnitude, as a function of the step within a phase of training.

All schedules are frozen dataclasses that hold fractions of a phase, never steps, so that a phase may be made longer
without touching them. The clock is x = step / total_steps with step = 0 .. total_steps - 1: the value at the end
of the clock (x = 1) is approached by the last step and not spent on it, so no step is taken at a rate of zero.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from tfaug.config import ConfigError, check_choice, check_range


def _is_tensor(*values: Any) -> bool:
    """Whether any of `values` is a tensor or a variable."""
    return any(tf.is_tensor(value) for value in values)


def _check_steps(step: Any, total_steps: Any) -> None:
    """Refuses impossible step numbers where they are plain numbers."""
    if not tf.is_tensor(total_steps) and total_steps < 1:
        raise ValueError(f"total_steps is {total_steps!r}; allowed: 1 or more")
    if not tf.is_tensor(step) and step < 0:
        raise ValueError(f"step is {step!r}; allowed: 0 or more")


def _ramp(step: Any, first: Any, last: Any) -> Any:
    """Goes 0..1 from step `first` to step `last`, and stays at the ends outside; 1 where first = last."""
    if _is_tensor(step, first, last):
        step, first, last = (tf.cast(value, tf.float64) for value in (step, first, last))
        share = tf.math.divide_no_nan(step - first, last - first)
        return tf.where(last > first, tf.clip_by_value(share, 0.0, 1.0), tf.ones_like(share))
    return min(max((step - first) / (last - first), 0.0), 1.0) if last > first else 1.0


def _round(value: Any) -> Any:
    """Rounds half to even: the same for numbers and tensors."""
    return tf.round(value) if tf.is_tensor(value) else float(round(value))


def _share(fraction: float, total_steps: Any) -> Any:
    """The step at which `fraction` of the phase is over."""
    total = tf.cast(total_steps, tf.float64) if tf.is_tensor(total_steps) else total_steps
    return _round(fraction * total)


def _choose(condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where `condition` holds, else `no`."""
    if _is_tensor(condition, yes, no):
        return tf.where(condition, tf.cast(yes, tf.float64), tf.cast(no, tf.float64))
    return yes if condition else no


def _ease(start: float, end: float, x: Any) -> Any:
    """Goes from `start` to `end` along half a cosine wave as x goes 0..1."""
    cos = tf.cos(math.pi * x) if tf.is_tensor(x) else math.cos(math.pi * x)
    return end + (start - end) * (1.0 + cos) / 2.0


def _finish(value: Any) -> Any:
    """Float for numbers, float32 for tensors (computed in float64, so that both agree)."""
    return tf.cast(value, tf.float32) if tf.is_tensor(value) else float(value)


class _Schedule:
    """What all schedules share."""

    def value(self, step: Any, total_steps: Any) -> Any:
        """Returns the value at `step` of a phase of `total_steps`."""
        raise NotImplementedError

    def last(self, total_steps: Any) -> Any:
        """Returns the value at the last step, `total_steps - 1`: where a refinement phase goes on from."""
        return self.value(total_steps - 1, total_steps)


@dataclasses.dataclass(frozen=True)
class Constant(_Schedule):
    """Keeps one value.

    Args:
      initial: the value, 0 or more.
    """

    initial: float = 0.1

    def __post_init__(self) -> None:
        check_range(self, "initial", 0.0)

    def value(self, step: Any, total_steps: Any) -> Any:
        """Returns `initial` (a float, or a float32 tensor where step or total_steps is a tensor)."""
        _check_steps(step, total_steps)
        if _is_tensor(step, total_steps):
            return tf.fill(tf.shape(step), tf.constant(self.initial, tf.float32))
        return float(self.initial)


@dataclasses.dataclass(frozen=True)
class Linear(_Schedule):
    """Goes from one value to another in a straight line, up or down.

        value = initial + (final - initial) * step / total_steps

    Args:
      initial: first value, 0 or more.
      final: value approached at the end, 0 or more.

    Example:
      >>> [Linear(0.0, 30.0).value(step, 3) for step in range(3)]
      [0.0, 10.0, 20.0]
    """

    initial: float = 0.0
    final: float = 1.0

    def __post_init__(self) -> None:
        check_range(self, "initial", 0.0)
        check_range(self, "final", 0.0)

    def value(self, step: Any, total_steps: Any) -> Any:
        """Returns the value at `step` (a float, or a float32 tensor where step or total_steps is a tensor)."""
        _check_steps(step, total_steps)
        return _finish(self.initial + (self.final - self.initial) * _ramp(step, 0, total_steps))


@dataclasses.dataclass(frozen=True)
class Step(_Schedule):
    """Multiplies by a factor at fixed shares of the phase.

        value = initial * factor^(number of boundaries b with step >= round(b * total_steps))

    Args:
      initial: first value, 0 or more.
      boundaries: increasing fractions of the phase, each in 0..1; `refine` for PreAct-18: (0.375, 0.6875).
      factor: what each boundary multiplies by, 0..1.

    Source: `refine`, section 4.1 (learning rate divided by 10 at epochs 150 and 275 of 400).

    Example:
      >>> [round(Step(0.1, (0.5, 0.75), 0.1).value(step, 4), 6) for step in range(4)]
      [0.1, 0.1, 0.01, 0.001]
    """

    initial: float = 0.1
    boundaries: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_range(self, "initial", 0.0)
        check_range(self, "factor", 0.0, 1.0)
        bounds = tuple(self.boundaries)
        increasing = all(low < high for low, high in itertools.pairwise(bounds))
        if not increasing or not all(0.0 <= bound <= 1.0 for bound in bounds):
            raise ConfigError(f"Step.boundaries is {self.boundaries!r}; allowed: increasing fractions in 0..1")

    def value(self, step: Any, total_steps: Any) -> Any:
        """Returns the value at `step` (a float, or a float32 tensor where step or total_steps is a tensor)."""
        _check_steps(step, total_steps)
        at = tf.cast(step, tf.float64) if _is_tensor(step, total_steps) else step
        value: Any = self.initial
        for bound in self.boundaries:
            value = value * _choose(at >= _share(bound, total_steps), self.factor, 1.0)
        if _is_tensor(at) and not _is_tensor(value):
            value = tf.fill(tf.shape(at), tf.constant(value, tf.float64))
        return _finish(value)


@dataclasses.dataclass(frozen=True)
class Cosine(_Schedule):
    """Anneals along half a cosine wave, after an optional linear warm-up.

        W = round(warmup_fraction * total_steps)
        step < W:  initial * (step + 1) / W
        else:      final + (initial - final) * (1 + cos(pi * (step - W) / (total_steps - W))) / 2

    Args:
      initial: highest value, 0 or more.
      warmup_fraction: share of the phase that warms up, 0..1.
      final: value approached at the end, 0..initial.

    Source: Loshchilov and Hutter 2017 (SGDR), equation 5, with one period; warm-up: Goyal et al. 2017, section 2.2.
    """

    initial: float = 0.1
    warmup_fraction: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        check_range(self, "initial", 0.0)
        check_range(self, "warmup_fraction", 0.0, 1.0)
        check_range(self, "final", 0.0, self.initial)

    def value(self, step: Any, total_steps: Any) -> Any:
        """Returns the value at `step` (a float, or a float32 tensor where step or total_steps is a tensor)."""
        _check_steps(step, total_steps)
        warm = _share(self.warmup_fraction, total_steps)
        at = tf.cast(step, tf.float64) if _is_tensor(step, total_steps) else step
        rising = self.initial * _ramp(at + 1, 0, warm)
        return _finish(_choose(at < warm, rising, _ease(self.initial, self.final, _ramp(at, warm, total_steps))))


@dataclasses.dataclass(frozen=True)
class OneCycle(_Schedule):
    """Rises to a peak and falls to almost nothing, once.

        W = round(warmup_fraction * total_steps)
        from peak / initial_div at step 0 to peak at step W, then to peak / final_div at step total_steps,
        each along half a cosine wave (`cosine`) or a straight line (`triangular`).

    `final_div` divides the peak (PyTorch's divides the initial value).

    Args:
      peak: highest value, 0 or more.
      warmup_fraction: share of the phase that rises, 0..1.
      initial_div: peak over first value, 1 or more.
      final_div: peak over the value approached at the end, 1 or more.
      annealing: 'cosine' or 'triangular'.

    Source: Smith and Topin 2018 (Super-Convergence), section 3.

    Example:
      >>> [round(OneCycle(0.4, 0.5, 4.0, 4.0, "triangular").value(step, 4), 6) for step in range(5)]
      [0.1, 0.25, 0.4, 0.25, 0.1]
    """

    peak: float = 0.4
    warmup_fraction: float = 0.3
    initial_div: float = 25.0
    final_div: float = 1e4
    annealing: str = "cosine"

    def __post_init__(self) -> None:
        check_range(self, "peak", 0.0)
        check_range(self, "warmup_fraction", 0.0, 1.0)
        check_range(self, "initial_div", 1.0)
        check_range(self, "final_div", 1.0)
        check_choice(self, "annealing", ("cosine", "triangular"))

    def value(self, step: Any, total_steps: Any) -> Any:
        """Returns the value at `step` (a float, or a float32 tensor where step or total_steps is a tensor)."""
        _check_steps(step, total_steps)
        peak_at = _share(self.warmup_fraction, total_steps)
        at = tf.cast(step, tf.float64) if _is_tensor(step, total_steps) else step
        low, end = self.peak / self.initial_div, self.peak / self.final_div
        rise, fall = _ramp(at, 0, peak_at), _ramp(at, peak_at, total_steps)
        if self.annealing == "cosine":
            rising, falling = _ease(low, self.peak, rise), _ease(self.peak, end, fall)
        else:
            rising, falling = low + (self.peak - low) * rise, self.peak + (end - self.peak) * fall
        return _finish(_choose(at < peak_at, rising, falling))


Schedule: TypeAlias = Constant | Linear | Step | Cosine | OneCycle

SCHEDULES: dict[str, type] = {
    "Constant": Constant,
    "Linear": Linear,
    "Step": Step,
    "Cosine": Cosine,
    "OneCycle": OneCycle,
}


class Progress(NamedTuple):
    """Where training stands in its phase.

    Attributes:
      step: 0 .. total_steps - 1, a number or a scalar integer tensor.
      total_steps: steps of the phase, likewise.
    """

    step: Any
    total_steps: Any


_VALUE_BITS = 16
_CHECKED_STEPS = 1000


def value_at(owner: object, name: str, progress: Progress | None) -> Any:
    """Returns the field `name` of `owner`: a number as it is, a schedule's value at `progress`.

    Values of a schedule are rounded to multiples of 2**-16, so that devices whose cosines differ agree.

    Returns:
      The number; or of a schedule a float, or a float32 scalar tensor where the progress holds tensors.

    Raises:
      ValueError: if the field is a schedule and there is no progress.
    """
    field = getattr(owner, name)
    if not isinstance(field, _Schedule):
        return field
    if progress is None:
        raise ValueError(
            f"{type(owner).__name__}.{name} is a schedule, {field!r}: give the call progress=(step, total_steps)"
        )
    scale = 2.0**_VALUE_BITS
    return _round(field.value(*progress) * scale) * (1 / scale)


def bounds(field: Any) -> tuple[float, float]:
    """Returns the lowest and the highest value of a number or a schedule.

    A schedule is read at 1,000 steps spread over a phase, so a peak between two of them may be missed by little.
    """
    if not isinstance(field, _Schedule):
        return float(field), float(field)
    values = [float(field.value(step, _CHECKED_STEPS)) for step in range(_CHECKED_STEPS)]
    return min(values), max(values)


def check_scheduled(owner: object, name: str, low: float, high: float = float("inf")) -> None:
    """Checks that the field `name` of dataclass `owner` is a number in low..high or a schedule that stays there.

    Raises:
      ConfigError: if it is not, naming the class, the field, the value and the range.
    """
    field = getattr(owner, name)
    if not isinstance(field, _Schedule):
        check_range(owner, name, low, high)
        return
    lowest, highest = bounds(field)
    if lowest < low or highest > high:
        allowed = f"{low:g} or more" if high == float("inf") else f"{low:g}..{high:g}"
        got = f"{field!r}, which goes through {lowest:g}..{highest:g}"
        raise ConfigError(f"{type(owner).__name__}.{name} is {got}; allowed: {allowed}")
