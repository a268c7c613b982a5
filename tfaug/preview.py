"""Draw what ops do to images: labelled contact sheets, and sweeps in which one field of an op changes from row to row.

The pictures are not made for this purpose: each is what the op returns in training, for the seed that the sheet names.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import tfaug
from tfaug import rng
from tfaug.augment import Augmentation, Batch, Compose, OneOf, parse_op
from tfaug.augment.base import all_ops
from tfaug.config import ConfigError, check_choice, check_range, check_whole, read_number
from tfaug.data import Source, read_source
from tfaug.extras import explained
from tfaug.report import sheet
from tfaug.report.sheet import SheetBlock, SheetRow
from tfaug.schedules import Progress, Visit

with explained():
    from tqdm import tqdm

ENGINES = ("tfaug", "keras_cv")
MAX_VALUES = 64

_MAX_ROWS = 256
_NUM_STEPS = 1000  # of the phase through which a schedule is shown
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"


class Pictures(NamedTuple):
    """Images to show.

    Attributes:
      images: uint8 [N, H, W, C].
      labels: float32 [N, K], each row sums to 1.
      class_names: one name a class.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


class Sweep(NamedTuple):
    """The values that one field takes, row after row.

    Attributes:
      owner: the class of the op that has the field; empty for the only one that has it.
      field: its name; `progress` is how far training has gone, 0..1, where the op follows a schedule.
      values: in the order of the rows.
    """

    owner: str
    field: str
    values: tuple[Any, ...]


class _Variant(NamedTuple):
    """What one row of a sheet shows."""

    label: str
    op: Augmentation
    seed: tf.Tensor
    progress: Progress | None


@dataclasses.dataclass(frozen=True)
class Preview:
    """Says what a sheet shows.

    Args:
      ops: ops, or texts of ops (`tfaug.augment.parse_op`), one or more: a block of rows for each.
      dataset: a source or its text; see `load_pictures`.
      sweep: see `parse_sweep`; empty for none.
      num_rows: rows of a block without a sweep, 1..64, each with draws of its own.
      num_columns: images in a row, 1..64; they are one batch, so a mixing op mixes what is seen in the first row.
      seed: of the draws, 0 or more. All rows of a sweep have the same.
      image_px: the largest side of a shown image, 16..1024.
      engine: 'tfaug', or 'keras_cv' for keras-cv's own layers, which take no seed.
      progress_at: how far training has gone, 0..1, for ops that follow a schedule; None where none does.
      data_dir: the TFDS folder; empty for TFDS_DATA_DIR.

    Raises:
      ConfigError: if a field is wrong, an op cannot be read, or the sweep names no field of it or a value that the
        field refuses.
    """

    ops: tuple[str | Augmentation, ...]
    dataset: str | Source = "digits"
    sweep: str = ""
    num_rows: int = 3
    num_columns: int = 8
    seed: int = 0
    image_px: int = 96
    engine: str = "tfaug"
    progress_at: float | None = None
    data_dir: str = ""

    def __post_init__(self) -> None:
        check_whole(self, "num_rows", 1, MAX_VALUES)
        check_whole(self, "num_columns", 1, 64)
        check_whole(self, "seed", 0, 2**63 - 1)
        check_whole(self, "image_px", 16, 1024)
        check_choice(self, "engine", ENGINES)
        if self.progress_at is not None:
            check_range(self, "progress_at", 0, 1)
        if not self.ops:
            raise ConfigError("Preview.ops is (); allowed: one op or more, as in 'RandAugment(n=2, m=9)'")
        num_rows = self.num_augmented_rows
        if num_rows > _MAX_ROWS:
            raise ConfigError(f"the sheet has {num_rows} rows; allowed: {_MAX_ROWS}, by fewer ops, rows or values")

    def blocks(self, on_row: Callable[[], object] = lambda: None) -> list[SheetBlock]:
        """Loads the images and augments them.

        Args:
          on_row: called after each row.

        Returns:
          A block with the original images and their classes, then one for each op.

        Raises:
          ConfigError: if the data set cannot be loaded or is too small, or an op refuses its images.
        """
        pictures = load_pictures(self.dataset, self.num_columns, self.data_dir)
        names = [_quoted(name) for name in pictures.class_names]
        given = Batch(pictures.images, pictures.labels)
        blocks = [
            SheetBlock("", [SheetRow("original", given.images, [weight_parts(label, names) for label in given.labels])])
        ]
        for op in self.ops:
            text = op if isinstance(op, str) else " + ".join(map(repr, getattr(op, "ops", [op])))
            labels, images, probs = [], [], []
            for variant in self._variants(op):
                augmented = self._augment(text, variant, given)
                labels.append(variant.label)
                images.append(augmented[0])
                probs.append(augmented[1])
                on_row()
            mixed = any(not np.array_equal(rows, given.labels) for rows in probs)
            captions = [[weight_parts(row, names) for row in rows] if mixed else () for rows in probs]
            title = f"{text}, {self.sweep}" if self.sweep else text
            blocks.append(SheetBlock(title, [SheetRow(*row) for row in zip(labels, images, captions, strict=True)]))
        return blocks

    def heading(self) -> str:
        """Returns the sheet's first line: data set, seed, what draws, and where training stands."""
        parts = [_source(self.dataset, self.data_dir).short_name]
        parts.append(
            f"seed {self.seed}" if self.engine == "tfaug" else "drawn by keras-cv's layers, which take no seed"
        )
        if self.progress_at is not None:
            parts.append(f"{100 * self.progress_at:g} % through training")
        return ", ".join([*parts, f"tfaug {tfaug.__version__}"])

    @property
    def num_augmented_rows(self) -> int:
        """How often `blocks` calls `on_row`."""
        return sum(len(self._variants(op)) for op in self.ops)

    def _variants(self, written: str | Augmentation) -> list[_Variant]:
        """What the rows of one op show."""
        op = parse_op(written) if isinstance(written, str) else written
        seed = rng.make_seed(self.seed)
        progress = None if self.progress_at is None else _progress(self.progress_at)
        if not self.sweep:
            return [_Variant(f"draw {i + 1}", op, rng.fold_in(seed, i), progress) for i in range(self.num_rows)]
        variants, seed = [], rng.fold_in(seed, 0)
        sweep = parse_sweep(self.sweep)
        for value in sweep.values:
            label = f"{sweep.field} = {value}"
            if sweep.field == "progress":
                value = read_number(f"--sweep={self.sweep}: progress", value, 0, 1)
                variants.append(_Variant(label, op, seed, _progress(value)))
            else:
                variants.append(_Variant(label, _set_field(op, sweep, value, self.sweep), seed, progress))
        return variants

    def _augment(self, text: str, variant: _Variant, given: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Returns the augmented images, uint8 [N,H,W,C], and their labels."""
        batch = Batch(tf.constant(given.images), tf.constant(given.labels))
        try:
            if self.engine == "keras_cv":
                from tfaug.augment.keras_cv import keras_cv_pipeline

                images, labels = keras_cv_pipeline(variant.op)(*batch)
            else:
                progress: Visit | None = None
                if variant.progress is not None:  # as in the first epoch, for an op that goes by the example
                    progress = Visit(*variant.progress, variant.seed, 0, tf.range(len(given.images)))
                images, labels = variant.op(batch, variant.seed, progress)
        except ConfigError:
            raise
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            hint = "; --progress_at=0.5 shows the middle" if "progress" in str(error) else ""
            where = f"op {text!r} on {len(given.images)} images of {self.dataset!r}"
            raise ConfigError(f"{where}: {str(error).splitlines()[0]}{hint}") from error
        return np.clip(np.rint(images), 0, 255).astype(np.uint8), np.asarray(labels)


def draw_preview(preview: Preview, kind: str = "png") -> bytes:
    """Draws a sheet; on a terminal a bar appears if it takes longer than two seconds.

    Args:
      preview: what it shows.
      kind: 'png', 'pdf' or 'svg'.

    Returns:
      The file's bytes; the same for the same preview, except by keras-cv's layers.

    Raises:
      ConfigError: as `Preview.blocks`, or if the sheet would be larger than can be drawn.
      ValueError: if the kind is another.

    Example:
      >>> draw_preview(Preview(("Flip(p=1)",), num_rows=1, num_columns=2))[:4]
      b'\\x89PNG'
    """
    with tqdm(total=preview.num_augmented_rows, desc="drawing", unit=" rows", delay=2, disable=None) as bar:
        blocks = preview.blocks(on_row=bar.update)
    try:
        layout = sheet.lay_out(preview.heading(), blocks, preview.image_px)
    except ValueError as error:
        raise ConfigError(f"{error}, by fewer rows, fewer columns or a smaller image_px") from None
    return sheet.draw_sheet(layout, kind)


def load_pictures(dataset: str | Source, num: int, data_dir: str = "") -> Pictures:
    """Loads the first `num` images of a data set, taking the classes in turn.

    Args:
      dataset: a source, or a text that `tfaug.data.read_source` reads: 'digits', 'photos', the path of an .npz file or
        of a folder of images, a TFDS name with, if wanted, its split: 'cifar10', 'cifar10:test'.
      num: 1 or more.
      data_dir: the TFDS folder of a TFDS name; empty for TFDS_DATA_DIR.

    Returns:
      The images; equal calls return equal ones.

    Raises:
      ConfigError: if the data set is unknown, cannot be read or has fewer images.
    """
    source = _source(dataset, data_dir)
    first = source.first(num)
    [split] = first.splits.values()
    if len(split) < num:
        raise ConfigError(
            f"data set {source.short_name!r} has {len(split)} images to show; allowed: as many or fewer, not {num}"
        )
    return Pictures(split.images, split.label_rows(len(first.class_names)), first.class_names)


def parse_sweep(text: str) -> Sweep:
    """Reads `FIELD=LOW..HIGH[:STEP]` or `FIELD=A,B,C`.

    A range holds both ends where the step leads there; the step is 1 unless given. What is listed are literals as in
    Python, or bare words for texts. The field may name its op: `CutMix.p=0..1:0.25`.

    Returns:
      The sweep; whole numbers as int, others as float.

    Raises:
      ConfigError: if the text is none of these, or names more than 64 values.

    Example:
      >>> parse_sweep("m=0..30:10").values, parse_sweep("p=0..0.3:0.1").values, parse_sweep("preset=a,b").values
      ((0, 10, 20, 30), (0.0, 0.1, 0.2, 0.3), ('a', 'b'))
    """
    name, equals, listed = (part.strip() for part in text.partition("="))
    owner, _, field = name.rpartition(".")
    if not equals or not field.isidentifier() or (owner and not owner.isidentifier()) or not listed:
        raise ConfigError(
            f"--sweep={text!r}; allowed: FIELD=LOW..HIGH, FIELD=LOW..HIGH:STEP or FIELD=A,B,C, as in m=0..30:5"
        )
    match = re.fullmatch(rf"({_NUMBER})\.\.({_NUMBER})(?::({_NUMBER}))?", listed)
    values = _range(text, *match.groups()) if match else _listed(text, listed)
    if len(values) > MAX_VALUES:
        raise ConfigError(f"--sweep={text!r} names {len(values)} values; allowed: {MAX_VALUES} at most")
    return Sweep(owner, field, values)


def weight_parts(label: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Returns a label's classes and weights, the largest first, as the parts of a caption.

    Weights below 0.005 are left out; a single class stands without its weight.

    Example:
      >>> weight_parts(np.array([0.38, 0.0, 0.62]), ["dog", "car", "cat"])
      ['0.62 cat', '+ 0.38 dog']
      >>> weight_parts(np.array([0.0, 1.0]), ["dog", "car"])
      ['car']
    """
    order = [i for i in np.argsort(-label, kind="stable") if label[i] >= 0.005]
    if len(order) == 1 and label[order[0]] >= 0.995:
        return [class_names[order[0]]]
    return [f"{'+ ' if place else ''}{label[i]:.2f} {class_names[i]}" for place, i in enumerate(order)]


def _source(dataset: str | Source, data_dir: str) -> Source:
    return dataset if isinstance(dataset, Source) else read_source(dataset, data_dir=data_dir)


def _progress(share: float) -> Progress:
    return Progress(round(share * _NUM_STEPS), _NUM_STEPS)


def _quoted(name: str) -> str:
    """Puts a class that is called by a number in quotes, apart from the weights."""
    return f"'{name}'" if re.fullmatch(_NUMBER, name) else name


def _range(text: str, low: str, high: str, step: str | None) -> tuple[float, ...]:
    """The numbers from low to high; in decimals, so that 0..0.3:0.1 ends at 0.3."""
    first, last, by = Decimal(low), Decimal(high), Decimal(step or 1)
    if by <= 0 or last < first:
        raise ConfigError(f"--sweep={text!r}; allowed: LOW..HIGH:STEP with LOW not above HIGH and STEP above 0")
    if step is None and (first % 1 or last % 1):
        raise ConfigError(f"--sweep={text!r} needs a step, as in {low}..{high}:{(last - first) / 10 or 1}")
    num = int((last - first) / by) + 1
    if num > MAX_VALUES:
        raise ConfigError(f"--sweep={text!r} names {num} values; allowed: {MAX_VALUES} at most")
    values = [first + i * by for i in range(num)]
    whole = all(value % 1 == 0 for value in values) and "." not in low + high + (step or "")
    return tuple(int(value) if whole else float(value) for value in values)


def _listed(text: str, listed: str) -> tuple[Any, ...]:
    """The values of a list."""
    if ".." in listed:
        raise ConfigError(f"--sweep={text!r}; allowed: LOW..HIGH or LOW..HIGH:STEP, of numbers")
    try:
        return tuple(ast.literal_eval(f"({listed},)"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        words = [word.strip() for word in listed.split(",")]
    if not all(re.fullmatch(r"\w[\w.-]*", word) for word in words):
        raise ConfigError(f"--sweep={text!r}; allowed: a list of numbers, words or literals, as in preset=a,b")
    return tuple(words)


def _set_field(op: Augmentation, sweep: Sweep, value: Any, text: str) -> Augmentation:
    """Returns the op with the sweep's field replaced, in the one part of it that has it."""
    found = [part for part in all_ops(op) if _has(part, sweep)]
    parts = ", ".join(
        f"{type(part).__name__}.{field.name}"
        for part in all_ops(op)
        for field in dataclasses.fields(part)  # type: ignore[arg-type]
    )
    if not found:
        name = f"{sweep.owner}.{sweep.field}".lstrip(".")
        raise ConfigError(f"--sweep={text!r}: the op has no field {name!r}; allowed: {parts or 'none'}, or progress")
    if len(found) > 1:
        owners = " or ".join(f"{type(part).__name__}.{sweep.field}" for part in found)
        raise ConfigError(f"--sweep={text!r}: more than one op has the field {sweep.field!r}; say which: {owners}")
    return _replace(op, found[0], sweep.field, value, text)


def _replace(op: Augmentation, part: Augmentation, field: str, value: Any, text: str) -> Augmentation:
    """Returns the op with a field of one part of it replaced."""
    if isinstance(op, (Compose, OneOf)):
        return dataclasses.replace(op, ops=tuple(_replace(inner, part, field, value, text) for inner in op.ops))
    if op is not part:
        return op
    try:
        return dataclasses.replace(op, **{field: value})  # type: ignore[type-var]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--sweep={text!r}: {error}") from None


def _has(part: Augmentation, sweep: Sweep) -> bool:
    fields = [field.name for field in dataclasses.fields(part)]  # type: ignore[arg-type]
    return sweep.field in fields and sweep.owner in ("", type(part).__name__)
