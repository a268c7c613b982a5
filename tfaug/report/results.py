"""What a study has measured: the rows of its runs, and of each what a column means."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfaug import files
from tfaug.config import ConfigError, fingerprint
from tfaug.report.recorded import OF_TRAINING, recorded_rows
from tfaug.study import Column, Search, Study, Trial, folder_name
from tfaug.workdir import Row, StudyFolder, Workdir, read_rows

if TYPE_CHECKING:  # for the report needs no TensorFlow
    from tfaug.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Results:
    """What a study has measured.

    Attributes:
      study: what was asked.
      rows: of all finished runs, with `arm` and `seed`.
      missing: the names of the runs that are not finished.
    """

    study: Study | Search
    rows: tuple[Row, ...]
    missing: tuple[str, ...] = ()

    def picked(self, column: Column) -> dict[str, dict[int, Row]]:
        """Returns the row of every run that a column means: arm -> seed -> row."""
        found: dict[str, dict[int, Row]] = {arm: {} for arm in self.study.arms}
        models = {arm: _model(column, experiment) for arm, experiment in self.study.arms.items()}
        for row in self.rows:
            wanted = (models.get(row.arm), column.set, column.attack, column.mode, column.metric)
            if (row.model, row.set, row.attack, row.mode, row.metric) == wanted and row.seed is not None:
                found[row.arm][row.seed] = row
        return found

    def values(self, column: Column) -> dict[str, dict[int, float]]:
        """Returns the number of every run that has it: arm -> seed -> value, in the unit of the rows."""
        found = {
            arm: {seed: row.value for seed, row in by_seed.items()} for arm, by_seed in self.picked(column).items()
        }
        if column.minus is None:
            return found
        minus = self.values(column.minus)
        return {arm: {s: v - minus[arm][s] for s, v in by.items() if s in minus[arm]} for arm, by in found.items()}


def read_results(folder: StudyFolder, study: Study, trials: Sequence[Trial]) -> Results:
    """Reads the rows of the trials that are finished.

    Raises:
      ConfigError: if none is.
    """
    rows: list[Row] = []
    missing = []
    for trial in trials:
        arm = folder_name(trial.arm)
        if folder.finished(arm, trial.seed) != fingerprint(trial.experiment):
            missing.append(trial.name)
            continue
        made = _read_all(Workdir(folder.run(arm, trial.seed)), trial.experiment)
        rows += [dataclasses.replace(row, arm=trial.arm, seed=trial.seed) for row in made]
    if not rows:
        raise ConfigError(f"--workdir={folder.path} holds no finished run of this study; run `tfaug study run` first")
    return Results(study, tuple(rows), tuple(missing))


def read_search(workdir: Workdir, search: Search, trial: Trial) -> Results:
    """Reads the rows of what is done of a search.

    Args:
      workdir: where it is done.
      search: which.
      trial: under whose name its seconds stand.

    Raises:
      ConfigError: if nothing is.
    """
    rows = search.rows(workdir)
    if not rows:
        raise ConfigError(f"{workdir.path} holds nothing of this study; run `tfaug study run` first")
    missing = () if {row.arm for row in rows} == set(search.arms) else (trial.name,)
    timings = files.read_json(workdir.timings) if workdir.timings.exists() else {}
    seconds = [dataclasses.replace(row, arm=trial.arm, seed=trial.seed) for row in recorded_rows({}, {}, timings)]
    return Results(search, (*rows, *seconds), missing)


def _read_all(workdir: Workdir, experiment: Experiment) -> list[Row]:
    """Returns the rows of the evaluators and those of what else the run has recorded."""

    def read(paths: Mapping[str, pathlib.Path]) -> dict[str, Any]:
        return {name: files.read_json(path) for name, path in paths.items() if path.exists()}

    results = read({training.name: workdir.training(training.name).result for training in experiment.trainings})
    views = read({name: workdir.test_time(name) for name in experiment.exported()})
    timings = files.read_json(workdir.timings) if workdir.timings.exists() else {}
    return [*read_rows(workdir.rows), *recorded_rows(results, views, timings)]


def read_collected(path: pathlib.Path, study: Study | Search) -> Results:
    """Reads the rows of a study that were collected earlier.

    Raises:
      FileNotFoundError: if there is no such file.
      ConfigError: if it holds no row of any arm.
    """
    arms = list(study.arms)
    rows = tuple(row for row in read_rows(path) if row.arm in arms)
    if not rows:
        raise ConfigError(f"{path} holds no row of an arm of this study: {', '.join(arms)}")
    found = {(row.arm, row.seed) for row in rows}
    missing = [f"{arm}, seed {seed}" for arm in arms for seed in study.seeds if (arm, seed) not in found]
    return Results(study, rows, tuple(missing))


def _model(column: Column, experiment: Any) -> str:
    """Returns the exported model that a column means: of a training's name, that of its last phase."""
    if column.metric == "seconds" or experiment is None:
        return column.model
    if column.metric in OF_TRAINING:
        return column.model or experiment.trainings[-1].name
    last = {training.name: list(training.exported())[-1] for training in experiment.trainings}
    return last.get(column.model, column.model) if column.model else list(last.values())[-1]
