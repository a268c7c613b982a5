"""The images of another source under an op: a set that a model is tested on, drawn once and the same every time."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfaug.config import ConfigError, check_whole
from tfaug.data.sources.base import PARTS, Parts, Source, check_source
from tfaug.data.split import Split

_BLOCK_SIZE = 1000


@dataclasses.dataclass(frozen=True)
class Augmented(Source):
    """Another source, whose images an op has changed once; labels, ids and order are its own.

    A block of 1,000 images is a batch whose seed is folded from the seed, the part and the block's number, so an op
    that mixes images mixes within it. Floats are rounded to uint8.

    Attributes:
      source: of the images.
      op: which leaves labels alone and goes by no step: no schedule, no `Mixup`, no `SumAug`.
      seed: of the draws, 0 or more.
      of: which parts it changes; the others are as they are. A part `validation` that is held out of the training
        images is none of the source: `DataConfig.augment_validation`.

    Source: `gap`, appendix C and table 5 (augmented validation and test sets).
    """

    source: Source
    op: Any  # an Augmentation, but ops bring TensorFlow
    seed: int = 0
    of: tuple[str, ...] = ("test",)

    def __post_init__(self) -> None:
        check_source(self, "source")
        check_fixed_op(self, "op")
        check_whole(self, "seed", 0, 2**31 - 1)
        known = [part for part in PARTS if part in self.source.parts]
        if not isinstance(self.of, tuple) or not self.of or any(part not in known for part in self.of):
            raise ConfigError(f"Augmented.of is {self.of!r}; allowed: a tuple of {', '.join(known)}, as in ('test',)")

    @property
    def short_name(self) -> str:
        return f"{self.source.short_name} {type(self.op).__name__}"

    @property
    def parts(self) -> tuple[str, ...]:
        return self.source.parts

    @property
    def one_part(self) -> bool:
        return self.source.one_part

    def load(self, parts: Iterable[str], cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        return self._augmented(self.source.load(tuple(parts), cache_dir))

    def test_set(self, cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        return self._augmented(self.source.test_set(cache_dir))

    def describe(self) -> str:
        op = repr(self.op).replace("/", " over ")
        return f"{self.short_name}: the images of {self.source.short_name} under {op}, each drawn once."

    def resolved(self) -> Source:
        return dataclasses.replace(self, source=self.source.resolved())

    def _augmented(self, loaded: Parts) -> Parts:
        splits = {
            part: augment_split(split, self.op, self.seed, part) if part in self.of else split
            for part, split in loaded.splits.items()
        }
        details = {**loaded.details, "op": repr(self.op), "op_seed": self.seed, "op_of": list(self.of)}
        return loaded._replace(splits=splits, details=details)


def check_fixed_op(owner: object, name: str) -> None:
    """Checks that a field is an op that leaves labels alone and goes by no step.

    Raises:
      ConfigError: if it is not.
    """
    from tfaug.augment import Augmentation
    from tfaug.augment.keras_cv import check_unscheduled

    op: Any = getattr(owner, name)
    where = f"{type(owner).__name__}.{name}"
    if not isinstance(op, Augmentation):
        raise ConfigError(f"{where} is {op!r}; allowed: an op, as in RandAugment(n=2, m=20)")
    if op.mixes_labels:
        raise ConfigError(f"{where} is {op!r}, which mixes labels; allowed: an op that leaves them alone")
    check_unscheduled(op, where)


def augment_split(split: Split, op: Any, seed: int, part: str) -> Split:
    """Returns the examples of a part with images under an op, uint8; see `Augmented`."""
    import tensorflow as tf

    from tfaug import rng
    from tfaug.images import to_uint8

    start, made = rng.fold_in(rng.make_seed(seed), zlib.crc32(part.encode()) >> 1), []
    with tf.device("/CPU:0"):  # the bits are the same on every device; the images are needed on this one
        for block in range(-(-len(split) // _BLOCK_SIZE)):
            images = tf.constant(split.images[block * _BLOCK_SIZE :][:_BLOCK_SIZE])
            made.append(to_uint8(op(images, rng.fold_in(start, block))).numpy())
    return dataclasses.replace(split, images=np.concatenate(made)) if made else split
