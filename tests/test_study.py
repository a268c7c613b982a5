"""Studies and sweeps: what is chosen and refused, the statistics, the runs of a study, and its report."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
import time

import pytest
import scipy.stats
import tensorflow as tf
from PIL import Image

from experiments import quickstart
from tests import tiny
from tfaug import config, expressions, files
from tfaug import trials as trials_module
from tfaug.config import ConfigError
from tfaug.experiment import CLASSES, plans
from tfaug.models import LeNet, ResNet, build_model
from tfaug.models.cost import count_flops, num_parameters
from tfaug.report import hparams
from tfaug.report import study as reports
from tfaug.report.markdown import fill_page
from tfaug.report.results import Results, read_collected, read_results
from tfaug.run import Job
from tfaug.study import (
    RUN_MINUTES,
    Column,
    Figure,
    Published,
    Study,
    Table,
    Trial,
    choose,
    folder_name,
    read_arms,
    read_axis,
    read_seeds,
    read_shard,
)
from tfaug.study import grid as product
from tfaug.train.callbacks import Pace
from tfaug.trials import Costs, TrainingCost, run_command, run_trials, work_left
from tfaug.workdir import Row, StudyFolder, Workdir, read_rows

# A run without TensorFlow: each call does one stage more and may be killed or fail there; the last one writes the rows.
FAKE_RUN = """
import os, pathlib, signal, sys
workdir, arm, seed, kill_at, value, fails = sys.argv[1:]
folder = pathlib.Path(workdir)
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.json").write_text('{"git_commit": "c", "versions": {"tensorflow": "2.21.0"}}')
print("working at", arm, seed, flush=True)
if fails == "yes":
    sys.exit("a <loss> that is not finite")
for stage in range(4):
    done = folder / f"stage_{stage}"
    if not done.exists():
        if stage == int(kill_at) and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        done.touch()
(folder / "rows.csv").write_text(
    "arm,seed,model,set,attack,mode,metric,value,low,high,n\\n"
    f",,refine,test,clean,plain,accuracy,{value},,,360\\n"
)
(folder / "timings.json").write_text('{"train": 2.5, "report": 0.5}')
"""


def trials_of(study: Study, seeds: tuple[int, ...] = ()) -> list[Trial]:
    return [
        Trial(arm, seed, dataclasses.replace(experiment, seed=seed), (f"--config=m:f.{arm}", f"--set=seed={seed}"))
        for seed in seeds or study.seeds
        for arm, experiment in study.arms.items()
    ]


def fake(kill_at: int = -1, fails: str = "", begun: list[str] | None = None):
    """Makes the command of a fake run; `kill_at` moves on from run to run."""

    def command(folder: StudyFolder, trial: Trial) -> list[str]:
        if begun is not None:
            begun.append(trial.name)
        workdir = folder.run(folder_name(trial.arm), trial.seed)
        stage = -1 if kill_at < 0 else (kill_at + trial.seed) % 4
        value = 0.5 + trial.seed / 10 + len(trial.arm) / 100
        words = [
            str(workdir),
            trial.arm,
            str(trial.seed),
            str(stage),
            str(value),
            "yes" if trial.arm == fails else "no",
        ]
        return [sys.executable, "-c", FAKE_RUN, *words]

    return command


def two_arms(**fields) -> Study:
    one = dataclasses.replace(tiny.run(), trainings=tiny.run().trainings[:1])
    return Study("two arms", {"a": one, "bcd": dataclasses.replace(one, precision="bf16")}, seeds=(0, 1, 2), **fields)


# -- choices -------------------------------------------------------------------------------------------------------


def test_seeds_shards_and_axes_are_read():
    assert read_seeds("0..4") == (0, 1, 2, 3, 4)
    assert read_seeds("7, 0..1") == (7, 0, 1)
    assert read_shard("2/3") == (2, 3)
    assert read_axis("phases.0.augment=Flip() | Flip() + CutMix(p=.5)").values == ("Flip()", "Flip() + CutMix(p=.5)")
    assert read_axis("evaluate.endpoint='a|b' | none").values == ("'a|b'", "none")
    assert read_axis("phases.0.epochs=1..3").values == ("1", "2", "3")
    arms = product([read_axis("a=1 | 2"), read_axis("b=x")])
    assert arms == {"a=1, b=x": ("a=1", "b=x"), "a=2, b=x": ("a=2", "b=x")}


@pytest.mark.parametrize(
    "text", ["", "a", "4..0", "0,4..1", "-1", "0,0", "0..2,1", "1.5", "0..99999999999", "2147483648"]
)
def test_wrong_seeds_are_refused_by_what_was_written(text):
    with pytest.raises(ConfigError, match="--seeds"):
        read_seeds(text)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3"])
def test_wrong_shards_are_refused(text):
    with pytest.raises(ConfigError, match="--shard is .*allowed: i/n"):
        read_shard(text)


@pytest.mark.parametrize("text", ["seed", "seed=", "=1", "seed=1 | ", "seed=1 | 1", "seed=4..0"])
def test_wrong_axes_are_refused(text):
    with pytest.raises(ConfigError, match="--grid"):
        read_axis(text)


def test_shards_share_the_runs_out():
    trials = trials_of(two_arms())
    parts = [choose(trials, (index, 4)) for index in range(1, 5)]
    assert sorted(trial.name for part in parts for trial in part) == sorted(trial.name for trial in trials)
    assert {len(part) for part in parts} == {1, 2}


def test_arms_are_chosen_by_name():
    study = two_arms()
    assert read_arms("", study) == ("a", "bcd") and read_arms("bcd", study) == ("bcd",)
    with pytest.raises(ConfigError, match="no arm 'bdc'.*did you mean 'bcd'"):
        read_arms("a,bdc", study)
    with pytest.raises(ConfigError, match="'a' twice"):
        read_arms("a,a", study)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (dict(arms={}), "Study.arms"),
        (dict(arms={"a": 3}), "arm a"),
        (dict(seeds=()), "Study.seeds"),
        (dict(seeds=(0, 0)), "0 twice"),
        (dict(tables=(Table("T", against="c"),)), "no arm 'c'"),
        (dict(figures=(Figure("F", arms=("c",)),)), "no arm 'c'"),
        (dict(paper=(Published("a", "test_acuracy", 1.0),)), "did you mean 'test_accuracy'"),
        (dict(tables=(Table("T", (Column("x"), Column("x", set="s"))),)), "two columns are named 'x'"),
    ],
)
def test_a_wrong_study_names_what_is_wrong(fields, named):
    with pytest.raises(ConfigError, match=named):
        Study(**{"name": "s", "arms": two_arms().arms, **fields})


def test_names_of_folders_are_safe_and_differ():
    assert folder_name("one_phase-2") == "one_phase-2"
    names = {folder_name(name) for name in ("p=4/255", "p=4 255", "../p", "p[0]*?", "p 4 255")}
    assert len(names) == 5 and all(set(name) <= set("abcdefp0123456789_-") for name in names)


def test_the_studies_of_the_package_are_whole():
    assert list(quickstart.quickstart_study().arms) == ["two_phases", "digits", "one_phase"]
    study = quickstart.digits_study()
    assert list(study.arms) == ["one_phase", "refined"] and study.seeds == (0, 1, 2)
    epochs = {arm: sum(phase.epochs for phase in each.trainings[0].phases) for arm, each in study.arms.items()}
    assert len(set(epochs.values())) == 1  # as many in both


# -- statistics ----------------------------------------------------------------------------------------------------


def test_mean_spread_and_interval_by_hand():
    found = reports.statistics({2: 0.85, 0: 0.80, 1: 0.81})
    # deviations -.02, -.01, .03: s^2 = .0014 / 2; t(2, .975) = 4.3027
    assert found["mean"] == pytest.approx(0.82) and found["sd"] == pytest.approx(0.0007**0.5) and found["n"] == 3
    assert found["interval"] == pytest.approx([0.82 - 4.302653 * (0.0007 / 3) ** 0.5, 0.8857241], abs=1e-7)
    assert found["values"] == {"0": 0.80, "1": 0.81, "2": 0.85}
    assert reports.statistics({0: 0.5}) == {"mean": 0.5, "sd": None, "n": 1, "interval": None, "values": {"0": 0.5}}
    assert reports.statistics({}) is None


def test_a_difference_is_paired_where_the_seeds_are_the_same():
    one, two = {0: 0.80, 1: 0.90, 2: 0.70}, {2: 0.68, 0: 0.79, 1: 0.87}
    found = reports.difference(one, two)
    # .01, .03, .02: mean .02, s = .01
    assert found["paired"] and found["n"] == 3 and found["difference"] == pytest.approx(0.02)
    assert found["interval"] == pytest.approx([0.02 - 4.302653 * 0.01 / 3**0.5, 0.02 + 4.302653 * 0.01 / 3**0.5])


def test_a_difference_over_other_seeds_is_welchs():
    one, two = {0: 0.80, 1: 0.90, 2: 0.70}, {0: 0.79, 1: 0.87, 5: 0.68, 6: 0.66}
    found = reports.difference(one, two)
    wanted = scipy.stats.ttest_ind(list(one.values()), list(two.values()), equal_var=False).confidence_interval()
    assert not found["paired"] and found["n"] == 3
    assert found["interval"] == pytest.approx([wanted.low, wanted.high])
    assert reports.difference(one, {0: 0.5}) is None


def rows_of(arm: str, seed: int, **values: float) -> list[Row]:
    return [Row(model, "test", "clean", "plain", "accuracy", v, arm=arm, seed=seed) for model, v in values.items()]


def test_a_column_is_of_the_arms_last_model_or_of_a_trainings_last_phase():
    study = tiny.study()
    rows = (*rows_of("alone", 0, train=0.1, refine=0.2), *rows_of("taught", 0, train=0.3, refine=0.4, student=0.5))
    results = Results(study, rows)
    assert results.values(Column("x")) == {"alone": {0: 0.2}, "taught": {0: 0.5}}
    assert results.values(Column("x", model="teacher")) == {"alone": {0: 0.2}, "taught": {0: 0.4}}
    assert results.values(Column("x", model="train")) == {"alone": {0: 0.1}, "taught": {0: 0.3}}
    gain = results.values(Column("x", minus=Column("y", model="teacher")))
    assert gain["alone"] == {0: 0.0} and gain["taught"] == {0: pytest.approx(0.1)}
    assert results.values(Column("x", attack="pgd")) == {"alone": {}, "taught": {}}
    results = Results(study, (Row("student", "", "", "", "num_parameters", 7.0, arm="taught", seed=0),))
    size = Column("size", metric="num_parameters", set="", attack="", mode="", unit="")
    assert results.values(size) == {"alone": {}, "taught": {0: 7.0}}
    assert results.values(dataclasses.replace(size, model="teacher")) == {"alone": {}, "taught": {}}


# -- runs ----------------------------------------------------------------------------------------------------------


def test_runs_that_are_killed_go_on_and_end_with_the_rows_of_runs_that_were_not(tmp_path):
    study = two_arms()
    trials = trials_of(study, seeds=(0, 2))
    whole, killed = StudyFolder(tmp_path / "whole"), StudyFolder(tmp_path / "killed")
    assert run_trials(whole, trials, {}, fake()) == {}
    failed = run_trials(killed, trials, {}, fake(kill_at=1))
    assert set(failed) == {trial.name for trial in trials}
    assert all("SIGKILL" in how and "working at" in how for how in failed.values())
    assert run_trials(killed, trials, {}, fake(kill_at=1)) == {}
    begun: list[str] = []
    assert run_trials(killed, trials, {}, fake(begun=begun)) == {} and begun == []  # all is done
    (killed.run("a", 2) / "rows.csv").unlink()
    assert run_trials(killed, trials, {}, fake(begun=begun)) == {} and begun == ["a, seed 2"]
    rows = [read_results(folder, study, trials).rows for folder in (whole, killed)]
    assert rows[0] == rows[1] and len(rows[0]) == 16


def test_a_run_that_fails_stops_no_other_and_is_named(tmp_path, capsys):
    study = two_arms()
    folder, trials = StudyFolder(tmp_path / "study"), trials_of(study)
    failed = run_trials(folder, trials, {}, fake(fails="a"))
    assert list(failed) == ["a, seed 0", "a, seed 1", "a, seed 2"]
    assert "exit status 1; a <loss> that is not finite" in failed["a, seed 1"]
    assert "a, seed 0 failed" in capsys.readouterr().err
    results = read_results(folder, study, trials)
    assert results.missing == tuple(failed) and {row.arm for row in results.rows} == {"bcd"}
    begun: list[str] = []
    assert run_trials(folder, trials, {}, fake(begun=begun)) == {} and begun == list(failed)


def test_a_run_of_other_settings_is_not_reported_and_made_again(tmp_path):
    study = two_arms()
    folder, trials = StudyFolder(tmp_path / "study"), trials_of(study, seeds=(0,))
    run_trials(folder, trials, {}, fake())
    other = [dataclasses.replace(t, experiment=dataclasses.replace(t.experiment, precision="bf16")) for t in trials]
    assert read_results(folder, study, other).missing == ("a, seed 0",)
    begun: list[str] = []
    run_trials(folder, other, {}, fake(begun=begun))
    assert begun == ["a, seed 0"]  # `bcd` was bf16 before


@pytest.mark.parametrize("records", [True, False], ids=["a study", "a child of a killed one"])
def test_what_another_process_holds_comes_last_and_is_not_run_twice(tmp_path, capsys, records):
    folder, trials = StudyFolder(tmp_path / "study"), trials_of(two_arms(), seeds=(0,))
    record = folder.run("a", 0) / "finished.json"
    made = json.dumps({"fingerprint": config.fingerprint(trials[0].experiment)})
    finish = f"import pathlib; pathlib.Path({str(record)!r}).write_text({made!r})" if records else ""
    with folder.hold("a", 0) as lock:
        # Who has the descriptor holds the run, also when the process that took it has died.
        command = f"import time; time.sleep(1)\nexec({FAKE_RUN!r})\n{finish}"
        words = [str(folder.run("a", 0)), "a", "0", "-1", "0.25", "no"]
        child = subprocess.Popen([sys.executable, "-c", command, *words], pass_fds=(lock,))
    begun: list[str] = []
    assert run_trials(folder, trials, {}, fake(begun=begun)) == {}
    # What the child of a killed study has done is looked at once more, by a run that finds nothing to do.
    assert child.wait() == 0 and begun == ["bcd, seed 0", *([] if records else ["a, seed 0"])]
    assert "another process is at a, seed 0" in capsys.readouterr().err


def test_a_run_has_its_command_and_holds_its_lock(tmp_path):
    folder, (trial, _) = StudyFolder(tmp_path / "study"), trials_of(two_arms(), seeds=(3,))
    workdir = folder.path / "runs" / "a" / "3"
    assert run_command(folder, trial)[1:] == [
        *("-m", "tfaug.cli", "run", "--config=m:f.a", "--set=seed=3"),
        *(f"--workdir={workdir}", f"--trainings={folder.path / 'trainings'}"),
    ]
    look = "import os; all = [os.path.realpath(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')]"
    look += "; print(*[path for path in all if path.endswith('.lock')]); exit(1)"
    failed = run_trials(folder, [trial], {}, lambda *_: [sys.executable, "-c", look])
    assert str(folder.path / "runs" / "a" / "3.lock") in failed["a, seed 3"]


def test_the_estimate_counts_equal_trainings_once_and_those_that_are_done_not(tmp_path):
    study = tiny.study()
    folder, trials = StudyFolder(tmp_path / "study"), trials_of(study)
    cost = {name: TrainingCost(1, 1, 1, {}, work) for name, work in (("teacher", 100), ("student", 7))}
    costs = {"alone": cost, "taught": cost}
    assert work_left(folder, trials, costs) == 2 * (100 + 7)
    done = plans(trials[0].experiment)["teacher"].hashes[-1]
    assert done == plans(trials[1].experiment)["teacher"].hashes[-1]
    files.write_json(folder.trainings / done / "result.json", {})
    assert work_left(folder, trials, costs) == 100 + 2 * 7


def test_the_pace_is_the_median_step_of_the_first_twenty(monkeypatch):
    told = []
    pace = Pace("train", lambda phase, seconds: told.append((phase, seconds)))
    clock = iter([0.0, 9.0, *(9.0 + 0.25 * step for step in range(1, 40))])  # the second step compiles
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    for step in range(19):
        pace.on_train_batch_end(step)
    assert told == []
    for step in range(19, 30):
        pace.on_train_batch_end(step)
    assert told == [("train", pytest.approx(0.25))]


_FLAGS = ("--config=", "--set=")


@pytest.fixture
def command_line(monkeypatch):
    """Runs the command line with fake runs, whose costs are not counted."""
    from tfaug import cli
    from tfaug.cli import study as module

    def run_and_check(folder, trials, costs, **fields):
        for trial in trials:  # what the run's process will read is what stands in its record
            (spec,), sets = (
                [flag.split("=", 1)[1] for flag in trial.flags if flag.startswith(name)] for name in _FLAGS
            )
            assert expressions.load(spec, sets, CLASSES) == trial.experiment
        return run_trials(folder, trials, costs, fake(**fields))

    def run(*arguments: str, **fields) -> int:
        for name in module.FLAGS:
            module.FLAGS[name].unparse()
        module.FLAGS.unparse_flags()
        monkeypatch.setattr(trials_module, "run_trials", functools.partial(run_and_check, **fields))
        monkeypatch.setattr(module, "_announce", lambda *_: {})
        return cli.main(arguments)

    return run


def test_a_study_is_run_and_reported_also_in_parts(tmp_path, command_line, capsys):
    command = ["--config=tests.tiny:study", f"--workdir={tmp_path / 'w'}"]
    command.append("--set=precision=bf16")
    assert command_line("study", "run", *command, "--arms=alone", "--seeds=0..2", "--shard=1/2") == 0
    held = files.read_json(tmp_path / "w" / "summary.json")
    assert list(held["arms"]["alone"]["test_accuracy"]["values"]) == ["0", "2"] and held["arms"]["taught"] == {}
    assert held["missing"] == ["taught, seed 0", "alone, seed 1", "taught, seed 1", "taught, seed 2"]
    assert command_line("study", "run", *command, fails="taught") == 1
    assert "taught, seed 1: exit status 1; a <loss>" in capsys.readouterr().err
    assert command_line("study", "report", *command) == 0
    found = files.read_json(tmp_path / "w" / "summary.json")
    assert found["arms"]["alone"]["test_accuracy"]["n"] == 3  # seed 2 is no seed of the study, and still counts
    assert found["missing"] == ["taught, seed 0", "taught, seed 1"]


def test_a_sweep_is_the_study_of_its_grid(tmp_path, command_line):
    axis = "--grid=phases.0.augment=Flip() | Flip() + CutMix(p=.5)"
    command = ["sweep", "--config=tests.tiny:run", f"--workdir={tmp_path / 'w'}", "--set=precision=bf16", axis]
    assert command_line(*command, "--grid=seed=0..1", "--grid=phases.1.epochs=1") == 0
    arms = files.read_json(tmp_path / "w" / "summary.json")["arms"]
    one, two = (f"phases.0.augment={ops}, phases.1.epochs=1" for ops in ("Flip()", "Flip() + CutMix(p=.5)"))
    assert list(arms) == [one, two]
    (workdir,) = (tmp_path / "w" / "runs").glob("*CutMix*/1")
    made = config.fingerprint(load_run("precision=bf16", "phases.0.augment=Flip() + CutMix(p=.5)", "phases.1.epochs=1"))
    assert files.read_json(workdir / "finished.json") == {"fingerprint": made}


def load_run(*assignments: str):
    return expressions.load("tests.tiny:run", (*assignments, "seed=1"), CLASSES)


# -- costs ---------------------------------------------------------------------------------------------------------


def test_flops_by_hand():
    network = build_model(LeNet(), image_shape=(28, 28, 1), num_classes=10, mean=[0.1], std=[0.3], seed=0)
    convolutions = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 25 * 6
    assert count_flops(network, (28, 28, 1)) == 2 * (convolutions + 400 * 120 + 120 * 84 + 84 * 10)
    assert num_parameters(network) == 61_706
    layers = [tf.keras.layers.DepthwiseConv2D(3, depth_multiplier=2), tf.keras.layers.Conv2D(6, 3, 2, groups=3)]
    model = tf.keras.Sequential([tf.keras.layers.Input((9, 9, 3)), *layers])
    assert count_flops(model, (9, 9, 3)) == 2 * (7 * 7 * 6 * 9 + 3 * 3 * 6 * 9 * 2)


def test_costs_count_steps_and_images_of_every_phase():
    costs = Costs()
    cost = costs.of(tiny.run())
    other = dataclasses.replace(tiny.run().training("teacher"), model=ResNet(8))
    parameters = costs.of(dataclasses.replace(tiny.run(), trainings=(other,)))["teacher"].parameters
    assert (parameters, cost["student"].parameters) == (78_042, 62_006)
    # 200 images in steps of 40: 5 an epoch; sums of two leave 20 of 40
    assert cost["teacher"].steps == 5 * (3 + 3) and cost["student"].steps == 5
    assert cost["teacher"].images == {"train": 20, "refine": 40}
    assert cost["teacher"].flops_to_train == cost["teacher"].flops * 15 * (20 + 40)


# -- shared trainings ----------------------------------------------------------------------------------------------


def test_a_training_is_linked_copied_when_it_grows_and_left_where_it_was(tmp_path):
    (tmp_path / "runs" / "a" / "0").mkdir(parents=True)
    workdir = Workdir(tmp_path / "runs" / "a" / "0", tmp_path / "trainings")
    with workdir.hold_training("teacher", "abc"):
        assert not workdir.training("teacher").holds_files()
        (workdir.path / "teacher" / "training.json").write_text("{}")
    assert (workdir.path / "teacher").readlink() == pathlib.Path("../../../trainings/abc")
    assert (tmp_path / "trainings" / "abc" / "training.json").exists()
    with workdir.hold_training("teacher", "abcd"):
        (workdir.path / "teacher" / "more.json").write_text("{}")
    assert (tmp_path / "trainings" / "abcd" / "training.json").exists()
    assert files_in(tmp_path / "trainings" / "abc") == ["training.json"]
    (workdir.path / "student").mkdir()
    with workdir.hold_training("student", "xyz"):
        pass
    assert not (workdir.path / "student").is_symlink() and not (tmp_path / "trainings" / "xyz").exists()


def files_in(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_equal_trainings_of_two_runs_are_trained_once(tmp_path, monkeypatch):
    def train(job, place, training, on_epoch):
        trained.append((job.path.name, training.name))
        folder, hashes = job.workdir.training(training.name), job.plans[training.name].hashes
        files.write_json(folder.made, {"settings": job.plans[training.name].settings, "hashes": hashes})
        files.write_json(folder.result, {"hash": hashes[-1]})

    trained: list[tuple[str, str]] = []
    monkeypatch.setattr(Job, "_draw_augmentations", lambda job: None)
    monkeypatch.setattr(Job, "_train_one", train)
    study = tiny.study()
    for arm, experiment in study.arms.items():
        workdir = Workdir(tmp_path / arm, tmp_path / "trainings")
        workdir.begin(experiment)
        for _ in range(2):  # the second time it goes on
            Job(workdir, experiment).train()
    assert trained == [("alone", "teacher"), ("taught", "student")]
    assert (tmp_path / "taught" / "teacher").resolve() == (tmp_path / "alone" / "teacher").resolve()
    with pytest.raises(ConfigError, match="trained with other settings"):
        Job(Workdir(tmp_path / "alone", tmp_path / "trainings"), dataclasses.replace(study.arms["alone"], seed=5))


# -- the report ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that has run, with names that HTML would read as its own."""
    one = dataclasses.replace(tiny.run(), trainings=tiny.run().trainings[:1])
    study = Study(
        "A & B: <script>alert(1)</script>",
        {"p=<b>4/255</b>": one, "b": dataclasses.replace(one, precision="bf16")},
        tables=(
            Table(
                "Main <i>table</i>",
                (
                    Column("test_accuracy"),
                    RUN_MINUTES,
                ),
                against="b",
            ),
        ),
        figures=(Figure("By arm <u>"), Figure("Scatter", x=Column("test_accuracy"))),
        paper=(Published("b", "test_accuracy", 51.25, "table 1 <q>swapped</q>"),),
    )
    folder, trials = StudyFolder(tmp_path_factory.mktemp("finished") / "study"), trials_of(study)
    run_trials(folder, trials, {}, fake())
    results = read_results(folder, study, trials)
    return folder, results, trials, reports.write_study(folder, results, trials)


def test_the_summary_has_mean_sd_and_n_of_every_arm_and_paired_differences(finished):
    folder, _, _, summary = finished
    assert files.read_json(folder.summary) == summary
    found = summary["arms"]["b"]["test_accuracy"]
    assert (found["mean"], found["sd"], found["n"]) == (pytest.approx(0.61), pytest.approx(0.1), 3)
    gap = summary["differences"]["Main <i>table</i>"]["p=<b>4/255</b>"]["test_accuracy"]
    assert gap["paired"] and gap["difference"] == pytest.approx(0.13) and gap["against"] == "b"
    assert summary["arms"]["b"]["minutes"]["mean"] == 3.0
    rows = read_rows(folder.rows)
    assert len(rows) == 24 and {(row.arm, row.seed) for row in rows if row.metric == "accuracy"} == {
        (arm, seed) for arm in summary["arms"] for seed in (0, 1, 2)
    }


def test_the_page_shows_what_was_measured_and_escapes_every_name(finished):
    folder, *_ = finished
    page = folder.report.read_text()
    for raw in ("<script>alert", "<b>4", "<i>table", "<u>", "<q>"):
        assert raw not in page
    for shown in (
        "61.00 ± 10.00",
        "36.16 to 85.84",
        "51.25",
        "+13.00",
        "table 1 &lt;q&gt;",
        "whole run, minutes",
        "data:text/csv",
    ):
        assert shown in page
    assert "tfaug run '--config=m:f.p=&lt;b&gt;4/255&lt;/b&gt;'" in page.replace("&#39;", "'")
    assert "http" not in page.replace("http://www.w3.org", "")  # nothing is fetched


def sweep_of_flips():
    for ops in ("()", "Flip()"):
        yield expressions.load("tests.tiny:run", [f"phases.0.augment={ops}"], CLASSES)


def test_tensorboard_is_told_the_settings_that_differ_and_the_results(finished):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams import plugin_data_pb2

    folder, _, trials, _ = finished
    assert hparams.settings_that_differ(trials) == {"p=<b>4/255</b>": {"precision": "fp32"}, "b": {"precision": "bf16"}}
    sweep = [dataclasses.replace(trials[0], arm=str(n), experiment=each) for n, each in enumerate(sweep_of_flips())]
    assert hparams.settings_that_differ(sweep) == {
        "0": {"trainings.0.phases.0.augment.0": "None"},
        "1": {"trainings.0.phases.0.augment.0": "Flip(p=0.5, axis='horizontal', alternate=False)"},
    }
    (events,) = (folder.tensorboard / "b" / "1").iterdir()
    values = [value for event in EventFileLoader(str(events)).Load() for value in event.summary.value]
    told = plugin_data_pb2.HParamsPluginData.FromString(values[0].metadata.plugin_data.content).session_start_info
    assert told.hparams["precision"].string_value == "bf16" and told.hparams["seed"].number_value == 1
    assert {value.tag for value in values[1:]} == {"test_accuracy", "minutes"}
    assert len(list(folder.tensorboard.rglob("events*"))) == 6


def test_tables_go_into_a_page_and_nowhere_else(finished, tmp_path):
    _, results, _, summary = finished
    page = tmp_path / "page.md"
    places = ("study: m:f", "study figures: m:f")
    page.write_text("".join(f"a\n<!-- {place} -->\nold\n<!-- study end -->\nb\n" for place in places))
    fill_page(page, "m:f", results, summary)
    text = page.read_text()
    assert text.startswith("a\n<!-- study: m:f -->\n| Main") and text.endswith("\n<!-- study end -->\nb\n")
    assert "| test accuracy, % | 74.00 ± 10.00 (+13.00: +13.00 to +13.00) | 61.00 ± 10.00 [51.25] |" in text
    assert "In square brackets: the paper." in text and "old" not in text
    assert "<!-- study figures: m:f -->\n**By arm <u>**\n\n![test accuracy, % by arm: " in text
    for number in (1, 2):
        assert f"](figure_{number}.png)\n" in text
        with Image.open(tmp_path / f"figure_{number}.png") as image:
            assert image.width == 640 and len(image.getcolors(10_000)) > 9
    with pytest.raises(ConfigError, match="has no place <!-- study: m:g -->"):
        fill_page(page, "m:g", results, summary)


QUICKSTART = "quickstart:quickstart_study"


@pytest.mark.parametrize(
    ("config", "folder", "page", "line"),
    [
        (QUICKSTART, "quickstart", "", "| 92.82 ± 0.16 | 92.69 ± 0.12 (−0.13: −0.51 to +0.25) |"),
        (QUICKSTART, "quickstart", "README.md", "| 92.82 ± 0.16 | 92.69 ± 0.12 (−0.13: −0.51 to +0.25) |"),
        ("quickstart:digits_study", "digits", "", "| 97.13 ± 0.42 | 99.35 ± 0.16 (+2.22: +1.53 to +2.91) |"),
        ("ordering:approximations", "orders", "", "| 25.85 ± 2.20 (+1.37: −6.18 to +8.92) [46.63] |"),
        ("ordering:perfect", "perfect_ordering", "", "| min accuracy | 0.949 [0.671] |"),
    ],
)
def test_a_page_is_that_of_its_rows(tmp_path, config, folder, page, line):
    """The figures too, but for what fonts draw otherwise elsewhere."""
    config, place = f"experiments.{config}", tiny.ROOT / "docs" / "studies" / folder
    study = expressions.load(config, (), CLASSES)
    results = read_collected(place / "rows.csv", study)
    assert results.missing == ()
    made, held = tmp_path / "README.md", (tiny.ROOT / page if page else place / "README.md").read_text()
    made.write_text(held)
    fill_page(made, config, results, reports.summarize(results))
    assert made.read_text() == held and line in held
    assert {path.name for path in tmp_path.glob("*.png")} == (
        {path.name for path in place.glob("*.png")} if not page else set()
    )
