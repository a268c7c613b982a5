"""Write files and folders so that a reader sees the whole of them or nothing, whenever the process dies."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

_PARTIAL = ".partial-"


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
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
    remove_partial(path.parent, path.name)
    partial = _partial(path)
    partial.mkdir()
    try:
        yield partial
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_partial(folder: str | os.PathLike[str], name: str = "*") -> None:
    """Removes what killed writers of `name` left unfinished in `folder`."""
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
