"""Load image-classification data: decoded once, kept as uint8, every example with its id.

The test set never chooses anything: a validation part is held out from the training examples for that.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfaug.config import ConfigError, check_range, check_whole
from tfaug.data.sources.augmented import augment_split, check_fixed_op
from tfaug.data.sources.base import PARTS, Parts, Source, check_source, require_parts
from tfaug.data.sources.digits import Digits
from tfaug.data.split import Split, balanced_subset, stratified_split

_BATCH = 1024  # images of which the sums are made at a time


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Says which data to train and test on.

    Attributes:
      source: of the images; one of `tfaug.data.SOURCES` or of your own.
      validation_fraction: the share of the training examples held out for every choice, 0.001..0.5, unless the source
        has a validation part. 0 is refused: without it choices would fall on the test set.
      split_seed: which examples are held out (and which form the subset), 0 or more.
      num_train_examples: 0 trains on all that are not held out, else on a class-balanced subset of that many of them.
        The held-out part does not depend on it.
      augment_validation: an op under which the validation images are seen, drawn once with `split_seed`, as one of
        `Augmented` (`gap`, table 5); None leaves them as they are.
    """

    source: Source = Digits()
    validation_fraction: float = 0.1
    split_seed: int = 0
    num_train_examples: int = 0
    augment_validation: Any = None  # an Augmentation, but ops bring TensorFlow

    def __post_init__(self) -> None:
        if self.augment_validation is not None:
            check_fixed_op(self, "augment_validation")
        check_source(self, "source")
        check_range(self, "validation_fraction", 0.001, 0.5)
        check_whole(self, "split_seed", 0, 2**63 - 1)
        check_whole(self, "num_train_examples", 0)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Holds a data set in its three parts.

    Attributes:
      name: the short name of its source.
      train, validation, test: its parts.
      class_names: one name a class.
      mean, std: of each channel of the train part, in 0..1; a constant channel has std 1/255, so dividing is safe.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


def load_data(config: DataConfig, cache_dir: str | os.PathLike[str] | None = None) -> ImageData:
    """Loads the data of a config: train, validation and test part, class names, mean and deviation.

    Reading is deterministic. Where the validation part is held out of training examples that are augmented copies, all
    copies of one original go to the same part.

    Args:
      config: which data.
      cache_dir: a folder in which decoded images are kept for the next call; None keeps nothing.

    Returns:
      The data, images as uint8.

    Raises:
      ConfigError: if the source cannot load a part; if a part of the asked size cannot be made; or if images differ in
        shape, labels name no class or an id occurs twice.
    """
    loaded = load_parts(config, PARTS, cache_dir)
    splits = loaded.splits
    mean, std = _mean_and_std(splits["train"].images)
    name = config.source.short_name
    return ImageData(name, splits["train"], splits["validation"], splits["test"], loaded.class_names, mean, std)


def load_parts(config: DataConfig, parts: Iterable[str], cache_dir: str | os.PathLike[str] | None = None) -> Parts:
    """Loads the named parts of a config's data, reading no more than they need; see `load_data`.

    Args:
      config: which data.
      parts: some of `PARTS`.
      cache_dir: as in `load_data`.

    Raises:
      ConfigError: as `load_data`, of the parts that are asked for.
    """
    source, parts = config.source, tuple(parts)
    if not parts or not set(parts) <= set(PARTS):
        raise ConfigError(f"parts are {', '.join(parts) or 'none'}; allowed: {', '.join(PARTS)}")
    holds_out = "validation" not in source.parts
    wanted = {"train" if part == "validation" and holds_out else part for part in parts}
    require_parts(source, wanted)
    loaded = source.load([part for part in PARTS if part in wanted], cache_dir)
    _check_parts(source, loaded)
    splits = dict(loaded.splits)
    if "train" in wanted:
        whole = splits["train"]
        kept = np.arange(len(whole))
        if holds_out:
            kept, held_out = _hold_out(whole, config)
            splits["validation"] = whole.take(held_out)
        splits["train"] = whole.take(_subset(whole, kept, config))
    op = config.augment_validation
    if op is not None and "validation" in splits:
        splits["validation"] = augment_split(splits["validation"], op, config.split_seed % 2**31, "validation")
    return loaded._replace(splits={part: splits[part] for part in parts})


def load_test_set(
    source: Source, *, cache_dir: str | os.PathLike[str] | None = None, like: ImageData | None = None
) -> Split:
    """Loads a further test set.

    Args:
      source: its part `test`, or all of it where it is one part (`Source.test_set`).
      cache_dir: as in `load_data`.
      like: the data that the model was trained on; the test set must have its image shape and its classes.

    Returns:
      The test set.

    Raises:
      ConfigError: if the source cannot load it, or it does not fit `like`.
    """
    loaded = source.test_set(cache_dir)
    _check_parts(source, loaded)
    if like is not None:
        _check_like(source, loaded, like)
    return loaded.splits["test"]


def load_others(source: Source, *, cache_dir: str | os.PathLike[str] | None = None, like: ImageData) -> Split:
    """Loads images that are in no part of some data, to train on instead.

    Args:
      source: its part `train`, or all of it where it is one part. It may be that of `like`, of whose training examples
        those are left that `DataConfig.num_train_examples` did not take.
      cache_dir: as in `load_data`.
      like: data of the same image shape and classes.

    Returns:
      The images of which no equal one is in `like`.

    Raises:
      ConfigError: if the source cannot load them, they do not fit `like`, or none is left.
    """
    if source.one_part:
        loaded = source.test_set(cache_dir)
    else:
        require_parts(source, ("train",))
        loaded = source.load(("train",), cache_dir)
    _check_parts(source, loaded)
    _check_like(source, loaded, like)
    (split,) = loaded.splits.values()
    known = {image.tobytes() for part in (like.train, like.validation, like.test) for image in part.images}
    kept = np.array([image.tobytes() not in known for image in split.images], bool)
    if not kept.any():
        raise ConfigError(
            f"data set {source.short_name!r} has no image that is not in a part of {like.name!r} too; allowed: others, "
            "or DataConfig(num_train_examples=...), which leaves some"
        )
    return split.take(np.flatnonzero(kept))


def _check_parts(source: Source, loaded: Parts) -> None:
    """Refuses images of several shapes, labels without a class and ids that occur twice."""
    what, shapes = f"data set {source.short_name!r}", set()
    for part, split in loaded.splits.items():
        shapes.add(split.images.shape[1:])
        if len(split) and not 0 <= split.labels.min() <= split.labels.max() < len(loaded.class_names):
            got, allowed = f"{split.labels.min()}..{split.labels.max()}", f"0..{len(loaded.class_names) - 1}"
            raise ConfigError(f"{what}: {part} has labels {got}; allowed: {allowed}")
        ids, counts = np.unique(split.ids, return_counts=True)
        if (counts > 1).any():
            twice = str(ids[counts.argmax()])
            raise ConfigError(f"{what}: {part} has {counts.max()} examples of id {twice!r}; allowed: one of each id")
    if len(shapes) > 1:
        raise ConfigError(f"{what} has images {' and '.join(str(list(s)) for s in sorted(shapes))}; allowed: one shape")


def _hold_out(whole: Split, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Which training examples to keep and which to hold out; copies of one original stay together."""
    if whole.original_ids is None:
        first = group = np.arange(len(whole))
    else:
        _, first, group = np.unique(whole.original_ids, return_index=True, return_inverse=True)
    num_validation = round(len(first) * config.validation_fraction)
    if num_validation < 1:
        raise ConfigError(
            f"DataConfig.validation_fraction is {config.validation_fraction:g} of {len(first)} training examples: "
            "nothing to validate on; allowed: a fraction that gives 1 example or more"
        )
    _, held_out = stratified_split(whole.labels[first], num_validation, seed=config.split_seed)
    is_held_out = np.isin(group, held_out)
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _subset(whole: Split, kept: np.ndarray, config: DataConfig) -> np.ndarray:
    """The positions among `kept` that are to be trained on."""
    if not config.num_train_examples:
        return kept
    try:
        return kept[balanced_subset(whole.labels[kept], config.num_train_examples, seed=config.split_seed)]
    except ValueError as error:
        raise ConfigError(f"DataConfig.num_train_examples: {error}") from error


def _mean_and_std(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel in 0..1, from exact integer sums."""
    total = np.zeros(images.shape[-1], np.int64)
    squares = np.zeros(images.shape[-1], np.int64)
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH].astype(np.uint16)  # 255^2 fits
        total += batch.sum(axis=(0, 1, 2), dtype=np.int64)
        squares += (batch * batch).sum(axis=(0, 1, 2), dtype=np.int64)
    number = images[..., 0].size
    mean = total / number
    std = np.sqrt(np.maximum(squares / number - mean**2, 1.0))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def _check_like(source: Source, loaded: Parts, like: ImageData) -> None:
    """Refuses a set of other images or classes than the data trained on."""
    (split,) = loaded.splits.values()
    shape = split.images.shape[1:]
    if shape != like.image_shape:
        got, allowed = f"images {list(shape)}", f"{list(like.image_shape)}"
    elif loaded.named and loaded.class_names != like.class_names:
        got, allowed = f"classes {_shorten(loaded.class_names)}", _shorten(like.class_names)
    elif split.labels.max(initial=0) >= like.num_classes:
        got, allowed = f"labels up to {split.labels.max()}", f"0..{like.num_classes - 1}"
    else:
        return
    raise ConfigError(
        f"{next(iter(loaded.splits))} set {source.short_name!r} has {got}; allowed: {allowed}, as in {like.name!r}"
    )


def _shorten(class_names: tuple[str, ...]) -> str:
    """The first class names and how many there are."""
    shown = ", ".join(class_names[:3])
    return f"{shown}, ... ({len(class_names)})" if len(class_names) > 3 else shown
