"""Pivot the rows of a run into the content of summary.json: every number of the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from tfaug import metrics
from tfaug.predictions import CLEAN, MODES
from tfaug.report.read import Run
from tfaug.report.recorded import OF_PHASE, OF_TRAINING, VALIDATION
from tfaug.workdir import Row

# What the tables of the page are made of; rows of other metrics stand in tables of their own.
_TABLED = {
    *("accuracy", "nll", "ece", "brier", "gain", "plain_accuracy", "gap", "gap_is_paired", "clean_accuracy"),
    *(*OF_TRAINING, *OF_PHASE, "passes", "seconds"),
}


class _Rows:
    """Rows by what they are about."""

    def __init__(self, rows: Iterable[Row]):
        self._rows = {(row.model, row.set, row.attack, row.mode, row.metric): row for row in rows}

    def find(self, model: str, set_name: str, attack: str, mode: str, metric: str) -> Row | None:
        """Returns the row; None where there is none."""
        return self._rows.get((model, set_name, attack, mode, metric))

    def value(self, *place: str) -> float | None:
        """Returns its value; None where there is none."""
        row = self.find(*place)
        return None if row is None else row.value


def summarize(run: Run) -> dict[str, Any]:
    """Pivots the rows of a run.

    An accuracy under attack counts right answers on the images made from a part of the test set, and
    `ATTACK_clean_accuracy` beside it is for the same images unharmed.

    Args:
      run: what `read_run` returned.

    Returns:
      Nested dicts of JSON values:
        name, fingerprint, git_commit, date, test_set: of the run.
        trainings: by its name, of each training: its last model asked for plain answers, and what came of training it.
          Each stands under its own name beside `trainings` too, unless that is a key here.
        phases: by model, what was measured of the ends of phases: `served`, by mode; `gap`, by mode, to the first other
          set; `gaps`, by set and mode; `test_time`, what was measured and chosen on validation images, or None. A
          training that exports its end alone has these in `trainings`.
        served, gap: of the first training's last model; gap in mode `plain`, None where there is no other set.
        sum_aug, attacks: settings.
        seconds, timings, images_per_second: of the run, and of the first training.
        notes: what is missing.
        rows: everything measured, see `tfaug.workdir.Row`.
      In `served`, `gain` of a mode is its accuracy minus the plain one on the same images (None for plain, and where
      there is none). Accuracies are fractions (0..1), differences too; intervals are `[low, high]` at 95 %.
    """
    rows = _Rows(run.rows)
    measured = {row.model for row in run.rows}
    blocks = {model: _block(run, rows, model) for model in run.models if model in measured}
    trainings = {name: _training(run, rows, name, blocks) for name in run.trainings}
    first = next(iter(trainings.values()))
    final = blocks.get(first["model"], {"served": {}, "gap": {}})
    return {
        **trainings,
        "name": run.name,
        "fingerprint": run.fingerprint,
        "git_commit": run.git_commit,
        "date": run.date,
        "test_set": run.sets[run.test_set]["title"],
        "trainings": trainings,
        "phases": {model: block for model, block in blocks.items() if model not in trainings},
        "served": {"model": first["model"], **final["served"]},
        "gap": final["gap"].get("plain"),
        "sum_aug": _settings(run.config.get("export")),
        "attacks": {name: _attack(run.attacks[name]) for name in run.attacks if _is_attacked(run, name)},
        "seconds": rows.value("", "", "", "", "seconds"),
        "timings": {row.mode: row.value for row in run.rows if row.metric == "seconds" and row.mode},
        "images_per_second": first["images_per_second"],
        "notes": dict(run.notes),
        "rows": [dataclasses.asdict(row) for row in run.rows],
    }


def blocks(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns what was measured of each model (its `served` and `gaps`), trainings that have but one at the end."""
    whole = {name: block for name, block in summary["trainings"].items() if "served" in block}
    return {**summary["phases"], **whole}


def served_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Lists (model, mode, numbers), in the order of `blocks`."""
    return [
        (model, mode, block["served"][mode])
        for model, block in blocks(summary).items()
        for mode in MODES
        if mode in block["served"]
    ]


def gap_rows(summary: Mapping[str, Any]) -> dict[str, list[tuple[str, str, Mapping[str, Any]]]]:
    """Lists (model, mode, gap) by the other set."""
    found: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for model, block in blocks(summary).items():
        for name, gaps in block["gaps"].items():
            found.setdefault(name, []).extend((model, mode, gap) for mode, gap in gaps.items() if gap)
    return {name: listed for name, listed in found.items() if listed}


def other_rows(summary: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Returns the rows of metrics that no other table of the page shows, by metric."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in summary["rows"]:
        if row["metric"] not in _TABLED:
            found.setdefault(row["metric"], []).append(row)
    return found


def view_rows(summary: Mapping[str, Any], model: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Returns what was measured on validation images of each view of a model: mode -> metric -> row."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in summary["rows"]:
        if (row["model"], row["set"]) == (model, VALIDATION):
            found.setdefault(row["mode"], {})[row["metric"]] = row
    return {mode: numbers for mode, numbers in found.items() if "passes" in numbers}


def attacked_modes(served: Mapping[str, Any], attacks: Iterable[str]) -> list[str]:
    """Lists the modes in which one model was asked about attacked images."""
    attacks = list(attacks)
    return [mode for mode in MODES if any(f"{attack}_accuracy" in served.get(mode, {}) for attack in attacks)]


def _block(run: Run, rows: _Rows, model: str) -> dict[str, Any]:
    """Returns what was measured of a model."""
    others = list(run.sets)[1:]
    gaps = {name: {mode: _gap(run, rows, model, name, mode) for mode in MODES} for name in others}
    return {
        "served": _served(run, rows, model),
        "gap": gaps[others[0]] if others else dict.fromkeys(MODES),
        "gaps": gaps,
        "test_time": _test_time(run, model),
    }


def _training(run: Run, rows: _Rows, name: str, blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Describes a training: the plain test accuracy of its last model, and what was trained."""
    models = [model for model, meaning in run.models.items() if meaning["training"] == name]
    model = models[-1] if models else name
    plain = rows.find(model, run.test_set, CLEAN, "plain", "accuracy")
    result, size = run.trainings[name], rows.value(name, "", "", "", "num_parameters")
    return {
        "model": model,
        "test_accuracy": None if plain is None else plain.value,
        "test_accuracy_ci95": _interval(plain),
        "num_test": None if plain is None else plain.n,
        "weights_sha256": result.get("weights_sha256"),
        "num_parameters": None if size is None else int(size),
        "images_per_second": rows.value(name, "", "", "", "images_per_second"),
        "phases": result.get("phases", []),
        **(blocks[model] if model == name and model in blocks else {}),
    }


def _served(run: Run, rows: _Rows, model: str) -> dict[str, dict[str, Any]]:
    """Returns what was measured on the test set, in each mode that a model was asked in."""
    served = {}
    for mode in MODES:
        clean = (model, run.test_set, CLEAN, mode)
        accuracy = rows.find(*clean, "accuracy")
        if accuracy is None:
            continue
        numbers: dict[str, Any] = {
            "clean_accuracy": accuracy.value,
            "clean_accuracy_ci95": _interval(accuracy),
            **{f"clean_{metric}": rows.value(*clean, metric) for metric in ("nll", "ece", "brier")},
            "num_test": accuracy.n,
            "passes": _passes(run, model, mode),
            "gain": _gain(rows, clean),
        }
        for attack in run.attacks:
            attacked = (model, run.test_set, attack, mode)
            right = rows.find(*attacked, "accuracy")
            if right is None:
                continue
            numbers[f"{attack}_accuracy"] = right.value
            numbers[f"{attack}_accuracy_ci95"] = _interval(right)
            numbers[f"{attack}_clean_accuracy"] = rows.value(*attacked, "clean_accuracy")
            numbers[f"{attack}_num_examples"] = right.n
        served[mode] = numbers
    return served


def _gain(rows: _Rows, clean: tuple[str, str, str, str]) -> dict[str, Any] | None:
    """Returns a mode's accuracy minus the plain one on the same images."""
    gain = rows.find(*clean, "gain")
    if gain is None:
        return None
    return {
        "difference": gain.value,
        "ci95": _interval(gain),
        "plain_accuracy": rows.value(*clean, "plain_accuracy"),
        "num_examples": gain.n,
    }


def _gap(run: Run, rows: _Rows, model: str, set_name: str, mode: str) -> dict[str, Any] | None:
    """Returns test accuracy minus that on another set."""
    other = (model, set_name, CLEAN, mode)
    gap = rows.find(*other, "gap")
    if gap is None:
        return None
    test, shifted = (rows.find(model, each, CLEAN, mode, "accuracy") for each in (run.test_set, set_name))
    return {
        "difference": gap.value,
        "ci95": _interval(gap),
        "test_set": run.sets[run.test_set]["title"],
        "shifted_set": run.sets[set_name]["title"],
        "shifted_description": run.sets[set_name].get("description") or None,
        "test_accuracy": None if test is None else test.value,
        "shifted_accuracy": None if shifted is None else shifted.value,
        "shifted_accuracy_ci95": _interval(shifted),
        "num_test": None if test is None else test.n,
        "num_shifted": gap.n,
        "resampling": "paired" if rows.value(*other, "gap_is_paired") else "independent",
        "num_resamples": metrics.NUM_RESAMPLES,
        "seed": metrics.BOOTSTRAP_SEED,
    }


def _test_time(run: Run, model: str) -> dict[str, Any] | None:
    """Returns what was measured and chosen on validation images; None where nothing was."""
    held = run.test_time.get(model)
    return None if held is None else {key: value for key, value in held.items() if key not in ("key", "weights_sha256")}


def _passes(run: Run, model: str, mode: str) -> int | None:
    """Returns the forward passes that an answer costs; None where it is not known."""
    if mode != "sum_aug":
        return {"plain": 1, "mirror": 2}[mode]
    held = run.test_time.get(model)
    return None if held is None else int(held["choice"]["num_draws"])


def _interval(row: Row | None) -> list[float] | None:
    """Returns the interval of a row."""
    return None if row is None or row.low is None or row.high is None else [row.low, row.high]


def _is_attacked(run: Run, attack: str) -> bool:
    """Says whether anything was measured under an attack."""
    return any(row.attack == attack for row in run.rows)


def _attack(meaning: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an attack's settings and what it was made on."""
    rest = {key: value for key, value in meaning.items() if key != "settings"}
    return {**_settings(meaning.get("settings")), **rest}


def _settings(written: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns settings without the name of the class that held them."""
    return {key: value for key, value in (written or {}).items() if key != "class"}
