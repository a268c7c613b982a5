"""Where images come from: each source is a frozen dataclass that loads one data set and describes itself in words."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import Any

from tfaug.config import ConfigError
from tfaug.data.sources.augmented import Augmented
from tfaug.data.sources.base import PARTS, Parts, Source
from tfaug.data.sources.digits import CorruptedDigits, Digits
from tfaug.data.sources.folder import Folder
from tfaug.data.sources.npz import Npz
from tfaug.data.sources.photos import Photos
from tfaug.data.sources.tfds import Tfds
from tfaug.expressions import read_value

__all__ = [
    "PARTS",
    "SOURCES",
    "Augmented",
    "CorruptedDigits",
    "Digits",
    "Folder",
    "Npz",
    "Parts",
    "Photos",
    "Source",
    "Tfds",
    "read_source",
]

SOURCES: dict[str, type[Source]] = {
    "Augmented": Augmented,
    "CorruptedDigits": CorruptedDigits,
    "Digits": Digits,
    "Folder": Folder,
    "Npz": Npz,
    "Photos": Photos,
    "Tfds": Tfds,
}

# A source that needs no field is also written as its short name.
_WORDS: dict[str, Source] = {source.short_name: source for source in (Digits(), CorruptedDigits(), Photos())}
_ALLOWED = (
    f"{', '.join(_WORDS)}, a TFDS name[:split], the path of an .npz file, that of a folder of images (with a '/' in "
    "it), or a source as in Python: Folder('x', image_px=64)"
)


def read_source(text: str, **fields: Any) -> Source:
    """Reads a source from a text.

    Args:
      text: 'digits', 'digits_corrupted' or 'photos'; a source as it is written in Python, `Tfds("cifar10",
        test_split="train[:10%]")`, or of your own, `my.data.Noise()`; the path of an .npz file; the path of a folder of
        images or of a prepared TFDS set, with a `/` in it ('./mine'); or a TFDS name with, if wanted, its config,
        version and split, 'cifar10', 'cifar10_1/v6:test'. A named split is all that there is of the set, to test on or
        to look at.
      **fields: fields to replace, where the value is neither '' nor 0.

    Raises:
      ConfigError: if the text is none of these, or the source has no such field.

    Example:
      >>> read_source("cifar10:test"), read_source("Npz('a.npz')", num_classes=3)
      (Tfds(name='cifar10', data_dir='', train_split='test', test_split='test', validation_split=''), \
Npz(path='a.npz', test_path='', test_fraction=0.2, num_classes=3))
    """
    source = _read(text)
    given = {name: value for name, value in fields.items() if value}
    names = [field.name for field in dataclasses.fields(source)]  # type: ignore[arg-type]
    for name, value in given.items():
        if name not in names:
            has = f"it has: {', '.join(names)}" if names else "it has no fields"
            raise ConfigError(f"{name} is {value!r}, but {text!r} has no such field; {has}")
    return dataclasses.replace(source, **given)  # type: ignore[type-var]


def _read(text: str) -> Source:
    path = pathlib.Path(text).expanduser()
    if text in _WORDS:
        return _WORDS[text]
    if text.endswith(".npz"):
        return Npz(text)
    if "/" in text and path.is_dir():
        return Tfds(text) if (path / "dataset_info.json").is_file() else Folder(text)
    if text.startswith(("/", "./", "../", "~")):
        raise ConfigError(f"data set {text!r}: there is no such folder; allowed: {_ALLOWED}")
    if re.match(r"\s*[\w.]+\s*\(", text):
        classes: dict[str, type] = dict(SOURCES)
        if "Augmented" in text:  # its op; ops bring TensorFlow
            from tfaug.augment import AUGMENTATIONS

            classes |= AUGMENTATIONS
        source = read_value(text, classes, "source")
        if not isinstance(source, Source):
            raise ConfigError(f"data set {text!r} is no source; allowed: {_ALLOWED}")
        return source
    match = re.fullmatch(r"([^:\[]+(?::[\d.*]+)?)(?::(\D.*))?", text)
    if match is None:
        raise ConfigError(f"data set is {text!r}; allowed: {_ALLOWED}")
    return Tfds(match[1], train_split=match[2], test_split=match[2]) if match[2] else Tfds(match[1])
