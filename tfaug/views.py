"""Test-time views on validation images: what each costs and gains, and which of them an exported version serves.

A model answers plainly, with a mirror view, or by Sum-Augmentation with n draws and a share a (`tfaug.export`). Which
n and a suit a model depends on how it was trained, so they are measured on validation images, never on test images:

* `sum_aug` gets the n and a with the most right answers; equal ones: the fewer passes, then the lower NLL.
* `serving_default` is, of plain, mirror and that sum, the one with the fewest forward passes whose accuracy cannot be
  told from the best one's: the 95 % interval of the paired difference holds 0. So plain is served unless a gain shows.
  That the sum is the best of several on the same images is not corrected for: what it gains is seen on the test set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfaug import metrics
from tfaug.data.split import Split, stratified_subset
from tfaug.export import PASSES, ExportConfig, ServedModel, ViewChoice
from tfaug.extras import explained

with explained():
    import tqdm

RULE = (
    "sum_aug: the setting with the most right answers, equal ones: fewer passes, then the lower NLL; "
    "serving_default: of plain, mirror and sum_aug the fewest passes among those whose paired difference of accuracy "
    "from the best has a 95 % interval that holds 0 (not corrected for the choice of that sum)"
)
# Mixed rows that are asked at once: bounds the memory, and how long the progress bar stands still.
_ROWS_PER_STEP = 2048


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """What one kind of answer gave: mode `plain`, `mirror` or `sum_aug` (with n and a), and probs float [N,K]."""

    mode: str
    probs: np.ndarray
    num_draws: int = 0
    weight: float = 1.0

    @property
    def passes(self) -> int:
        """Forward passes per image."""
        return self.num_draws if self.mode == "sum_aug" else PASSES[self.mode]


def measure_views(
    model: Any,
    bank_images: np.ndarray,
    images: np.ndarray,
    config: ExportConfig,
    *,
    name: str = "",
    progress: bool = False,
) -> list[View]:
    """Asks a model about images plainly, with mirror views if the config has them, and at each (n, a) of the config.

    The passes of the largest n serve every n: the draws of fewer are the first ones of more.

    Args:
      model: see `tfaug.export.ServedModel`.
      bank_images: uint8 [M,H,W,C], of which the sums' partners are drawn.
      images: uint8 [N,H,W,C], N of 1 or more.
      config: the settings.
      name: what the progress bar is called.
      progress: show it on a terminal.

    Returns:
      The views: plain, mirror, then the sums by weight and n, the answers being those that an export gives.

    Raises:
      ValueError: if there are no images, or as `ServedModel`.
    """
    if not len(images):
        raise ValueError("there are 0 images to measure views on; allowed: 1 or more")
    most = max(config.draws)
    served = ServedModel(model, bank_images, config, ViewChoice(most, config.weights[0]))
    modes = ("plain", "mirror") if config.mirror else ("plain",)
    total = len(images) * (sum(PASSES[mode] for mode in modes) + most * len(config.weights))
    views = []
    with tqdm.tqdm(
        total=total, desc=f"{name} views", unit="pass", disable=None if progress else True, leave=False
    ) as bar:
        for mode in modes:
            parts = []
            for first in range(0, len(images), _ROWS_PER_STEP // 8):
                parts.append(served.answer(images[first : first + _ROWS_PER_STEP // 8], mode))
                bar.update(PASSES[mode] * len(parts[-1]))
            views.append(View(mode, np.concatenate(parts)))
        batch_size = max(1, _ROWS_PER_STEP // most)
        for weight in config.weights:
            answers = []
            for first in range(0, len(images), batch_size):
                answers.append(served.answer_with_sums(images[first : first + batch_size], weight, config.draws))
                bar.update(most * len(answers[-1][0]))
            for n, parts in zip(config.draws, zip(*answers, strict=True), strict=True):
                views.append(View("sum_aug", np.concatenate(parts), n, weight))
    return views


def choose_views(views: Sequence[View], labels: np.ndarray) -> ViewChoice:
    """Chooses by the rule at the top of this module.

    Args:
      views: one plain, at most one mirror, one or more sums, all of the same images.
      labels: int64 [N].

    Returns:
      The n and a of the best sum, and the default.

    Raises:
      ValueError: if there is no sum.

    Example:
      >>> right, wrong = [0.9, 0.1], [0.1, 0.9]
      >>> views = [View("plain", [right, right]), View("sum_aug", [right, wrong], 8, 0.5)]
      >>> choose_views(views, np.array([0, 0]))
      ViewChoice(num_draws=8, weight=0.5, default='plain')
    """
    correct = {view: metrics.correct_predictions(view.probs, labels) for view in views}

    if not any(view.mode == "sum_aug" for view in views):
        raise ValueError(f"views have the modes {', '.join(view.mode for view in views) or 'none'}; sum_aug is missing")

    def rank(view: View) -> tuple[float, int, float]:
        return -int(correct[view].sum()), view.passes, metrics.nll(view.probs, labels)

    best_sum = min((view for view in views if view.mode == "sum_aug"), key=rank)
    offered = [view for view in views if view.mode != "sum_aug"] + [best_sum]
    best = min(offered, key=rank)
    for view in sorted(offered, key=lambda view: view.passes):
        low, _ = metrics.paired_bootstrap(correct[best], correct[view])["ci95"]
        if low <= 0:
            break
    return ViewChoice(best_sum.num_draws, best_sum.weight, view.mode)


def describe_views(views: Sequence[View], labels: np.ndarray) -> list[dict[str, Any]]:
    """Measures each view: JSON values with accuracy, NLL, cost, and the gain in accuracy over plain.

    Returns:
      For each view {"mode", "num_draws" and "weight" (sums only), "passes", "accuracy", "accuracy_ci95" (Wilson),
      "nll", "nll_ci95" (Student's t over images; None for one image), "gain" (paired bootstrap against plain; None for
      plain)}.
    """
    plain = next(view for view in views if view.mode == "plain")
    plain_correct = metrics.correct_predictions(plain.probs, labels)
    described = []
    for view in views:
        correct = metrics.correct_predictions(view.probs, labels)
        losses = metrics.log_losses(view.probs, labels)
        described.append(
            {
                "mode": view.mode,
                **({"num_draws": view.num_draws, "weight": view.weight} if view.mode == "sum_aug" else {}),
                "passes": view.passes,
                "accuracy": float(correct.mean()),
                "accuracy_ci95": list(metrics.wilson_interval(int(correct.sum()), len(correct))),
                "nll": float(losses.mean()),
                "nll_ci95": metrics.mean_interval(losses)["interval"] if len(losses) > 1 else None,
                "gain": None if view is plain else metrics.paired_bootstrap(correct, plain_correct),
            }
        )
    return described


def choose_test_time(
    model: Any,
    bank_images: np.ndarray,
    validation: Split,
    config: ExportConfig,
    *,
    name: str = "",
    progress: bool = False,
) -> dict[str, Any]:
    """Measures the views on validation images and chooses.

    Args:
      model: see `tfaug.export.ServedModel`.
      bank_images: uint8 [M,H,W,C] training images.
      validation: images that are neither trained nor tested on; a class-stratified subset is used.
      config: the settings.
      name: what the progress bar is called.
      progress: show it on a terminal.

    Returns:
      JSON values: "choice" (the fields of `ViewChoice`), "rule", "num_examples", and "views", see `describe_views`.
    """
    examples = validation.take(stratified_subset(validation.labels, config.num_examples, seed=config.seed))
    views = measure_views(model, bank_images, examples.images, config, name=name, progress=progress)
    return {
        "choice": dataclasses.asdict(choose_views(views, examples.labels)),
        "rule": RULE,
        "num_examples": len(examples),
        "views": describe_views(views, examples.labels),
    }
