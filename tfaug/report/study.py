"""The report of a study: rows of all runs -> statistics over seeds -> summary.json, one HTML page."""

from __future__ import annotations

import csv
import io
import math
import pathlib
import shlex
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from tfaug import files, metrics
from tfaug.config import differences, to_dict
from tfaug.report import figures
from tfaug.report.results import Results
from tfaug.report.text import duration
from tfaug.study import UNITS, Column, Figure, Histogram, Search, Study, Table, Trial, folder_name
from tfaug.workdir import StudyFolder, write_rows

_PALETTE = ("plain", "sum-aug", "mirror", "train", "validation", "rate")
_MARKERS = "os^Dv*"
_Statistics = dict[str, Any]


# -- statistics ----------------------------------------------------------------------------------------------------


def statistics(values: Mapping[int, float]) -> _Statistics | None:
    """Returns mean, sd, n, Student's 95 % interval of the mean and the values by seed; None where there are none.

    sd and interval are None for a single run; a value that is no finite number counts as none.
    """
    values = _finite(values)
    if not values:
        return None
    ordered = [values[seed] for seed in sorted(values)]
    by_seed = {str(seed): values[seed] for seed in sorted(values)}
    if len(ordered) == 1:
        return {"mean": ordered[0], "sd": None, "n": 1, "interval": None, "values": by_seed}
    found = metrics.mean_interval(ordered)
    return {
        "mean": found["mean"],
        "sd": found["std"],
        "n": found["num_runs"],
        "interval": found["interval"],
        "values": by_seed,
    }


def _finite(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def difference(values: Mapping[int, float], against: Mapping[int, float]) -> _Statistics | None:
    """Returns how far the mean of an arm is above another's, with its 95 % interval: paired by seed where both have
    the same seeds, else Welch's; None where one of them has fewer than two runs."""
    values, against = _finite(values), _finite(against)
    if min(len(values), len(against)) < 2:
        return None
    paired = set(values) == set(against)
    first, second = ([each[seed] for seed in sorted(each)] for each in (values, against))
    found = metrics.mean_difference(first, second, paired=paired)
    return {
        "difference": found["difference"],
        "interval": found["interval"],
        "n": found["num_runs"],
        "paired": paired,
    }


def summarize(results: Results) -> dict[str, Any]:
    """Returns the summary of a study, JSON values.

    Returns:
      `arms.NAME.COLUMN.{mean, sd, n, interval, values}`, `differences.TITLE.NAME.COLUMN.{difference, interval, n,
      paired, against}` of each table that has an arm to compare with, `missing`, and the study's name.
    """
    study = results.study
    columns = study.columns()
    values = {name: results.values(column) for name, column in columns.items()}
    arms: dict[str, Any] = {arm: {} for arm in study.arms}
    for name in columns:
        for arm, by_seed in values[name].items():
            if found := statistics(by_seed):
                arms[arm][name] = found
    compared: dict[str, Any] = {}
    for table in study.tables:
        if not table.against:
            continue
        for arm in arms_of(table, study):
            for column in table.columns:
                by_arm = values[column.name]
                found = difference(by_arm[arm], by_arm[table.against]) if arm != table.against else None
                if found:
                    entry = {"against": table.against, **found}
                    compared.setdefault(table.title, {}).setdefault(arm, {})[column.name] = entry
    return {"name": study.name, "arms": arms, "differences": compared, "missing": list(results.missing)}


def arms_of(part: Table | Figure, study: Study | Search) -> list[str]:
    """Returns the arms of a part of a study, of all of it where it names none."""
    return list(part.arms) or list(study.arms)


# -- files ---------------------------------------------------------------------------------------------------------


def write_study(folder: StudyFolder, results: Results, trials: Sequence[Trial]) -> dict[str, Any]:
    """Writes rows.csv, summary.json, report.html and what TensorBoard shows; each whole or not at all.

    Args:
      folder: of the study.
      results: what was measured.
      trials: all of the study, finished or not.

    Returns:
      The summary.
    """
    from tfaug.report.hparams import write_hparams

    summary = summarize(results)
    write_rows(folder.rows, results.rows)
    files.write_json(folder.summary, summary)
    page = render_study(folder, results, summary, trials)
    with files.atomic_file(folder.report) as partial:
        partial.write_text(page, encoding="utf-8")
    if isinstance(results.study, Study):
        write_hparams(folder, results, trials)
    return summary


def render_study(folder: StudyFolder, results: Results, summary: Mapping[str, Any], trials: Sequence[Trial]) -> str:
    """Returns the HTML page of a study: tables that are sorted by a click, figures inline, nothing fetched."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    study = results.study
    drawn: Sequence[Figure | Histogram] = study.figures
    about = files.read_json(folder.about) if folder.about.exists() else {}
    return environment.get_template("study.html.j2").render(
        study=study,
        summary=summary,
        colors=figures.COLORS,
        num_trials=len(trials),
        tables=[_table(table, study, summary) for table in study.tables],
        figures=[_inline(drawing_of(figure, results), index) for index, figure in enumerate(drawn)],
        everything=_everything(results),
        command=about.get("command", ""),
        arms=_about_arms(study, trials, about.get("costs", {}), folder) if isinstance(study, Study) else [],
        runs=_runs(folder, results, trials),
        versions=_versions(folder, trials),
    )


def shown(value: float | None, column: Column, sign: bool = False) -> str:
    """Writes a number of the rows in the column's unit; nothing for None."""
    if value is None:
        return ""
    return f"{value * UNITS[column.unit]:{'+' if sign else ''}.{column.digits}f}".replace("-", "\N{MINUS SIGN}")


def mean_and_sd(found: Mapping[str, Any] | None, column: Column) -> str:
    """Writes `mean ± sd`, or the mean alone where there is one run."""
    if not found:
        return ""
    return shown(found["mean"], column) + (f" ± {shown(found['sd'], column)}" if found["sd"] is not None else "")


class _Cell(NamedTuple):
    """A cell of a table: what stands in it, what stands small beneath, and what it is sorted by."""

    text: str
    small: str
    value: float | None


def _table(table: Table, study: Study | Search, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Lays a table out: its groups of columns, and the cells of each arm."""
    paper = {(each.arm, each.column): each for each in study.paper}
    arms = arms_of(table, study)
    groups: list[dict[str, Any]] = []
    lines: dict[str, list[_Cell]] = {arm: [] for arm in arms}
    for column in table.columns:
        has_paper = any((arm, column.name) in paper for arm in arms)
        ours = "ours" if isinstance(study, Search) else "mean ± sd"
        heads = [ours, *(["paper"] if has_paper else []), *([f"minus {table.against}"] if table.against else [])]
        groups.append({"title": column.heading, "heads": heads})
        for arm in arms:
            found = summary["arms"][arm].get(column.name)
            count = f"n = {found['n']}" if found and isinstance(study, Study) else ""
            ends = format_ends(found, column)
            lines[arm].append(_Cell(mean_and_sd(found, column), ", ".join(filter(None, (ends, count))), _mean(found)))
            if has_paper:
                printed = paper.get((arm, column.name))
                text = "" if printed is None else f"{printed.value:.{column.digits}f}"
                lines[arm].append(_Cell(text, "", None if printed is None else printed.value))
            if table.against:
                gap = summary["differences"].get(table.title, {}).get(arm, {}).get(column.name)
                above = gap["difference"] if gap else None
                small = format_ends(gap, column, sign=True) + ("" if gap is None or gap["paired"] else ", not paired")
                lines[arm].append(_Cell(shown(above, column, sign=True), small, above))
    names = {column.name for column in table.columns}
    notes = [
        f"paper, {each.arm}, {each.column.replace('_', ' ')}: {each.note}"
        for each in study.paper
        if each.note and each.arm in arms and each.column in names
    ]
    return {"table": table, "groups": groups, "lines": lines, "notes": notes}


def format_ends(found: Mapping[str, Any] | None, column: Column, sign: bool = False) -> str:
    """Writes an interval."""
    if not found or not found["interval"]:
        return ""
    low, high = (shown(end, column, sign) for end in found["interval"])
    return f"{low} to {high}"


def _mean(found: Mapping[str, Any] | None) -> float | None:
    return found["mean"] if found else None


def _everything(results: Results) -> list[tuple[tuple[str, ...], list[str]]]:
    """Returns every number that was measured: what it is of, and its mean, spread and n in each arm."""
    found: dict[tuple[str, ...], dict[str, dict[int, float]]] = {}
    for row in results.rows:
        key: tuple[str, ...] = (row.model, row.set, row.attack, row.mode, row.metric)
        found.setdefault(key, {}).setdefault(row.arm, {})[row.seed or 0] = row.value
    lines: list[tuple[tuple[str, ...], list[str]]] = []
    for key, by_arm in found.items():
        cells = []
        for arm in results.study.arms:
            each = statistics(by_arm.get(arm, {}))
            spread = "" if each is None or each["sd"] is None else f" ± {each['sd']:.2g}"
            cells.append("" if each is None else f"{each['mean']:.5g}{spread} ({each['n']})")
        lines.append((key, cells))
    return lines


def _about_arms(
    study: Study, trials: Sequence[Trial], costs: Mapping[str, Any], folder: StudyFolder
) -> list[dict[str, Any]]:
    """Returns of each arm its command, its cost and in what it differs from the first one."""
    first = to_dict(next(iter(study.arms.values())))
    found = []
    for arm, experiment in study.arms.items():
        flags = next(trial.flags for trial in trials if trial.arm == arm)
        command = ["tfaug", "run", *flags, f"--workdir={folder.run(folder_name(arm), 0)}"]
        found.append(
            {
                "arm": arm,
                "command": shlex.join(command),
                "costs": costs.get(arm, {}),
                "differs": [line for line in differences(first, to_dict(experiment)) if not line.startswith("name:")],
            }
        )
    return found


def _runs(folder: StudyFolder, results: Results, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Returns of each run whether it is finished, its seconds and where its report is."""
    seconds = {(row.arm, row.seed): row.value for row in results.rows if row.metric == "seconds" and not row.mode}
    found = []
    for trial in trials:
        run = folder.run(folder_name(trial.arm), trial.seed)
        report = (run / "report.html").relative_to(folder.path)
        spent = seconds.get((trial.arm, trial.seed))
        found.append(
            {
                "arm": trial.arm,
                "seed": trial.seed,
                "finished": trial.name not in results.missing,
                "seconds": spent,
                "duration": "" if spent is None else duration(spent),
                "report": urllib.parse.quote(report.as_posix()) if (run / "report.html").exists() else "",
            }
        )
    return found


def _versions(folder: StudyFolder, trials: Sequence[Trial]) -> list[tuple[str, list[str]]]:
    """Returns of each library, and of the commit, all versions that the runs were made with."""
    found: dict[str, set[str]] = {}
    for trial in trials:
        path = folder.run(folder_name(trial.arm), trial.seed) / "config.json"
        if path.exists():
            held = files.read_json(path)
            for name, version in {"commit": held["git_commit"], **held["versions"]}.items():
                found.setdefault(name, set()).add(version)
    return [(name, sorted(versions)) for name, versions in found.items()]


# -- figures -------------------------------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """A figure: what puts the marks into its axes, what is told to who does not see it, its numbers as CSV."""

    title: str
    draw: Callable[[Axes], None]
    alt: str
    size_px: tuple[int, int]
    csv: str


def drawing_of(figure: Figure | Histogram, results: Results) -> Drawn:
    """Returns the drawing of a figure."""
    if isinstance(figure, Histogram):
        return _histogram(figure, results)
    arms = arms_of(figure, results.study)
    y = results.values(figure.y)
    x = None if figure.x is None else results.values(figure.x)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "seed", *([] if figure.x is None else [figure.x.name]), figure.y.name])
    for arm in arms:
        for seed in sorted(y[arm]):
            if x is None or seed in x[arm]:
                writer.writerow([arm, seed, *([] if x is None else [repr(x[arm][seed])]), repr(y[arm][seed])])
    if figure.x is None or x is None:
        means = [f"{arm} {mean_and_sd(statistics(y[arm]), figure.y)}" for arm in arms if y[arm]]
        alt = f"{figure.y.heading} by arm: {', '.join(means)}."
        return Drawn(figure.title, _draw_arms(arms, y, figure.y), alt, (640, 70 + 34 * len(arms)), text.getvalue())
    alt = f"{figure.y.heading} over {figure.x.heading}, a dot a run."
    return Drawn(figure.title, _draw_scatter(arms, x, y, figure.x, figure.y), alt, (640, 420), text.getvalue())


def _histogram(figure: Histogram, results: Results) -> Drawn:
    """Returns the drawing of how a number is spread."""
    prefix = f"{figure.metric}_share_"
    bins = [row for row in results.rows if row.arm == figure.arm and row.metric.startswith(prefix)]
    lines = ["low,high,share", *(f"{row.low!r},{row.high!r},{row.value!r}" for row in bins)]
    title = figure.metric.replace("_", " ")

    def draw(axes: Axes) -> None:
        for row in bins:
            low, high = row.low or 0.0, row.high or 0.0
            axes.bar(low, 100 * row.value, high - low, align="edge", color=figures.COLORS["plain"])
        axes.set_xlabel(title)
        axes.set_ylabel("share, %")

    ends = f" from {bins[0].low:.4g} to {bins[-1].high:.4g}" if bins else ": not measured yet"
    return Drawn(figure.title, draw, f"{figure.title}{ends}.", (640, 250), "\n".join(lines) + "\n")


def _inline(drawing: Drawn, index: int) -> dict[str, Any]:
    """Returns what the HTML page shows of a drawing."""
    svg = figures.svg(drawing.draw, f"study-{index}", drawing.alt, drawing.size_px)
    data = "data:text/csv;charset=utf-8," + urllib.parse.quote(drawing.csv)
    return {"title": drawing.title, "svg": Markup(svg), "csv": data, "file": f"figure_{index + 1}.csv"}


def _draw_arms(
    arms: Sequence[str], values: Mapping[str, Mapping[int, float]], column: Column
) -> Callable[[Axes], None]:
    """Returns a drawing of every run as a dot, an arm a line, with the mean and its interval."""
    factor = UNITS[column.unit]

    def draw(axes: Axes) -> None:
        for line, arm in enumerate(arms):
            found = statistics(values[arm])
            if found is None:
                continue
            dots = [factor * value for value in values[arm].values()]
            axes.plot(dots, [line + 0.18] * len(dots), "o", color=figures.COLORS["muted"], alpha=0.6)
            mean = factor * found["mean"]
            if found["interval"]:
                low, high = (factor * end for end in found["interval"])
                axes.plot([low, high], [line, line], color=figures.COLORS["plain"])
            axes.plot([mean], [line], "D", color=figures.COLORS["plain"], markersize=6)
        axes.set_yticks(range(len(arms)), [arm if len(arm) <= 40 else f"{arm[:39]}…" for arm in arms])
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(column.heading)

    return draw


def _draw_scatter(
    arms: Sequence[str],
    x: Mapping[str, Mapping[int, float]],
    y: Mapping[str, Mapping[int, float]],
    x_column: Column,
    y_column: Column,
) -> Callable[[Axes], None]:
    """Returns a drawing of one number over another, a dot a run and a colour an arm."""

    def draw(axes: Axes) -> None:
        for index, arm in enumerate(arms):
            seeds = [seed for seed in y[arm] if seed in x[arm]]
            axes.plot(
                [UNITS[x_column.unit] * x[arm][seed] for seed in seeds],
                [UNITS[y_column.unit] * y[arm][seed] for seed in seeds],
                _MARKERS[index // len(_PALETTE) % len(_MARKERS)],
                color=figures.COLORS[_PALETTE[index % len(_PALETTE)]],
                markersize=6,
                label=arm if len(arm) <= 40 else f"{arm[:39]}…",
            )
        axes.set_xlabel(x_column.heading)
        axes.set_ylabel(y_column.heading)
        axes.legend(loc="best", ncols=1 + np.size(arms) // 8)

    return draw
