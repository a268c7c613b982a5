"""The rows of what the stages of a run measured beside its evaluators: trainings, test-time views, seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tfaug.predictions import CLEAN
from tfaug.workdir import Row

# Metrics of a training as a whole, in rows that have its name and no set, attack or mode.
OF_TRAINING = ("num_parameters", "images_per_second")
# Metrics of the end of a phase, in rows that have TRAINING/PHASE and no set, attack or mode.
OF_PHASE = ("epochs", "weight_norm", "clean_loss", "augmented_loss")
# The images on which the test-time views are compared.
VALIDATION = "validation"


def recorded_rows(
    results: Mapping[str, Mapping[str, Any]],
    test_time: Mapping[str, Mapping[str, Any]],
    timings: Mapping[str, float],
) -> Iterator[Row]:
    """Yields the rows, those of the same metric in the order of the arguments.

    Args:
      results: by training what came of it (its result.json).
      test_time: by model the views that were compared on validation images (its test_time.json).
      timings: seconds by stage.

    Yields:
      `num_parameters` and `images_per_second` of trainings; of their phases, called `TRAINING/PHASE`, the `epochs` made
      and, of the epoch that is kept, `weight_norm` and, if measured, `clean_loss` and `augmented_loss`; `accuracy`,
      `nll`, `gain` and `passes` of views, on the set `validation`, in modes such as `sum_aug n=8 a=0.667`; `seconds`
      with the stage as their mode, and that of all.
    """
    for training, result in results.items():
        for metric in OF_TRAINING:
            if result.get(metric) is not None:
                yield Row(training, "", "", "", metric, float(result[metric]))
        for phase in result.get("phases", ()):
            for metric, value in {"epochs": phase["epochs"], **phase.get("measured", {})}.items():
                yield Row(f"{training}/{phase['name']}", "", "", "", metric, float(value))
    for model, held in test_time.items():
        for view in held["views"]:
            place, num = (model, VALIDATION, CLEAN, view_mode(view)), int(held["num_examples"])
            yield Row(*place, "passes", float(view["passes"]))
            gain = view["gain"] or {"difference": None, "ci95": None}
            for metric, value, ends in (
                ("accuracy", view["accuracy"], view["accuracy_ci95"]),
                ("nll", view["nll"], view["nll_ci95"]),
                ("gain", gain["difference"], gain["ci95"]),
            ):
                if value is not None:
                    low, high = ends or (None, None)
                    yield Row(*place, metric, value, low, high, num)
    for stage, seconds in timings.items():
        yield Row("", "", "", stage, "seconds", seconds)
    if timings:
        yield Row("", "", "", "", "seconds", float(sum(timings.values())))


def view_mode(view: Mapping[str, Any]) -> str:
    """Returns the mode under which a view's rows stand."""
    if view["mode"] != "sum_aug":
        return str(view["mode"])
    return f"sum_aug n={view['num_draws']} a={view['weight']:.3g}"
