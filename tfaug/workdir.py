"""The folder of a run: its configuration, written before anything else, its lock and its time book."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import tfaug
from tfaug import config as configs
from tfaug import files
from tfaug.config import ConfigError

_LIBRARIES = (
    "tensorflow",
    "keras",
    "tf-keras",
    "keras-cv",
    "tensorflow-addons",
    "tensorflow-datasets",
    "numpy",
    "absl-py",
)


class Workdir:
    """Opens a folder for one configuration.

    Args:
      path: made if it is not there.
      config: the resolved configuration; it is written with its fingerprint, the library versions and the git commit
        before anything runs.

    Raises:
      ConfigError: if the folder holds another configuration (the fields that differ are named), or holds files but no
        configuration: nothing is overwritten; or if TensorFlow would see a pattern in its path.
    """

    def __init__(self, path: str | pathlib.Path, config: Any):
        files.refuse_pattern("--workdir", path)
        self.path = pathlib.Path(path)
        self.config = config
        self.fingerprint = configs.fingerprint(config)
        self._check()
        if not (self.path / "config.json").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            files.write_json(self.path / "config.json", self._description())

    def _check(self) -> None:
        """Refuses a folder that belongs to something else."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ConfigError(f"--workdir={self.path} is a file; allowed: a folder, new or of the same configuration")
        if not (self.path / "config.json").exists():
            foreign = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
            if foreign:
                raise ConfigError(
                    f"--workdir={self.path} holds {', '.join(foreign[:3])} but no config.json; "
                    "allowed: an empty or new folder, or one of the same configuration"
                )
            return
        held = files.read_json(self.path / "config.json")
        if held["fingerprint"] != self.fingerprint:
            lines = configs.differences(held["config"], configs.to_dict(self.config))
            raise ConfigError(
                f"--workdir={self.path} holds another configuration ({held['fingerprint']}, not {self.fingerprint}); "
                "choose another folder, or give the same settings. They differ in\n  " + "\n  ".join(lines[:20])
            )

    def _description(self) -> dict[str, Any]:
        return {
            "config": configs.to_dict(self.config),
            "fingerprint": self.fingerprint,
            "versions": installed_versions(),
            "git_commit": git_commit(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for this process; the lock goes with the process, however it ends.

        Raises:
          ConfigError: if another process holds it.
        """
        with open(self.path / ".lock", "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(
                    f"--workdir={self.path} is in use by another tfaug process; wait for it or stop it"
                ) from None
            yield

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Adds to a stage's time, so that a resumed run reports the sum of its parts."""
        path = self.path / "timings.json"
        timings = files.read_json(path) if path.exists() else {}
        files.write_json(path, {**timings, stage: timings.get(stage, 0.0) + seconds})

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[StageClock]:
        """Announces a stage and books its seconds, including what is booked in between by `StageClock.book`."""
        print(f"[tfaug] {name}", file=sys.stderr, flush=True)
        clock = StageClock(self, name)
        try:
            yield clock
        finally:
            clock.book()


class StageClock:
    """Books the seconds since it last did, so that a killed process loses little of its time book."""

    def __init__(self, workdir: Workdir, stage: str):
        self.workdir, self.stage = workdir, stage
        self._since = time.perf_counter()

    def book(self, *_: object) -> None:
        """Adds the seconds since the last call to the stage."""
        now = time.perf_counter()
        self.workdir.add_seconds(self.stage, now - self._since)
        self._since = now


def installed_versions() -> dict[str, str]:
    """Returns the versions of tfaug, of Python, and of each library in `_LIBRARIES` that is installed."""
    versions = {"tfaug": tfaug.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def git_commit() -> str:
    """Returns the commit of the checkout that tfaug runs from, with `-dirty` if it is changed, or `unknown`."""
    folder = pathlib.Path(tfaug.__file__).parent
    try:
        top = subprocess.run(
            ["git", "rev-parse", "--show-toplevel"], cwd=folder, capture_output=True, text=True, check=True
        )
        # An installed package may lie inside somebody else's repository.
        if pathlib.Path(top.stdout.strip()).resolve() != folder.parent.resolve():
            return "unknown"
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return found.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
