"""Lay labelled rows of images out on one sheet, and write it as PNG, PDF or SVG. No TensorFlow.

Sizes are CSS pixels, of which a PNG has one each. Images that are smaller than their place are enlarged by a whole
number without smoothing, so every pixel of theirs is seen; larger ones are shrunk. Equal sheets give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from tfaug.report.figures import COLORS, fit_text, open_font, wrap_text

FORMATS = ("png", "pdf", "svg")
MAX_SIDE_PX = 2**15  # Agg draws up to 2**16; a viewer that shows even this much is rare.

_PAD_PX = 14
_GAP_PX = 6
_MAX_LABEL_PX = 200
_MAX_SPREAD_PX = 48  # by which captions may move images apart before they are cut
_MAX_CAPTION_LINES = 4
# Font size and line height, px.
_TITLE, _LABEL, _CAPTION = (15, 22), (13, 18), (11, 14)
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "image.composite_image": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",  # no viewer needs the font
    "svg.hashsalt": "tfaug",
    "text.parse_math": False,  # a class may be called "a$b$c"
}


class SheetRow(NamedTuple):
    """Images side by side.

    Attributes:
      label: what stands to the left of them.
      images: uint8 [N, H, W, C], C 1 or 3; no two rows need to have the same N, H and W.
      captions: what stands below each image, as parts between which a line may be broken; none at all or N of them.
    """

    label: str
    images: np.ndarray
    captions: Sequence[Sequence[str]] = ()


class SheetBlock(NamedTuple):
    """Rows under a title; the title may be empty."""

    title: str
    rows: Sequence[SheetRow]


class _Text(NamedTuple):
    """One line: where its left (or right) end and the middle of its height are, from the top left corner."""

    x: float
    y: float
    text: str
    size: int
    color: str
    ha: str = "left"


class _Picture(NamedTuple):
    """RGB pixels and the place of their top left corner."""

    x: int
    y: int
    pixels: np.ndarray


class Layout(NamedTuple):
    """Where everything on a sheet lies."""

    width: int
    height: int
    texts: list[_Text]
    pictures: list[_Picture]


def lay_out(heading: str, blocks: Sequence[SheetBlock], image_px: int = 96) -> Layout:
    """Places titles, labels, images and captions so that no two of them meet.

    Args:
      heading: one line, the first of the sheet.
      blocks: from top to bottom.
      image_px: the largest side of a displayed image, 1 or more.

    Returns:
      The places, in pixels.

    Raises:
      ValueError: if images or captions do not have the shape that `SheetRow` says, or the sheet would be larger than
        `MAX_SIDE_PX`.
    """
    rows = [row for block in blocks for row in block.rows]
    for row in rows:
        _check(row)
    sides = [display_shape(row.images.shape, image_px) for row in rows if len(row.images)]
    widest = max([width for _, width in sides], default=0)
    caption_px = max(
        [open_font(_CAPTION[0]).getlength(part) for row in rows for caption in row.captions for part in caption],
        default=0,
    )
    cell = max(widest, min(int(np.ceil(1.03 * caption_px)), widest + _MAX_SPREAD_PX)) + _GAP_PX
    num_columns = max([len(row.images) for row in rows], default=0)
    wrapped = [wrap_text(row.label, open_font(_LABEL[0]), _MAX_LABEL_PX) for row in rows]
    label_px = max([open_font(_LABEL[0]).getlength(line) for lines in wrapped for line in lines], default=0)
    left = _PAD_PX + int(np.ceil(1.03 * label_px)) + 12
    width = max(left + num_columns * cell - _GAP_PX + _PAD_PX, 420)
    inner = width - 2 * _PAD_PX
    texts: list[_Text] = []
    pictures: list[_Picture] = []
    y = _PAD_PX
    for line in wrap_text(heading, open_font(_LABEL[0]), inner):
        texts.append(_Text(_PAD_PX, y + _LABEL[1] / 2, line, _LABEL[0], "muted"))
        y += _LABEL[1]
    for block in blocks:
        y += 8
        for line in wrap_text(block.title, open_font(_TITLE[0]), inner / 1.03):
            texts.append(_Text(_PAD_PX, y + _TITLE[1] / 2, line, _TITLE[0], "ink"))
            y += _TITLE[1]
        y += 4
        for row in block.rows:
            y = _place_row(row, left, y, cell, image_px, texts, pictures)
    height = y + _PAD_PX - _GAP_PX
    if max(width, height) > MAX_SIDE_PX:
        raise ValueError(f"the sheet is {width} x {height} px; allowed: {MAX_SIDE_PX} px a side")
    return Layout(width, height, texts, pictures)


def draw_sheet(layout: Layout, kind: str) -> bytes:
    """Draws a sheet.

    Args:
      layout: from `lay_out`.
      kind: one of `FORMATS`.

    Returns:
      The file's bytes: a PNG with a pixel for a pixel, or a PDF or SVG with the images in it and letters as outlines.

    Raises:
      ValueError: if the kind is another.
    """
    if kind not in FORMATS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(FORMATS)}")
    with matplotlib.rc_context(_STYLE):
        # At 72 dots per inch a point is a pixel, in all three formats.
        figure = Figure(figsize=(layout.width / 72, layout.height / 72), dpi=72, facecolor=COLORS["paper"])
        for picture in layout.pictures:
            figure.figimage(picture.pixels, picture.x, layout.height - picture.y - picture.pixels.shape[0])
        for text in layout.texts:
            figure.text(
                text.x / layout.width,
                1 - text.y / layout.height,
                text.text,
                fontsize=text.size,
                color=COLORS[text.color],
                ha=text.ha,
                va="center_baseline",
            )
        buffer = io.BytesIO()
        if kind == "png":
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(buffer, "PNG", optimize=True)
        elif kind == "pdf":
            FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None})
        else:
            FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def display_shape(shape: Sequence[int], image_px: int) -> tuple[int, int]:
    """Returns the height and width at which images of `shape` are shown: whole times larger, or shrunk to `image_px`.

    Args:
      shape: [N, H, W, C].
      image_px: the largest side.

    Example:
      >>> display_shape((8, 32, 32, 3), 96), display_shape((8, 28, 20, 1), 96), display_shape((8, 224, 448, 3), 96)
      ((96, 96), (84, 60), (48, 96))
    """
    height, width = shape[1:3]
    scale = image_px // max(height, width)
    if scale:
        return height * scale, width * scale
    shrink = image_px / max(height, width)
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def _check(row: SheetRow) -> None:
    """Refuses what is no row of images."""
    images = row.images
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        got = f"row {row.label!r} has images {images.dtype} {images.shape}"
        raise ValueError(f"{got}; allowed: uint8 [N, H, W, C] with C 1 or 3")
    if len(row.captions) not in (0, len(images)):
        raise ValueError(f"row {row.label!r} has {len(images)} images, {len(row.captions)} captions; allowed: as many")


def _place_row(
    row: SheetRow, left: int, y: int, cell: int, image_px: int, texts: list[_Text], pictures: list[_Picture]
) -> int:
    """Places one row at the height `y` and returns where the next one begins."""
    height, width = display_shape(row.images.shape, image_px)
    lines = wrap_text(row.label, open_font(_LABEL[0]), _MAX_LABEL_PX)
    row_px = max(height, len(lines) * _LABEL[1])
    for i, line in enumerate(lines):
        middle = y + row_px / 2 + (i - (len(lines) - 1) / 2) * _LABEL[1]
        texts.append(_Text(left - 12, middle, line, _LABEL[0], "ink", "right"))
    top, inset = y + (row_px - height) // 2, (cell - _GAP_PX - width) // 2
    for i, image in enumerate(row.images):
        pictures.append(_Picture(left + i * cell + inset, top, _shown(image, height, width)))
    captions = [_caption_lines(parts, cell - _GAP_PX) for parts in row.captions]
    for i, caption in enumerate(captions):
        for j, line in enumerate(caption):
            middle = y + row_px + (j + 0.5) * _CAPTION[1] + 2
            texts.append(_Text(left + i * cell + (cell - _GAP_PX) / 2, middle, line, _CAPTION[0], "muted", "center"))
    deepest = max(map(len, captions), default=0)
    return y + row_px + (deepest * _CAPTION[1] + 4 if deepest else 0) + _GAP_PX


def _shown(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns an image as uint8 RGB of the size at which it is shown."""
    rgb = np.broadcast_to(image, (*image.shape[:2], 3))
    if height >= image.shape[0]:
        return np.repeat(np.repeat(rgb, height // image.shape[0], 0), width // image.shape[1], 1)
    shrunk = Image.fromarray(np.ascontiguousarray(rgb)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(shrunk)


def _caption_lines(parts: Sequence[str], width_px: float) -> list[str]:
    """Breaks a caption between its parts; what is too long ends in an ellipsis."""
    font = open_font(_CAPTION[0])
    lines: list[str] = []
    for part in parts:
        if lines and font.getlength(f"{lines[-1]} {part}") <= width_px:
            lines[-1] += f" {part}"
        else:
            lines.append(fit_text(part, font, width_px))
    if len(lines) > _MAX_CAPTION_LINES:
        lines = [*lines[: _MAX_CAPTION_LINES - 1], "\N{HORIZONTAL ELLIPSIS}"]
    return lines
