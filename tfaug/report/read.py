"""Read what the stages of a run left in its workdir."""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfaug import files
from tfaug.config import ConfigError, differences
from tfaug.predictions import CLEAN, MODES, Predictions, read_predictions
from tfaug.report.recorded import recorded_rows
from tfaug.workdir import HISTORY_FIELDS, PhaseFolder, Row, Workdir, read_rows


@dataclasses.dataclass(frozen=True)
class History:
    """The epochs of one phase: one float64 array per column of `HISTORY_FIELDS`, NaN where nothing was written."""

    training: str
    phase: str
    columns: Mapping[str, np.ndarray]
    num_broken_rows: int = 0

    @property
    def num_epochs(self) -> int:
        """How many epochs were written down."""
        return len(self.columns["epoch"])


@dataclasses.dataclass(frozen=True)
class Run:
    """One workdir, read and checked.

    Attributes:
      name, fingerprint, git_commit, date, config, versions: from config.json.
      trainings: by name what came of each, in the order of the experiment.
      models, sets, attacks: what the names in the rows stand for, in the order of the experiment.
      rows: everything measured.
      histories: of all phases, in order.
      predictions: answers to the test set, by (model, mode), for the figures.
      test_time: by model what was chosen on validation images, and from what.
      augmentations: names and uint8 [R,COLS,H,W,C] of the contact sheet, or None.
      notes: a sentence for each section of the page for which the workdir holds nothing, or not all.
    """

    name: str
    fingerprint: str
    git_commit: str
    date: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    trainings: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Any]]
    sets: Mapping[str, Mapping[str, Any]]
    attacks: Mapping[str, Mapping[str, Any]]
    rows: tuple[Row, ...]
    histories: tuple[History, ...]
    predictions: Mapping[tuple[str, str], Predictions]
    test_time: Mapping[str, Mapping[str, Any]]
    augmentations: tuple[tuple[str, ...], np.ndarray] | None
    notes: Mapping[str, str]

    @property
    def test_set(self) -> str:
        """The name of the data's own test set."""
        return next(iter(self.sets))


def read_run(path: str | os.PathLike[str]) -> Run:
    """Reads everything that the report is made of.

    Needed are config.json, the result of every training that it names, rows.csv and rows.json; whatever else is missing
    becomes a sentence in `Run.notes`.

    Args:
      path: the folder that `tfaug run` filled.

    Returns:
      The run, with the rows checked against the trained weights.

    Raises:
      FileNotFoundError: if a needed file is missing, naming the command that makes it.
      ConfigError: if a file does not hold what it should, naming the file, what it holds and what is allowed.
    """
    root = pathlib.Path(path)
    written = _read_json(root, root / "config.json", "run")
    workdir = Workdir(root)
    config = written.get("config") or {}
    phases = {each["name"]: [phase["name"] for phase in each["phases"]] for each in config.get("trainings") or ()}
    if not phases:
        raise ConfigError(f"{workdir.config_path} names no training; make it again with `tfaug run`")
    results = {name: _read_json(root, workdir.training(name).result, "train") for name in phases}
    meanings = _read_json(root, workdir.meanings, "evaluate")
    models, sets, attacks = ({**meanings.get(kind, {})} for kind in ("models", "sets", "attacks"))
    if not sets:
        raise ConfigError(f"{workdir.meanings} names no set; make it again with `tfaug evaluate`")
    if not workdir.rows.exists():
        raise _missing(root, workdir.rows, "evaluate")
    rows = tuple(read_rows(workdir.rows))
    models = {name: model for name, model in models.items() if model["training"] in phases}
    _check_weights(workdir.rows, models, results)
    histories = tuple(
        _read_history(workdir.training(name).phase(index, phase), name)
        for name, names in phases.items()
        for index, phase in enumerate(names)
    )
    timings: dict[str, float] = {}
    if workdir.timings.exists():
        timings = {stage: float(spent) for stage, spent in _read_json(root, workdir.timings, "run").items()}
    augmentations = _read_augmentations(workdir.augmentations) if workdir.augmentations.exists() else None
    test_time = {
        name: _read_json(root, workdir.test_time(name), "export") for name in models if workdir.test_time(name).exists()
    }
    notes = _notes(rows, models, phases, sets, histories)
    measured = meanings.get("settings") or {}
    if changed := [line for key in measured for line in differences(measured[key], config.get(key), key)]:
        notes["rows"] = f"Measured with other settings, which `tfaug evaluate` mends: {'; '.join(changed)}."
    if augmentations is None:
        notes["augmentations"] = "No augmented images were saved in this run, so there is no contact sheet."
    if not test_time:
        notes["test_time"] = "Nothing was compared on validation images in this run."
    if not timings:
        notes["timings"] = "No timings were written in this run."
    return Run(
        name=str(config.get("name") or root.resolve().name),
        fingerprint=str(written.get("fingerprint") or "unknown"),
        git_commit=str(written.get("git_commit") or "unknown"),
        date=_date(written, workdir.config_path),
        config=config,
        versions={str(name): str(version) for name, version in (written.get("versions") or {}).items()},
        trainings=results,
        models=models,
        sets=sets,
        attacks=attacks,
        rows=(*rows, *recorded_rows(results, test_time, timings)),
        histories=histories,
        predictions=_read_clean(workdir, models, next(iter(sets)), rows),
        test_time=test_time,
        augmentations=augmentations,
        notes=notes,
    )


def _read_json(root: pathlib.Path, path: pathlib.Path, command: str) -> dict[str, Any]:
    """Reads a needed JSON file, an object."""
    if not path.exists():
        raise _missing(root, path, command)
    try:
        value = files.read_json(path)
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}); make it again with `tfaug {command}`") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds a {type(value).__name__}, allowed: an object; make it with `tfaug {command}`")
    return value


def _missing(root: pathlib.Path, path: pathlib.Path, command: str) -> FileNotFoundError:
    """Says what is missing and how to get it."""
    made_by = f"`tfaug {command} --config=MODULE:FUNCTION --workdir={root}` makes it"
    return FileNotFoundError(f"{path} is missing; {made_by}")


def _check_weights(
    path: pathlib.Path, models: Mapping[str, Mapping[str, Any]], results: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuses rows about weights that are no longer those of the workdir."""
    for name, model in models.items():
        phases = results[model["training"]].get("phases") or []
        trained = phases[model["phase"]].get("weights_sha256") if model["phase"] < len(phases) else None
        if trained and model["weights_sha256"] != trained:
            raise ConfigError(
                f"{path} was made with the weights {model['weights_sha256'][:12]}, but {name} has {trained[:12]}; "
                "run `tfaug evaluate`"
            )


def _read_clean(
    workdir: Workdir, models: Mapping[str, Mapping[str, Any]], test_set: str, rows: Sequence[Row]
) -> dict[tuple[str, str], Predictions]:
    """Reads what models answered about the test set, in the modes that the rows are about."""
    measured = {(row.model, row.mode) for row in rows if (row.set, row.attack) == (test_set, CLEAN)}
    found = {}
    for name, model in models.items():
        for mode in MODES:
            path = workdir.predictions(name, test_set, CLEAN, mode)
            if (name, mode) not in measured or not path.exists():
                continue
            found[name, mode] = read_predictions(path)
            weights = str(found[name, mode].key.get("weights_sha256"))
            if weights != model["weights_sha256"]:
                raise ConfigError(
                    f"{path} was made with the weights {weights[:12]}, {workdir.rows} with "
                    f"{model['weights_sha256'][:12]}; run `tfaug evaluate`"
                )
    return found


def _notes(
    rows: Sequence[Row],
    models: Mapping[str, Mapping[str, Any]],
    trainings: Mapping[str, Any],
    sets: Mapping[str, Any],
    histories: Sequence[History],
) -> dict[str, str]:
    """Says, for each section of the page, what was not measured."""
    notes = {}
    measured = {models[row.model]["training"] for row in rows if row.model in models}
    missing = [name for name in trainings if name not in measured]
    if missing:
        notes["models"] = f"Not measured: {', '.join(missing)}; `tfaug evaluate` does that."
    if not any(row.mode == "sum_aug" for row in rows):
        notes["sum_aug"] = "The models were not asked through Sum-Aug in this run, so only plain answers are shown."
    if all(row.attack == CLEAN for row in rows):
        notes["attacks"] = "No attacked images were sent in this run, so there is no accuracy under attack."
    if not any(row.metric == "gap" for row in rows):
        notes["gap"] = "No shifted test set was measured in this run, so there is no gap."
    broken = [f"{each.num_broken_rows} in {each.training}/{each.phase}" for each in histories if each.num_broken_rows]
    if broken:
        notes["training"] = f"Unreadable rows of history.csv were left out: {', '.join(broken)}."
    if not any(each.num_epochs for each in histories):
        notes["training"] = "No training history was found, so there are no curves."
    return notes


def _read_history(folder: PhaseFolder, training: str) -> History:
    """Reads one history: the last row of each epoch; a row cut off while it was written is counted, not used."""
    rows: dict[float, list[float]] = {}
    num_broken = 0
    for row in folder.read_history():
        try:
            numbers = [float(row.get(column) or "nan") for column in HISTORY_FIELDS]
        except ValueError:
            num_broken += 1
            continue
        if math.isfinite(numbers[0]):
            rows[numbers[0]] = numbers
        else:
            num_broken += 1
    table = np.asarray([rows[epoch] for epoch in sorted(rows)], np.float64).reshape(len(rows), len(HISTORY_FIELDS))
    columns = {column: table[:, i] for i, column in enumerate(HISTORY_FIELDS)}
    return History(training, folder.path.name, columns, num_broken)


def _read_augmentations(path: pathlib.Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Reads the rows of the contact sheet: names and uint8 [R,COLS,H,W,C]."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names, images = tuple(arrays["names"].astype(str).tolist()), arrays["images"]
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise ConfigError(f"{path} is not an .npz file ({error}); make it again with `tfaug train`") from error
    if images.ndim != 5 or images.dtype != np.uint8 or len(names) != len(images) or images.shape[-1] not in (1, 3):
        raise ConfigError(
            f"{path} has {len(names)} names and images {images.dtype} {images.shape}; "
            "allowed: R names and uint8 [R,COLS,H,W,C] with C 1 or 3"
        )
    return names, images


def _date(written: Mapping[str, Any], path: pathlib.Path) -> str:
    """Returns when the run began: `started` of config.json, or else when that file was written."""
    if written.get("started"):
        return str(written["started"]).replace("T", " ").replace("Z", " UTC")
    moment = datetime.datetime.fromtimestamp(int(path.stat().st_mtime), tz=datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def training_phases(run: Run) -> Iterator[tuple[str, list[History]]]:
    """Yields each training with the histories of its phases that have any."""
    for name in run.trainings:
        histories = [history for history in run.histories if history.training == name and history.num_epochs]
        if histories:
            yield name, histories
