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

import numpy as np
import tensorflow as tf

from tfaug.config import LARGEST, ConfigError, check_choice, check_range, is_number, to_python


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
        bounds = to_python(self.boundaries)
        good = isinstance(bounds, (tuple, list)) and all(is_number(bound) and 0 <= bound <= 1 for bound in bounds)
        if not good or any(low >= high for low, high in itertools.pairwise(bounds)):
            raise ConfigError(f"Step.boundaries is {self.boundaries!r}; allowed: increasing fractions in 0..1")
        object.__setattr__(self, "boundaries", tuple(bounds))

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


@dataclasses.dataclass(frozen=True)
class Valley(_Schedule):
    """Falls to a lowest value and rises again, each along half a cosine wave: a momentum beside `OneCycle`.

        W = round(lowest_at * total_steps)
        from initial at step 0 to lowest at step W, then to initial at step total_steps

    Args:
      initial: first and last value, 0 or more.
      lowest: value in between, 0..initial.
      lowest_at: where it stands, a share of the phase, 0..1.

    Source: Smith and Topin 2018 (Super-Convergence), section 3; the defaults are those of PyTorch's OneCycleLR.

    Example:
      >>> [round(Valley(0.95, 0.85, 0.5).value(step, 4), 6) for step in range(5)]
      [0.95, 0.9, 0.85, 0.9, 0.95]
    """

    initial: float = 0.95
    lowest: float = 0.85
    lowest_at: float = 0.3

    def __post_init__(self) -> None:
        check_range(self, "initial", 0.0)
        check_range(self, "lowest", 0.0, self.initial)
        check_range(self, "lowest_at", 0.0, 1.0)

    def value(self, step: Any, total_steps: Any) -> Any:
        """Returns the value at `step` (a float, or a float32 tensor where step or total_steps is a tensor)."""
        _check_steps(step, total_steps)
        turn = _share(self.lowest_at, total_steps)
        at = tf.cast(step, tf.float64) if _is_tensor(step, total_steps) else step
        falling = _ease(self.initial, self.lowest, _ramp(at, 0, turn))
        rising = _ease(self.lowest, self.initial, _ramp(at, turn, total_steps))
        return _finish(_choose(at < turn, falling, rising))


@dataclasses.dataclass(frozen=True)
class Intermittent(_Schedule):
    """Switches between a value and 0: off at first, then on and off in turn, off at last.

        value = initial in the first `on_fraction` of each period between `start` and `stop`, else 0

    Each length is rounded to whole steps; a period has at least one.

    Args:
      initial: value where it is on, 0 or more.
      start: share of the phase after which the periods begin, 0..1.
      stop: share of the phase after which it stays off, start..1.
      period: length of a period as a share of the phase, above 0 up to 1.
      on_fraction: share of each period that is on, 0..1.

    Source: Inoue 2018 (SamplePairing), section 3: 100 epochs without, then 8 with and 2 without in turn, and none at
      the end. The defaults are that for 1,000 epochs, the last 200 without.

    Example:
      >>> [Intermittent(1.0, 0.2, 0.8, 0.3, 0.67).value(step, 10) for step in range(10)]
      [0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """

    initial: float = 1.0
    start: float = 0.1
    stop: float = 0.8
    period: float = 0.01
    on_fraction: float = 0.8

    def __post_init__(self) -> None:
        check_range(self, "initial", 0.0)
        check_range(self, "start", 0.0, 1.0)
        check_range(self, "stop", self.start, 1.0)
        check_range(self, "period", 1e-6, 1.0)
        check_range(self, "on_fraction", 0.0, 1.0)

    def value(self, step: Any, total_steps: Any) -> Any:
        """Returns the value at `step` (a float, or a float32 tensor where step or total_steps is a tensor)."""
        _check_steps(step, total_steps)
        at = tf.cast(step, tf.float64) if _is_tensor(step, total_steps) else step
        start, stop, period, on = (
            _share(fraction, total_steps)
            for fraction in (self.start, self.stop, self.period, self.period * self.on_fraction)
        )
        period = tf.maximum(period, 1.0) if tf.is_tensor(period) else max(period, 1.0)
        in_turn = (at - start) % period < on  # Whole numbers, so exact.
        inside = (at >= start) & (at < stop) & in_turn
        return _finish(_choose(inside, self.initial, 0.0 * at))


Schedule: TypeAlias = Constant | Linear | Step | Cosine | OneCycle | Valley | Intermittent

SCHEDULES: dict[str, type] = {
    "Constant": Constant,
    "Linear": Linear,
    "Step": Step,
    "Cosine": Cosine,
    "OneCycle": OneCycle,
    "Valley": Valley,
    "Intermittent": Intermittent,
}


class Progress(NamedTuple):
    """Where training stands in its phase.

    Attributes:
      step: 0 .. total_steps - 1, a number or a scalar integer tensor.
      total_steps: steps of the phase, likewise.
    """

    step: Any
    total_steps: Any


class Visit(NamedTuple):
    """A progress that also says which examples the batch holds and in which epoch, for ops that go by it.

    Attributes:
      step: as in `Progress`.
      total_steps: as in `Progress`.
      seed: int32 [2], the same at every step of the phase.
      epoch: passes over the data that are finished, 0 or more, a number or a scalar integer tensor.
      examples: integer [B], the number of each image in its data set: the same whenever the image comes.
    """

    step: Any
    total_steps: Any
    seed: Any
    epoch: Any
    examples: Any


_VALUE_BITS = 16
_CHECKED_STEPS = 1000


def value_at(owner: object, name: str, progress: Progress | Visit | None) -> Any:
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
    return _round(field.value(*progress[:2]) * scale) * (1 / scale)


def bounds(field: Any) -> tuple[float, float]:
    """Returns the lowest and the highest value of a number or a schedule.

    A schedule is read at 1,000 steps spread over a phase and at the value that it approaches at the end, so a peak
    between two of them may be missed by little.
    """
    if not isinstance(field, _Schedule):
        return float(field), float(field)
    values = [float(field.value(step, _CHECKED_STEPS)) for step in range(_CHECKED_STEPS + 1)]
    return min(values), max(values)


def check_scheduled(owner: object, name: str, low: float, high: float = LARGEST) -> None:
    """Checks that the field `name` of dataclass `owner` is a number in low..high or a schedule that stays there.

    A number becomes one of Python's, see `config.check_range`.

    Raises:
      ConfigError: if it is not, naming the class, the field, the value and the range.
    """
    field = getattr(owner, name)
    if not isinstance(field, _Schedule):
        check_range(owner, name, low, high)
        return
    lowest, highest = bounds(field)
    if lowest < low or highest > high:
        allowed = f"{low:g} or more, finite" if high == LARGEST else f"{low:g}..{high:g}"
        got = f"{field!r}, which goes through {lowest:g}..{highest:g}"
        raise ConfigError(f"{type(owner).__name__}.{name} is {got}; allowed: {allowed}")


_LEVEL_SLACK = 2.0**-40


def gradual_weights(n: int, t: Any, legacy_stepwise: bool = False) -> Any:
    """Returns the weights of n summed images at the share t of the way to a single one.

    With k images already gone, m = n - k left and f = t (n - 1) - k the share of the way to the next level:

        (3.1) k = floor(t (n - 1))
        (3.2) c = 1/m - k / (m (m - 1)) + t (n - 1) / (m (m - 1)) = 1/m + f / (m (m - 1))
        (3.3) r = 1 - c (m - 1) = (1 - f) / m
        (3.4) eps = r (t - k / (n - 1)) / (n - 1) = r f / (n - 1)^2
        (3.5) w_i = c + eps / (m - 1) for i = 1 .. m - 1,   w_m = r - eps,   w_i = 0 for i > m
        (3.6) w = (1, 0, .., 0) at t = 1

    They are 0 or more, sum to 1 (within 1e-15) and are continuous: from n equal ones to (1, 0, .., 0).

    Args:
      n: images summed at the start, 1 or more.
      t: 0..1, a number or a scalar tensor.
      legacy_stepwise: do as the authors' published code, which computes c and r anew only where k changes, so that
        in between only eps moves and the weights jump where an image goes. (That code also leaves c and r behind for
        what remains of an epoch in which k changes; its weights then do not sum to 1. That is left out.)

    Returns:
      float64 [n]: a numpy array, or a tensor where t is one.

    Raises:
      ValueError: if n is less than 1, or the number t is outside 0..1.

    Source: `sum`, equations 3.1 to 3.6 (Gradually Cascading Coefficients). The formulas are lost in the printed
      thesis; they are what the authors' code computes, in the thesis' symbols.

    Example:
      >>> gradual_weights(4, 0.5).round(3).tolist()
      [0.421, 0.421, 0.157, 0.0]
    """
    if n < 1:
        raise ValueError(f"gradual_weights has n = {n!r}; allowed: 1 or more")
    if tf.is_tensor(t):
        array: Any = tf  # The functions used below have the same names in both.
        t = tf.cast(t, tf.float64)
    else:
        array = np
        if not 0 <= t <= 1:
            raise ValueError(f"gradual_weights has t = {t!r}; allowed: 0..1")
        t = np.float64(t)
    if n == 1:
        return array.ones([1], array.float64)
    along = t * (n - 1)
    # The slack keeps a level's first step in it, however step / total_steps was rounded.
    k = array.minimum(array.floor(along + _LEVEL_SLACK), n - 2.0)
    left, moved = n - k, array.maximum(along - k, 0.0)
    level = 0.0 * moved if legacy_stepwise else moved
    centroid = 1.0 / left + level / (left * (left - 1.0))
    remainder = (1.0 - level) / left
    eps = remainder * moved / (n - 1.0) ** 2
    place = np.arange(n, dtype=np.float64)
    last = array.where(place == left - 1.0, remainder - eps, 0.0 * eps)
    weights = array.where(place < left - 1.0, centroid + eps / (left - 1.0), last)
    return array.where(t >= 1.0, (place == 0).astype(np.float64), weights)
