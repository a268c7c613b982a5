"""`tfaug study run|report` and `tfaug sweep`: many runs in one folder, and what they come to."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from absl import flags

from tfaug import expressions, startup
from tfaug.config import ConfigError
from tfaug.extras import explained

COMMANDS = {
    "study run": "run every arm with every seed, each in a process of its own, and report; the same command goes on",
    "study report": "compute tables and figures of the runs that are finished; write report.html and summary.json",
    "sweep": "the study of a grid of settings of one experiment",
}

USAGE = "tfaug study run|report --config=MODULE:FUNCTION --workdir=DIR; tfaug sweep --config=... --grid KEY='A | B' ..."
EXAMPLE = (
    "tfaug sweep --config=experiments.quickstart:digits --workdir=build/sweep --grid seed=0..4 "
    "--grid 'phases.0.augment=Flip() | Flip() + CutMix(p=.5)'"
)

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "config",
    None,
    "the study, or for sweep the experiment, MODULE:FUNCTION, as in experiments.quickstart:digits_study",
    flag_values=FLAGS,
)
flags.DEFINE_string("workdir", None, "the folder of the study; made if it is not there", flag_values=FLAGS)
flags.DEFINE_multi_string(
    "set", [], "replace one setting of every arm, as in phases.0.epochs=3; may be repeated", flag_values=FLAGS
)
flags.DEFINE_string("arms", "", "study: these arms alone, as in a,b", flag_values=FLAGS)
flags.DEFINE_string("seeds", "", "study: these seeds in place of the study's, as in 0..4 or 0,2,5", flag_values=FLAGS)
flags.DEFINE_string(
    "shard", "1/1", "run the i-th of n parts, as in 1/3; the others may run elsewhere", flag_values=FLAGS
)
flags.DEFINE_string("strategy", "auto", "the devices of each run, as in tfaug run --strategy", flag_values=FLAGS)
flags.DEFINE_multi_string(
    "grid", [], "sweep: an axis, as in seed=0..4 or 'KEY=A | B'; may be repeated", flag_values=FLAGS
)
flags.DEFINE_string("rows", "", "study report: a rows.csv to compute from, in place of the runs", flag_values=FLAGS)
flags.DEFINE_string(
    "page",
    "",
    "study report: a Markdown page, between whose lines <!-- study: CONFIG --> and <!-- study end --> the tables go",
    flag_values=FLAGS,
)


def main(command: str, arguments: Sequence[str]) -> int:
    """Checks the flags and runs the command.

    Args:
      command: one of `COMMANDS`.
      arguments: what follows it on the command line.

    Returns:
      The exit status: 0 done, 1 a run failed.

    Raises:
      ConfigError, absl.flags.Error: if the flags or a configuration are wrong.
    """
    rest = FLAGS(["tfaug", *arguments], known_only=False)[1:]
    if rest:
        raise ConfigError(f"tfaug {command} takes flags alone; got {' '.join(rest)!r}")
    if not FLAGS.config or not (FLAGS.workdir or (FLAGS.rows and FLAGS.page)):
        missing = "--config" if not FLAGS.config else "--workdir"
        example = EXAMPLE if command == "sweep" else f"tfaug {command} --config=experiments.quickstart:digits_study"
        raise ConfigError(f"{missing} is missing; as in: {example}{'' if command == 'sweep' else ' --workdir=DIR'}")
    for name, used in (("grid", ("sweep",)), ("rows", ("study report",)), ("page", ("study report",))):
        if FLAGS[name].value and command not in used:
            raise ConfigError(f"--{name} is a flag of {used[0]}, not of {command}")
    if command == "sweep" and (FLAGS.arms or FLAGS.seeds):
        raise ConfigError("--arms and --seeds are flags of study; a sweep has its axes: --grid seed=0..4")
    startup.import_tensorflow()

    from tfaug.study import read_shard
    from tfaug.train.strategy import choose_strategy

    shard = read_shard(FLAGS.shard)
    choose_strategy(FLAGS.strategy)  # or every run would refuse it
    study, arm_flags = _sweep() if command == "sweep" else _study()
    if FLAGS.rows:
        return _report_rows(study)
    if not arm_flags:
        return _search(study, runs=command == "study run")
    return _run(study, arm_flags, shard, runs=command != "study report")


def _load(*settings: str, spec: str = "") -> Any:
    """Returns what --config makes, with the assignments of --set and then these."""
    from tfaug.experiment import CLASSES

    return expressions.load(spec or FLAGS.config, settings, CLASSES)


def _study() -> tuple[Any, dict[str, tuple[str, ...]]]:
    """Returns the study that --config names, with what --set changes, and the flags of `tfaug run` of each arm; a
    search has none."""
    from tfaug.study import Search, Study

    study = _load()
    if isinstance(study, Search):
        for name in ("arms", "seeds", "shard", "strategy"):
            if FLAGS[name].value != FLAGS[name].default:
                raise ConfigError(f"--{name} is a flag of a study of several runs; {FLAGS.config} is one: --set seed=1")
        return _load(*FLAGS.set), {}
    if not isinstance(study, Study):
        raise ConfigError(f"--config is {FLAGS.config!r}, which makes no Study but a {type(study).__name__}")
    sets = tuple(f"--set={assignment}" for assignment in FLAGS.set)
    specs = {arm: f"{FLAGS.config}.{arm}" for arm in study.arms}
    if FLAGS.set:
        study = dataclasses.replace(study, arms={arm: _load(*FLAGS.set, spec=spec) for arm, spec in specs.items()})
    return study, {arm: (f"--config={spec}", *sets) for arm, spec in specs.items()}


def _sweep() -> tuple[Any, dict[str, tuple[str, ...]]]:
    """Returns the study of the grid, and the flags of `tfaug run` of each arm."""
    from tfaug.experiment import Experiment
    from tfaug.study import TEST_ACCURACY, Column, Figure, Study, Table, grid, read_axis, read_seeds

    base = _load(*FLAGS.set)
    if not isinstance(base, Experiment):
        raise ConfigError(f"--config is {FLAGS.config!r}, which makes no Experiment but a {type(base).__name__}")
    axes = [read_axis(text) for text in FLAGS.grid]
    seeds = [axis for axis in axes if axis.key == "seed"]
    arms = grid([axis for axis in axes if axis.key != "seed"])
    if not axes:
        raise ConfigError(f"--grid is missing; as in: {EXAMPLE}")
    arms = {name or "as it is": settings for name, settings in arms.items()}
    sets = [Column(f"{each.name}_accuracy", set=each.name) for each in base.test_sets]
    study = Study(
        name=f"sweep of {FLAGS.config}",
        arms={name: _load(*FLAGS.set, *settings) for name, settings in arms.items()},
        seeds=read_seeds(",".join(seeds[0].values), "--grid seed") if seeds else (base.seed,),
        tables=(Table("Accuracy", (TEST_ACCURACY, *sets), against=next(iter(arms)) if len(arms) > 1 else ""),),
        figures=(Figure("Accuracy on the test set"),),
    )
    flags_of = {
        name: (f"--config={FLAGS.config}", *(f"--set={each}" for each in (*FLAGS.set, *settings)))
        for name, settings in arms.items()
    }
    return study, flags_of


def _trials(study: Any, arm_flags: dict[str, tuple[str, ...]], arms: Sequence[str], seeds: Sequence[int]) -> list[Any]:
    """Returns the trials, seed by seed, so that a part of them already compares arms."""
    from tfaug.study import Trial

    devices = () if FLAGS.strategy == "auto" else (f"--strategy={FLAGS.strategy}",)
    return [
        Trial(arm, seed, dataclasses.replace(experiment, seed=seed), (*arm_flags[arm], f"--set=seed={seed}", *devices))
        for seed in seeds
        for arm, experiment in study.arms.items()
        if arm in arms
    ]


def _run(study: Any, arm_flags: dict[str, tuple[str, ...]], shard: tuple[int, int], runs: bool) -> int:
    """Runs what is missing, where that is asked for, and reports."""
    from tfaug.study import choose, folder_name, read_arms, read_seeds
    from tfaug.workdir import StudyFolder

    with explained():
        from tfaug.report.results import read_results
        from tfaug.trials import is_finished, run_trials, say

    folder = StudyFolder(pathlib.Path(FLAGS.workdir))
    arms = read_arms(FLAGS.arms, study)
    seeds = read_seeds(FLAGS.seeds) if FLAGS.seeds else study.seeds
    failed: dict[str, str] = {}
    if runs:
        chosen = choose(_trials(study, arm_flags, arms, seeds), shard)
        costs = _announce(folder, study, chosen)
        failed = run_trials(folder, chosen, costs)
    found = {seed for arm in study.arms for seed in folder.seeds(folder_name(arm))}
    asked = {*study.seeds, *seeds}
    trials = _trials(study, arm_flags, list(study.arms), sorted(asked | found))
    trials = [trial for trial in trials if trial.seed in asked or is_finished(folder, trial)]
    for name, how in failed.items():
        say(f"failed: {name}: {how}")
    if failed and not any(is_finished(folder, trial) for trial in trials):
        return 1
    _report(folder, read_results(folder, study, trials), trials)
    return 1 if failed else 0


def _search(search: Any, runs: bool) -> int:
    """Does what is missing of a search, where that is asked for, and reports."""
    from tfaug import files
    from tfaug.study import Trial, folder_name
    from tfaug.workdir import StudyFolder, Workdir

    with explained():
        from tfaug.report.results import read_search

    folder = StudyFolder(pathlib.Path(FLAGS.workdir))
    trial = Trial(type(search).__name__, search.seed, search, ())
    workdir = Workdir(folder.run(folder_name(trial.arm), trial.seed))
    if runs:
        data = search.load()
        workdir.begin(search)
        files.write_json(folder.about, {"name": search.name, "command": _command(), "costs": {}})
        with workdir.lock():
            search.run(workdir, data)
    _report(folder, read_search(workdir, search, trial), [trial])
    return 0


def _report(folder: Any, results: Any, trials: Sequence[Any]) -> None:
    """Writes the report, and shows its tables."""
    from tfaug.report.markdown import fill_page, markdown
    from tfaug.report.study import write_study
    from tfaug.trials import say

    summary = write_study(folder, results, trials)
    print(markdown(results, summary))
    print(f"\nreport: {folder.report}")
    if FLAGS.page:
        fill_page(pathlib.Path(FLAGS.page), FLAGS.config, results, summary)
    if results.missing:
        say(f"not finished: {'; '.join(results.missing)}")


def _announce(folder: Any, study: Any, trials: Sequence[Any]) -> dict[str, Any]:
    """Says how many runs there are and what each arm costs, and writes it down; returns the costs."""
    import tensorflow as tf

    from tfaug import files
    from tfaug.trials import Costs, is_finished, say

    tf.config.set_visible_devices([], "GPU")  # which the runs need
    left = [trial for trial in trials if not is_finished(folder, trial)]
    arms, seeds = ({getattr(trial, name) for trial in trials} for name in ("arm", "seed"))
    done = len(trials) - len(left)
    say(f"{len(trials)} runs ({len(arms)} arms, {len(seeds)} seeds), {done} of them finished")
    costs, counter = {}, Costs()
    for arm, trial in {trial.arm: trial for trial in left}.items():
        try:
            costs[arm] = counter.of(trial.experiment)
        except Exception as error:  # its runs will fail, and no others
            say(f"{arm}: cannot be counted: {files.one_line(error)}")
            continue
        for name, cost in costs[arm].items():
            say(
                f"{arm}: {name} has {cost.parameters:,} parameters, {cost.flops / 1e6:,.1f} MFLOPs an image "
                f"(forward, 2 a multiply-add) and {cost.steps:,} steps"
            )
    held = files.read_json(folder.about)["costs"] if folder.about.exists() else {}
    fields = ("parameters", "flops", "steps")
    new = {arm: {name: {f: getattr(c, f) for f in fields} for name, c in each.items()} for arm, each in costs.items()}
    files.write_json(folder.about, {"name": study.name, "command": _command(), "costs": {**held, **new}})
    return costs


def _command() -> str:
    """Returns the command of the whole study, without what picks a part of it."""
    flags_given = [f"--config={FLAGS.config}", f"--workdir={FLAGS.workdir}", *(f"--set={each}" for each in FLAGS.set)]
    flags_given += [f"--grid={each}" for each in FLAGS.grid]
    flags_given += [] if FLAGS.strategy == "auto" else [f"--strategy={FLAGS.strategy}"]
    return shlex.join(["tfaug", *(["sweep"] if FLAGS.grid else ["study", "run"]), *flags_given])


def _report_rows(study: Any) -> int:
    """Fills a page from collected rows."""
    with explained():
        from tfaug.report.markdown import fill_page, markdown
        from tfaug.report.results import read_collected
        from tfaug.report.study import summarize

    results = read_collected(pathlib.Path(FLAGS.rows), study)
    summary = summarize(results)
    fill_page(pathlib.Path(FLAGS.page), FLAGS.config, results, summary)
    print(markdown(results, summary))
    return 0
