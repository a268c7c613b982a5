"""Metrics: arrays of predictions in, plain numbers out. No TensorFlow.

Every function takes `probs`, float [N, K] with rows that sum to 1, and `labels`, integers [N] in 0..K-1, or `correct`,
0/1 [N] (bool or numbers); a number of another kind is refused with a ValueError that says what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfaug.extras import explained

with explained():
    import scipy.stats

EPSILON = 1e-12  # the smallest probability that `nll` takes a logarithm of: one certain miss costs 27.6 nats at most
NUM_RESAMPLES, BOOTSTRAP_SEED = 10_000, 0  # of the bootstraps, unless told otherwise
SUM_TOLERANCE = 1e-3  # how far a row may sum from 1: wide enough for float16, too narrow for logits


def check_predictions(probs: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Checks probabilities and labels, and returns them as float64 [N, K] and int64 [N].

    Raises:
      ValueError: if probs is not [N, K] with N of 1 or more and K of 2 or more, holds a value outside 0..1, or a row
        that does not sum to 1 within 1e-3; if labels is not N integers in 0..K-1.
    """
    values = np.asarray(probs, np.float64)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise ValueError(f"probs has the shape {values.shape}; allowed: [N, K], N of 1 or more, K of 2 or more")
    # written so that NaN fails
    if not np.all((values >= -SUM_TOLERANCE) & (values <= 1 + SUM_TOLERANCE)):
        raise ValueError(f"probs holds values from {values.min()} to {values.max()}; allowed: 0..1")
    sums = values.sum(axis=1)
    worst = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[worst] - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"row {worst} of probs sums to {sums[worst]}; allowed: 1 within {SUM_TOLERANCE} (are these logits?)"
        )
    targets = np.asarray(labels)
    if targets.shape != values.shape[:1]:
        raise ValueError(f"labels has the shape {targets.shape}; allowed: [{values.shape[0]}], one per row of probs")
    if not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(f"labels has the dtype {targets.dtype}; allowed: integers")
    if targets.min() < 0 or targets.max() >= values.shape[1]:
        raise ValueError(f"labels go from {targets.min()} to {targets.max()}; allowed: 0..{values.shape[1] - 1}")
    return values, targets.astype(np.int64)


def _check_correct(correct: ArrayLike, name: str) -> NDArray[np.int64]:
    """`correct` as int64 0/1 [N]."""
    values = np.asarray(correct)
    if values.ndim != 1 or values.size == 0 or not np.all((values == 0) | (values == 1)):
        raise ValueError(
            f"{name} has the shape {values.shape}, dtype {values.dtype}; allowed: [N], N of 1 or more, each 0 or 1"
        )
    return values.astype(np.int64)


def _check_confidence(confidence: float) -> None:
    """Refuses a confidence level outside 0..1."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence!r}; allowed: between 0 and 1, both left out")


def correct_predictions(probs: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Says for each image whether the likeliest class is its label (the first of equally likely classes counts).

    Returns:
      int64 [N], 0 or 1.
    """
    values, targets = check_predictions(probs, labels)
    return (values.argmax(axis=1) == targets).astype(np.int64)


def accuracy(probs: ArrayLike, labels: ArrayLike) -> float:
    """Computes the share of images whose likeliest class is their label, (1/N) sum_i [argmax_k p_ik = y_i].

    Returns:
      0..1.

    Raises:
      ValueError: see `check_predictions`.

    Example:
      >>> accuracy([[0.9, 0.1], [0.6, 0.4]], [0, 1])
      0.5
    """
    return float(correct_predictions(probs, labels).mean())


def top_k(probs: ArrayLike, labels: ArrayLike, k: int) -> float:
    """Computes the share of images whose label is among the k likeliest classes.

    Of equally likely classes the one with the lower number comes first, so k = 1 is `accuracy` and a constant
    prediction earns no credit for ties.

    Args:
      k: 1..K.

    Returns:
      0..1.

    Raises:
      ValueError: if k is outside 1..K; see `check_predictions`.
    """
    values, targets = check_predictions(probs, labels)
    if not 1 <= k <= values.shape[1]:
        raise ValueError(f"k is {k!r}; allowed: 1..{values.shape[1]}")
    best = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return float((best == targets[:, None]).any(axis=1).mean())


def log_losses(probs: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Computes -log max(p_i,y_i , EPSILON) of each image, in nats: float64 [N], 0 or more; `nll` is their mean.

    Raises:
      ValueError: see `check_predictions`.
    """
    values, targets = check_predictions(probs, labels)
    return -np.log(np.clip(values[np.arange(len(targets)), targets], EPSILON, 1.0))


def nll(probs: ArrayLike, labels: ArrayLike) -> float:
    """Computes the mean negative log-likelihood, -(1/N) sum_i log max(p_i,y_i , EPSILON), in nats.

    The clip at EPSILON = 1e-12 keeps a certain miss finite; it departs from the definition there alone.

    Returns:
      0 or more.

    Raises:
      ValueError: see `check_predictions`.

    Source: Guo et al. 2017, section 2.

    Example:
      >>> round(nll([[0.5, 0.5]], [1]), 4)    # log 2
      0.6931
    """
    return float(log_losses(probs, labels).mean())


def brier(probs: ArrayLike, labels: ArrayLike) -> float:
    """Computes the Brier score, (1/N) sum_i sum_k (p_ik - [k = y_i])^2.

    The sum over all classes, as Brier wrote it: twice the score that is usual for two classes.

    Returns:
      0 (certain and right) .. 2 (certain and wrong).

    Raises:
      ValueError: see `check_predictions`.

    Source: Brier 1950 (Verification of forecasts expressed in terms of probability), equation 2.

    Example:
      >>> round(brier([[0.8, 0.2]], [0]), 4)   # 0.2^2 + 0.2^2
      0.08
    """
    values, targets = check_predictions(probs, labels)
    return float(np.square(values - np.eye(values.shape[1])[targets]).sum(axis=1).mean())


def reliability_curve(probs: ArrayLike, labels: ArrayLike, num_bins: int = 15) -> dict[str, NDArray[Any]]:
    """Computes confidence against accuracy in equally wide bins of the confidence.

    The confidence of an image is the probability of its likeliest class; bin m of M is ((m-1)/M, m/M].

    Args:
      num_bins: M, 1 or more.

    Returns:
      edges: float64 [M + 1], 0..1.
      confidence: float64 [M], mean confidence in the bin; NaN where it is empty.
      accuracy: float64 [M], share of right predictions in the bin; NaN where it is empty.
      count: int64 [M], images in the bin; sums to N.

    Raises:
      ValueError: if num_bins is below 1; see `check_predictions`.

    Source: Guo et al. 2017 (On calibration of modern neural networks), section 2.
    """
    values, targets = check_predictions(probs, labels)
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins!r}; allowed: 1 or more")
    top = values.max(axis=1)
    right = values.argmax(axis=1) == targets
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    # side="left": a confidence on an edge belongs to the bin below, which is closed above
    bins = np.clip(np.searchsorted(edges, top, side="left") - 1, 0, num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    filled = np.maximum(count, 1)
    empty = count == 0
    confidence = np.where(empty, np.nan, np.bincount(bins, top, num_bins) / filled)
    hits = np.where(empty, np.nan, np.bincount(bins, right, num_bins) / filled)
    return {"edges": edges, "confidence": confidence, "accuracy": hits, "count": count.astype(np.int64)}


def ece(probs: ArrayLike, labels: ArrayLike, num_bins: int = 15) -> float:
    """Computes the expected calibration error, sum_m (n_m / N) |accuracy_m - confidence_m| over M bins.

    Args:
      num_bins: M, 1 or more; Guo et al. use 15.

    Returns:
      0..1.

    Raises:
      ValueError: if num_bins is below 1; see `check_predictions`.

    Source: Guo et al. 2017, equation 3.

    Example:
      >>> round(ece([[0.8, 0.2], [0.8, 0.2]], [0, 1]), 4)    # half are right at a confidence of 0.8
      0.3
    """
    curve = reliability_curve(probs, labels, num_bins)
    gaps = np.nan_to_num(np.abs(curve["accuracy"] - curve["confidence"]))
    return float((curve["count"] * gaps).sum() / curve["count"].sum())


def wilson_interval(num_correct: int, num_examples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Computes the Wilson score interval of a share.

        (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n),   p = num_correct / n

    Unlike p -+ 1.96 sqrt(p(1-p)/n), it stays inside 0..1 and is not empty at p = 0 or 1.

    Args:
      num_correct: 0..num_examples.
      num_examples: n, 1 or more.
      confidence: between 0 and 1.

    Returns:
      The lower and the upper end, 0..1.

    Raises:
      ValueError: if an argument is outside what is allowed.

    Source: Wilson 1927 (Probable inference, the law of succession, and statistical inference), page 210.

    Example:
      >>> [round(end, 4) for end in wilson_interval(9, 10)]
      [0.5958, 0.9821]
    """
    if num_examples < 1 or not 0 <= num_correct <= num_examples:
        raise ValueError(f"{num_correct!r} of {num_examples!r} examples; allowed: 0..num_examples of 1 or more")
    _check_confidence(confidence)
    z = float(scipy.stats.norm.ppf(0.5 + confidence / 2))
    share, z2n = num_correct / num_examples, z * z / num_examples
    middle = share + z2n / 2
    reach = z * math.sqrt(share * (1 - share) / num_examples + z2n / (4 * num_examples))
    low, high = (middle - reach) / (1 + z2n), (middle + reach) / (1 + z2n)
    return (0.0 if num_correct == 0 else low, 1.0 if num_correct == num_examples else high)


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> dict[str, Any]:
    """Computes the mean of a few runs and Student's t interval around it.

        mean -+ t(n-1, (1 + confidence) / 2) * s / sqrt(n),   s^2 = sum (x - mean)^2 / (n - 1)

    Args:
      values: float [n], one per run (seed); n of 2 or more.
      confidence: between 0 and 1.

    Returns:
      {"mean": float, "std": s, "interval": [low, high], "num_runs": n}.

    Raises:
      ValueError: if an argument is outside what is allowed.

    Source: Student 1908 (The probable error of a mean).

    Example:
      >>> [round(end, 3) for end in mean_interval([1.0, 2.0, 3.0])["interval"]]    # t(2, .975) = 4.303
      [-0.484, 4.484]
    """
    runs = np.asarray(values, np.float64)
    if runs.ndim != 1 or runs.size < 2 or not np.isfinite(runs).all():
        raise ValueError(f"values is {values!r}; allowed: two or more finite numbers")
    _check_confidence(confidence)
    std = float(runs.std(ddof=1))
    reach = float(scipy.stats.t.ppf(0.5 + confidence / 2, runs.size - 1)) * std / math.sqrt(runs.size)
    mean = float(runs.mean())
    return {"mean": mean, "std": std, "interval": [mean - reach, mean + reach], "num_runs": int(runs.size)}


def mean_difference(first: ArrayLike, second: ArrayLike, *, paired: bool, confidence: float = 0.95) -> dict[str, Any]:
    """Computes how much the mean of some runs is above that of others, and an interval around it.

    Paired, it is `mean_interval` of the differences run by run. Else it is Welch's interval, which lets the two spreads
    differ:

        mean_1 - mean_2 -+ t(nu, (1 + confidence) / 2) * e,   e^2 = v_1 + v_2,   v = s^2 / n
        nu = e^4 / (v_1^2 / (n_1 - 1) + v_2^2 / (n_2 - 1))

    Args:
      first, second: float [n], one per run (seed); n of 2 or more; paired, of the same seeds in one order.
      paired: whether they are.
      confidence: between 0 and 1.

    Returns:
      {"difference": float, "interval": [low, high], "num_runs": the smaller n}.

    Raises:
      ValueError: if an argument is outside what is allowed.

    Source: Welch 1947 (The generalization of Student's problem), equation 28 for nu.

    Example:
      >>> [round(end, 3) for end in mean_difference([3.0, 4.0, 5.0], [2.0, 2.0, 2.0], paired=True)["interval"]]
      [-0.484, 4.484]
    """
    if paired and np.shape(first) != np.shape(second):
        raise ValueError(f"paired runs have the shapes {np.shape(first)} and {np.shape(second)}; allowed: the same")
    if paired:
        found = mean_interval(np.asarray(first, np.float64) - np.asarray(second, np.float64), confidence)
        return {"difference": found["mean"], "interval": found["interval"], "num_runs": found["num_runs"]}
    one, two = mean_interval(first, confidence), mean_interval(second, confidence)
    v_1, v_2 = (each["std"] ** 2 / each["num_runs"] for each in (one, two))
    difference, reach = one["mean"] - two["mean"], 0.0
    if v_1 + v_2 > 0:
        nu = (v_1 + v_2) ** 2 / (v_1**2 / (one["num_runs"] - 1) + v_2**2 / (two["num_runs"] - 1))
        reach = float(scipy.stats.t.ppf(0.5 + confidence / 2, nu)) * math.sqrt(v_1 + v_2)
    num_runs = min(one["num_runs"], two["num_runs"])
    return {"difference": difference, "interval": [difference - reach, difference + reach], "num_runs": num_runs}


def _percentile_interval(draws: NDArray[np.float64], difference: float) -> dict[str, Any]:
    """The result of both bootstraps."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"difference": difference, "ci95": [float(low), float(high)]}


def _generator(num_resamples: int, seed: int) -> np.random.Generator:
    """A generator for `num_resamples` resamples, after checking both."""
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples!r}; allowed: 1 or more")
    if seed < 0:
        raise ValueError(f"seed is {seed!r}; allowed: 0 or more")
    return np.random.default_rng(seed)


def bootstrap_difference(
    correct_a: ArrayLike, correct_b: ArrayLike, num_resamples: int = NUM_RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> dict[str, Any]:
    """Computes the difference of accuracy between two independent test sets, with its bootstrap interval.

        difference = mean(correct_a) - mean(correct_b)

    Each set is resampled with replacement, apart from the other. The mean of a resample of n values that are 0 or 1
    with m ones is exactly Binomial(n, m/n) / n, so that number is drawn instead of n indices. The interval is
    the 2.5 and 97.5 percentile. It covers the choice of images, not that of the training seed, and has no width where
    every prediction is right or every one wrong (see `wilson_interval`).

    Args:
      correct_a: 0/1 [N], for each image of the first set (the test set) whether it was right.
      correct_b: 0/1 [M], of the second set (the shifted one).
      num_resamples: 1 or more.
      seed: 0 or more.

    Returns:
      {"difference": float, "ci95": [low, high]}, each -1..1; positive where the first set is the easier one.

    Raises:
      ValueError: if an argument is outside what is allowed.

    Source: Efron 1979 (Bootstrap methods), section 2; Efron and Tibshirani 1993, chapters 8 and 13.

    Example:
      >>> bootstrap_difference([1, 1, 1, 1], [1, 1, 1, 0])["difference"]
      0.25
    """
    first, second = _check_correct(correct_a, "correct_a"), _check_correct(correct_b, "correct_b")
    generator = _generator(num_resamples, seed)
    means = [generator.binomial(part.size, part.mean(), num_resamples) / part.size for part in (first, second)]
    return _percentile_interval(means[0] - means[1], float(first.mean() - second.mean()))


def paired_bootstrap(
    correct_a: ArrayLike, correct_b: ArrayLike, num_resamples: int = NUM_RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> dict[str, Any]:
    """Computes the difference of accuracy of two models on the same images, with its bootstrap interval.

        difference = (1/N) sum_i (correct_a_i - correct_b_i)

    Images are resampled with replacement, both models' answers to an image together. A resample is exactly a
    multinomial draw of how many images only the first, only the second, and both or neither got right.

    Args:
      correct_a: 0/1 [N], for each image whether the first model was right.
      correct_b: 0/1 [N], the same of the second model, in the same order.
      num_resamples: 1 or more.
      seed: 0 or more.

    Returns:
      {"difference": float, "ci95": [low, high]}, each -1..1; positive where the first model is better.

    Raises:
      ValueError: if an argument is outside what is allowed, or the lengths differ.

    Source: Efron and Tibshirani 1993, chapter 8.
    """
    first, second = _check_correct(correct_a, "correct_a"), _check_correct(correct_b, "correct_b")
    if first.size != second.size:
        raise ValueError(f"correct_a has {first.size} values and correct_b {second.size}; allowed: the same images")
    generator = _generator(num_resamples, seed)
    only_first, only_second = int((first > second).sum()), int((second > first).sum())
    shares = np.array([only_first, only_second, first.size - only_first - only_second]) / first.size
    draws = generator.multinomial(first.size, shares, num_resamples)
    return _percentile_interval((draws[:, 0] - draws[:, 1]) / first.size, (only_first - only_second) / first.size)


# What is measured of the predictions of a set, each by `metric(probs, labels)`.
METRICS: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "accuracy": accuracy,
    "nll": nll,
    "ece": ece,
    "brier": brier,
}
