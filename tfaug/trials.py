"""Run the trials of a study: each an ordinary run in a process of its own, and what they will cost.

A process of its own, so that nothing of TensorFlow's leaks from one run into the next, and one that fails, however it
does, stops no other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tfaug import files
from tfaug.augment import compose
from tfaug.config import fingerprint, hash_of, to_dict
from tfaug.data import DataConfig, Source, load_data, load_others, user_cache_dir
from tfaug.experiment import Experiment, plans
from tfaug.models import build_model
from tfaug.models.cost import count_flops, num_parameters
from tfaug.report.text import duration
from tfaug.study import Trial, folder_name
from tfaug.workdir import StudyFolder, TrainingFolder

_POLL_S = 0.2


# -- what they cost ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainingCost:
    """What one training takes.

    Attributes:
      parameters: numbers that are trained.
      flops: of one image's forward pass, see `tfaug.models.cost.count_flops`.
      steps: of all phases.
      images: that a step of each phase trains on, by the phase's name.
      flops_to_train: of the forward passes of all steps, to which the time is about in proportion.
    """

    parameters: int
    flops: int
    steps: int
    images: Mapping[str, int]
    flops_to_train: int


class _Data(NamedTuple):
    """What a network has to know of a data set, without its images."""

    image_shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_train: int


class Costs:
    """Counts what experiments cost; loads each data set and builds each network once."""

    def __init__(self) -> None:
        self._data: dict[str, _Data] = {}
        self._networks: dict[str, tuple[int, int]] = {}
        self._others: dict[str, int] = {}

    def of(self, experiment: Experiment) -> dict[str, TrainingCost]:
        """Returns the cost of each training by its name.

        Raises:
          ConfigError: if the data is not there.
        """
        key = hash_of(to_dict(experiment.data))
        if key not in self._data:
            whole = load_data(experiment.data, cache_dir=user_cache_dir())
            self._data[key] = _Data(whole.image_shape, whole.num_classes, whole.mean, whole.std, len(whole.train))
        data = self._data[key]
        found = {}
        for training in experiment.trainings:
            key = hash_of([to_dict(training.model), data.image_shape, data.num_classes])
            if key not in self._networks:
                network = build_model(
                    training.model,
                    image_shape=data.image_shape,
                    num_classes=data.num_classes,
                    mean=data.mean,
                    std=data.std,
                    seed=0,
                )
                self._networks[key] = num_parameters(network), count_flops(network, data.image_shape)
            parameters, flops = self._networks[key]
            num_train = data.num_train
            if (source := training.method.data) is not None:
                num_train = self._count(source, experiment.data)
            steps = {phase.name: phase.epochs * (num_train // phase.num_drawn) for phase in training.phases}
            images = {
                phase.name: compose(phase.augment).output_shape((phase.num_drawn, *data.image_shape))[0]
                for phase in training.phases
            }
            work = sum(steps[name] * images[name] * flops for name in steps)
            found[training.name] = TrainingCost(parameters, flops, sum(steps.values()), images, work)
        return found

    def _count(self, source: Source, config: DataConfig) -> int:
        """Returns how many images a method's own source gives beside the data."""
        key = hash_of([to_dict(source), to_dict(config)])
        if key not in self._others:
            whole = load_data(config, cache_dir=user_cache_dir())
            self._others[key] = len(load_others(source, cache_dir=user_cache_dir(), like=whole))
        return self._others[key]


def work_left(folder: StudyFolder, trials: Sequence[Trial], costs: Mapping[str, Mapping[str, TrainingCost]]) -> int:
    """Returns the `flops_to_train` of all trainings that are not done, equal ones once.

    Args:
      folder: of the study.
      trials: what is to be run.
      costs: of the trainings of each arm.
    """
    work = {}
    for trial in trials:
        for name, plan in plans(trial.experiment).items():
            done = TrainingFolder(folder.trainings / plan.hashes[-1]).result.exists()
            if not done and trial.arm in costs:
                work[plan.hashes[-1]] = costs[trial.arm][name].flops_to_train
    return sum(work.values())


# -- running them --------------------------------------------------------------------------------------------------


def run_command(folder: StudyFolder, trial: Trial) -> list[str]:
    """Returns the command of a trial's process."""
    workdir = folder.run(folder_name(trial.arm), trial.seed)
    flags = [*trial.flags, f"--workdir={workdir}", f"--trainings={folder.trainings}"]
    return [sys.executable, "-m", "tfaug.cli", "run", *flags]


def is_finished(folder: StudyFolder, trial: Trial) -> bool:
    """Whether a trial has been run to its end with these settings."""
    return folder.finished(folder_name(trial.arm), trial.seed) == fingerprint(trial.experiment)


def run_trials(
    folder: StudyFolder,
    trials: Sequence[Trial],
    costs: Mapping[str, Mapping[str, TrainingCost]],
    command: Callable[[StudyFolder, Trial], list[str]] = run_command,
) -> dict[str, str]:
    """Runs what is not finished, one after the other; those that another process has begun at the end.

    Args:
      folder: of the study.
      trials: in their order.
      costs: of the trainings of each arm, for the estimate; an arm may be missing.
      command: makes the command of a trial.

    Returns:
      Of each trial that failed, by its name, how; the others were run all the same.
    """
    todo = [trial for trial in trials if not is_finished(folder, trial)]
    failed: dict[str, str] = {}
    seconds: list[float] = []
    waited = False
    while todo:
        began = False
        for trial in list(todo):
            with folder.hold(folder_name(trial.arm), trial.seed) as lock:
                if lock is None:
                    continue
                todo.remove(trial)
                if is_finished(folder, trial):
                    continue
                began = True
                place = len(trials) - len(todo)
                say(f"run {place} of {len(trials)}: {trial.name}; {_log(folder, trial)} has what it says")
                started = time.perf_counter()
                how = _run_one(folder, trial, trials, costs, command(folder, trial), lock, told=bool(seconds))
                if how:
                    failed[trial.name] = how
                    say(f"{trial.name} failed: {how}")
                else:
                    folder.finish(folder_name(trial.arm), trial.seed, fingerprint(trial.experiment))
                    seconds.append(time.perf_counter() - started)
                    if todo:
                        left = len(todo) * sum(seconds) / len(seconds)
                        say(f"{len(todo)} of {len(trials)} runs left, about {duration(left)}")
        if todo and not began:
            if not waited:
                say(f"another process is at {', '.join(trial.name for trial in todo)}; waiting for it")
            waited = True
            time.sleep(_POLL_S)
    return failed


def _run_one(
    folder: StudyFolder,
    trial: Trial,
    trials: Sequence[Trial],
    costs: Mapping[str, Mapping[str, TrainingCost]],
    command: Sequence[str],
    lock: int,
    told: bool,
) -> str:
    """Runs one trial to its end; returns how it failed, or an empty text."""
    pace = folder.run(folder_name(trial.arm), trial.seed) / "pace.json"
    pace.unlink(missing_ok=True)
    log = _log(folder, trial)
    with open(log, "ab") as output:
        output.write(f"$ {shlex.join(command)}\n".encode())
        output.flush()
        start = output.tell()
        child = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, pass_fds=(lock,))
    with _stopped(child):
        while child.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_POLL_S)
            if not told and pace.exists() and trial.arm in costs:
                told = True
                _tell_pace(folder, trials, costs[trial.arm], files.read_json(pace), costs)
    if child.returncode == 0:
        return ""
    how = f"exit status {child.returncode}"
    if child.returncode < 0:
        how = f"killed by {signal.Signals(-child.returncode).name}"
    with open(log, "rb") as output:
        output.seek(start)
        lines = output.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{how}; {last[:300]}" if last else how


@contextlib.contextmanager
def _stopped(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stops the child where this process is asked to stop."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if child.poll() is None:
            child.terminate()
            child.wait()


def _tell_pace(
    folder: StudyFolder,
    trials: Sequence[Trial],
    cost: Mapping[str, TrainingCost],
    pace: Mapping[str, object],
    costs: Mapping[str, Mapping[str, TrainingCost]],
) -> None:
    """Says how long the steps of all trainings take, in proportion to the forward passes' operations.

    What a run has besides, as start-up, validation and evaluation, shows in the first whole run.
    """
    trained = cost[str(pace["training"])]
    step_s = float(str(pace["step_seconds"]))
    rate = trained.flops * trained.images[str(pace["phase"])] / step_s
    left = [trial for trial in trials if not is_finished(folder, trial)]
    total_s = work_left(folder, left, costs) / rate
    say(
        f"{1000 * step_s:.3g} ms a step: the steps that are left take about {duration(total_s)}, and the rest some more"
    )


def say(line: str) -> None:
    """Prints a line for the user on the error output."""
    print(f"[tfaug] study: {line}", file=sys.stderr, flush=True)


def _log(folder: StudyFolder, trial: Trial) -> pathlib.Path:
    return folder.log(folder_name(trial.arm), trial.seed)
