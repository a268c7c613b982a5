"""Read a workdir and turn its prediction files into numbers; no number comes from anywhere else.

read_run(workdir) -> Run        what the files say, checked
summarize(run)    -> dict       every number of the report: the content of `summary.json`
short_table(summary) -> str     the few of them that a terminal shows
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime
import json
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfaug import files, metrics
from tfaug.config import ConfigError

MODES = ("plain", "mirror", "sum_aug")
MODE_TITLES = {"plain": "plain", "mirror": "mirror", "sum_aug": "Sum-Aug"}
NUM_RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
HISTORY_COLUMNS = ("epoch", "step", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What one model answered for one set of images: probs float64 [N,K], labels int64 [N], ids str [N], and
    with which weights, where the file says so."""

    probs: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    weights_sha256: str = ""

    @property
    def correct(self) -> np.ndarray:
        """Which answers are right: bool [N]; of equal probabilities the first class counts."""
        return metrics.correct_predictions(self.probs, self.labels).astype(bool)


@dataclasses.dataclass(frozen=True)
class History:
    """The epochs of one phase: one float64 array per column of `HISTORY_COLUMNS`, NaN where nothing was written."""

    model: str
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

    `predictions` is keyed (model, set, attack, mode), as in predictions/MODEL/SET.ATTACK.MODE.npz; `test_time` has by
    model what was measured and chosen on validation images (export/MODEL/test_time.json); `notes` has a sentence for
    each section of the page for which the workdir holds nothing, or not all.
    """

    name: str
    fingerprint: str
    git_commit: str
    date: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    meta: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Any]]
    histories: tuple[History, ...]
    predictions: Mapping[tuple[str, str, str, str], Predictions]
    test_time: Mapping[str, Mapping[str, Any]]
    timings: Mapping[str, float]
    augmentations: tuple[tuple[str, ...], np.ndarray] | None
    notes: Mapping[str, str]

    @property
    def final_model(self) -> str:
        """The model that the report calls the teacher: the end of the last phase."""
        return str(self.meta["final_model"])

    @property
    def served_models(self) -> tuple[str, ...]:
        """Every model with answers on the clean test set: the phases in order, then the student, then others."""
        found = {model for model, subset, attack, _ in self.predictions if (subset, attack) == ("test", "clean")}
        if "student" in self.notes:
            found.discard("student")
        ordered = [*self.meta["phase_models"], self.final_model, "student", *sorted(found)]
        return tuple(model for model in dict.fromkeys(ordered) if model in found)

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks that any model was shown, in the order of predictions/meta.json."""
        found = {attack for _, _, attack, _ in self.predictions} - {"clean"}
        return tuple(attack for attack in dict.fromkeys([*self.meta["attacks"], *sorted(found)]) if attack in found)


def read_run(workdir: str | os.PathLike[str]) -> Run:
    """Reads everything that the report is made of.

    Needed are config.json, teacher/result.json, predictions/meta.json and the final model's plain answers on the clean
    test set; whatever else is missing becomes a sentence in `Run.notes`.

    Args:
      workdir: the folder that `tfaug run` filled.

    Returns:
      The run, with every prediction file loaded and checked, against each other and against the trained weights.

    Raises:
      FileNotFoundError: if a needed file is missing, naming the command that makes it.
      ConfigError: if a file does not hold what it should, naming the file, what it holds and what is allowed.
    """
    workdir = pathlib.Path(workdir)
    written = _read_json(workdir, "config.json", "run")
    results = {"teacher": _read_json(workdir, "teacher/result.json", "train")}
    meta = _read_json(workdir, "predictions/meta.json", "evaluate")
    if not meta.get("final_model"):
        raise ConfigError(
            f"{workdir / 'predictions/meta.json'} has no final_model; make it again with `tfaug evaluate`"
        )
    meta = {"phase_models": [meta["final_model"]], "attacks": {}, **meta}
    predictions = {key: _read_predictions(path) for key, path in _prediction_files(workdir / "predictions")}
    if (str(meta["final_model"]), "test", "clean", "plain") not in predictions:
        raise _missing(workdir, f"predictions/{meta['final_model']}/test.clean.plain.npz", "evaluate")
    _check_same_labels(predictions)
    if (workdir / "student/result.json").exists():
        results["student"] = _read_json(workdir, "student/result.json", "train")
    _check_same_weights(workdir / "predictions", predictions, meta, results)
    histories = tuple(_read_histories(workdir))
    timings: dict[str, float] = {}
    if (workdir / "timings.json").exists():
        timings = {stage: float(spent) for stage, spent in _read_json(workdir, "timings.json", "run").items()}
    augmentations = None
    if (workdir / "figures/augmentations.npz").exists():
        augmentations = _read_augmentations(workdir / "figures/augmentations.npz")

    test_time = {
        path.parent.name: _read_json(workdir, str(path.relative_to(workdir)), "export")
        for path in sorted((workdir / "export").glob("[!.]*/test_time.json"))
    }

    config = written.get("config") or {}
    return Run(
        name=str(config.get("name") or workdir.resolve().name),
        fingerprint=str(written.get("fingerprint") or "unknown"),
        git_commit=str(written.get("git_commit") or "unknown"),
        date=_date(written, workdir / "config.json"),
        config=config,
        versions={str(name): str(version) for name, version in (written.get("versions") or {}).items()},
        meta=meta,
        results=results,
        histories=histories,
        predictions=predictions,
        test_time=test_time,
        timings=timings,
        augmentations=augmentations,
        notes=_notes(predictions, results, histories, bool(timings), augmentations is not None, bool(test_time)),
    )


def summarize(run: Run) -> dict[str, Any]:
    """Computes every number of the report from the predictions of a run.

    `teacher` is the final model asked for plain answers; an accuracy under attack counts right answers on the
    images made from a part of the test set, and `ATTACK_clean_accuracy` beside it is for the same images unharmed.

    Args:
      run: what `read_run` returned.

    Returns:
      Nested dicts of JSON values: name, fingerprint, teacher, student (None where there is none), phases, served, gap
      (None where there is no shifted set), attacks, seconds, timings, images_per_second and what names them. In
      `served`, `gain` of a mode is its accuracy minus the plain one on the same images (None for plain, and where there
      is none); `test_time` of a model is what was measured and chosen on validation images (None where nothing was).
      Accuracies are fractions (0..1), differences too; intervals are `[low, high]` at 95 %.
    """
    models: dict[str, dict[str, Any]] = {
        model: {
            "served": _served(run, model),
            "gap": {mode: _gap(run, model, mode) for mode in MODES},
            "test_time": _test_time(run, model),
        }
        for model in run.served_models
    }
    final = models[run.final_model]
    teacher_speed = run.results["teacher"].get("images_per_second")
    return {
        "name": run.name,
        "fingerprint": run.fingerprint,
        "git_commit": run.git_commit,
        "date": run.date,
        "test_set": _set_name(run, "test"),
        "teacher": _model(run, run.final_model, "teacher"),
        "student": {**_model(run, "student", "student"), **models["student"]} if "student" in models else None,
        "phases": {model: models[model] for model in models if model != "student"},
        "served": {"model": run.final_model, **final["served"]},
        "gap": final["gap"]["plain"],
        "sum_aug": {**_settings(run.config.get("export")), **_settings(run.meta.get("sum_aug"))},
        "attacks": {attack: _settings(run.meta["attacks"].get(attack)) for attack in run.attacks},
        "seconds": sum(run.timings.values()) if run.timings else None,
        "timings": dict(run.timings),
        "images_per_second": None if teacher_speed is None else float(teacher_speed),
        "notes": dict(run.notes),
    }


def blocks(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns what was measured of each model (its `served` and `gap`): the phases in order, then the student."""
    student = {"student": summary["student"]} if summary["student"] else {}
    return {**summary["phases"], **student}


def served_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Lists (model, mode, numbers), in the order of `blocks`."""
    return [
        (model, mode, block["served"][mode])
        for model, block in blocks(summary).items()
        for mode in MODES
        if mode in block["served"]
    ]


def attacked_modes(served: Mapping[str, Any], attacks: Iterable[str]) -> list[str]:
    """Lists the modes in which one model was asked about attacked images."""
    attacks = list(attacks)
    return [mode for mode in MODES if any(f"{attack}_accuracy" in served.get(mode, {}) for attack in attacks)]


def percent(value: float | None, num_examples: int | None = None, digits: int | None = None) -> str:
    """Writes a fraction in percent, with one decimal below 2,000 examples and two from there on.

    Example:
      >>> percent(0.875, 200), percent(0.875, 10000), percent(None)
      ('87.5 %', '87.50 %', 'n/a')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    digits = (2 if (num_examples or 0) >= 2000 else 1) if digits is None else digits
    return f"{100 * value:.{digits}f} %"


def short_table(summary: Mapping[str, Any]) -> str:
    """Writes the table that ends `tfaug run`: at most 20 lines of plain text.

    Args:
      summary: what `summarize` returned, or summary.json read back.

    Returns:
      The lines, joined, without a final newline.
    """
    attacks = list(summary["attacks"])
    header = ["model", "answers", "accuracy", "NLL", "ECE", *(attack.upper() for attack in attacks)]
    table = [header]
    for model, mode, numbers in served_rows(summary):
        row = [model, MODE_TITLES[mode], percent(numbers["clean_accuracy"], numbers["num_test"])]
        row += [f"{numbers['clean_nll']:.3f}", f"{numbers['clean_ece']:.3f}"]
        row += [percent(numbers.get(f"{attack}_accuracy"), numbers.get(f"{attack}_num_examples")) for attack in attacks]
        table.append(row)
    rest = len(table) - 11
    table = table[:11]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = [f"{summary['name']}  {summary['fingerprint'][:12]}"]
    for row in table:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[:2] = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        lines.append("  ".join(cells).rstrip())
    if rest > 0:
        lines.append(f"and {rest} more rows in the report")
    lines.append("")
    for title in ("teacher", "student"):
        if summary[title]:
            lines.append(_accuracy_line(title, summary[title], summary["served"]["model"]))
    gap = summary.get("gap")
    if gap:
        low, high = gap["ci95"]
        lines.append(
            f"gap      {100 * gap['difference']:.1f} points to {gap['shifted_set']}, "
            f"95 % interval {100 * low:.1f} to {100 * high:.1f}"
        )
    if summary.get("seconds") is not None:
        lines.append(f"time     {duration(summary['seconds'])}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Writes seconds for people.

    Example:
      >>> duration(3.21), duration(75.4), duration(7322)
      ('3.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def _accuracy_line(title: str, model: Mapping[str, Any], final_model: str) -> str:
    """Writes one model's test accuracy with its interval."""
    num_test = model["num_test"]
    low, high = model["test_accuracy_ci95"]
    name = f" ({final_model})" if title == "teacher" else ""
    return (
        f"{title}  {percent(model['test_accuracy'], num_test)} of {num_test:,} test images{name}, "
        f"95 % interval {percent(low, num_test)} to {percent(high, num_test)}"
    )


def _served(run: Run, model: str) -> dict[str, dict[str, Any]]:
    """Measures one model in each mode it was asked in."""
    measured = {}
    for mode in MODES:
        clean = run.predictions.get((model, "test", "clean", mode))
        if clean is None:
            continue
        numbers: dict[str, Any] = {
            "clean_accuracy": metrics.accuracy(clean.probs, clean.labels),
            "clean_accuracy_ci95": _interval(clean.correct),
            "clean_nll": metrics.nll(clean.probs, clean.labels),
            "clean_ece": metrics.ece(clean.probs, clean.labels),
            "clean_brier": metrics.brier(clean.probs, clean.labels),
            "num_test": len(clean.labels),
            "passes": _passes(run, model, mode),
            "gain": _gain(run, model, mode),
        }
        for attack in run.attacks:
            attacked = run.predictions.get((model, "test", attack, mode))
            if attacked is None:
                continue
            numbers[f"{attack}_accuracy"] = metrics.accuracy(attacked.probs, attacked.labels)
            numbers[f"{attack}_accuracy_ci95"] = _interval(attacked.correct)
            numbers[f"{attack}_clean_accuracy"] = _accuracy_on(clean, attacked.ids)
            numbers[f"{attack}_num_examples"] = len(attacked.labels)
        measured[mode] = numbers
    return measured


def _test_time(run: Run, model: str) -> dict[str, Any] | None:
    """Returns what was measured and chosen on validation images; None where nothing was."""
    held = run.test_time.get(model)
    return None if held is None else {key: value for key, value in held.items() if key != "weights_sha256"}


def _passes(run: Run, model: str, mode: str) -> int | None:
    """Returns the forward passes that an answer costs; None where it is not known."""
    if mode != "sum_aug":
        return {"plain": 1, "mirror": 2}[mode]
    held = run.test_time.get(model)
    return None if held is None else int(held["choice"]["num_draws"])


def _gain(run: Run, model: str, mode: str) -> dict[str, Any] | None:
    """Measures a mode's accuracy minus the plain one on the same test images, with its paired bootstrap interval."""
    answers = run.predictions[(model, "test", "clean", mode)]
    plain = run.predictions.get((model, "test", "clean", "plain"))
    places = None if plain is None or mode == "plain" else _positions(plain, answers.ids)
    if plain is None or places is None:
        return None
    drawn = metrics.paired_bootstrap(answers.correct, plain.correct[places], NUM_RESAMPLES, BOOTSTRAP_SEED)
    return {
        "difference": float(drawn["difference"]),
        "ci95": [float(bound) for bound in drawn["ci95"]],
        "plain_accuracy": float(plain.correct[places].mean()),
        "num_examples": len(answers.ids),
    }


def verdict(gain: Mapping[str, Any]) -> str:
    """Says what a paired difference shows: only an interval without 0 is called a gain or a loss.

    Example:
      >>> verdict({"ci95": [0.01, 0.03]}), verdict({"ci95": [-0.03, -0.01]}), verdict({"ci95": [0.0, 0.03]})
      ('gain', 'loss', 'no difference shown')
    """
    low, high = gain["ci95"]
    return "gain" if low > 0 else "loss" if high < 0 else "no difference shown"


def _model(run: Run, model: str, role: str) -> dict[str, Any]:
    """Describes the teacher or the student: plain test accuracy and what was trained."""
    plain = run.predictions[(model, "test", "clean", "plain")]
    result = run.results.get(role, {})
    return {
        "model": model,
        "test_accuracy": metrics.accuracy(plain.probs, plain.labels),
        "test_accuracy_ci95": _interval(plain.correct),
        "num_test": len(plain.labels),
        "weights_sha256": result.get("weights_sha256"),
        "num_parameters": result.get("num_parameters"),
        "images_per_second": result.get("images_per_second"),
        "phases": result.get("phases", []),
    }


def _gap(run: Run, model: str, mode: str) -> dict[str, Any] | None:
    """Measures test accuracy minus shifted accuracy, with its bootstrap interval; None without a shifted set."""
    test = run.predictions.get((model, "test", "clean", mode))
    shifted = run.predictions.get((model, "shifted", "clean", mode))
    if test is None or shifted is None:
        return None
    paired = _positions(shifted, test.ids)
    if paired is not None and len(shifted.ids) == len(test.ids) and (shifted.labels[paired] == test.labels).all():
        # The same images, changed: an image that is hard in one set is hard in the other, so both are drawn together.
        resampling = "paired"
        drawn = metrics.paired_bootstrap(test.correct, shifted.correct[paired], NUM_RESAMPLES, BOOTSTRAP_SEED)
    else:
        resampling = "independent"
        drawn = metrics.bootstrap_difference(test.correct, shifted.correct, NUM_RESAMPLES, BOOTSTRAP_SEED)
    return {
        "difference": float(drawn["difference"]),
        "ci95": [float(bound) for bound in drawn["ci95"]],
        "test_set": _set_name(run, "test"),
        "shifted_set": _set_name(run, "shifted"),
        "shifted_description": (run.meta.get("shifted") or {}).get("description"),
        "test_accuracy": metrics.accuracy(test.probs, test.labels),
        "shifted_accuracy": metrics.accuracy(shifted.probs, shifted.labels),
        "shifted_accuracy_ci95": _interval(shifted.correct),
        "num_test": len(test.labels),
        "num_shifted": len(shifted.labels),
        "resampling": resampling,
        "num_resamples": NUM_RESAMPLES,
        "seed": BOOTSTRAP_SEED,
    }


def _interval(correct: np.ndarray) -> list[float]:
    """Returns Wilson's 95 % interval of a share of right answers."""
    return [float(bound) for bound in metrics.wilson_interval(int(correct.sum()), len(correct))]


def _positions(answers: Predictions, ids: np.ndarray) -> np.ndarray | None:
    """Returns where each of `ids` stands among the answers; None where one of them is not there."""
    places = {name: i for i, name in enumerate(answers.ids.tolist())}
    found = [places.get(name, -1) for name in ids.tolist()]
    return None if -1 in found else np.asarray(found)


def _accuracy_on(clean: Predictions, ids: np.ndarray) -> float | None:
    """Returns the accuracy on the examples named by `ids`; None where one of them is not there."""
    places = _positions(clean, ids)
    return None if places is None else float(clean.correct[places].mean())


def _settings(written: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns settings without the name of the class that held them."""
    return {key: value for key, value in (written or {}).items() if key != "class"}


def _set_name(run: Run, subset: str) -> str:
    """Returns the name under which a set was measured."""
    return str((run.meta.get(subset) or {}).get("name") or subset)


def _read_json(workdir: pathlib.Path, name: str, command: str) -> dict[str, Any]:
    """Reads a needed JSON file, an object."""
    path = workdir / name
    if not path.exists():
        raise _missing(workdir, name, command)
    try:
        value = files.read_json(path)
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}); make it again with `tfaug {command}`") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds a {type(value).__name__}, allowed: an object; make it with `tfaug {command}`")
    return value


def _notes(
    predictions: Mapping[tuple[str, str, str, str], Predictions],
    results: Mapping[str, Any],
    histories: Sequence[History],
    has_timings: bool,
    has_augmentations: bool,
    has_test_time: bool,
) -> dict[str, str]:
    """Says, for each section of the page, what the workdir does not hold."""
    notes = {}
    if ("student", "test", "clean", "plain") not in predictions:
        notes["student"] = "No student was distilled in this run, so there is none in the tables."
        if "student" in results:
            notes["student"] = "The student was not measured; `tfaug evaluate` does that."
    if not any(mode == "sum_aug" for *_, mode in predictions):
        notes["sum_aug"] = "The models were not asked through Sum-Aug in this run, so only plain answers are shown."
    if {attack for _, _, attack, _ in predictions} == {"clean"}:
        notes["attacks"] = "No attacked images were sent in this run, so there is no accuracy under attack."
    if not any(subset == "shifted" for _, subset, *_ in predictions):
        notes["gap"] = "No shifted test set was measured in this run, so there is no gap."
    broken = [f"{each.num_broken_rows} in {each.model}/{each.phase}" for each in histories if each.num_broken_rows]
    if broken:
        notes["training"] = f"Unreadable rows of history.csv were left out: {', '.join(broken)}."
    if not any(each.num_epochs for each in histories):
        notes["training"] = "No training history was found, so there are no curves."
    if not has_augmentations:
        notes["augmentations"] = "No augmented images were saved in this run, so there is no contact sheet."
    if not has_test_time:
        notes["test_time"] = "Nothing was compared on validation images in this run."
    if not has_timings:
        notes["timings"] = "No timings were written in this run."
    return notes


def _missing(workdir: pathlib.Path, name: str, command: str) -> FileNotFoundError:
    """Says what is missing and how to get it."""
    made_by = f"`tfaug {command} --config=MODULE:FUNCTION --workdir={workdir}` makes it"
    return FileNotFoundError(f"{workdir / name} is missing; {made_by}")


def _prediction_files(folder: pathlib.Path) -> Iterator[tuple[tuple[str, str, str, str], pathlib.Path]]:
    """Yields the key and the path of each prediction file; hidden (unfinished) files are passed over."""
    for path in sorted(folder.glob("[!.]*/[!.]*.npz")):
        parts = path.name.split(".")
        if len(parts) != 4 or parts[2] not in MODES:
            raise ConfigError(
                f"{path} has an unknown name; allowed: SET.ATTACK.MODE.npz with MODE {' or '.join(MODES)}"
            )
        yield (path.parent.name, parts[0], parts[1], parts[2]), path


@contextlib.contextmanager
def _open_npz(path: pathlib.Path, command: str) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens an .npz file; what is not whole is named with the command that makes it."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except ConfigError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise ConfigError(f"{path} is not an .npz file ({error}); make it again with `tfaug {command}`") from error


def _read_predictions(path: pathlib.Path) -> Predictions:
    """Reads and checks one prediction file."""
    again = "make it again with `tfaug evaluate`"
    with _open_npz(path, "evaluate") as arrays:
        missing = [name for name in ("probs", "labels", "ids") if name not in arrays]
        if missing:
            raise ConfigError(f"{path} has no {', '.join(missing)}; {again}")
        probs, labels, ids = arrays["probs"], arrays["labels"], arrays["ids"].astype(str)
        key = json.loads(str(arrays["key"])) if "key" in arrays else {}
    try:
        probs, labels = metrics.check_predictions(probs, labels)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; {again}") from error
    if ids.shape != labels.shape or len(set(ids.tolist())) != len(ids):
        raise ConfigError(f"{path} has ids {ids.shape} for {len(labels)} labels; allowed: one per label, all different")
    return Predictions(probs, labels, ids, str(key.get("weights_sha256") or ""))


def _check_same_labels(predictions: Mapping[tuple[str, str, str, str], Predictions]) -> None:
    """Refuses answers for one set that disagree about its images or labels: they would come from two different sets.

    Answers through sums may be about a part of the images, the same part for each model.
    """
    labels: dict[str, dict[str, int]] = {}
    first_ids: dict[tuple[str, str, bool], tuple[set[str], str]] = {}
    for (model, subset, attack, mode), answers in sorted(predictions.items(), key=lambda item: item[0][3] == "sum_aug"):
        name = f"predictions/{model}/{subset}.{attack}.{mode}.npz"
        truth = dict(zip(answers.ids.tolist(), answers.labels.tolist(), strict=True))
        part = mode == "sum_aug"
        whole, first = first_ids.get((subset, attack, False), (set(truth), name))
        if part and not set(truth) <= whole:
            raise ConfigError(f"{name} and {first} are about different images; make them again with `tfaug evaluate`")
        ids, first = first_ids.setdefault((subset, attack, part), (set(truth), name))
        if set(truth) != ids:
            raise ConfigError(f"{name} and {first} are about different images; make them again with `tfaug evaluate`")
        known = labels.setdefault(subset, {})
        wrong = [each for each, label in truth.items() if known.setdefault(each, label) != label]
        if wrong:
            raise ConfigError(
                f"{name} gives image {wrong[0]} the label {truth[wrong[0]]}, another file {known[wrong[0]]}; "
                "make them again with `tfaug evaluate`"
            )


def _check_same_weights(
    folder: pathlib.Path,
    predictions: Mapping[tuple[str, str, str, str], Predictions],
    meta: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
) -> None:
    """Refuses answers of weights that are no longer those of the workdir, where the files say whose they are."""
    trained = {phase["name"]: phase.get("weights_sha256") for phase in results["teacher"].get("phases", [])}
    trained[str(meta["final_model"])] = results["teacher"].get("weights_sha256")
    trained["student"] = results.get("student", {}).get("weights_sha256")
    for (model, subset, attack, mode), answers in predictions.items():
        if answers.weights_sha256 and trained.get(model) and answers.weights_sha256 != trained[model]:
            raise ConfigError(
                f"{folder / model / f'{subset}.{attack}.{mode}.npz'} was made with the weights "
                f"{answers.weights_sha256[:12]}, but {model} has {str(trained[model])[:12]}; run `tfaug evaluate`"
            )


def _read_histories(workdir: pathlib.Path) -> Iterator[History]:
    """Yields the histories of teacher and student, in the order of the phases."""
    for model in ("teacher", "student"):
        paths = (workdir / model).glob("[!.]*/history.csv")
        for path in sorted(paths, key=lambda path: _phase_order(path.parent.name)):
            yield _read_history(path, model)


def _phase_order(folder: str) -> tuple[int, str]:
    """Sorts `10_x` after `9_y`."""
    number, _, name = folder.partition("_")
    return (int(number), name) if number.isdigit() else (1 << 30, folder)


def _read_history(path: pathlib.Path, model: str) -> History:
    """Reads one history: the last row of each epoch; a row cut off while it was written is counted, not used."""
    rows: dict[float, list[float]] = {}
    num_broken = 0
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                numbers = [float(row.get(column) or "nan") for column in HISTORY_COLUMNS]
            except ValueError:
                num_broken += 1
                continue
            if math.isfinite(numbers[0]):
                rows[numbers[0]] = numbers
            else:
                num_broken += 1
    table = np.asarray([rows[epoch] for epoch in sorted(rows)], np.float64).reshape(len(rows), len(HISTORY_COLUMNS))
    columns = {column: table[:, i] for i, column in enumerate(HISTORY_COLUMNS)}
    return History(model, path.parent.name, columns, num_broken)


def _read_augmentations(path: pathlib.Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Reads the rows of the contact sheet: names and uint8 [R,COLS,H,W,C]."""
    with _open_npz(path, "train") as arrays:
        names, images = tuple(arrays["names"].astype(str).tolist()), arrays["images"]
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
