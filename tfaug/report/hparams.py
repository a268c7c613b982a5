"""What TensorBoard's HParams page shows of a study: the settings that differ, and the results, a run a session."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from tfaug import files
from tfaug.config import differences, to_dict
from tfaug.extras import explained
from tfaug.report.results import Results
from tfaug.study import Trial, folder_name
from tfaug.workdir import StudyFolder


def settings_that_differ(trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """Returns of each arm the settings in which the arms differ, by their paths; what is no number or text, as text."""
    base = to_dict(trials[0].experiment)
    arms = {trial.arm: to_dict(trial.experiment) for trial in trials}
    paths = {
        line.partition(": ")[0]
        for settings in arms.values()
        for line in differences(base, settings)
        if not line.startswith(("name:", "seed:"))
    }
    return {arm: {path: _look_up(settings, path) for path in sorted(paths)} for arm, settings in arms.items()}


def _look_up(settings: Any, path: str) -> Any:
    """Returns the value at a dotted path, as a number or a text."""
    for key in path.split("."):
        if isinstance(settings, list):
            settings = settings[int(key)] if int(key) < len(settings) else None
        else:
            settings = (settings or {}).get(key)
    return settings if isinstance(settings, (bool, int, float, str)) else _in_words(settings)[:200]


def _in_words(settings: Any) -> str:
    """Writes settings as they stand in Python."""
    if isinstance(settings, list):
        return "(" + ", ".join(map(_in_words, settings)) + ")"
    if isinstance(settings, dict):
        fields = (f"{key}={_in_words(value)}" for key, value in settings.items() if key != "class")
        return f"{settings['class']}({', '.join(fields)})"
    return repr(settings)


def write_hparams(folder: StudyFolder, results: Results, trials: Sequence[Trial]) -> None:
    """Writes tensorboard/ARM/SEED/ of each finished run anew."""
    with explained():
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import summary_v2
        from tensorboard.summary.writer.record_writer import RecordWriter

    columns = {name: results.values(column) for name, column in results.study.columns().items()}
    settings = settings_that_differ(trials)
    for trial in trials:
        if trial.name in results.missing:
            continue
        values: Mapping[str, Any] = {"arm": trial.arm, "seed": trial.seed, **settings[trial.arm]}
        board = folder.tensorboard / folder_name(trial.arm) / str(trial.seed)
        shutil.rmtree(board, ignore_errors=True)
        metrics = {
            name: by_arm[trial.arm][trial.seed] for name, by_arm in columns.items() if trial.seed in by_arm[trial.arm]
        }
        with files.atomic_file(board / "events.out.tfevents.0.study") as partial, open(partial, "wb") as file:
            writer = RecordWriter(file)
            first = Event(wall_time=0.0, file_version="brain.Event:2")
            parts = [summary_v2.hparams_pb(dict(values), trial_id=trial.name, start_time_secs=0.0)]
            parts += [Summary(value=[Summary.Value(tag=name, simple_value=value)]) for name, value in metrics.items()]
            for event in (first, *(Event(wall_time=1.0, step=0, summary=part) for part in parts)):
                writer.write(event.SerializeToString())
            writer.flush()
