"""The tables and figures of a study in a Markdown page."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfaug import files
from tfaug.config import ConfigError
from tfaug.report import figures
from tfaug.report.results import Results
from tfaug.report.study import arms_of, drawing_of, format_ends, mean_and_sd, shown
from tfaug.study import Figure, Histogram, Study


def markdown(results: Results, summary: Mapping[str, Any]) -> str:
    """Returns the tables of a study: a line a number, a column an arm; mean ± sd, of a search the value, and what a
    paper printed."""
    parts = []
    paper = {(each.arm, each.column): each.value for each in results.study.paper}
    for table in results.study.tables:
        arms = arms_of(table, results.study)
        counts = {arm: {found["n"] for found in summary["arms"][arm].values()} for arm in arms}
        spans = {arm: " to ".join(map(str, sorted({min(c), max(c)}))) for arm, c in counts.items() if c}
        many = isinstance(results.study, Study)
        heads = [f"{_code(arm)}, n = {span}" if many else _code(arm) for arm, span in spans.items()]
        arms = [arm for arm in arms if counts[arm]]
        lines = [f"| {table.title} | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(arms)]
        for column in table.columns:
            cells = [mean_and_sd(summary["arms"][arm].get(column.name), column) for arm in arms]
            compared = summary["differences"].get(table.title, {})
            for place, arm in enumerate(arms):
                if gap := compared.get(arm, {}).get(column.name):
                    cells[place] += (
                        f" ({shown(gap['difference'], column, sign=True)}: {format_ends(gap, column, sign=True)})"
                    )
                if (arm, column.name) in paper:
                    cells[place] += f" [{paper[arm, column.name]:.{column.digits}f}]"
            if any(cells):
                lines.append(f"| {column.heading} | " + " | ".join(cells) + " |")
        if any(arm in arms and column in {each.name for each in table.columns} for arm, column in paper):
            lines += ["", "In square brackets: the paper."]
        if table.against:
            note = f"In brackets: minus `{table.against}`, and the 95 % interval of that, paired by seed."
            lines += ["", note]
        parts.append("\n".join(lines + ([f"\n{table.note}"] if table.note else [])))
    return "\n\n".join(parts)


def _code(name: str) -> str:
    """Writes a name as code in a cell of a Markdown table."""
    return f"`{name.replace('|', chr(92) + '|')}`"


def markdown_of_runs(results: Results) -> str:
    """Returns every number of the tables run by run, as Markdown: a line a number, a column a run; of differences on
    the same images the interval over these too."""
    arms = [arm for arm in results.study.arms if any(row.arm == arm for row in results.rows)]
    runs = [(arm, seed) for arm in arms for seed in sorted({row.seed or 0 for row in results.rows if row.arm == arm})]
    lines = ["| | " + " | ".join(f"{_code(arm)} {seed}" for arm, seed in runs) + " |", "| --- |" + " --- |" * len(runs)]
    for column in results.study.columns().values():
        values, rows = results.values(column), results.picked(column)
        cells = []
        for arm, seed in runs:
            cell = shown(values[arm].get(seed), column, sign=column.unit == "points")
            row = rows[arm].get(seed)
            if column.unit == "points" and row is not None and row.low is not None and column.minus is None:
                cell += f" ({shown(row.low, column)} to {shown(row.high, column)})"
            cells.append(cell)
        if any(cells):
            lines.append(f"| {column.heading} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def fill_page(page: pathlib.Path, name: str, results: Results, summary: Mapping[str, Any]) -> None:
    """Puts the tables and figures of a study into a page.

    Each goes before a line `<!-- study end -->`, where the page has these: the tables after `<!-- study: NAME -->`,
    those run by run after `<!-- study runs: NAME -->`, and the figures after `<!-- study figures: NAME -->`; these are
    written beside the page as figure_1.png and so on.

    Raises:
      ConfigError: if the page has no place for any of them.
    """
    parts: dict[str, Callable[[], str]] = {
        f"study: {name}": lambda: markdown(results, summary),
        f"study runs: {name}": lambda: markdown_of_runs(results),
        f"study figures: {name}": lambda: _write_figures(page.parent, results),
    }
    text = page.read_text(encoding="utf-8")
    filled = False
    for mark, make in parts.items():
        before, start, rest = text.partition(f"<!-- {mark} -->\n")
        _, end, after = rest.partition("<!-- study end -->")
        if end:
            text = f"{before}{start}{make()}\n{end}{after}"
            filled = True
    if not filled:
        raise ConfigError(f"--page={page} has no place <!-- study: {name} --> ... <!-- study end -->")
    with files.atomic_file(page) as partial:
        partial.write_text(text, encoding="utf-8")


def _write_figures(folder: pathlib.Path, results: Results) -> str:
    """Writes the figures of a study into a folder as PNG, and returns the Markdown that shows them."""
    drawn: Sequence[Figure | Histogram] = results.study.figures
    lines = []
    for number, figure in enumerate(drawn, start=1):
        drawing = drawing_of(figure, results)
        with files.atomic_file(folder / f"figure_{number}.png") as partial:
            figures.png(drawing.draw, drawing.size_px).save(partial, "PNG")
        lines.append(f"**{drawing.title}**\n\n![{drawing.alt}](figure_{number}.png)")
    return "\n\n".join(lines)
