"""A set of images with labels and ids, and the seeded choices of which examples go where.

Every choice sorts raw 64-bit words of a Philox counter generator keyed by (seed, purpose). NumPy keeps these raw words
the same in every release, so an order is the same after a restart, on another machine and with another NumPy.
"""

from __future__ import annotations

import dataclasses

import numpy as np

# The purposes that draw from one seed: each reads a stream of its own, so that no two choices are correlated.
_HELD_OUT, _SUBSET, _ORDER = 1, 2, 3


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Holds images, their labels and their ids, row by row.

    Attributes:
      images: uint8 [N, H, W, C], 0..255.
      labels: int64 [N], class numbers from 0.
      ids: str [N], the name each example keeps wherever it goes.
      probs: float32 [N, K], the soft labels of examples that have them (each row sums to 1); None: the labels are all.
      original_ids: str [N], where the examples are augmented copies, what each is a copy of; else None.

    Raises:
      ValueError: if an array has another dtype or rank, or they differ in length.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    probs: np.ndarray | None = None
    original_ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ValueError(f"images are {_describe(self.images)}; allowed: uint8 [N, H, W, C]")
        if self.labels.dtype != np.int64 or self.labels.ndim != 1:
            raise ValueError(f"labels are {_describe(self.labels)}; allowed: int64 [N]")
        if self.ids.dtype.kind != "U" or self.ids.ndim != 1:
            raise ValueError(f"ids are {_describe(self.ids)}; allowed: str [N]")
        if not len(self.images) == len(self.labels) == len(self.ids):
            counts = f"{len(self.images)} images, {len(self.labels)} labels and {len(self.ids)} ids"
            raise ValueError(f"{counts}; allowed: as many of each")
        if self.probs is not None and (self.probs.dtype != np.float32 or self.probs.shape[:-1] != (len(self),)):
            raise ValueError(f"probs are {_describe(self.probs)}; allowed: float32 [{len(self)}, K]")
        if self.original_ids is not None and (
            self.original_ids.dtype.kind != "U" or self.original_ids.shape != (len(self),)
        ):
            raise ValueError(f"original_ids are {_describe(self.original_ids)}; allowed: str [{len(self)}]")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> Split:
        """Returns the examples at `index` (int64 [M]), in that order, as copies."""
        optional = (None if rows is None else rows[index] for rows in (self.probs, self.original_ids))
        return Split(self.images[index], self.labels[index], self.ids[index], *optional)

    def label_rows(self, num_classes: int) -> np.ndarray:
        """Returns what to train on, float32 [N, num_classes]: the soft labels, or one-hot rows where there are none."""
        if self.probs is None:
            return np.eye(num_classes, dtype=np.float32)[self.labels]
        if self.probs.shape[1] != num_classes:
            raise ValueError(f"the soft labels have {self.probs.shape[1]} classes; allowed: {num_classes}")
        return self.probs


def stratified_split(labels: np.ndarray, num_held_out: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits examples at random in two parts in which every class has the same share, to within one example.

    A class of n_k out of n examples gives floor(n_k m / n) of the m held-out ones; those still missing come from the
    classes with the largest remainders, one each (the lower class number first among equals).

    Args:
      labels: int64 [N], class numbers from 0.
      num_held_out: m, how many to hold out, 1 .. N - 1.
      seed: 0 .. 2^64 - 1; another seed holds out other examples.

    Returns:
      (kept, held_out): int64 [N - m] and [m], positions in ascending order.

    Raises:
      ValueError: if `num_held_out` or `seed` is out of range.

    Example:
      >>> kept, held_out = stratified_split(np.array([0, 0, 0, 0, 1, 1]), 3, seed=0)
      >>> np.bincount(np.array([0, 0, 0, 0, 1, 1])[held_out]).tolist()
      [2, 1]
    """
    if not 1 <= num_held_out < len(labels):
        raise ValueError(f"num_held_out is {num_held_out} of {len(labels)} examples; allowed: 1..{len(labels) - 1}")
    counts = np.bincount(labels)
    shares, remainders = np.divmod(counts * num_held_out, len(labels))
    missing = num_held_out - shares.sum()
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    held_out = _take_per_class(labels, shares, seed, _HELD_OUT)
    kept = np.setdiff1d(np.arange(len(labels), dtype=np.int64), held_out, assume_unique=True)
    return kept, held_out


def stratified_subset(labels: np.ndarray, num_examples: int, *, seed: int) -> np.ndarray:
    """Returns the positions, ascending, of a seeded subset in which each class keeps its share, or of all examples.

    Args:
      labels: int64 [N], class numbers from 0.
      num_examples: how many to choose, 1 or more; all where it is N or more.
      seed: 0 .. 2^64 - 1.
    """
    if num_examples >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    return stratified_split(labels, num_examples, seed=seed)[1]


def balanced_subset(labels: np.ndarray, num_examples: int, *, seed: int) -> np.ndarray:
    """Chooses examples at random, as many of every class (the first classes give one more where it does not divide).

    A smaller subset of the same seed lies inside a larger one.

    Args:
      labels: int64 [N], class numbers from 0; every number up to the largest occurs.
      num_examples: how many to choose, 1 or more.
      seed: 0 .. 2^64 - 1.

    Returns:
      int64 [num_examples], positions in ascending order.

    Raises:
      ValueError: if `num_examples` is out of range, or a class has too few examples.
    """
    counts = np.bincount(labels)
    shares = np.full(len(counts), num_examples // len(counts))
    shares[: num_examples % len(counts)] += 1
    if num_examples < 1 or (shares > counts).any():
        short = int(np.argmax(shares > counts))
        raise ValueError(
            f"a class-balanced subset of {num_examples} examples needs {shares[short]} of class {short}, which has "
            f"{counts[short]}; allowed: 1..{counts.min() * len(counts)}"
        )
    return _take_per_class(labels, shares, seed, _SUBSET)


def shuffled_order(num_examples: int, *, seed: int, counter: int = 0) -> np.ndarray:
    """Draws an order of examples, each order being equally likely.

    Args:
      num_examples: N, 0 or more.
      seed: 0 .. 2^64 - 1.
      counter: 0 .. 2^64 - 1; every number has an order of its own.

    Returns:
      int64 [N], the positions 0 .. N - 1.

    Raises:
      ValueError: if an argument is out of range.
    """
    return np.argsort(_words(num_examples, seed, _ORDER, counter), kind="stable")


def _take_per_class(labels: np.ndarray, shares: np.ndarray, seed: int, purpose: int) -> np.ndarray:
    """Positions, ascending, of shares[k] random examples of every class k."""
    order = np.argsort(_words(len(labels), seed, purpose), kind="stable")
    taken = [order[labels[order] == k][:share] for k, share in enumerate(shares)]
    return np.sort(np.concatenate(taken)).astype(np.int64)


def _words(num_words: int, seed: int, purpose: int, counter: int = 0) -> np.ndarray:
    """Raw uint64 [num_words] of the Philox stream (seed, purpose, counter)."""
    if num_words < 0:
        raise ValueError(f"num_examples is {num_words}; allowed: 0 or more")
    for name, value in (("seed", seed), ("epoch", counter)):
        if not 0 <= value < 2**64:
            raise ValueError(f"{name} is {value}; allowed: 0..2^64 - 1")
    # The counter's lowest words count the draws; its highest one is ours, so the streams of two epochs never meet.
    start = np.array([0, 0, 0, counter], np.uint64)
    return np.random.Philox(key=np.array([seed, purpose], np.uint64), counter=start).random_raw(num_words)


def _describe(array: np.ndarray) -> str:
    """The dtype and shape of an array, for error messages."""
    return f"{array.dtype} {list(array.shape)}"
