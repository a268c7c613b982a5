"""The devices that --strategy asks for; there are two, see conftest."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.train import by_hand
from tests.train.test_joints import DATA, SEED, assert_trained_as, weights_in
from tfaug import cli, config, rng, run, trials
from tfaug.augment import Flip
from tfaug.cli import experiment as experiment_commands
from tfaug.cli import study as study_commands
from tfaug.config import ConfigError
from tfaug.experiment import Experiment
from tfaug.schedules import Constant
from tfaug.train.phase import Phase, Training
from tfaug.train.strategy import choose_strategy
from tfaug.workdir import Workdir

PHASE = Phase("train", 2, Constant(0.4), (Flip(),), batch_size=26, weight_decay=0.0)
TRAINING = Training("teacher", by_hand.Normed(), (PHASE,))
EXPERIMENT = Experiment("one phase", trainings=(TRAINING,), seed=SEED, precision="fp32")


@pytest.mark.parametrize(("name", "num_replicas"), [("one", 1), ("mirrored", 2), ("auto", 2)])
def test_a_name_has_its_devices(name, num_replicas):
    assert choose_strategy(name, num_cpu_devices=2)().num_replicas_in_sync == num_replicas


def test_one_of_two_devices_trains_as_a_single_one(tmp_path):
    """Each replica has draws and batch statistics of its own, so that the weights tell how many there were."""
    job = run.Job(Workdir(tmp_path / "run"), EXPERIMENT, choose_strategy("one"))
    job.__dict__["data"] = DATA
    job.workdir.augmentations.parent.mkdir(parents=True)
    job.workdir.begin(EXPERIMENT)
    job.workdir.augmentations.touch()
    job.train()
    expected = by_hand.build(by_hand.Normed(), DATA, SEED)
    start = expected.get_weights()
    by_hand.train_by_hand(expected, DATA, PHASE, by_hand.fold(rng.make_seed(SEED), 0, 0), np.full(5, 0.4))
    made = job.workdir.training("teacher").phase(0, "train").weights("last")
    assert_trained_as(weights_in(made, by_hand.Normed()), expected.get_weights(), start)


@pytest.mark.parametrize(
    ("name", "num_gpus", "num_cpu_devices", "named"),
    [
        ("mirored", 0, 2, ["'mirored'", "did you mean 'mirrored'", "auto, one, mirrored"]),
        ("multi_worker", 0, 2, ["'multi_worker'", "of `tfaug train` alone", "auto, one, mirrored"]),
        ("mirrored", 0, 1, ["no GPU and 1 CPU device", "auto or one", "--cpu_devices=2"]),
        ("mirrored", 1, 2, ["1 GPU", "auto or one"]),
    ],
)
def test_what_cannot_be_is_refused(monkeypatch, name, num_gpus, num_cpu_devices, named):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"] * num_gpus)
    with pytest.raises(ConfigError) as error:
        choose_strategy(name, num_cpu_devices)
    for part in named:
        assert part in str(error.value)


@pytest.mark.parametrize("num_gpus", [0, 1, 2])
def test_what_can_be_is_not(monkeypatch, num_gpus):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"] * num_gpus)
    for name in ("auto", "one", *(["mirrored"] if num_gpus != 1 else [])):
        choose_strategy(name, num_cpu_devices=2)


def ask(module, *arguments: str) -> int:
    """Runs the command line in this process."""
    module.FLAGS.unparse_flags()
    for name in module.FLAGS:
        module.FLAGS[name].unparse()
    return cli.main(arguments)


def test_the_flag_chooses_for_the_job(monkeypatch, tmp_path):
    found = []

    def job(workdir, config, make_strategy, data_service):
        found.append(make_strategy().num_replicas_in_sync)
        raise ConfigError("seen")

    monkeypatch.chdir(tiny.ROOT)
    monkeypatch.setattr(run, "Job", job)
    for flags in ([], ["--strategy=one"]):
        command = ["train", "--config=tests.tiny:run", f"--workdir={tmp_path / 'w'}"]
        assert ask(experiment_commands, *command, *flags) == 2
    assert found == [2, 1]


@pytest.mark.parametrize(
    "command",
    [("study", "run", "--config=tests.tiny:study"), ("sweep", "--config=tests.tiny:run", "--grid=seed=0..1")],
)
def test_each_run_of_a_study_gets_the_flag(monkeypatch, tmp_path, command):
    found = []
    monkeypatch.chdir(tiny.ROOT)
    monkeypatch.setattr(study_commands, "_announce", lambda *_: {})
    monkeypatch.setattr(trials, "run_trials", lambda folder, chosen, costs: found.append(chosen) or {})
    for flags in ((), ("--strategy=one",)):
        ask(study_commands, *command, f"--workdir={tmp_path / 'w'}", *flags)
        given = study_commands._command().split()
        assert [word for word in given if word.startswith("--strategy")] == list(flags)
    plain, one = found
    assert [trial.flags for trial in one] == [(*trial.flags, "--strategy=one") for trial in plain]
    # Not what a run is: a study goes on with other devices.
    assert [config.fingerprint(trial.experiment) for trial in one] == [
        config.fingerprint(trial.experiment) for trial in plain
    ]
