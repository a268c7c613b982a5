"""tfaug.rng: the same bits in every mode, the distributions, and seeds that do not collide."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfaug import rng

SEED = rng.make_seed(20240229)

DRAWS = {
    "fold_in": lambda seed, n: rng.fold_in(seed, 12345),
    "fold_in_tensor": lambda seed, n: rng.fold_in(seed, tf.cast(n, tf.int64) * 2**33 - 1),
    "bits": lambda seed, n: rng.bits(seed, [n, 3]),
    "uniform": lambda seed, n: rng.uniform(seed, [n]),
    "uniform_between": lambda seed, n: rng.uniform(seed, [n, 5], -0.7, 19.3),
    "randint": lambda seed, n: rng.randint(seed, [n], -3, 100),
    "randint_per_row": lambda seed, n: rng.randint(seed, [n], 0, 1 + tf.range(n)),
    "bernoulli": lambda seed, n: rng.bernoulli(seed, [n], 0.3),
    "permutation": lambda seed, n: rng.permutation(seed, n),
    "balanced": lambda seed, n: rng.balanced(seed, n, 7),
    "normal": lambda seed, n: rng.normal(seed, [n, 2]),
    "hash_bits": lambda seed, n: rng.hash_bits(seed, tf.range(n), 31),
    "beta": lambda seed, n: rng.beta(seed, [n], 0.3),
    "beta_uniform": lambda seed, n: rng.beta(seed, [n], 1.0),
}

# The last two of what each draws for three: a draw is part of what a seed means.
PINNED: dict[str, list[float]] = {
    "fold_in": [-1131695673, 1313724419],
    "fold_in_tensor": [1131707905, 1313724422],
    "bits": [2531529942, 1266405818],
    "uniform": [0.305875301361084, 0.7909541726112366],
    "uniform_between": [9.090129852294922, 18.496278762817383],
    "randint": [28, 78],
    "randint_per_row": [0, 2],
    "bernoulli": [False, False],
    "permutation": [0, 2],
    "balanced": [1, 5],
    "normal": [1.268369197845459, -0.16217246651649475],
    "hash_bits": [1133285714, 1597987210],
    "beta": [0.12787757813930511, 0.9621190428733826],
    "beta_uniform": [0.30587005615234375, 0.7909469604492188],
}


def test_every_function_that_draws_is_in_the_table() -> None:
    functions = {name for name, value in vars(rng).items() if callable(value) and value.__module__ == rng.__name__}
    public = {name for name in functions if not name.startswith("_")} - {
        "as_seed",
        "make_seed",
        "normal_limit",
        "unfused",
        "share_of",
        "mix",
        "mix64",
        "shift_right_64",
    }
    assert {name for name in public if name not in DRAWS} == set()
    assert list(PINNED) == list(DRAWS)


@pytest.mark.parametrize("name", DRAWS)
def test_draws_the_same_bits_eager_in_a_graph_and_under_xla(name: str) -> None:
    """And in every release."""
    draw = DRAWS[name]
    assert draw(SEED, 3).numpy().ravel()[-2:].tolist() == PINNED[name]
    compiled = tf.function(draw, jit_compile=True, autograph=False)
    in_graph = tf.function(draw, input_signature=[tf.TensorSpec([2], tf.int32), tf.TensorSpec([], tf.int32)])
    for n in (1, 1001):
        expected = draw(SEED, n).numpy()
        np.testing.assert_array_equal(draw(SEED, tf.constant(n)).numpy(), expected)
        np.testing.assert_array_equal(in_graph(SEED, tf.constant(n)).numpy(), expected)
        np.testing.assert_array_equal(compiled(SEED, n).numpy(), expected)


@pytest.mark.parametrize("name", DRAWS)
def test_another_seed_draws_something_else(name: str) -> None:
    first, second = DRAWS[name](rng.make_seed(0), 100).numpy(), DRAWS[name](rng.make_seed(1), 100).numpy()
    assert not np.array_equal(first, second)


def test_bits_are_those_of_the_first_release() -> None:
    """Philox and the folding are part of what a seed means: a checkpoint from an older release must go on the same."""
    assert rng.bits(rng.make_seed(1), [3]).numpy().tolist() == [3882906189, 2562384034, 4274837080]
    assert rng.fold_in(rng.make_seed(1), 2).numpy().tolist() == [-412061105, -1732583262]


def test_make_seed_keeps_all_64_bits() -> None:
    assert rng.make_seed(5).numpy().tolist() == [5, 0]
    assert rng.make_seed(-1).numpy().tolist() == [-1, -1]
    assert rng.make_seed(2**63 + 2**31).numpy().tolist() == [-(2**31), -(2**31)]


@pytest.mark.parametrize("value", [1.5, "7", True, None, 2**64, -(2**63) - 1])
def test_make_seed_refuses_what_is_no_64_bit_integer(value: object) -> None:
    with pytest.raises(ValueError, match="seed"):
        rng.make_seed(value)  # type: ignore[arg-type]


def test_folding_is_the_same_for_all_integer_types() -> None:
    expected = rng.fold_in(SEED, 77).numpy()
    for dtype in (tf.int32, tf.int64, tf.uint8):
        np.testing.assert_array_equal(rng.fold_in(SEED, tf.constant(77, dtype)).numpy(), expected)
    np.testing.assert_array_equal(rng.fold_in(SEED, tf.constant(-1, tf.int32)), rng.fold_in(SEED, -1))


def test_folding_two_numbers_never_collides() -> None:
    """All ordered pairs and single numbers below 150, and numbers that differ above 32 bits, give different seeds."""

    @tf.function(autograph=False)
    def fold_pairs(numbers: tf.Tensor) -> tf.Tensor:
        ones = tf.map_fn(lambda a: rng.fold_in(SEED, a), numbers, fn_output_signature=tf.int32)
        return tf.map_fn(
            lambda one: tf.map_fn(lambda b: rng.fold_in(one, b), numbers, fn_output_signature=tf.int32), ones
        )

    seeds = fold_pairs(tf.range(150)).numpy().reshape(-1, 2)
    singles = np.stack([rng.fold_in(SEED, a).numpy() for a in (*range(150), 2**32, 2**32 + 1, -1, -(2**32))])
    everything = np.concatenate([seeds, singles, [SEED.numpy()]])
    assert len(np.unique(everything, axis=0)) == len(everything)


def test_folded_seeds_draw_independently() -> None:
    """Neighbouring folds and parents are uncorrelated: |r| < 5 / sqrt(n)."""
    n = 20_000
    seeds = [SEED, rng.fold_in(SEED, 0), rng.fold_in(SEED, 1), rng.fold_in(rng.fold_in(SEED, 0), 0)]
    draws = [rng.uniform(seed, [n]).numpy() for seed in seeds]
    for a, b in itertools.combinations(draws, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(n)


def test_uniform_fills_its_interval() -> None:
    draws = rng.uniform(SEED, [50_000], -2.0, 3.0).numpy()
    assert draws.dtype == np.float32
    assert scipy.stats.kstest(draws, scipy.stats.uniform(-2, 5).cdf).pvalue > 0.01
    assert draws.min() >= -2 and draws.max() < 3


def test_uniform_never_returns_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rng, "bits", lambda seed, shape: tf.fill(shape, tf.constant(2**32 - 1, tf.uint32)))
    assert rng.uniform(SEED, [1]).numpy()[0] == np.float32(1 - 2**-24)
    assert rng.randint(SEED, [1], 0, 2**31 - 1).numpy()[0] == 2**31 - 2
    assert rng.bernoulli(SEED, [1], 1.0).numpy()[0]


def test_uniform_takes_bounds_per_element() -> None:
    low = tf.constant([0.0, 10.0, 20.0])
    draws = rng.uniform(SEED, [1000, 3], low, low + 1).numpy()
    assert np.array_equal(np.floor(draws).max(0), [0, 10, 20]) and np.array_equal(np.floor(draws).min(0), [0, 10, 20])


def test_randint_draws_each_number_equally_often() -> None:
    draws = rng.randint(SEED, [30_000], -2, 5).numpy()
    values, counts = np.unique(draws, return_counts=True)
    assert values.tolist() == list(range(-2, 5))
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_randint_refuses_an_empty_range() -> None:
    with pytest.raises(ValueError, match="low=3 and high=3"):
        rng.randint(SEED, [2], 3, 3)


def test_bernoulli_has_its_probability() -> None:
    draws = rng.bernoulli(SEED, [40_000, 3], tf.constant([0.0, 0.3, 1.0])).numpy()
    assert not draws[:, 0].any() and draws[:, 2].all()
    assert scipy.stats.binomtest(int(draws[:, 1].sum()), 40_000, 0.3).pvalue > 0.01


@pytest.mark.parametrize("n", [0, 1, 2, 257])
def test_permutation_holds_each_number_once(n: int) -> None:
    assert sorted(rng.permutation(SEED, n).numpy().tolist()) == list(range(n))


def test_permutation_gives_each_order_equally_often() -> None:
    """Chi-square over the 24 orders of four things."""

    @tf.function(autograph=False)
    def orders(numbers: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(lambda i: rng.permutation(rng.fold_in(SEED, i), 4), numbers)

    _, counts = np.unique(orders(tf.range(6000)).numpy(), axis=0, return_counts=True)
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_permutation_breaks_ties_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rng, "bits", lambda seed, shape: tf.fill(shape, tf.constant(2**32 - 1, tf.uint32)))
    assert rng.permutation(SEED, 300).numpy().tolist() == list(range(300))


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 2.0, 30.0])
def test_beta_follows_its_distribution(alpha: float) -> None:
    """Below 1/2 by Kolmogorov-Smirnov (float32 merges what lies within 2**-24 of 1), and the halves by number."""
    draws = rng.beta(SEED, [60_000], alpha).numpy()
    assert draws.dtype == np.float32
    low = draws[draws < 0.5]
    assert scipy.stats.kstest(low, lambda x: 2 * scipy.stats.beta(alpha, alpha).cdf(x)).pvalue > 0.01
    assert scipy.stats.binomtest(len(low), len(draws), 0.5).pvalue > 0.01


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_has_the_mean_and_variance_of_theory(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all cells of the table, which are equally likely: mean 1/2, variance 1 / (4 (2 alpha + 1))."""
    cells = tf.range(2**16, dtype=tf.int64) * 2**16
    monkeypatch.setattr(rng, "bits", lambda seed, shape: tf.cast(cells, tf.uint32))
    values = rng.beta(SEED, [2**16], alpha).numpy().astype(np.float64)
    assert abs(values.mean() - 0.5) < 1e-7
    assert abs(values.var() - 1 / (4 * (2 * alpha + 1))) < 1e-4
    assert (np.diff(values) >= 0).all() and values[0] >= 0 and values[-1] <= 1


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
def test_beta_refuses_a_parameter_that_is_not_positive(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        rng.beta(SEED, [2], alpha)


def test_normal_follows_its_distribution() -> None:
    draws = rng.normal(SEED, [60_000]).numpy()
    assert draws.dtype == np.float32
    assert scipy.stats.kstest(draws, scipy.stats.norm.cdf).pvalue > 0.01


def test_normal_has_the_moments_of_theory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all cells of the table, which are equally likely: mean 0, variance 1, fourth moment 3."""
    cells = tf.range(2**16, dtype=tf.int64) * 2**16
    monkeypatch.setattr(rng, "bits", lambda seed, shape: tf.cast(cells, tf.uint32))
    values = rng.normal(SEED, [2**16]).numpy().astype(np.float64)
    assert (np.diff(values) >= 0).all() and (values == -values[::-1]).all()
    assert abs(values.var() - 1) < 1e-4 and abs((values**4).mean() - 3) < 1e-2
    assert values[-1] == rng.normal_limit() and scipy.stats.norm.sf(values[-1]) == pytest.approx(2.0**-17, rel=1e-4)


@pytest.mark.parametrize(("n", "num"), [(1, 5), (5, 1), (23, 7), (28, 7)])
def test_balanced_shares_places_out_and_each_place_is_uniform(n: int, num: int) -> None:
    @tf.function(autograph=False)
    def draws(numbers: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(lambda i: rng.balanced(rng.fold_in(SEED, i), n, num), numbers)

    drawn = draws(tf.range(2000)).numpy()
    most = max(np.bincount(row, minlength=num).max() for row in drawn)
    assert drawn.shape == (2000, n) and most <= -(-n // num)
    for place in {0, n - 1}:
        counts = np.bincount(drawn[:, place], minlength=num)
        assert counts.size == num and (num == 1 or scipy.stats.chisquare(counts).pvalue > 0.001)


# Products of which a compiler knows the sign, or does not.
PRODUCTS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "of unknown sign": lambda levels, words: levels * words,
    "of grey levels and a positive share": lambda levels, words: _unsigned(levels) * 0.587,
    "of grey levels and a negative share": lambda levels, words: _unsigned(levels) * -0.587,
    "of a positive number and a draw": lambda levels, words: 1.7 * rng.uniform(SEED, [20_000]),
    "of a negative number and a draw": lambda levels, words: -1.7 * rng.uniform(SEED, [20_000]),
    "of a square and a share": lambda levels, words: tf.square(words) * 0.3,
}


def _unsigned(levels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.cast(levels, tf.uint8), tf.float32)


@pytest.mark.parametrize("product", PRODUCTS)
def test_unfused_keeps_both_roundings_under_xla(product: str) -> None:
    """Without it, XLA on this CPU rounds `a * b + c` once: the guard is what makes the modes agree."""
    generator = np.random.default_rng(0)
    levels = tf.constant(generator.integers(0, 256, 20_000).astype(np.float32))
    words, added = (tf.constant(row) for row in generator.normal(0, 100, (2, 20_000)).astype(np.float32))

    def add(levels: tf.Tensor, words: tf.Tensor, added: tf.Tensor) -> tf.Tensor:
        return rng.unfused(PRODUCTS[product](levels, words)) + added

    expected = PRODUCTS[product](levels, words).numpy() + added.numpy()
    for function in (add, tf.function(add), tf.function(add, jit_compile=True, autograph=False)):
        np.testing.assert_array_equal(function(levels, words, added), expected)


def test_unfused_has_the_products_gradient() -> None:
    values = tf.constant([-2.0, 0.0, 3e38])
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = 5.0 * rng.unfused(values)
    np.testing.assert_array_equal(tape.gradient(result, values), [5.0, 5.0, 5.0])


def test_hashed_bits_are_even_and_independent_of_their_neighbours() -> None:
    values = tf.range(2**16)
    hashed = rng.hash_bits(SEED, values, 31).numpy()
    assert hashed.min() >= 0
    for bit in range(31):  # 3.5 standard deviations of a fair coin thrown 2**16 times
        assert abs((hashed >> bit & 1).mean() - 0.5) < 3.5 * 0.5 / 2**8
    pairs = (hashed[:-1] ^ hashed[1:]) >> 30
    assert abs(pairs.mean() - 0.5) < 3.5 * 0.5 / 2**8
    np.testing.assert_array_equal(rng.hash_bits(SEED, values[::-1], 31)[::-1], hashed)
    np.testing.assert_array_equal(rng.hash_bits(SEED, values, 4), hashed >> 27)
    assert (rng.hash_bits(rng.make_seed(1), values, 31).numpy() == hashed).mean() < 1e-3


def test_mix64_is_splitmix64() -> None:
    """The first outputs of splitmix64 seeded with 1234567, as published with the generator."""
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = [(1234567 + (i + 1) * 0x9E3779B97F4A7C15) % 2**64 for i in range(3)]
    mixed = rng.mix64(tf.constant(np.array(states, np.uint64).view(np.int64)))
    assert mixed.numpy().view(np.uint64).tolist() == outputs
