from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from tfaug import metrics


@pytest.fixture(scope="module")
def predictions():
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.full(6, 0.4), 400), rng.integers(0, 6, 400)


def test_accuracy_by_hand_and_the_first_of_equal_classes_counts():
    probs = [[0.5, 0.5], [0.5, 0.5], [0.2, 0.8], [0.7, 0.3]]
    assert metrics.accuracy(probs, [0, 1, 1, 1]) == 0.5
    np.testing.assert_array_equal(metrics.correct_predictions(probs, [0, 1, 1, 1]), [1, 0, 1, 0])


def test_accuracy_agrees_with_sklearn(predictions):
    probs, labels = predictions
    assert metrics.accuracy(probs, labels) == pytest.approx(sklearn.metrics.accuracy_score(labels, probs.argmax(1)))


def test_top_k_by_hand():
    probs = [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]
    assert [metrics.top_k(probs, [1, 0], k) for k in (1, 2, 3)] == [0.0, 0.5, 1.0]


def test_top_k_gives_a_constant_prediction_no_credit_for_ties():
    probs = np.full((10, 10), 0.1)
    assert [metrics.top_k(probs, np.arange(10), k) for k in (1, 3, 10)] == [0.1, 0.3, 1.0]


def test_top_k_agrees_with_sklearn(predictions):
    probs, labels = predictions
    for k in range(1, 6):
        expected = sklearn.metrics.top_k_accuracy_score(labels, probs, k=k)
        assert metrics.top_k(probs, labels, k) == pytest.approx(expected)
    assert metrics.top_k(probs, labels, 1) == metrics.accuracy(probs, labels)


def test_nll_by_hand_and_against_sklearn(predictions):
    assert metrics.nll([[0.25, 0.75], [0.5, 0.5]], [0, 1]) == pytest.approx((np.log(4) + np.log(2)) / 2)
    probs, labels = predictions
    assert metrics.nll(probs, labels) == pytest.approx(sklearn.metrics.log_loss(labels, probs, labels=range(6)))


def test_nll_of_a_certain_miss_is_the_documented_clip():
    assert metrics.nll([[1.0, 0.0]], [1]) == pytest.approx(12 * np.log(10))
    assert metrics.nll([[1.0, 0.0]], [0]) == 0.0


def test_brier_by_hand_and_at_its_ends(predictions):
    # (0.5 - 1)^2 + 0.3^2 + 0.2^2
    assert metrics.brier([[0.5, 0.3, 0.2]], [0]) == pytest.approx(0.38)
    assert metrics.brier([[1.0, 0.0]], [0]) == 0.0
    assert metrics.brier([[1.0, 0.0]], [1]) == 2.0
    assert metrics.brier(np.full((4, 10), 0.1), [0, 1, 2, 3]) == pytest.approx(0.9)
    probs, labels = predictions
    expected = 6 * sklearn.metrics.mean_squared_error(np.eye(6)[labels], probs)
    assert metrics.brier(probs, labels) == pytest.approx(expected)


def test_brier_of_two_classes_is_twice_the_binary_score():
    rng = np.random.default_rng(1)
    p, labels = rng.uniform(size=50), rng.integers(0, 2, 50)
    expected = 2 * sklearn.metrics.brier_score_loss(labels, p)
    assert metrics.brier(np.stack([1 - p, p], axis=1), labels) == pytest.approx(expected)


def test_reliability_curve_by_hand():
    probs = [[0.6, 0.4], [0.3, 0.7], [0.95, 0.05], [1.0, 0.0], [0.85, 0.15]]
    curve = metrics.reliability_curve(probs, [1, 1, 0, 1, 0], num_bins=5)
    np.testing.assert_allclose(curve["edges"], [0, 0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_array_equal(curve["count"], [0, 0, 1, 1, 3])
    np.testing.assert_allclose(curve["confidence"], [np.nan, np.nan, 0.6, 0.7, 2.8 / 3])
    np.testing.assert_allclose(curve["accuracy"], [np.nan, np.nan, 0.0, 1.0, 2 / 3])
    # (1 * 0.6 + 1 * 0.3 + 3 * (2.8 - 2) / 3) / 5
    assert metrics.ece(probs, [1, 1, 0, 1, 0], num_bins=5) == pytest.approx(0.34)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    probs = [[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]]
    np.testing.assert_array_equal(metrics.reliability_curve(probs, [0, 0, 0], num_bins=4)["count"], [0, 1, 1, 1])


def test_reliability_bins_agree_with_a_loop_over_the_definition(predictions):
    probs, labels = predictions
    curve = metrics.reliability_curve(probs, labels)
    top, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    expected = 0.0
    for m in range(15):
        inside = (top > m / 15) & (top <= (m + 1) / 15)
        assert curve["count"][m] == inside.sum()
        if inside.any():
            assert curve["confidence"][m] == pytest.approx(top[inside].mean())
            assert curve["accuracy"][m] == pytest.approx(right[inside].mean())
            expected += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    assert curve["count"].sum() == len(labels)
    assert metrics.ece(probs, labels) == pytest.approx(expected)


def test_ece_is_zero_where_confidence_is_accuracy_and_one_for_a_certain_miss():
    probs = np.repeat([[0.75, 0.25]], 4, axis=0)
    assert metrics.ece(probs, [0, 0, 0, 1]) == pytest.approx(0.0)
    assert metrics.ece([[1.0, 0.0]], [1]) == 1.0


def test_ece_with_one_bin_is_the_gap_of_the_means(predictions):
    probs, labels = predictions
    gap = abs(metrics.accuracy(probs, labels) - probs.max(axis=1).mean())
    assert metrics.ece(probs, labels, num_bins=1) == pytest.approx(gap)
    assert metrics.ece(probs, labels) >= gap - 1e-12  # finer bins never hide a gap


def test_metrics_do_not_depend_on_the_order_of_images_or_classes(predictions):
    probs, labels = predictions
    rng = np.random.default_rng(2)
    images, classes = rng.permutation(len(labels)), rng.permutation(6)
    for metric in metrics.METRICS.values():
        assert metric(probs[images], labels[images]) == pytest.approx(metric(probs, labels))
        assert metric(probs[:, classes], np.argsort(classes)[labels]) == pytest.approx(metric(probs, labels))


def test_float32_probabilities_that_sum_to_one_roughly_are_accepted(predictions):
    probs, labels = predictions
    for name, metric in metrics.METRICS.items():
        assert metric(probs.astype(np.float32), labels) == pytest.approx(metric(probs, labels), abs=1e-5), name


@pytest.mark.parametrize("correct, total", [(0, 10), (10, 10), (9, 10), (1, 1), (850, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_interval_agrees_with_scipy(correct, total, confidence):
    expected = scipy.stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    low, high = metrics.wilson_interval(correct, total, confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0.0 <= low <= correct / total <= high <= 1.0


def test_mean_interval_agrees_with_scipy():
    values = [0.861, 0.874, 0.868, 0.859]
    result = metrics.mean_interval(values, 0.9)
    expected = scipy.stats.t.interval(0.9, 3, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert result["interval"] == pytest.approx(list(expected))
    assert result["mean"] == pytest.approx(0.8655)
    assert result["std"] == pytest.approx(np.std(values, ddof=1))
    assert result["num_runs"] == 4
    assert metrics.mean_interval([2.0, 2.0])["interval"] == [2.0, 2.0]


@pytest.fixture(scope="module")
def correct_pair():
    rng = np.random.default_rng(3)
    return rng.uniform(size=600) < 0.9, rng.uniform(size=300) < 0.8


def test_bootstrap_agrees_with_resampling_the_images_themselves(correct_pair):
    first, second = correct_pair
    rng = np.random.default_rng(4)
    draws = [rng.choice(first, first.size).mean() - rng.choice(second, second.size).mean() for _ in range(4000)]
    result = metrics.bootstrap_difference(first, second, num_resamples=20_000)
    assert result["difference"] == pytest.approx(first.mean() - second.mean())
    # standard error of a 2.5 % quantile of 4,000 normal draws: 2.7 sigma / sqrt(4000) = 0.001
    np.testing.assert_allclose(result["ci95"], np.quantile(draws, [0.025, 0.975]), atol=0.004)


def test_bootstrap_interval_has_the_width_of_the_normal_approximation(correct_pair):
    result = metrics.bootstrap_difference(*correct_pair)
    sigma = np.sqrt(sum(part.var() / part.size for part in correct_pair))
    low, high = result["ci95"]
    assert high - low == pytest.approx(2 * 1.96 * sigma, rel=0.05)
    assert low < result["difference"] < high


def test_bootstrap_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(400):
        low, high = metrics.bootstrap_difference(
            rng.uniform(size=500) < 0.85, rng.uniform(size=400) < 0.75, num_resamples=1000, seed=trial
        )["ci95"]
        covered += low <= 0.1 <= high
    assert 0.92 <= covered / 400 <= 0.98  # +- 2.75 standard errors


def test_paired_bootstrap_agrees_with_resampling_the_images_themselves(correct_pair):
    first = correct_pair[0]
    rng = np.random.default_rng(6)
    second = np.where(rng.uniform(size=first.size) < 0.1, ~first, first)
    draws = [(first[i].mean() - second[i].mean()) for i in rng.integers(0, first.size, (4000, first.size))]
    result = metrics.paired_bootstrap(first, second, num_resamples=20_000)
    assert result["difference"] == pytest.approx(first.mean() - second.mean())
    np.testing.assert_allclose(result["ci95"], np.quantile(draws, [0.025, 0.975]), atol=0.003)
    low, high = metrics.bootstrap_difference(first, second)["ci95"]
    assert result["ci95"][1] - result["ci95"][0] < 0.7 * (high - low)  # shared images: a narrower interval


def test_a_model_paired_with_itself_differs_by_nothing(correct_pair):
    first = correct_pair[0]
    assert metrics.paired_bootstrap(first, first) == {"difference": 0.0, "ci95": [0.0, 0.0]}


@pytest.mark.parametrize("bootstrap", [metrics.bootstrap_difference, metrics.paired_bootstrap])
def test_bootstraps_repeat_by_seed_and_change_sign_with_the_order(bootstrap, correct_pair):
    first, second = correct_pair[0][:300], correct_pair[1]
    result = bootstrap(first, second, seed=7)
    assert bootstrap(first, second, seed=7) == result
    few = [bootstrap(first, second, num_resamples=20, seed=seed)["ci95"] for seed in (7, 8)]
    assert few[0] != few[1]
    swapped = bootstrap(second, first, seed=7)
    assert swapped["difference"] == -result["difference"]
    np.testing.assert_allclose(swapped["ci95"], [-result["ci95"][1], -result["ci95"][0]], atol=0.005)


def test_bootstrap_accepts_zeros_and_ones_of_any_dtype(correct_pair):
    first, second = correct_pair
    expected = metrics.bootstrap_difference(first, second)
    for dtype in (np.int64, np.float32, np.uint8):
        assert metrics.bootstrap_difference(first.astype(dtype), second.astype(dtype)) == expected


GOOD = np.array([[0.2, 0.8], [0.6, 0.4]])


@pytest.mark.parametrize(
    "probs, labels, message",
    [
        (GOOD[0], [0], r"probs has the shape \(2,\)"),
        (np.zeros((0, 2)), np.zeros(0, int), r"shape \(0, 2\)"),
        (np.ones((2, 1)), [0, 0], "K of 2 or more"),
        ([[2.0, -1.0]], [0], r"from -1.0 to 2.0; allowed: 0..1"),
        ([[0.75, 0.75, -0.5]], [0], r"from -0.5 to 0.75"),
        ([[np.nan, 1.0]], [0], "nan"),
        ([[0.2, 0.8], [0.6, 0.5]], [0, 0], r"row 1 of probs sums to 1.1"),
        (GOOD, [0], r"labels has the shape \(1,\); allowed: \[2\]"),
        (GOOD, [[0], [1]], r"labels has the shape \(2, 1\)"),
        (GOOD, [0.0, 1.0], "labels has the dtype float64; allowed: integers"),
        (GOOD, [0, 2], r"labels go from 0 to 2; allowed: 0..1"),
        (GOOD, [-1, 1], r"labels go from -1 to 1"),
    ],
)
@pytest.mark.parametrize("metric", metrics.METRICS.values(), ids=metrics.METRICS)
def test_bad_predictions_are_refused(metric, probs, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(probs, labels)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.top_k(GOOD, [0, 1], 0), r"k is 0; allowed: 1..2"),
        (lambda: metrics.top_k(GOOD, [0, 1], 3), r"k is 3; allowed: 1..2"),
        (lambda: metrics.ece(GOOD, [0, 1], 0), "num_bins is 0"),
        (lambda: metrics.wilson_interval(3, 2), "3 of 2 examples"),
        (lambda: metrics.wilson_interval(0, 0), "0 of 0 examples"),
        (lambda: metrics.wilson_interval(1, 2, 1.0), "confidence is 1.0"),
        (lambda: metrics.mean_interval([1.0]), "two or more finite numbers"),
        (lambda: metrics.mean_interval([1.0, np.nan]), "two or more finite numbers"),
        (lambda: metrics.bootstrap_difference([], [1]), r"correct_a has the shape \(0,\)"),
        (lambda: metrics.bootstrap_difference([1], [0.5]), "correct_b .* each 0 or 1"),
        (lambda: metrics.bootstrap_difference([1], [0], num_resamples=0), "num_resamples is 0"),
        (lambda: metrics.bootstrap_difference([1], [0], seed=-1), "seed is -1"),
        (lambda: metrics.paired_bootstrap([1, 0], [1]), "correct_a has 2 values and correct_b 1"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_metrics_need_no_tensorflow():
    code = "import sys, tfaug.metrics; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
