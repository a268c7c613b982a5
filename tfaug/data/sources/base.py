"""The contract that all sources of images keep: a source loads the parts of one data set and describes itself.

A source is a frozen dataclass with

    load(parts, cache_dir) -> Parts     images as uint8, labels and ids of the parts asked for; the same every time

and whatever it says otherwise than `Source` does. It trains, tests, is shown and is copied by that alone.
"""

from __future__ import annotations

import dataclasses
import os
import types
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tfaug.config import ConfigError
from tfaug.data.split import Split, stratified_split

PARTS = ("train", "validation", "test")

POOL_SIZE = 512  # images among which the classes are looked for where some are to be shown
# Of the test part of a set that has none: the same in every run. It is above all seeds of a `DataConfig`, so that no
# validation part is drawn from the same stream.
_TEST_SEED = 2**63


class Parts(NamedTuple):
    """Some parts of a data set.

    Attributes:
      splits: what each part's name stands for.
      class_names: one name a class.
      details: what tells the data from others of the name, as JSON values without a path: `source`, the name and
        version of what was read, as in 'cifar10/3.0.2', and more. Copies say it in their metadata.
      named: whether the names are the set's own; False where they are numbers because the set names no class.
    """

    splits: dict[str, Split]
    class_names: tuple[str, ...]
    details: Mapping[str, Any] = types.MappingProxyType({})
    named: bool = True


class Source:
    """Gives a source what follows from its `load`; the source itself is a frozen dataclass.

    Example:
      >>> @dataclasses.dataclass(frozen=True)
      ... class Noise(Source):
      ...     def load(self, parts, cache_dir=None):
      ...         images = np.random.Generator(np.random.Philox(0)).integers(0, 256, (40, 8, 8, 3), np.uint8)
      ...         ids = [np.array([f"{part}_{i}" for i in range(40)]) for part in parts]
      ...         return Parts({p: Split(images, np.arange(40) % 2, i) for p, i in zip(parts, ids)}, ("even", "odd"))
      >>> Noise().short_name, Noise().parts, len(Noise().first(4).splits["train"])
      ('noise', ('train', 'test'), 4)
    """

    @property
    def short_name(self) -> str:
        """A short text for names of files and for reports."""
        return type(self).__name__.lower()

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of `PARTS` that it has. Without 'validation' a part of the training examples is held out."""
        return ("train", "test")

    @property
    def one_part(self) -> bool:
        """Whether it is one part: cut to be trained on, and whole as `test_set`, for copies and to be shown."""
        return False

    def load(self, parts: Iterable[str], cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        """Loads some of its parts.

        Args:
          parts: one or more of `self.parts`; no other part needs to be read.
          cache_dir: a folder in which decoded images may be kept for the next call; None keeps nothing.

        Returns:
          The parts, of images of one shape, with ids that occur once in a part; equal calls return equal ones.

        Raises:
          ConfigError: if a part cannot be loaded.
        """
        raise NotImplementedError(f"{type(self).__name__} has no load(parts, cache_dir)")

    def test_set(self, cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        """Loads what it is as a further test set: its part `test`; all of it where it is one part.

        Raises:
          ConfigError: as `load`; or if it has no part `test`.
        """
        require_parts(self, ("test",))
        return self.load(("test",), cache_dir)

    def first(self, num: int) -> Parts:
        """Loads a few images to show, the classes in turn; of the part `train`, or else of the first part that it has.

        Args:
          num: how many, 1 or more; fewer where the part, or what is read of a large one, has no more.

        Raises:
          ConfigError: as `load`.
        """
        loaded = self.test_set() if self.one_part else self.load(self.parts[:1])
        return loaded._replace(splits={part: take_in_turn(split, num) for part, split in loaded.splits.items()})

    def describe(self) -> str:
        """Returns one sentence that says what it is as a further test set, and what a gap on it does not show."""
        return self._describe_unknown(self.short_name, "source of one's own")

    def resolved(self) -> Source:
        """Returns the same source for processes elsewhere: paths from the root, nothing from the environment."""
        return self

    @staticmethod
    def from_text(text: str) -> Source:
        """Reads a source as the command line takes it; see `tfaug.data.read_source`."""
        from tfaug.data.sources import read_source

        return read_source(text)

    @staticmethod
    def _describe_unknown(name: str, kind: str) -> str:
        """The sentence of a set of which nothing is known."""
        return (
            f"{name}: a second test set given as a {kind}; how it was collected is not known here, so the gap on it "
            "may hold shift, other class concepts, label noise and sampling error."
        )


def require_parts(source: Source, parts: Iterable[str]) -> None:
    """Refuses a source that lacks one of `parts`."""
    has = source.parts
    if missing := [part for part in parts if part not in has]:
        raise ConfigError(f"{source!r} has no part {missing[0]!r}, only {', '.join(has)}; allowed: a source with one")


def check_source(owner: object, name: str) -> None:
    """Checks that the field `name` of dataclass `owner` is a source, and a frozen dataclass.

    Raises:
      ConfigError: if it is not, naming the class, the field and the value.
    """
    value = getattr(owner, name)
    where = f"{type(owner).__name__}.{name} is {value!r}"
    if not isinstance(value, Source):
        raise ConfigError(f"{where}; allowed: a source, as in Digits() or Tfds('cifar10'); read_source reads a text")
    if not dataclasses.is_dataclass(value) or not value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ConfigError(f"{where}; allowed: a frozen dataclass (@dataclasses.dataclass(frozen=True) above its class)")


def check_path(owner: object, name: str) -> None:
    """Checks that the field `name` of dataclass `owner` is a path, and makes it a text.

    Raises:
      ConfigError: if it is not, naming the class, the field and the value.
    """
    value = getattr(owner, name)
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ConfigError(f"{type(owner).__name__}.{name} is {value!r}; allowed: a path")
    object.__setattr__(owner, name, os.fspath(value))


def hold_out_test(source: Source, labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a set that has no test part: every class gives the same share, the same examples in every run.

    Args:
      source: whose labels they are, for the message.
      labels: int64 [N].
      fraction: the share of the test part.

    Returns:
      (train, test): int64 positions in ascending order, round(N fraction) of them in `test`.

    Raises:
      ConfigError: if one of the two would be empty.
    """
    num_test = round(len(labels) * fraction)
    if not 1 <= num_test < len(labels):
        raise ConfigError(
            f"{source!r}: test_fraction is {fraction:g} of {len(labels)} examples, which leaves a part empty; allowed: "
            "a fraction that gives 1 example or more to each"
        )
    return stratified_split(labels, num_test, seed=_TEST_SEED)


def order_in_turn(labels: np.ndarray) -> np.ndarray:
    """Returns the positions of the first example of each class, then of the second of each, and so on."""
    by_class = np.argsort(labels, kind="stable")
    turn = np.empty(len(labels), np.int64)
    turn[by_class] = np.arange(len(labels)) - np.searchsorted(labels[by_class], labels[by_class])
    return np.lexsort((labels, turn))


def take_in_turn(split: Split, num: int) -> Split:
    """Returns the first `num` examples of a split, the classes in turn, from among its first `POOL_SIZE`."""
    return split.take(order_in_turn(split.labels[:POOL_SIZE])[:num])
