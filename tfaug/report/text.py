"""Write numbers for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MODE_TITLES = {"plain": "plain", "mirror": "mirror", "sum_aug": "Sum-Aug"}


def percent(value: float | None, num_examples: int | None = None, digits: int | None = None) -> str:
    """Writes a fraction in percent, with one decimal below 2,000 examples and two from there on.

    Example:
      >>> percent(0.875, 200), percent(0.875, 10000), percent(None)
      ('87.5 %', '87.50 %', 'n/a')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    digits = (2 if (num_examples or 0) >= 2000 else 1) if digits is None else digits
    return f"{100 * value:.{digits}f} %"


def points(value: float) -> str:
    """Writes a difference of fractions in percentage points.

    Example:
      >>> points(0.0125), points(-0.3)
      ('+1.2', '\N{MINUS SIGN}30.0')
    """
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def decimals(value: float | None, digits: int = 4) -> str:
    """Writes a number that is no fraction.

    Example:
      >>> decimals(0.43114), decimals(None)
      ('0.4311', 'n/a')
    """
    return "n/a" if value is None else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """Writes seconds for people.

    Example:
      >>> duration(3.21), duration(75.4), duration(7322)
      ('3.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def verdict(gain: Mapping[str, Any]) -> str:
    """Says what a paired difference shows: only an interval without 0 is called a gain or a loss.

    Example:
      >>> verdict({"ci95": [0.01, 0.03]}), verdict({"ci95": [-0.03, -0.01]}), verdict({"ci95": [0.0, 0.03]})
      ('gain', 'loss', 'no difference shown')
    """
    low, high = gain["ci95"]
    return "gain" if low > 0 else "loss" if high < 0 else "no difference shown"
