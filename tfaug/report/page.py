"""Write the report of a run: `summary.json` and one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from tfaug import files
from tfaug.config import setting_text
from tfaug.report import figures
from tfaug.report import summary as summaries
from tfaug.report.read import History, Run, read_run, training_phases
from tfaug.report.text import MODE_TITLES, decimals, duration, percent, points, verdict
from tfaug.workdir import Workdir


def write_report(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Pivots the rows of a run into WORKDIR/summary.json and WORKDIR/report.html.

    Each file is written whole or not at all, summary.json first; the same workdir gives the same bytes.

    Args:
      workdir: the folder that `tfaug run` filled.

    Returns:
      The path of report.html.

    Raises:
      FileNotFoundError: if a needed file is missing, naming the command that makes it.
      ConfigError: if a file does not hold what it should, naming the file, what it holds and what is allowed.
    """
    run = read_run(workdir)
    summary = summaries.summarize(run)
    page = render_page(run, summary)
    folder = Workdir(pathlib.Path(workdir))
    files.write_json(folder.summary, summary)
    with files.atomic_file(folder.page) as partial:
        partial.write_text(page, encoding="utf-8")
    return folder.page


def render_page(run: Run, summary: Mapping[str, Any]) -> str:
    """Renders the HTML page of a run: figures inline, no script, nothing fetched.

    Args:
      run: what `read_run` returned.
      summary: what `summarize` made of it.

    Returns:
      The page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        decimals=decimals, percent=percent, duration=duration, points=points, setting=setting_text, verdict=verdict
    )
    served = summaries.served_rows(summary)
    return environment.get_template("page.html.j2").render(
        run=run,
        summary=summary,
        mode_titles=MODE_TITLES,
        set_titles={name: meaning["title"] for name, meaning in run.sets.items()},
        attack_titles={name: attack["title"] for name, attack in summary["attacks"].items()},
        served=served,
        has_mirror=any(mode == "mirror" for _, mode, _ in served),
        gains=[row for row in served if row[2]["gain"]],
        chosen=[
            (model, block["test_time"]["choice"], summaries.view_rows(summary, model))
            for model, block in summaries.blocks(summary).items()
            if block["test_time"]
        ],
        gaps=summaries.gap_rows(summary),
        others=summaries.other_rows(summary),
        colors=figures.COLORS,
        curves=_curves(run),
        reliability=_reliability(run, summary),
        attack_charts=_attack_charts(summary),
        contact_sheet=_contact_sheet(run),
        config_json=json.dumps(run.config, indent=2),
    )


# What older folders, or phases that do not measure it, lack.
_OPTIONAL = ("weight_norm", "risk")


def _curves(run: Run) -> list[dict[str, Any]]:
    """Draws loss, accuracy and learning rate of each training."""
    titles = {
        "loss": "Loss",
        "accuracy": "Accuracy",
        "learning_rate": "Learning rate",
        "weight_norm": "Norm of the weights",
        "risk": "Cross-entropy on training images",
    }
    blocks = []
    for name, histories in training_phases(run):
        total = sum(history.num_epochs for history in histories)
        charts = []
        for kind, title in titles.items():
            drawn = [value for each in histories for column in figures.CURVES[kind] for value in each.columns[column]]
            if kind in _OPTIONAL and not any(map(math.isfinite, drawn)):
                continue
            alt = f"{title} of {name} over {total} epochs. {_ends(histories, kind)}"
            drawing = figures.svg(figures.draw_curves(histories, kind), f"curves-{name}-{kind.replace('_', '-')}", alt)
            charts.append({"title": title, "svg": Markup(drawing)})
        blocks.append({"training": name, "charts": charts})
    return blocks


def _ends(histories: Sequence[History], kind: str) -> str:
    """Says what each phase ended with."""
    sentences = []
    for history in histories:
        parts = []
        for column, (_, title) in figures.CURVES[kind].items():
            values = history.columns.get(column)
            if values is not None and values[-1] == values[-1]:
                parts.append(f"{title} {values[-1]:.4g}".strip())
        if parts:
            sentences.append(f"Phase {history.phase} ends at {', '.join(parts)}.")
    return " ".join(sentences)


def _reliability(run: Run, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draws the reliability diagram of every model on the clean test set."""
    charts = []
    for model, block in summaries.blocks(summary).items():
        answers = figures.clean_answers(run, model)
        if not answers:
            continue
        errors = [
            f"{MODE_TITLES[mode]} {decimals(numbers['clean_ece'], 3)}"
            for mode, numbers in block["served"].items()
            if mode in answers
        ]
        alt = (
            f"Reliability of {model} on the test set: accuracy over confidence. "
            f"Expected calibration error: {', '.join(errors)}."
        )
        drawing = figures.svg(figures.draw_reliability(answers), f"reliability-{model}", alt, (320, 300))
        charts.append({"title": model, "svg": Markup(drawing)})
    return charts


def _attack_charts(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draws accuracy by attack for every model that was attacked."""
    charts = []
    for model, block in summaries.blocks(summary).items():
        attacks = figures.attacks_of(summary, block["served"])
        if not attacks:
            continue
        served = {mode: block["served"][mode] for mode in summaries.attacked_modes(block["served"], attacks)}
        values = [
            f"{MODE_TITLES[mode]} {title} {percent(numbers[f'{attack}_accuracy'])}"
            for mode, numbers in served.items()
            for attack, title in {"clean": "clean", **attacks}.items()
            if f"{attack}_accuracy" in numbers
        ]
        alt = f"Accuracy of {model} by attack: {', '.join(values)}."
        drawing = figures.svg(figures.draw_attacks(served, attacks), f"attacks-{model}", alt, (320, 260))
        charts.append({"title": model, "svg": Markup(drawing)})
    return charts


def _contact_sheet(run: Run) -> list[dict[str, Any]]:
    """Encodes one strip of enlarged images for each augmentation."""
    if run.augmentations is None:
        return []
    names, images = run.augmentations
    scale = max(1, round(96 / images.shape[3]))
    sheet = []
    for name, row in zip(names, images, strict=True):
        title, settings = figures.split_name(name)
        strip = figures.strip(row, scale)
        buffer = io.BytesIO()
        strip.save(buffer, "PNG", optimize=True)
        sheet.append(
            {
                "title": title,
                "settings": settings,
                "data": base64.b64encode(buffer.getvalue()).decode("ascii"),
                "width": strip.width,
                "height": strip.height,
                "num_images": len(row),
            }
        )
    return sheet
