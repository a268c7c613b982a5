"""Images in an .npz file of numpy."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from tfaug.config import ConfigError, check_range, check_whole
from tfaug.data.cache import DAMAGED
from tfaug.data.sources.base import Parts, Source, check_path, hold_out_test
from tfaug.data.split import Split


@dataclasses.dataclass(frozen=True)
class Npz(Source):
    """An .npz file with `images` uint8 [N, H, W, C] and `labels` integers [N] from 0; `ids` strings [N] if it has them.

    Without `ids` the examples are called FILE_00000, FILE_00001, ... As a further test set, and for copies, it is the
    whole file. Where it is trained on, its test part is `test_path`, all of it, or else a share of the file, of every
    class alike and the same examples in every run; the rest is for training and validation.

    Attributes:
      path: of the file.
      test_path: of another such file, the test part; '' cuts it from `path`.
      test_fraction: the share that is cut, 0.001..0.5; of no effect with `test_path`.
      num_classes: 0 is the largest label of `path` + 1. The classes are called by their numbers.

    Raises:
      ConfigError: if a field is out of range.
    """

    path: str
    test_path: str = ""
    test_fraction: float = 0.2
    num_classes: int = 0

    def __post_init__(self) -> None:
        check_path(self, "path")
        if self.test_path:
            check_path(self, "test_path")
        check_range(self, "test_fraction", 0.001, 0.5)
        check_whole(self, "num_classes", 0)

    @property
    def short_name(self) -> str:
        return pathlib.Path(self.path).stem

    @property
    def one_part(self) -> bool:
        return not self.test_path

    def load(self, parts: Iterable[str], cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        """Loads parts; see `Source.load`. Nothing is put into the cache.

        Raises:
          ConfigError: if a file is absent, damaged or not as above, both are the same, a label is too large, or one of
            the parts would be empty.
        """
        whole = self._whole()
        split, splits = whole.splits["test"], {}
        if self.test_path:
            if os.path.exists(self.test_path) and os.path.samefile(_expand(self.path), _expand(self.test_path)):
                raise ConfigError(f"{self!r}: path and test_path are one file; allowed: two files, or no test_path")
            splits = {"train": split, "test": _read_npz(_expand(self.test_path))}
        else:
            train, test = hold_out_test(self, split.labels, self.test_fraction)
            splits = {"train": split.take(train), "test": split.take(test)}
        return whole._replace(splits={part: splits[part] for part in parts})

    def test_set(self, cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        return self.load(("test",)) if self.test_path else self._whole()

    def describe(self) -> str:
        name = pathlib.PurePath(self.test_path or self.path).name
        if name == "cinic10_imagenet.npz":
            return (
                "CINIC-10 ImageNet sample, n = 2,000: ImageNet photographs shrunk to 32x32 in CIFAR-10's classes; it "
                "is not CIFAR-10.1, and the gap on it holds natural shift, wider class concepts and label noise at "
                "once."
            )
        return self._describe_unknown(name, "file")

    def resolved(self) -> Npz:
        test_path = str(_expand(self.test_path).resolve()) if self.test_path else ""
        return dataclasses.replace(self, path=str(_expand(self.path).resolve()), test_path=test_path)

    def _whole(self) -> Parts:
        """The file at `path`, as a test set."""
        path = _expand(self.path)
        split = _read_npz(path)
        num_classes = self.num_classes or int(split.labels.max()) + 1
        if split.labels.max() >= num_classes:
            raise ConfigError(
                f"Npz.num_classes is {num_classes}; allowed: more than the largest label, {split.labels.max()}"
            )
        with path.open("rb") as file:
            details = {"source": path.name, "source_sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        return Parts({"test": split}, tuple(map(str, range(num_classes))), details, named=False)


def _expand(path: str) -> pathlib.Path:
    return pathlib.Path(path).expanduser()


def _read_npz(path: pathlib.Path) -> Split:
    """Reads and checks an .npz file."""
    wanted = "allowed: an .npz file with `images` uint8 [N, H, W, C] and `labels` integers [N], 0 or more"
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = {"images", "labels"} - set(file.files)
            if missing:
                raise ConfigError(
                    f"{path} has no {' and no '.join(sorted(missing))}, only {', '.join(file.files)}; {wanted}"
                )
            images, labels = file["images"], file["labels"]
            ids = file["ids"] if "ids" in file.files else None
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; {wanted}") from error
    except ConfigError:
        raise
    except DAMAGED as error:
        raise ConfigError(f"{path} cannot be read ({error}); {wanted}") from error
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ConfigError(f"{path}: images are {images.dtype} {list(images.shape)}; {wanted}")
    if labels.dtype.kind not in "ui" or labels.ndim != 1:
        raise ConfigError(f"{path}: labels are {labels.dtype} {list(labels.shape)}; {wanted}")
    if not len(images) == len(labels) > 0:
        raise ConfigError(
            f"{path} has {len(images)} images and {len(labels)} labels; allowed: as many of both, 1 or more"
        )
    if labels.min() < 0:
        raise ConfigError(f"{path}: the smallest label is {labels.min()}; {wanted}")
    if ids is None:
        ids = np.array([f"{path.stem}_{i:05d}" for i in range(len(labels))])
    try:
        return Split(images, labels.astype(np.int64), ids)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
