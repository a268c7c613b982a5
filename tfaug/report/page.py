"""Write the report of a run: `summary.json` and one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from tfaug import files
from tfaug.report import figures, rows


def write_report(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Computes every number of a run from its predictions and writes WORKDIR/summary.json and WORKDIR/report.html.

    Each file is written whole or not at all, summary.json first; the same workdir gives the same bytes.

    Args:
      workdir: the folder that `tfaug run` filled.

    Returns:
      The path of report.html.

    Raises:
      FileNotFoundError: if a needed file is missing, naming the command that makes it.
      ConfigError: if a file does not hold what it should, naming the file, what it holds and what is allowed.
    """
    workdir = pathlib.Path(workdir)
    run = rows.read_run(workdir)
    summary = rows.summarize(run)
    page = render_page(run, summary)
    files.write_json(workdir / "summary.json", summary)
    with files.atomic_file(workdir / "report.html") as partial:
        partial.write_text(page, encoding="utf-8")
    return workdir / "report.html"


def render_page(run: rows.Run, summary: Mapping[str, Any]) -> str:
    """Renders the HTML page of a run: figures inline, no script, nothing fetched.

    Args:
      run: what `rows.read_run` returned.
      summary: what `rows.summarize` made of it.

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
        percent=rows.percent, duration=rows.duration, points=_points, setting=_setting, verdict=rows.verdict
    )
    return environment.get_template("page.html.j2").render(
        run=run,
        summary=summary,
        attacks=list(summary["attacks"]),
        mode_titles=rows.MODE_TITLES,
        served=rows.served_rows(summary),
        has_mirror=any(mode == "mirror" for _, mode, _ in rows.served_rows(summary)),
        gains=[row for row in rows.served_rows(summary) if row[2]["gain"]],
        chosen=[(model, block["test_time"]) for model, block in rows.blocks(summary).items() if block["test_time"]],
        gaps=_gaps(summary),
        colors=figures.COLORS,
        curves=_curves(run),
        reliability=_reliability(run, summary),
        attack_charts=_attack_charts(summary),
        contact_sheet=_contact_sheet(run),
        config_json=json.dumps(run.config, indent=2),
    )


def _points(value: float) -> str:
    """Writes a difference of fractions in percentage points."""
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def _setting(value: Any) -> str:
    """Writes one setting of an attack; a fraction of 255 as that."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and 0 < value < 1 and abs(value * 255 - round(value * 255)) < 1e-3:
        return f"{round(value * 255)}/255"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _gaps(summary: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Lists (model, mode, gap) of every model that was shown the shifted set."""
    return [
        (model, mode, block["gap"][mode])
        for model, block in rows.blocks(summary).items()
        for mode in rows.MODES
        if block["gap"].get(mode)
    ]


def _curves(run: rows.Run) -> list[dict[str, Any]]:
    """Draws loss, accuracy and learning rate of the teacher and the student."""
    titles = {"loss": "Loss", "accuracy": "Accuracy", "learning_rate": "Learning rate"}
    blocks = []
    for role in ("teacher", "student"):
        histories = [history for history in run.histories if history.model == role and history.num_epochs]
        if not histories:
            continue
        total = sum(history.num_epochs for history in histories)
        charts = []
        for kind, title in titles.items():
            alt = f"{title} of the {role} over {total} epochs. {_ends(histories, kind)}"
            drawing = figures.svg(figures.draw_curves(histories, kind), f"{role}-{kind.replace('_', '-')}", alt)
            charts.append({"title": title, "svg": Markup(drawing)})
        blocks.append({"role": role, "charts": charts})
    return blocks


def _ends(histories: Sequence[rows.History], kind: str) -> str:
    """Says what each phase ended with."""
    sentences = []
    for history in histories:
        parts = []
        for column, title in ((kind, "training"), (f"val_{kind}", "validation")):
            values = history.columns.get(column)
            if values is not None and values[-1] == values[-1]:
                parts.append(f"{values[-1]:.4g}" if kind == "learning_rate" else f"{title} {values[-1]:.4g}")
        if parts:
            sentences.append(f"Phase {history.phase} ends at {', '.join(parts)}.")
    return " ".join(sentences)


def _reliability(run: rows.Run, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draws the reliability diagram of every model on the clean test set."""
    charts = []
    for model, block in rows.blocks(summary).items():
        answers = figures.clean_answers(run, model)
        errors = [f"{rows.MODE_TITLES[mode]} {block['served'][mode]['clean_ece']:.3f}" for mode in answers]
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
    for model, block in rows.blocks(summary).items():
        served = {mode: block["served"][mode] for mode in rows.attacked_modes(block["served"], summary["attacks"])}
        attacks = [
            attack
            for attack in summary["attacks"]
            if any(numbers.get(f"{attack}_accuracy") is not None for numbers in served.values())
        ]
        if not attacks:
            continue
        values = [
            f"{rows.MODE_TITLES[mode]} {attack} {rows.percent(numbers[f'{attack}_accuracy'])}"
            for mode, numbers in served.items()
            for attack in ["clean", *attacks]
            if numbers.get(f"{attack}_accuracy") is not None
        ]
        alt = f"Accuracy of {model} by attack: {', '.join(values)}."
        drawing = figures.svg(figures.draw_attacks(served, attacks), f"attacks-{model}", alt, (320, 260))
        charts.append({"title": model, "svg": Markup(drawing)})
    return charts


def _contact_sheet(run: rows.Run) -> list[dict[str, Any]]:
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
