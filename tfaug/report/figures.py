"""Draw the figures of the report: SVG that follows the page's colours, PNG of images, and the README's picture.

Everything is drawn through matplotlib's objects and PIL; no figure is registered anywhere, and equal numbers give equal
bytes. `RcParams` are set for the duration of one drawing only.
"""

from __future__ import annotations

import html
import io
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter
from PIL import Image, ImageDraw, ImageFont

from tfaug import files, metrics
from tfaug.predictions import MODES, Predictions
from tfaug.report.read import History, Run, read_run
from tfaug.report.summary import attacked_modes, summarize
from tfaug.report.text import MODE_TITLES

# The light colours; in an SVG each becomes the CSS variable of its name, so the page may choose others in the dark.
COLORS = {
    "ink": "#1d2430",
    "muted": "#6a7484",
    "grid": "#dfe3e9",
    "paper": "#fdfdfc",
    "plain": "#2166ac",
    "mirror": "#3d9a50",
    "sum-aug": "#d9730d",
    "train": "#8a5a9e",
    "validation": "#22866a",
    "rate": "#55657f",
}
MODE_COLORS = {"plain": COLORS["plain"], "mirror": COLORS["mirror"], "sum_aug": COLORS["sum-aug"]}
_DPI = 72
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": COLORS["muted"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelcolor": COLORS["muted"],
    "axes.labelsize": 12,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "grid.color": COLORS["grid"],
    "grid.linewidth": 0.8,
    "legend.fontsize": 12,
    "legend.frameon": False,
    "legend.labelcolor": COLORS["ink"],
    "lines.linewidth": 1.8,
    "lines.markersize": 3.5,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a phase may be called "a$b$c"
    "text.color": COLORS["ink"],
    "xtick.color": COLORS["muted"],
    "xtick.labelsize": 11.5,
    "ytick.color": COLORS["muted"],
    "ytick.labelsize": 11.5,
}


def svg(draw: Callable[[Axes], None], name: str, alt: str, size_px: tuple[int, int] = (320, 250)) -> str:
    """Draws into an inline SVG whose colours are CSS variables with the light colours as defaults.

    Args:
      draw: puts the marks into the axes.
      name: unique in the page; every id of the SVG begins with it.
      alt: what a reader who does not see the figure is told.
      size_px: its natural width and height in CSS pixels.

    Returns:
      An `<svg>` element: no XML header, no date, no reference to anything outside it.
    """
    name = re.sub(r"[^\w-]", "-", name)
    buffer = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = _figure(draw, size_px)
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    opening, rest = text.split(">", 1)
    text = re.sub(r'\s(xmlns|xmlns:xlink|version|width|height)="[^"]*"', "", opening) + ">" + rest
    text = text.replace("xlink:href", "href")
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)
    for color, value in COLORS.items():
        text = text.replace(value, f"var(--{color}, {value})")
    label = f' class="chart" role="img" aria-label="{html.escape(alt)}" style="max-width: {1.3 * size_px[0]:.0f}px"'
    return text.replace("<svg", "<svg" + label, 1).strip()


def png(draw: Callable[[Axes], None], size_px: tuple[int, int], scale: float = 1.0) -> Image.Image:
    """Draws into an RGB image of `size_px` on the light paper colour, letters and lines `scale` times their size."""
    with matplotlib.rc_context(_STYLE):
        figure = _figure(draw, (size_px[0] / scale, size_px[1] / scale))
        figure.set_dpi(_DPI * scale)
        figure.set_facecolor(COLORS["paper"])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


# What a drawing of a history shows: the columns, each with its colour and label.
CURVES: dict[str, dict[str, tuple[str, str]]] = {
    "loss": {"loss": ("train", "training"), "val_loss": ("validation", "validation")},
    "accuracy": {"accuracy": ("train", "training"), "val_accuracy": ("validation", "validation")},
    "learning_rate": {"learning_rate": ("rate", "")},
    "weight_norm": {"weight_norm": ("rate", "")},
    "risk": {"clean_loss": ("validation", "clean"), "augmented_loss": ("train", "augmented")},
}


def draw_curves(histories: Sequence[History], kind: str) -> Callable[[Axes], None]:
    """Returns a drawing of one model's phases end to end, `kind` being one of `CURVES`."""

    columns = CURVES[kind]
    num_epochs = sum(history.num_epochs for history in histories)
    marker = "o" if num_epochs <= 40 else ""

    def spans_decades(drawn: list[float]) -> bool:
        # Rates fall by orders of magnitude; of losses only a spike would hide all the rest.
        low = min if kind == "learning_rate" else np.median
        return bool(drawn) and min(drawn) > 0 and bool(max(drawn) > 50 * low(drawn))

    def draw(axes: Axes) -> None:
        start = 0.0
        drawn: list[float] = []
        labelled: set[str] = set()
        for i, history in enumerate(histories):
            epochs = start + 1 + np.arange(history.num_epochs)
            for column, (color, label) in columns.items():
                values = history.columns[column]
                seen = np.isfinite(values)
                if seen.any():
                    drawn += values[seen].tolist()
                    shown = "" if label in labelled else label
                    labelled.add(label)
                    size = 5.5 if seen.sum() == 1 else 3.5
                    axes.plot(
                        epochs[seen],
                        values[seen],
                        marker="o" if seen.sum() == 1 else marker,
                        markersize=size,
                        color=COLORS[color],
                        label=shown or None,
                    )
            if i:
                axes.axvline(start + 0.5, color=COLORS["muted"], linewidth=0.8, linestyle=(0, (3, 3)))
            if len(histories) > 1:
                name = history.phase.partition("_")[2] or history.phase
                _annotate(axes, name, (start + 0.5, 1.0), (3, 3), in_axes=True)
            start += history.num_epochs
        axes.set_xlim(0.5, start + 0.5)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
        if kind == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        elif spans_decades(drawn):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        elif drawn and kind != "weight_norm":  # which starts far from 0, and changes little
            axes.set_ylim(bottom=0)
        if labelled - {""}:
            _legend_above(axes, len(labelled), 1.0 if len(histories) == 1 else 1.09)

    return draw


def draw_reliability(answers: Mapping[str, Predictions]) -> Callable[[Axes], None]:
    """Returns a drawing of accuracy over confidence for each mode, with the share of answers in each bin below."""

    def draw(axes: Axes) -> None:
        shares = axes.inset_axes((0.0, 0.0, 1.0, 0.17))
        axes.plot([0, 1], [0, 1], color=COLORS["muted"], linewidth=1, linestyle=(0, (3, 3)))
        for i, (mode, given) in enumerate(answers.items()):
            curve = metrics.reliability_curve(given.probs, given.labels)
            filled = curve["count"] > 0
            confidence, accuracy = curve["confidence"][filled], curve["accuracy"][filled]
            share = curve["count"][filled] / curve["count"].sum()
            color = MODE_COLORS[mode]
            axes.plot(confidence, accuracy, color=color, linewidth=1.2, alpha=0.55)
            # Many answers make a large mark: a bin of three says little.
            axes.scatter(confidence, accuracy, 8 + 140 * share, color=color, zorder=3)
            axes.plot([], [], "o-", color=color, markersize=6, label=MODE_TITLES[mode])
            shares.vlines(confidence + 0.014 * (i - (len(answers) - 1) / 2), 0, share, color=color, linewidth=3.5)
        axes.set_xlim(0, 1.03)
        axes.set_ylim(-0.27, 1.04)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
        _legend_above(axes, len(answers))
        shares.set_xlim(axes.get_xlim())
        shares.set_ylim(0, 1)
        shares.axis("off")

    return draw


def draw_attacks(served: Mapping[str, Any], attacks: Mapping[str, str]) -> Callable[[Axes], None]:
    """Returns a drawing of accuracy by attack and mode, with 95 % intervals, for one model's numbers of a summary.

    `attacks` has their titles by their names. Modes that no attacked image was asked in are left out.
    """

    def draw(axes: Axes) -> None:
        modes = attacked_modes(served, attacks)
        labelled: set[str] = set()
        groups = ["clean", *attacks]
        width = 0.8 / max(len(modes), 1)
        for i, mode in enumerate(modes):
            numbers = served[mode]
            for x, attack in enumerate(groups):
                if numbers.get(f"{attack}_accuracy") is None:
                    continue
                value = numbers[f"{attack}_accuracy"]
                low, high = numbers[f"{attack}_accuracy_ci95"]
                place = x + (i - (len(modes) - 1) / 2) * width
                label = None if mode in labelled else MODE_TITLES[mode]
                labelled.add(mode)
                axes.bar(place, value, width * 0.92, color=MODE_COLORS[mode], label=label)
                reach = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
                axes.errorbar(place, value, reach, color=COLORS["ink"], linewidth=1.1, capsize=3)
                _annotate(axes, f"{100 * value:.0f}", (place, high), (0, 3), color="ink", ha="center")
        axes.set_ylim(0, 1.1)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xticks(range(len(groups)), ["clean", *attacks.values()])
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("accuracy")
        _legend_above(axes, len(labelled))

    return draw


def _annotate(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    offset: tuple[float, float],
    color: str = "muted",
    ha: Literal["left", "center"] = "left",
    in_axes: bool = False,
) -> None:
    """Writes a small text beside a place; with `in_axes` its height is a fraction of the axes."""
    coordinates: Any = ("data", "axes fraction") if in_axes else "data"
    axes.annotate(
        text, place, offset, xycoords=coordinates, textcoords="offset points", color=COLORS[color], fontsize=11, ha=ha
    )


def _legend_above(axes: Axes, num_columns: int, height: float = 1.0) -> None:
    """Puts the legend above the axes, where it hides nothing."""
    corner = (-0.02, height)
    axes.legend(loc="lower left", bbox_to_anchor=corner, ncols=num_columns, borderaxespad=0.2, columnspacing=1.4)


def strip(images: np.ndarray, scale: int, gap_px: int = 4) -> Image.Image:
    """Puts images [COLS,H,W,C] side by side, each pixel a `scale` x `scale` square; the gaps are transparent."""
    num, height, width, _ = images.shape
    sheet = Image.new("RGBA", (num * (width * scale + gap_px) - gap_px, height * scale))
    for i, image in enumerate(images):
        large = np.repeat(np.repeat(np.broadcast_to(image, (height, width, 3)), scale, axis=0), scale, axis=1)
        sheet.paste(Image.fromarray(large), (i * (width * scale + gap_px), 0))
    return sheet


def contact_sheet(
    names: Sequence[str],
    images: np.ndarray,
    path: str | os.PathLike[str] | None = None,
    scale: int = 0,
) -> bytes:
    """Draws a labelled sheet of images: one row for each name, enlarged by a whole number without smoothing.

    Args:
      names: R labels.
      images: uint8 [R,COLS,H,W,C], 0..255, C 1 or 3.
      path: where to write the PNG as well, if anywhere.
      scale: how many pixels wide each pixel becomes, 1 or more; 0 for what makes an image about 96 px wide.

    Returns:
      The PNG file's bytes.

    Raises:
      ValueError: if names and images do not fit together, or the scale is below 0.

    Example:
      >>> sheet = contact_sheet(["black"], np.zeros((1, 2, 8, 8, 3), np.uint8), scale=4)
      >>> sheet[:4]
      b'\\x89PNG'
    """
    images = np.asarray(images)
    if images.ndim != 5 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3) or len(names) != len(images):
        raise ValueError(
            f"got {len(names)} names and images {images.dtype} {images.shape}; "
            "allowed: R names and uint8 [R,COLS,H,W,C] with C 1 or 3"
        )
    if scale < 0:
        raise ValueError(f"scale is {scale}; allowed: 1 or more, or 0 for a fitting one")
    scale = scale or max(1, round(96 / images.shape[3]))
    content = _png_bytes(_sheet(names, images, scale))
    if path is not None:
        with files.atomic_file(path) as partial:
            partial.write_bytes(content)
    return content


def split_name(name: str) -> tuple[str, str]:
    """Parts what an augmentation is from how it is set.

    Example:
      >>> split_name("PadCrop(pad_px=4)"), split_name("original")
      (('PadCrop', 'pad_px=4'), ('original', ''))
    """
    title, bracket, settings = name.partition("(")
    return (title, settings.removesuffix(")")) if bracket else (name, "")


def _sheet(names: Sequence[str], images: np.ndarray, scale: int, gap_px: int = 4, label_px: int = 170) -> Image.Image:
    """Draws the contact sheet on the light paper colour."""
    strips = [strip(row, scale, gap_px) for row in images]
    row_px = max(strips[0].height, 32) + gap_px
    sheet = Image.new("RGB", (label_px + strips[0].width + gap_px, row_px * len(strips) + gap_px), COLORS["paper"])
    pen = ImageDraw.Draw(sheet)
    for i, (name, row) in enumerate(zip(names, strips, strict=True)):
        top = gap_px + i * row_px
        sheet.paste(row, (label_px, top), row)
        title, settings = split_name(name)
        lines = [(fit_text(title, open_font(15), label_px - 10), open_font(15), "ink")]
        num_more = max(0, (row_px - 24) // 14)
        lines += [
            (line, open_font(11), "muted") for line in wrap_text(settings, open_font(11), label_px - 14)[:num_more]
        ]
        heights = [20 if i == 0 else 14 for i in range(len(lines))]
        y = top + (strips[0].height - sum(heights)) / 2
        for (text, font, color), height in zip(lines, heights, strict=True):
            pen.text((label_px - 10, y + height / 2), text, COLORS[color], font, anchor="rm")
            y += height
    return sheet


def fit_text(text: str, font: ImageFont.FreeTypeFont, width_px: float) -> str:
    """Returns a text that is at most so wide: cut, with an ellipsis at its end, where it is too wide.

    Args:
      text: one line.
      font: from `open_font`.
      width_px: 1 or more.
    """
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "\N{HORIZONTAL ELLIPSIS}") > width_px:
        text = text[:-1]
    return text + "\N{HORIZONTAL ELLIPSIS}"


def wrap_text(text: str, font: ImageFont.FreeTypeFont, width_px: float) -> list[str]:
    """Returns the lines of a text, broken between words; a word that is too wide is cut by `fit_text`.

    Args:
      text: any white space in it counts as one space.
      font: from `open_font`.
      width_px: the greatest width of a line, 1 or more.
    """
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width_px:
            lines[-1] += f" {word}"
        else:
            lines.append(fit_text(word, font, width_px))
    return lines


def readme_picture(run: Run, summary: Mapping[str, Any]) -> Image.Image:
    """Draws the README's picture, 1200 px wide: the augmentations, accuracy by attack, and the reliability diagram."""
    width, pad, title_px = 1200, 24, 34
    charts = []
    model = summary["served"]["model"]
    attacks = attacks_of(summary, summary["served"])
    if attacks:
        charts.append((f"Accuracy by attack, end of {model}", draw_attacks(summary["served"], attacks)))
    charts.append((f"Reliability, end of {model}", draw_reliability(clean_answers(run, model))))
    left = None
    if run.augmentations is not None:
        names, images = run.augmentations
        scale = max(1, round(64 / images.shape[3]))
        num_columns = max(1, min(images.shape[1], 560 // (images.shape[3] * scale + 4)))
        left = _sheet(names, images[:, :num_columns], scale)
    x = pad if left is None else left.width + 2 * pad
    height = max(300 * len(charts), 0 if left is None else left.height)
    picture = Image.new("RGB", (width, height + 2 * pad), COLORS["paper"])
    if left is not None:
        picture.paste(left, (pad, pad + (height - left.height) // 2))
    pen = ImageDraw.Draw(picture)
    chart_height = height // len(charts) - title_px
    for i, (title, draw) in enumerate(charts):
        top = pad + i * (chart_height + title_px)
        pen.text((x + 6, top + 8), title, COLORS["ink"], open_font(17))
        picture.paste(png(draw, (width - pad - x, chart_height), scale=1.2), (x, top + title_px))
    return picture


def save_readme_picture(workdir: str | os.PathLike[str], path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes the README's picture of a finished run: its augmentations, accuracy by attack and reliability, as a PNG.

    Args:
      workdir: the folder that `tfaug run` filled.
      path: the PNG file to write, whole or not at all.

    Returns:
      The path.

    Raises:
      FileNotFoundError, ValueError: as `read_run`.
    """
    run = read_run(workdir)
    content = _png_bytes(readme_picture(run, summarize(run)))
    with files.atomic_file(path) as partial:
        partial.write_bytes(content)
    return pathlib.Path(path)


def clean_answers(run: Run, model: str) -> dict[str, Predictions]:
    """Returns one model's answers on the clean test set, by mode."""
    return {mode: run.predictions[model, mode] for mode in MODES if (model, mode) in run.predictions}


def attacks_of(summary: Mapping[str, Any], served: Mapping[str, Any]) -> dict[str, str]:
    """Returns the titles of the attacks under which one model's accuracy was measured, by their names."""
    modes = [served[mode] for mode in MODES if mode in served]
    return {
        name: attack["title"]
        for name, attack in summary["attacks"].items()
        if any(f"{name}_accuracy" in numbers for numbers in modes)
    }


def _figure(draw: Callable[[Axes], None], size_px: tuple[float, float]) -> Figure:
    """Makes a figure of one pair of axes that no registry knows."""
    figure = Figure(figsize=(size_px[0] / _DPI, size_px[1] / _DPI), dpi=_DPI, layout="constrained")
    draw(figure.add_subplot())
    return figure


def _png_bytes(image: Image.Image) -> bytes:
    """Encodes an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def open_font(size_px: int) -> ImageFont.FreeTypeFont:
    """Opens the font that comes with matplotlib, which is the same on every machine, at a size in px."""
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size_px)
