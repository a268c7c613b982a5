"""The folder of a run: which file is where, what it holds, the lock, and the time book. Without TensorFlow.

config.json                          the last command's settings, versions, commit
TRAINING/training.json               what it was trained with, phase by phase
TRAINING/0_PHASE/history.csv         a row an epoch
TRAINING/0_PHASE/last.weights.h5     and best.weights.h5, by validation; epoch_0009.weights.h5 where epochs are kept
TRAINING/0_PHASE/checkpoints/        the newest states
TRAINING/result.json                 what came of it
TRAINING/answers.npz                 its teacher's logits to each training image, where it is asked once
export/MODEL/1/                      SavedModel
predictions/MODEL/SET.ATTACK.MODE.npz
features/MODEL/SET.STAGE.npz
rows.csv                             everything measured
rows.json                            what the names in it stand for
summary.json, report.html

The folder of a study (`StudyFolder`) holds such folders, and each training once.

study.json                           its arms: their commands and what they cost
runs/ARM/SEED/                       the workdir of a run; beside it SEED.log and SEED.lock
runs/ARM/SEED/finished.json          the fingerprint of what was run to its end
trainings/HASH/                      what a run calls TRAINING/, which is a link to it
tensorboard/ARM/SEED/                hyper-parameters and results, for TensorBoard
rows.csv, summary.json, report.html  of all runs
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
# What older folders lack, and what is read as nothing where it was not measured.
OF_EPOCH = ("weight_norm", "clean_loss", "augmented_loss")
HISTORY_FIELDS = (
    *("epoch", "step", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"),
    *OF_EPOCH,
)
# Folders of a workdir that are no training's.
RESERVED = ("export", "features", "figures", "predictions", "tensorboard")


@dataclasses.dataclass(frozen=True)
class Row:
    """One number that was measured: of a model, on a set, under an attack, asked in a mode.

    Attributes:
      model: the exported name, or the training's where it is of the training.
      set: a test set's name, `validation`, or "" where there is none.
      attack: the attack's name, `clean` for none.
      mode: `plain`, `mirror` or `sum_aug`, with its setting where views are compared; of seconds, the stage.
      metric: what was measured, such as `accuracy`; fractions are 0..1.
      value: the number.
      low, high: its 95 % interval; None where there is none.
      n: the number of examples; None where it is of none.
      arm, seed: of a study; "" and None in a run of its own.
    """

    model: str
    set: str
    attack: str
    mode: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    arm: str = ""
    seed: int | None = None


ROW_FIELDS = ("arm", "seed", "model", "set", "attack", "mode", "metric", "value", "low", "high", "n")


def write_rows(path: pathlib.Path, rows: Iterable[Row]) -> None:
    """Writes rows as CSV, whole or not at all; floats with all their digits, None as nothing."""
    with files.atomic_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(ROW_FIELDS)
        for row in rows:
            values = (configs.to_python(getattr(row, field)) for field in ROW_FIELDS)
            writer.writerow(
                ["" if value is None else repr(value) if isinstance(value, float) else value for value in values]
            )


def read_rows(path: pathlib.Path) -> list[Row]:
    """Reads what `write_rows` wrote.

    Raises:
      FileNotFoundError: if there is none.
      ConfigError: if it is not such a file, naming the line.
    """

    def number(text: str, kind: Any) -> Any:
        return kind(text) if text else None

    with open(path, newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        rows = []
        try:
            for each in table:
                kinds = {**dict.fromkeys(("value", "low", "high"), float), **dict.fromkeys(("n", "seed"), int)}
                values: dict[str, Any] = {field: number(text, kinds.get(field, str)) for field, text in each.items()}
                texts = {field: values[field] or "" for field in values if field not in kinds}
                rows.append(Row(**{**values, **texts}))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}, line {table.line_num}, is no row ({error}); needed: {', '.join(ROW_FIELDS)}"
            ) from None
    return rows


@dataclasses.dataclass(frozen=True)
class PhaseFolder:
    """Where a phase keeps its files."""

    path: pathlib.Path

    @property
    def result(self) -> pathlib.Path:
        """What came of it, written once it is done: `hash` says of which settings."""
        return self.path / "result.json"

    def weights(self, which: str) -> pathlib.Path:
        """The weights after its `last` epoch, its `best` by validation, or one of `epochs()`."""
        return self.path / f"{which}.weights.h5"

    def epochs(self) -> list[str]:
        """Returns of which of the last epochs the weights are kept too, ascending: `epoch_0009`, ..."""
        return sorted(path.name.removesuffix(".weights.h5") for path in self.path.glob("epoch_*.weights.h5"))

    def checkpoint(self, num_epochs: int) -> pathlib.Path:
        """The state after so many epochs."""
        return self.path / "checkpoints" / f"epoch_{num_epochs:04d}"

    def checkpoints(self) -> list[int]:
        """Returns after how many epochs whole states are kept, ascending."""
        found = (self.path / "checkpoints").glob("epoch_*")
        return sorted(int(path.name.split("_")[1]) for path in found if path.is_dir())

    @property
    def history(self) -> pathlib.Path:
        return self.path / "history.csv"

    def read_history(self) -> list[dict[str, str]]:
        """Reads a row an epoch; there are none where there is no file."""
        if not self.history.exists():
            return []
        with open(self.history, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def write_history(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Writes all rows, whole or not at all."""
        with files.atomic_file(self.history) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, HISTORY_FIELDS)
            writer.writeheader()
            writer.writerows(rows)


@dataclasses.dataclass(frozen=True)
class TrainingFolder:
    """Where a training keeps its files."""

    path: pathlib.Path

    @property
    def made(self) -> pathlib.Path:
        """What it was trained with: `settings`, `hashes` of the phases, and `constants` of the data."""
        return self.path / "training.json"

    @property
    def result(self) -> pathlib.Path:
        return self.path / "result.json"

    @property
    def answers(self) -> pathlib.Path:
        """What its teacher answers to each training image, see `tfaug.predictions.Features`."""
        return self.path / "answers.npz"

    def holds_files(self) -> bool:
        """Whether anything whole is in it; a process that was killed at once leaves it empty."""
        return self.path.exists() and any(not path.name.startswith(".") for path in self.path.iterdir())

    def phase(self, index: int, name: str) -> PhaseFolder:
        return PhaseFolder(self.path / f"{index}_{name}")


class Workdir:
    """A folder for the runs of one experiment.

    Args:
      path: of the folder, there or not; `begin` makes it.
      trainings: a folder that holds every training once, by what identifies it, and to which this one links; None for
        trainings in this folder.

    Raises:
      ConfigError: if it is a file, or holds files but no configuration, or TensorFlow would see a pattern in its path.
    """

    def __init__(self, path: str | pathlib.Path, trainings: str | pathlib.Path | None = None):
        files.refuse_pattern("--workdir", path)
        self.path = pathlib.Path(path)
        self.trainings = None if trainings is None else pathlib.Path(trainings)
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--workdir={self.path} is a file; allowed: a folder, new or of the same experiment")
        if self.path.exists() and not self.config_path.exists():
            foreign = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
            if foreign:
                raise ConfigError(
                    f"--workdir={self.path} holds {', '.join(foreign[:3])} but no config.json; "
                    "allowed: an empty or new folder, or one of the same experiment"
                )

    @property
    def config_path(self) -> pathlib.Path:
        return self.path / "config.json"

    def training(self, name: str) -> TrainingFolder:
        return TrainingFolder(self.path / name)

    @contextlib.contextmanager
    def hold_training(self, name: str, identity: str) -> Iterator[None]:
        """Links a training to its place among the shared ones, and holds that for this process.

        Waits for another process that holds it, which may be training it. A training that the workdir links to and that
        has become longer is copied; one that lies in the workdir itself stays there.

        Args:
          name: of the training.
          identity: of all that it is.
        """
        link = self.path / name
        if self.trainings is None or (link.exists() and not link.is_symlink()):
            yield
            return
        place = self.trainings / identity
        self.trainings.mkdir(parents=True, exist_ok=True)
        with open(self.trainings / f"{identity}.lock", "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print(f"[tfaug] another process trains {name}; waiting for it", file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            if not place.exists():
                with files.atomic_directory(place) as partial:
                    if link.exists():
                        shutil.copytree(link, partial, dirs_exist_ok=True)
            target = os.path.relpath(place.resolve(), self.path.resolve())
            if not link.is_symlink() or os.readlink(link) != target:
                files.write_link(link, target)
            yield

    def copy_trainings(self, names: Iterable[str], other: Workdir) -> None:
        """Copies those of some trainings that `other` has."""
        for name in names:
            if other.training(name).path.exists():
                shutil.copytree(other.training(name).path, self.training(name).path)

    def trainings_sha256(self, names: Iterable[str]) -> str:
        """Returns the SHA-256 of all files of some trainings, of their names and bytes."""
        digest = hashlib.sha256()
        for name in names:
            for path in sorted(self.training(name).path.rglob("*")):
                place = path.relative_to(self.path)
                if path.is_file() and not any(part.startswith(".") for part in place.parts):
                    digest.update(f"{place} {path.stat().st_size}\n".encode())
                    digest.update(path.read_bytes())
        return digest.hexdigest()

    def export(self, model: str) -> pathlib.Path:
        """The folder of a model's versions."""
        return self.path / "export" / model

    def test_time(self, model: str) -> pathlib.Path:
        """What a model's views gave on validation images, and which was chosen."""
        return self.export(model) / "test_time.json"

    def predictions(self, model: str, set_name: str, attack: str, mode: str) -> pathlib.Path:
        """What a model answered; `tfaug.predictions` reads and writes it. The attack of unharmed images is `clean`."""
        return self.path / "predictions" / model / f"{set_name}.{attack}.{mode}.npz"

    def features(self, model: str, set_name: str, stage: str) -> pathlib.Path:
        """What a stage of a model gave; `tfaug.predictions` reads and writes it."""
        return self.path / "features" / model / f"{set_name}.{stage}.npz"

    @property
    def rows(self) -> pathlib.Path:
        """Everything measured, a `Row` a line."""
        return self.path / "rows.csv"

    @property
    def meanings(self) -> pathlib.Path:
        """What the names in the rows stand for, `models`, `sets` and `attacks`, and the `settings` of then."""
        return self.path / "rows.json"

    @property
    def timings(self) -> pathlib.Path:
        """The seconds of every stage."""
        return self.path / "timings.json"

    @property
    def summary(self) -> pathlib.Path:
        """Every number of the report."""
        return self.path / "summary.json"

    @property
    def page(self) -> pathlib.Path:
        """The report."""
        return self.path / "report.html"

    @property
    def augmentations(self) -> pathlib.Path:
        """Images under every op, for the report."""
        return self.path / "figures" / "augmentations.npz"

    @property
    def pace(self) -> pathlib.Path:
        """How long a step took, once the process has made a few: `training`, `phase`, `step_seconds`."""
        return self.path / "pace.json"

    def tensorboard(self, training: str) -> pathlib.Path:
        return self.path / "tensorboard" / training

    def orders(self, identity: str, epoch: int) -> pathlib.Path:
        """What all orders of an epoch came to; `tfaug.perfect_ordering` reads and writes it."""
        return self.path / "orders" / identity / f"epoch_{epoch:02d}.npz"

    def begin(self, config: Any) -> None:
        """Writes the settings, the library versions and the git commit, where they are not written yet."""
        settings = configs.to_dict(config)
        held = files.read_json(self.config_path) if self.config_path.exists() else {}
        if held.get("config") == settings:
            return
        started = held.get("started") or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.path.mkdir(parents=True, exist_ok=True)
        files.write_json(
            self.config_path,
            {
                "config": settings,
                "fingerprint": configs.fingerprint(config),
                "versions": installed_versions(),
                "git_commit": git_commit(),
                "started": started,
            },
        )

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
        timings = files.read_json(self.timings) if self.timings.exists() else {}
        files.write_json(self.timings, {**timings, stage: timings.get(stage, 0.0) + seconds})

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


@dataclasses.dataclass(frozen=True)
class StudyFolder:
    """Where a study keeps its runs and what is computed from them.

    Attributes:
      path: of the folder, there or not.
    """

    path: pathlib.Path

    def __post_init__(self) -> None:
        files.refuse_pattern("--workdir", self.path)
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--workdir={self.path} is a file; allowed: a folder, new or of the same study")
        if (self.path / "config.json").exists():
            raise ConfigError(f"--workdir={self.path} holds a run; allowed: a folder, new or of the same study")

    @property
    def about(self) -> pathlib.Path:
        """The arms: their commands and what they cost."""
        return self.path / "study.json"

    @property
    def trainings(self) -> pathlib.Path:
        return self.path / "trainings"

    @property
    def tensorboard(self) -> pathlib.Path:
        return self.path / "tensorboard"

    @property
    def rows(self) -> pathlib.Path:
        return self.path / "rows.csv"

    @property
    def summary(self) -> pathlib.Path:
        return self.path / "summary.json"

    @property
    def report(self) -> pathlib.Path:
        return self.path / "report.html"

    def run(self, arm: str, seed: int) -> pathlib.Path:
        """The workdir of a run; `arm` is the name of its folder."""
        return self.path / "runs" / arm / str(seed)

    def log(self, arm: str, seed: int) -> pathlib.Path:
        """What the run's processes said."""
        return self.path / "runs" / arm / f"{seed}.log"

    def seeds(self, arm: str) -> list[int]:
        """Returns the seeds of an arm that have a workdir, ascending."""
        found = (self.path / "runs" / arm).glob("*/config.json")
        return sorted(int(path.parent.name) for path in found if path.parent.name.isdigit())

    def finished(self, arm: str, seed: int) -> str:
        """Returns the fingerprint of what a run was run to its end with; empty where it was not."""
        run = self.run(arm, seed)
        record = run / "finished.json"
        return str(files.read_json(record)["fingerprint"]) if record.exists() and (run / "rows.csv").exists() else ""

    def finish(self, arm: str, seed: int, fingerprint: str) -> None:
        """Records that a run has come to its end."""
        files.write_json(self.run(arm, seed) / "finished.json", {"fingerprint": fingerprint})

    @contextlib.contextmanager
    def hold(self, arm: str, seed: int) -> Iterator[int | None]:
        """Yields a file descriptor while this process holds a run, or None where another one does.

        A child that inherits the descriptor holds the run too, also when this process has died.
        """
        lock = self.path / "runs" / arm / f"{seed}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with open(lock, "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield None
                return
            yield file.fileno()


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
