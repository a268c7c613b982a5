"""What a model answered about a set of images, and what a stage of it made of them: files, and their keys.

Both are .npz files that also hold the labels and ids of the images and a key, JSON of all that they depend on; a file
is used where its key is the wanted one, and made again elsewhere. Without TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfaug import metrics
from tfaug.config import ConfigError
from tfaug.files import atomic_file

# How a model is asked; the signatures of an export are called so, with `_uint8` added where the images are uint8.
MODES = ("plain", "mirror", "sum_aug")
CLEAN = "clean"  # the name of no attack
# What numpy raises for a file that is no .npz, is cut short or holds Python objects.
_DAMAGED = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a model on a set: probs, logits float32 [N,K]; labels int64 [N]; ids str [N]; what they are of."""

    probs: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    key: Mapping[str, Any]

    @property
    def correct(self) -> np.ndarray:
        """Which answers are right: bool [N]; of equal probabilities the first class counts."""
        return metrics.correct_predictions(self.probs, self.labels).astype(bool)


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """Output of a stage for a set: values float32 [N,D...]; labels int64 [N]; ids str [N]; what they are of."""

    values: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    key: Mapping[str, Any]


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Reads a file of predictions.

    Raises:
      FileNotFoundError: if there is none.
      ConfigError: if it is not such a file, or not a whole one, or does not hold one distribution and id per label.
    """
    arrays, key = _read(path, ("probs", "logits", "labels", "ids"))
    try:
        metrics.check_predictions(arrays["probs"], arrays["labels"])
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; make it again with `tfaug evaluate`") from None
    _check_ids(path, arrays)
    return Predictions(**arrays, key=key)


def read_features(path: str | os.PathLike[str]) -> Features:
    """Reads a file of features; raises as `read_predictions` does."""
    arrays, key = _read(path, ("values", "labels", "ids"))
    _check_ids(path, arrays)
    return Features(**arrays, key=key)


def write(path: str | os.PathLike[str], written: Predictions | Features) -> None:
    """Writes a file of predictions or features, whole or not at all."""
    arrays = {name: value for name, value in vars(written).items() if name != "key"}
    with atomic_file(path) as partial, open(partial, "wb") as file:
        np.savez(file, key=np.array(json.dumps(written.key)), **arrays)


def is_of(held: Predictions | Features, key: Mapping[str, Any], labels: np.ndarray, ids: np.ndarray) -> bool:
    """Says whether what a file holds has every entry of `key`, and these labels and ids."""
    same_key = {name: held.key.get(name) for name in key} == json.loads(json.dumps(dict(key)))
    return same_key and np.array_equal(held.labels, labels) and np.array_equal(held.ids, ids)


def array_sha256(array: np.ndarray) -> str:
    """Returns the SHA-256 of an array's dtype, shape and bytes."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _read(path: str | os.PathLike[str], names: tuple[str, ...]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads the arrays and the key."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}, json.loads(str(file["key"]))
    except FileNotFoundError:
        raise
    except _DAMAGED as error:
        raise ConfigError(
            f"{path} is not a whole file of {', '.join(names)} and key ({error}); make it again with `tfaug evaluate`"
        ) from None


def _check_ids(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Refuses ids that do not name each example."""
    ids, num = arrays["ids"], len(arrays["labels"])
    if ids.shape != (num,) or len(set(ids.tolist())) != num:
        raise ConfigError(f"{path} has ids {ids.shape} for {num} labels; allowed: one per label, all different")
