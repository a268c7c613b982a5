"""Write files and folders so that a reader sees the whole of them or nothing, whenever the process dies."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from tfaug.config import ConfigError

_PARTIAL = ".partial-"
_PATTERN = r"[\[\]*?\\]"  # what has a meaning in a pattern for names of files


def refuse_pattern(name: str, path: str | os.PathLike[str]) -> None:
    """Refuses a path in which TensorFlow sees a pattern.

    It looks for checkpoints and SavedModels by pattern: what it has written at such a path, it does not find.

    Args:
      name: what the path is of, for the message.
      path: looked at from the root.

    Raises:
      ConfigError: if it holds one of `[`, `]`, `*`, `?` and the backslash.
    """
    whole = str(pathlib.Path(path).absolute())
    if held := sorted(set(re.findall(_PATTERN, whole))):
        raise ConfigError(
            f"{name} is {whole}, where TensorFlow takes {' '.join(held)} for a pattern and would not find what it has "
            "written; allowed: a path without [ ] * ? and backslash"
        )


def one_line(error: BaseException) -> str:
    """Returns what an error of the system, of TensorFlow or of a library says, in one line."""
    text = str(getattr(error, "message", None) or error)
    # TensorFlow tells the node and the op too.
    return " ".join(re.sub(r"\{\{.*?\}\}|\[Op:.*", "", text).split()) or type(error).__name__


@contextlib.contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Adds the path to an error of the system that names none, as those of a full disk and of HDF5 do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is None:
            error.args = (f"{path}: {error}",)
        elif error.filename is None:
            error.filename = os.fspath(path)
        raise


def _partial(path: pathlib.Path) -> pathlib.Path:
    """Returns the temporary neighbour of `path`: hidden, and with the same suffixes (Keras looks at them)."""
    return path.with_name(f"{_PARTIAL}{os.getpid()}-{path.name}")


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`; on success it replaces `path`, on failure it is removed.

    Example:
      >>> import tempfile, pathlib
      >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
      >>> with atomic_file(target) as partial:
      ...     _ = partial.write_text("whole")
      >>> target.read_text()
      'whole'
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        with named(path):
            yield partial
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_link(path: pathlib.Path, target: str) -> None:
    """Makes `path` a link to a folder, in place of another link that may be there."""
    partial = _partial(path)
    partial.unlink(missing_ok=True)
    partial.symlink_to(target, target_is_directory=True)
    os.replace(partial, path)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields an empty temporary folder beside `path`; on success it becomes `path`, on failure it is removed.

    Raises:
      FileExistsError: if `path` exists already: a published folder is never replaced.
    """
    path = pathlib.Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already; a published folder is never overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_partial(path.parent, glob.escape(path.name))
    partial = _partial(path)
    partial.mkdir()
    try:
        with named(path):
            yield partial
            os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_partial(folder: str | os.PathLike[str], name: str = "*") -> None:
    """Removes what killed writers of `name`, a pattern, left unfinished in `folder`."""
    for leftover in pathlib.Path(folder).glob(f"{_PARTIAL}*-{name}"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def remove_directory(path: str | os.PathLike[str]) -> None:
    """Removes a published folder: first its name, then its content, so that no reader meets half of it."""
    path = pathlib.Path(path)
    hidden = _partial(path)
    os.rename(path, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file."""
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
