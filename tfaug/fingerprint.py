"""Say in one SHA-256 what an op makes of fixed images at a seed, and whether that is what the release makes of them.

`fingerprints.txt`, which is installed with tfaug, holds the digests of every op, preset, policy and layer at several
seeds: one line a case, in the form that `tfaug fingerprint --op=OP` prints. They are the same on every TensorFlow,
Python and numpy that tfaug supports, eagerly and under XLA; `docs/reproducibility.md` says when they may change.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import files, rng
from tfaug.augment import AUGMENTATIONS, Augmentation, Batch, ManifoldMixup, image_shape, parse_op
from tfaug.config import ConfigError, check_choice, check_whole
from tfaug.schedules import Progress, Visit

TABLE = pathlib.Path(__file__).with_name("fingerprints.txt")
DTYPES = ("uint8", "float32")
NUM_CLASSES = 10

_LAYERS = "layers."  # what stands before the name of a layer
_HEADER = """\
# SHA-256 of what each op makes of fixed images and labels; `tfaug fingerprint --check` compares.
# A digest changes in a major release alone, and CHANGELOG.md names the op: see docs/reproducibility.md.
# digest, seed, shape, dtype, step/total_steps, op
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """What a digest is of: an op, its seed, and what it is given.

    Args:
      op: an op, or ops joined by +, as `augment.parse_op` reads it; or `ManifoldMixup(...)`, whose choice is meant; or
        a layer, `layers.NAME(...)`.
      seed: an integer of at most 64 bits, signed or not.
      shape: of the images, `BxHxWxC`, each 1 or more.
      dtype: of the images, `uint8` or `float32`.
      progress: of training, `STEP/TOTAL_STEPS`; for ops with a schedule, and the epoch for those that alternate.

    Raises:
      ConfigError: if a field is not of its form; that of `op` is checked where it is read.
    """

    op: str
    seed: int = 0
    shape: str = "16x32x32x3"
    dtype: str = "uint8"
    progress: str = "3/10"

    def __post_init__(self) -> None:
        check_whole(self, "seed", *rng.SEED_LIMITS)
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){3}", self.shape):
            raise ConfigError(f"Case.shape is {self.shape!r}; allowed: BxHxWxC, as in 16x32x32x3")
        check_choice(self, "dtype", DTYPES)
        step = re.fullmatch(r"(\d+)/(\d+)", self.progress)
        if not step or int(step[1]) >= int(step[2]):
            raise ConfigError(
                f"Case.progress is {self.progress!r}; allowed: STEP/TOTAL_STEPS, the step below the total, as in 3/10"
            )

    def __str__(self) -> str:
        return f"{self.seed} {self.shape} {self.dtype} {self.progress} {self.op}"

    @classmethod
    def read(cls, text: str) -> Case:
        """Returns the case whose `str` is `text`.

        Raises:
          ValueError: if it is not five words: seed, shape, dtype, progress and op.
        """
        words = text.split(maxsplit=4)
        if len(words) != 5:
            raise ValueError(f"case is {text!r}; allowed: SEED SHAPE DTYPE PROGRESS OP")
        seed, shape, dtype, progress, op = words
        return cls(op, int(seed), shape, dtype, progress)


def make_batch(shape: str, dtype: str = "uint8") -> tuple[np.ndarray, np.ndarray]:
    """Returns images and labels that are the same everywhere: bytes of SHAKE-128 and integer arithmetic.

    Each image is a slope of its own in each channel with noise of 16 levels; float images have sixteenths. The labels
    are one-hot; those of float images are 3/4 of a class and 1/4 of the next.

    Args:
      shape: `BxHxWxC`.
      dtype: `uint8` or `float32`.

    Returns:
      Images of `dtype` [B, H, W, C] in 0..255, and labels float32 [B, NUM_CLASSES].
    """
    num, height, width, channels = map(int, shape.split("x"))
    size = num * height * width * channels
    stream = hashlib.shake_128(f"tfaug {shape}".encode()).digest(size + num * channels * 3 + num)
    drawn = np.frombuffer(stream, np.uint8).astype(np.int64)
    noise, traits, classes = np.split(drawn, [size, size + num * channels * 3])
    level, down, right = traits.reshape(3, num, 1, 1, channels)
    rows, columns = np.arange(height)[:, np.newaxis, np.newaxis], np.arange(width)[:, np.newaxis]
    slope = (down - 128) * (2 * rows - height) // (2 * height) + (right - 128) * (2 * columns - width) // (2 * width)
    images = np.clip(level + slope + noise.reshape(num, height, width, channels) % 16, 0, 255)
    one_hot = np.eye(NUM_CLASSES, dtype=np.float32)
    labels = one_hot[classes % NUM_CLASSES]
    if dtype == "uint8":
        return images.astype(np.uint8), labels
    sixteenths = noise.reshape(images.shape) // 16
    soft = 0.75 * labels + 0.25 * one_hot[(classes + 1) % NUM_CLASSES]
    return (np.minimum(16 * images + sixteenths, 16 * 255) / 16).astype(np.float32), soft.astype(np.float32)


def fingerprint(case: Case, xla: bool = False) -> str:
    """Returns the SHA-256, in hexadecimal, of what the case's op makes of `make_batch(case.shape, case.dtype)`.

    It is that of, for the images and then the labels (of ManifoldMixup's choice: of each part, by name): the line
    `NAME DTYPE SHAPE`, as in `images uint8 16x32x32x3`, a line feed, and the values in row-major order, lowest byte
    first.

    Args:
      case: the op, the seed and what it is given.
      xla: compile the op, with a step that is known only when it runs.

    Raises:
      ConfigError: if the op cannot be read, or not be applied to such images; naming what is allowed.

    Example:
      >>> fingerprint(Case("Flip()", seed=1, shape="2x4x4x1"))[:8]
      '5b5f03f6'
    """
    function = _compiled(case.op) if xla else _function(case.op)
    number = functools.partial(tf.constant, dtype=tf.int64) if xla else int
    step, total_steps = map(number, map(int, case.progress.split("/")))
    batch = Batch(*map(tf.constant, make_batch(case.shape, case.dtype)))
    # For ops that go by the example: the images are the first ones of a set, and each step is an epoch.
    progress = Visit(step, total_steps, rng.make_seed(case.seed), step, tf.range(len(batch.images)))
    try:
        parts = function(batch, rng.make_seed(case.seed), progress)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"op {case.op!r} on {case.dtype} {case.shape}: {error}") from None
    digest = hashlib.sha256()
    for name in sorted(parts):
        value = parts[name].numpy()
        digest.update(f"{name} {value.dtype.name} {'x'.join(map(str, value.shape))}\n".encode())
        digest.update(value.astype(value.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def read_table(path: str | os.PathLike[str] = TABLE) -> dict[Case, str]:
    """Reads a table of digests; empty lines and those that start with `#` are comments.

    Returns:
      Case -> digest, in the table's order.

    Raises:
      ValueError: if a line is not a digest and a case.
    """
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    split = (line.partition(" ") for line in lines if line.strip() and not line.startswith("#"))
    return {Case.read(text): digest for digest, _, text in split}


def write_table(table: Mapping[Case, str], path: str | os.PathLike[str]) -> None:
    """Writes a table that `read_table` reads, sorted by op, whole or not at all."""
    ordered = sorted(table, key=lambda case: (case.op, case.dtype, case.shape, case.progress, case.seed))
    with files.atomic_file(path) as partial:
        partial.write_text(_HEADER + "".join(f"{table[case]} {case}\n" for case in ordered), encoding="utf-8")


def compare(table: Mapping[Case, str], xla: bool = False) -> Iterator[tuple[Case, str, str]]:
    """Computes the digest of each case of `table`; yields the case, its digest here and the table's."""
    for case, expected in table.items():
        yield case, fingerprint(case, xla), expected


def _function(text: str) -> Callable[[Batch, tf.Tensor, Any], dict[str, tf.Tensor]]:
    """Returns the op that `text` names as a function that returns what to digest, by name."""
    if text.startswith(_LAYERS):
        from tfaug.augment import layers  # it needs Keras

        makers = {name: getattr(layers, name) for name in layers.__all__ if name != "ImageLayer"}
        return functools.partial(_apply_layer, parse_op(text.removeprefix(_LAYERS), makers))
    op = parse_op(text, {**AUGMENTATIONS, "ManifoldMixup": ManifoldMixup})
    draw: Callable[..., dict[str, tf.Tensor]] = _draw if isinstance(op, ManifoldMixup) else _apply
    return functools.partial(draw, op)


def _apply(op: Augmentation, batch: Batch, seed: tf.Tensor, progress: Progress) -> dict[str, tf.Tensor]:
    """Returns the images and labels that an op makes."""
    return op(batch, seed, progress)._asdict()


def _apply_layer(layer: Any, batch: Batch, seed: tf.Tensor, progress: Progress) -> dict[str, tf.Tensor]:
    """Returns the images and labels that a layer makes; it has no progress."""
    return layer(batch._asdict(), seed=seed)


def _draw(op: ManifoldMixup, batch: Batch, seed: tf.Tensor, progress: Progress) -> dict[str, tf.Tensor]:
    """Returns the choice of ManifoldMixup, which cannot be applied without a network."""
    return op.sample(seed, image_shape(batch.images), progress)


@functools.lru_cache(maxsize=1)  # the seeds of an op stand together in a table
def _compiled(text: str) -> Callable[[Batch, tf.Tensor, Any], dict[str, tf.Tensor]]:
    """Returns `_function(text)` compiled by XLA."""
    return tf.function(_function(text), jit_compile=True, autograph=False)
