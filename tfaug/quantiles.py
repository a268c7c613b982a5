"""Inverse distribution functions, the same bits on every machine and with every NumPy.

They are made of IEEE sums, products, quotients and square roots alone, each of which rounds in one way only. SciPy and
NumPy's own `exp`, `log` and `power` differ in the last bit between releases and between processors.
"""

from __future__ import annotations

import numpy as np

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # the first has 32 bits
_LN2, _SQRT_2PI = 0.6931471805599453, 2.5066282746310002
_MAX_STEPS = 100
_LARGE_ALPHA = 1e5


def exp(x: np.ndarray) -> np.ndarray:
    """Returns e**x for float64 x up to 709, to 1e-15 of it; 0 where x is below -700."""
    x = np.maximum(x, -745.0)
    twos = np.rint(x / _LN2)
    rest = (x - twos * _LN2_HIGH) - twos * _LN2_LOW
    result = np.ones_like(rest)
    for n in range(14, 0, -1):
        result = 1 + result * rest / n
    return np.where(x < -700, 0.0, np.ldexp(result, twos.astype(np.int32)))


def log(x: np.ndarray) -> np.ndarray:
    """Returns the natural logarithm of positive float64 x, to 1e-15 of it or, about 1, absolute."""
    part, twos = np.frexp(x)
    low = part < 0.7071067811865476
    part, twos = np.where(low, 2 * part, part), twos - low
    s = (part - 1) / (part + 1)
    square, series = s * s, np.zeros_like(s)
    for n in range(21, 0, -2):
        series = series * square + 1 / n
    return twos * _LN2_HIGH + (twos * _LN2_LOW + 2 * s * series)


def normal(p: np.ndarray) -> np.ndarray:
    """Returns where the normal distribution function is `p`.

    Newton steps on `Phi(x) = 1/2 - phi(x) (z + z**3 / 3 + z**5 / (3 * 5) + ...)` with z = -x.

    Args:
      p: float64 [N], 2**-20..1/2.

    Returns:
      float64 [N], to 1e-11.

    Source: Marsaglia 2004 (Evaluating the Normal Distribution), the series; Abramowitz and Stegun 26.2.23, the start.
    """
    t = np.sqrt(-2 * log(p))
    z = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)))
    for _ in range(3):
        square, term = z * z, z
        series = z
        for n in range(3, 120, 2):
            term = term * square / n
            series = series + term
        density = exp(-0.5 * square) / _SQRT_2PI
        z = z + ((0.5 - p) / density - series)
    return -z


def symmetric_beta(p: np.ndarray, alpha: float) -> np.ndarray:
    """Returns where Beta(alpha, alpha)'s distribution function I is `p`.

    Newton steps for log I in u = log x. With `S(x) = 1 + 2a/(a+1) x + 2a(2a+1)/((a+1)(a+2)) x**2 + ...` it is

        I(x) = (4 x (1 - x))**a S(x) / (2 S(1/2)),   d log I / du = a / ((1 - x) S(x))

    which is 1/2 in the middle, so that no gamma function is needed. The steps start where the leading term of I is `p`,
    and come from one side: log I bends one way. Above an alpha of 10**5, where S has thousands of terms, it is the
    expansion about the normal distribution.

    Args:
      p: float64 [N], 2**-20..1/2.
      alpha: above 0.

    Returns:
      float64 [N], 0..1/2, to 1e-10 of the value.

    Source: NIST Digital Library of Mathematical Functions, 8.17.8 and 15.2.1, the series; Cornish and Fisher 1938, the
    expansion.
    """
    if alpha > _LARGE_ALPHA:
        z = normal(p)
        return 0.5 + 0.5 / np.sqrt(2 * alpha + 1) * (z - (z * z * z - 3 * z) / (8 * alpha + 12))
    wanted = log(2 * p) + log(_series(np.array([0.5]), alpha)) - 2 * alpha * _LN2
    u = np.minimum(wanted / alpha, -_LN2)
    for _ in range(_MAX_STEPS):
        x = exp(u)
        series = _series(x, alpha)
        step = (wanted - alpha * (u + log(1 - x)) - log(series)) * (1 - x) * series / alpha
        u = np.minimum(u + step, -_LN2)
        if np.all(np.abs(step) < 1e-12 * (1 - u)):
            break
    return exp(u)


def _series(x: np.ndarray, alpha: float) -> np.ndarray:
    """Returns S(x) of `symmetric_beta` for x of 0..1/2; all terms are positive."""
    total, term, n = np.ones_like(x), np.ones_like(x), 0
    while np.max(term / total) > 1e-17:
        term = term * x * ((2 * alpha + n) / (alpha + 1 + n))
        total = total + term
        n += 1
    return total
