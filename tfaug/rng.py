"""Draw random numbers that are functions of a seed alone: the same bits eager, in a graph, under XLA, on CPU and GPU.

A seed is an int32 tensor of shape [2]. It is folded (`fold_in`), never advanced: there are no generators and no state,
so a draw depends neither on what was drawn before nor on the process that draws. All functions take Python or tensor
shapes and compile under XLA.

Two habits keep the bits equal. The Philox algorithm is named in each draw, since TensorFlow would choose another one
per device; and floating-point results are made so that each rounds in one way only, because XLA fuses `a * b + c` into
one rounding and turns a division by a constant into a product.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfaug import quantiles
from tfaug.config import read_number

Shape: TypeAlias = tf.Tensor | Sequence[int | tf.Tensor]

SEED_LIMITS = (-(2**63), 2**64 - 1)
_TABLE_BITS = 16


def make_seed(value: int) -> tf.Tensor:
    """Returns the seed that stands for a whole number.

    Args:
      value: any integer of at most 64 bits, signed or not; the experiment's seed.

    Returns:
      int32 [2]: the low and the high 32 bits of `value`.

    Raises:
      ConfigError, a ValueError: if `value` is not an integer or needs more than 64 bits.

    Example:
      >>> make_seed(7).numpy().tolist()
      [7, 0]
    """
    value = read_number("seed", value, *SEED_LIMITS, whole=True)
    words = np.array([value & 0xFFFFFFFF, (value >> 32) & 0xFFFFFFFF], np.uint32)
    return tf.constant(words.view(np.int32))


def as_seed(seed: Any) -> tf.Tensor:
    """Returns the seed, int32 [2], that a call is given: an integer (see `make_seed`) or scalar tensor, or a seed.

    Raises:
      ValueError: if `seed` is neither.
    """
    number = seed is None or isinstance(seed, (int, float, np.generic))
    seed = make_seed(seed) if number else tf.convert_to_tensor(seed)
    if seed.dtype.is_integer and seed.shape.rank == 0:  # Keras makes tensors of the numbers of numpy in a call.
        seed = tf.bitcast(tf.cast(seed, tf.int64), tf.int32)
    if seed.dtype != tf.int32 or not seed.shape.is_compatible_with([2]):
        raise ValueError(f"a seed is an integer or int32 [2] (tfaug.rng), got {seed.dtype.name} {seed.shape}")
    return seed


def fold_in(seed: tf.Tensor, data: int | tf.Tensor) -> tf.Tensor:
    """Derives a seed from `seed` and a whole number, such as a step, a replica or the position of an op.

    `(w0 ^ low(data), w1 ^ high(data))` where `(w0, w1)` are the first 64 Philox bits of `seed`: for one seed no two
    numbers give the same result, and since Philox stands between two folds, `a` then `b` is not `b` then `a`.

    Args:
      seed: int32 [2].
      data: an integer or a scalar integer tensor; the same number gives the same seed in each integer type.

    Returns:
      int32 [2].

    Raises:
      ValueError: if `data` is no integer.
    """
    data = tf.convert_to_tensor(data)
    if not data.dtype.is_integer:
        raise ValueError(f"fold_in takes a whole number, got {data.dtype.name} {data.shape}")
    data = tf.cast(data, tf.int64)
    low = tf.bitcast(tf.cast(tf.bitwise.bitwise_and(data, tf.constant(0xFFFFFFFF, tf.int64)), tf.uint32), tf.int32)
    high = tf.cast(tf.bitwise.right_shift(data, tf.constant(32, tf.int64)), tf.int32)
    words = tf.bitcast(bits(seed, [2]), tf.int32)
    return tf.bitwise.bitwise_xor(words, tf.stack([low, high]))


def bits(seed: tf.Tensor, shape: Shape) -> tf.Tensor:
    """Draws 32 random bits each.

    Args:
      seed: int32 [2].
      shape: of the result.

    Returns:
      uint32 of `shape`, uniform over 0..2**32-1.
    """
    return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")


def uniform(seed: tf.Tensor, shape: Shape, low: float | tf.Tensor = 0.0, high: float | tf.Tensor = 1.0) -> tf.Tensor:
    """Draws uniformly from [low, high).

    `low + (high - low) * n / 2**24` with `n` the top 24 bits of a draw, so that `n / 2**24` is exact.

    Args:
      seed: int32 [2].
      shape: of the result.
      low: the lowest value, a number or a float32 tensor that broadcasts to `shape`.
      high: the bound above, likewise. Where `high - low` is tiny beside `low`, rounding may return `high` itself.

    Returns:
      float32 of `shape`.
    """
    fraction = tf.cast(tf.bitcast(tf.bitwise.right_shift(bits(seed, shape), 8), tf.int32), tf.float32) * 2.0**-24
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and (low, high) == (0, 1):
        return fraction
    low = tf.cast(low, tf.float32)
    return low + unfused((tf.cast(high, tf.float32) - low) * fraction)


def randint(seed: tf.Tensor, shape: Shape, low: int | tf.Tensor, high: int | tf.Tensor) -> tf.Tensor:
    """Draws whole numbers uniformly from low..high-1.

    `low + floor(bits * (high - low) / 2**32)`: each number's probability is off by less than 2**-32.

    Args:
      seed: int32 [2].
      shape: of the result.
      low: the lowest value, an integer or an integer tensor that broadcasts to `shape`.
      high: one more than the highest value, likewise; at most 2**31 - 1 above `low`.

    Returns:
      int32 of `shape`.

    Raises:
      ValueError: if `high` is not above `low`, as far as both are Python numbers.
    """
    if isinstance(low, (int, np.integer)) and isinstance(high, (int, np.integer)) and not low < high:
        raise ValueError(f"randint draws from low..high-1 and needs low < high, got low={low} and high={high}")
    low, high = tf.cast(low, tf.int64), tf.cast(high, tf.int64)
    draw = tf.cast(bits(seed, shape), tf.int64)
    return tf.cast(low + tf.bitwise.right_shift(draw * (high - low), tf.constant(32, tf.int64)), tf.int32)


def bernoulli(seed: tf.Tensor, shape: Shape, p: float | tf.Tensor) -> tf.Tensor:
    """Draws True with probability `p`: never for 0, always for 1.

    Args:
      seed: int32 [2].
      shape: of the result.
      p: a probability in 0..1, or a float32 tensor of them that broadcasts to `shape`; it counts in steps of 2**-24.

    Returns:
      bool of `shape`.
    """
    return uniform(seed, shape) < p


def permutation(seed: tf.Tensor, n: int | tf.Tensor) -> tf.Tensor:
    """Draws an order of 0..n-1, each order being equally likely.

    The positions are sorted by 31 random bits each; ties, which are rare, go by position, so the order does not depend
    on the sorting algorithm of the device.

    Args:
      seed: int32 [2].
      n: how many, an integer or a scalar integer tensor.

    Returns:
      int32 [n].
    """
    n = tf.cast(n, tf.int32)
    high = tf.cast(tf.bitwise.right_shift(bits(seed, [n]), 1), tf.int64) * 2**31
    return tf.argsort(high + tf.cast(tf.range(n), tf.int64))


def beta(seed: tf.Tensor, shape: Shape, alpha: float) -> tf.Tensor:
    """Draws from the symmetric Beta(alpha, alpha) distribution.

    The inverse distribution function at the middle of each of 2**16 equally likely cells, looked up with 16 random
    bits: TensorFlow's gamma sampler does not compile under XLA. The distribution function of the draws is within 2**-17
    of Beta's, but for the rounding to float32, which merges what lies within 2**-24 of 1.

    Args:
      seed: int32 [2].
      shape: of the result.
      alpha: the parameter, above 0. 1 is the uniform distribution.

    Returns:
      float32 of `shape`, in 0..1.

    Raises:
      ValueError: if `alpha` is not a positive number.
    """
    cell = _cell(seed, shape)
    table = _beta_table(float(alpha))
    if alpha == 1:
        return tf.cast(2 * cell + 1, tf.float32) * 2.0 ** -(_TABLE_BITS + 1)
    return tf.gather(tf.constant(table), cell)


def normal(seed: tf.Tensor, shape: Shape) -> tf.Tensor:
    """Draws from the normal distribution of mean 0 and standard deviation 1.

    The inverse distribution function at the middle of each of 2**16 equally likely cells, as for `beta`: no logarithm
    or cosine, whose bits would differ between devices. The draws lie within 4.325 of 0 (`normal_limit()`), their
    distribution function is within 2**-17 of the normal one, and their variance is 0.99998.

    Args:
      seed: int32 [2].
      shape: of the result.

    Returns:
      float32 of `shape`.
    """
    return tf.gather(tf.constant(_normal_table()), _cell(seed, shape))


def normal_limit() -> float:
    """Returns the largest value that `normal` draws."""
    return float(_normal_table()[-1])


def balanced(seed: tf.Tensor, n: int | tf.Tensor, num: int) -> tf.Tensor:
    """Draws one of 0..num-1 for each of `n` places, no number more than ceil(n / num) times.

    Each place gets a position of its own among num ceil(n / num), in random order. So each place's number is exactly
    uniform, but two places share one with a probability of (c - 1) / (num c - 1), c = ceil(n / num), where independent
    draws have 1 / num: never for n up to num, and 0.0647 instead of 0.0714 for 128 places and 14 numbers.

    Args:
      seed: int32 [2].
      n: how many places, an integer or a scalar integer tensor.
      num: how many numbers, 1 or more.

    Returns:
      int32 [n].

    Example:
      >>> sorted(balanced(make_seed(1), 6, 3).numpy().tolist())
      [0, 0, 1, 1, 2, 2]
    """
    each = -(-n // num)
    return permutation(seed, num * each)[:n] // each


def hash_bits(seed: tf.Tensor, values: tf.Tensor, num_bits: int) -> tf.Tensor:
    """Gives each whole number random bits of its own, whatever other numbers stand beside it.

    Args:
      seed: int32 [2].
      values: integers of any shape.
      num_bits: 1..31.

    Returns:
      int32 of the shape of `values`, in 0..2**num_bits - 1.

    Source: the finaliser of splitmix64 (Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators).
    """
    key = tf.bitcast(seed, tf.int64)
    mixed = mix64(tf.bitwise.bitwise_xor(mix64(tf.cast(values, tf.int64) * GOLDEN_64 + key), key))
    return tf.cast(shift_right_64(mixed, 64 - num_bits), tf.int32)


# The odd constants of splitmix64 (Steele, Lea and Flood 2014), as signed 64-bit integers.
GOLDEN_64, _MIX_1, _MIX_2 = (c - (1 << 64) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def mix64(x: tf.Tensor) -> tf.Tensor:
    """Returns splitmix64's finaliser of int64 `x`: a bijection whose output bits look independent of the input's."""
    x = tf.bitwise.bitwise_xor(x, shift_right_64(x, 30)) * _MIX_1
    x = tf.bitwise.bitwise_xor(x, shift_right_64(x, 27)) * _MIX_2
    return tf.bitwise.bitwise_xor(x, shift_right_64(x, 31))


def shift_right_64(x: tf.Tensor, num_bits: int) -> tf.Tensor:
    """Returns int64 `x` shifted right by 1..63 bits, with zeros from the left."""
    return tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(x, tf.constant(num_bits, tf.int64)), (1 << (64 - num_bits)) - 1
    )


def _cell(seed: tf.Tensor, shape: Shape) -> tf.Tensor:
    """Draws the cell of an inverse distribution function's table, int32 of `shape`."""
    return tf.bitcast(tf.bitwise.right_shift(bits(seed, shape), 32 - _TABLE_BITS), tf.int32)


@functools.cache
def _normal_table() -> np.ndarray:
    """Returns the normal distribution's inverse function at (i + 0.5) / 2**16, float32 and antisymmetric."""
    size = 2**_TABLE_BITS
    lower = quantiles.normal((np.arange(size // 2) + 0.5) / size)
    return np.concatenate([lower, -lower[::-1]]).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _beta_table(alpha: float) -> np.ndarray:
    """Returns Beta(alpha, alpha)'s inverse distribution function at (i + 0.5) / 2**16, float32 and symmetric."""
    if not 0 < alpha < float("inf"):
        raise ValueError(f"Beta(alpha, alpha) needs an alpha above 0, got {alpha}")
    size = 2**_TABLE_BITS
    lower = quantiles.symmetric_beta((np.arange(size // 2) + 0.5) / size, alpha)
    return np.concatenate([lower, 1 - lower[::-1]]).astype(np.float32)


def unfused(product: tf.Tensor) -> tf.Tensor:
    """Returns a float32 product as it is, so that XLA rounds it before it is added to something.

    XLA computes `a * b + c` with one rounding and TensorFlow with two; a clip to the finite numbers between the product
    and the sum, which changes none of them, keeps the two roundings. It takes both limits: where the compiler knows the
    sign of the product (a grey level times a positive share), it drops the limit on the other side. NaN and infinities
    pass beside it.
    """
    finite = tf.maximum(tf.minimum(product, tf.float32.max), tf.float32.min)
    return finite + tf.where(tf.math.is_finite(product), -0.0, product)


def share_of(weight: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns the float32 product weight * values, `unfused`; a weight of 0 takes nothing, not even NaN or infinity."""
    return unfused(tf.math.multiply_no_nan(values, weight))


def mix(first: tf.Tensor, second: tf.Tensor, weight: tf.Tensor | float) -> tf.Tensor:
    """Returns (1 - weight) first + weight second, float32, the same bits with and without XLA; see `share_of`."""
    return share_of(1.0 - weight, first) + share_of(weight, second)
