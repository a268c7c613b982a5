"""Decoded images, kept in a folder of the user for the next call."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from absl import logging

from tfaug.data.split import Split
from tfaug.files import atomic_file

# What numpy raises for a file that is no .npz, is cut short, was changed or holds Python objects.
DAMAGED = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)

_ARRAYS = tuple(field.name for field in dataclasses.fields(Split))


def user_cache_dir() -> pathlib.Path:
    """Returns the folder in which decoded data may be shared by all runs of a user.

    Returns:
      The environment's TFAUG_CACHE_DIR, else XDG_CACHE_HOME/tfaug, else ~/.cache/tfaug.
    """
    own, shared = os.environ.get("TFAUG_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    folder = own or (f"{shared}/tfaug" if shared else "~/.cache/tfaug")
    return pathlib.Path(folder).expanduser()


def cached_split(cache_dir: str | os.PathLike[str] | None, name: str, key: str, decode: Callable[[], Split]) -> Split:
    """Reads a split from the cache if that holds exactly it, else decodes it, filling the cache.

    Args:
      cache_dir: the folder; None keeps nothing.
      name: of the file, any text.
      key: all that the images follow from; a file of another key is made again, as is a damaged one.
      decode: makes the split.
    """
    if cache_dir is None:
        return decode()
    path = pathlib.Path(cache_dir) / (re.sub(r"[^\w.-]+", "_", name) + ".npz")
    cached = _read(path, key)
    if cached is not None:
        return cached
    decoded = decode()
    arrays = {name: rows for name in _ARRAYS if (rows := getattr(decoded, name)) is not None}
    try:
        with atomic_file(path) as partial:
            np.savez(partial, key=np.array(key), **arrays)
    except OSError as error:
        logging.warning("%s is not kept for the next call: %s", path, error)
    return decoded


def _read(path: pathlib.Path, key: str) -> Split | None:
    """What the cache file holds if it is whole (zip checks every byte) and of this key; else None."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) == key:
                return Split(**{name: file[name] for name in _ARRAYS if name in file.files})
        logging.info("%s was made from other records: making it again", path)
    except FileNotFoundError:
        pass
    except DAMAGED as error:
        logging.warning("%s is damaged (%s): making it again", path, error)
    return None
