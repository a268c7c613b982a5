"""Measure each pixel operation and each augmentation next to a copy, and count what it moves and computes."""

from __future__ import annotations

import math
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from benchmarks import header
from benchmarks.augmenting import batch_size, make_images
from benchmarks.timing import MIN_SETS, PARALLEL_CALLS, Timer, measure, summarize, time_calls
from tfaug import augment, rng
from tfaug.augment.operations import OPERATIONS, Operation, apply_densely
from tfaug.augment.policies import PRESETS

# For operations that RandAugment(2, 9) does not have: their values at about the same strength.
_VALUES = {
    "solarize_add": (33.0,),
    "add": (38.0, -38.0),
    "add_solarize": (0.3,),
    "contrast_channel": (1.15, 0.85),
    "translate_x_fraction": (0.135, -0.135),
    "translate_y_fraction": (0.135, -0.135),
    "cutout": (8.0,),
}

# Reads of the image before its first output value can be known, beyond the one that makes the output.
_EXTRA_READS = {"autocontrast": 1, "equalize": 1, "equalize_rarest": 1, "contrast": 1, "contrast_channel": 1}

# What XLA computes value by value; the rest moves data, makes constants or steers.
_ARITHMETIC = frozenset(
    (
        *("abs", "add", "ceil", "clamp", "compare", "convert", "divide", "exponential", "floor", "log", "maximum"),
        *("minimum", "multiply", "negate", "power", "remainder", "round-nearest-even", "rsqrt", "select", "sign"),
        *("sine", "sqrt", "subtract", "and", "not", "or", "xor"),
        *("shift-left", "shift-right-arithmetic", "shift-right-logical"),
    )
)
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?\S+ = \(?([a-z0-9]+)\[([0-9,]*)\]\S* ([a-z-]+)\(")


def operation_of(name: str) -> Operation:
    """Returns the operation at its strength in RandAugment(2, 9), signed where it is there."""
    strength = PRESETS["paper_cifar"].get(name)
    if strength is None:
        return Operation(name, _VALUES.get(name, (0.0,)))
    value = augment.RandAugment(2, 9.0).value(name)
    return Operation(name, (value, -value) if strength.signed else (value,))


def find_functions(names: Sequence[str]) -> dict[str, Callable[..., Any]]:
    """Returns by name `function(images, labels, seed)`: a copy, the operations and the augmentations in `names`."""
    found: dict[str, Callable[..., Any]] = {"copy": lambda images, labels, seed: tf.identity(images)}
    for name in OPERATIONS:
        if not names or name in names:
            found[name] = _operation_function(operation_of(name))
    for name, make in augment.AUGMENTATIONS.items():
        if not names or name in names:
            found[name] = _augmentation_function(make())
    return found


def _operation_function(operation: Operation) -> Callable[..., Any]:
    """Returns one operation on all images, with drawn signs and, for cutout, places."""

    def run(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        num, height, width, _ = images.shape
        values = rng.randint(rng.fold_in(seed, 0), [num, 1], 0, len(operation.values))
        centre = tf.stack([rng.randint(rng.fold_in(seed, 1 + i), [num, 1], 0, (height, width)[i]) for i in (0, 1)], -1)
        # The index is a constant, so that XLA drops the selection and what was not drawn for.
        return apply_densely(images, [operation], tf.zeros([num, 1], tf.int32), values, centre)

    return run


def _augmentation_function(op: augment.Augmentation) -> Callable[..., Any]:
    def run(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        result = op(augment.Batch(images, labels), seed)
        return (result.images, result.labels)

    return run


def count_operations(hlo: str, num_values: int) -> float:
    """Returns how often XLA's program computes something per value of the input, from its text.

    Each arithmetic instruction counts once per value of its result, a reduction not at all; so does each fusion that
    computes it anew. The body of a loop counts once, however often it runs.
    """
    total = 0
    for line in hlo.splitlines():
        match = _INSTRUCTION.match(line)
        if match and match[3] in _ARITHMETIC:
            total += math.prod(int(size) for size in match[2].split(",") if size)
    return total / num_values


def bench(sizes: Sequence[int], names: Sequence[str], rounds: int, seconds: float, quick: bool) -> dict[str, Any]:
    """Measures and returns the header and the rows.

    Args:
      sizes: heights and widths of the images, px.
      names: operations and augmentations; none: all of them.
      rounds: turns of each.
      seconds: that a turn takes at least.
      quick: with batches of a few images.
    """
    rows: list[dict[str, Any]] = []
    functions, skipped = find_functions(names), {}
    with tqdm(total=len(sizes) * (len(functions) + rounds), unit="op", file=sys.stderr) as progress:
        for size in sizes:
            batch = batch_size(size, quick)
            images, labels = (tf.constant(array) for array in make_images(batch, size))
            timers, counts = {}, {}
            for name, function in functions.items():
                progress.set_description(f"{name} at {size} x {size}: starts")
                try:
                    timers[name], counts[name] = _start(name, function, images, labels)
                except Exception as error:  # Of one op, for example one that this size is too small for.
                    skipped[f"{name}, {size} x {size}"] = f"{type(error).__name__}: {error}"[:300]
                progress.update()
            progress.set_description(f"{size} x {size}")
            batches = dict.fromkeys(timers, batch)
            rows += make_rows(size, batch, measure(timers, batches, rounds, seconds, progress.update), counts)
    settings = {
        "rounds": rounds,
        "min_seconds_per_turn": seconds,
        "min_batches_per_turn": PARALLEL_CALLS * MIN_SETS,
        "path": "device: one call compiled by XLA at a time",
        "strength": "operations as in RandAugment(2, 9), augmentations with their defaults",
        "microseconds": "per image that goes in; median, min_ and max_ over the rounds",
        "num_reads": "of each image that the definition needs; neighbours, partners and what is cached are not counted",
        "bytes": "num_reads times the image's bytes, and the bytes written, per image that goes in",
        "operations_per_value": "arithmetic instructions in XLA's optimized program per value of the input; drawing is "
        "in it, reductions are not, the body of a loop counts once",
        "skipped": skipped,
    }
    return {"header": header.describe({}, settings), "rows": rows}


def _start(
    name: str, function: Callable[..., Any], images: tf.Tensor, labels: tf.Tensor
) -> tuple[Timer, dict[str, Any]]:
    """Compiles a function; returns its timer and its counts."""
    compiled = tf.function(function, jit_compile=True, autograph=False)
    seeds = [rng.fold_in(rng.make_seed(0), i) for i in range(16)]
    result = tf.nest.flatten(compiled(images, labels, seeds[0]))[0]
    hlo = compiled.experimental_get_compiler_ir(images, labels, seeds[0])(stage="optimized_hlo")
    num_bytes = int(np.prod(images.shape[1:]))
    reads = 1 + _EXTRA_READS.get(name, 0)
    written = int(np.prod(result.shape)) * result.dtype.size / images.shape[0]
    counts = {
        "output": f"{result.dtype.name} {result.shape.as_list()}",
        "num_reads": reads,
        "bytes": reads * num_bytes + written,
        "operations_per_value": count_operations(hlo, images.shape.num_elements()),
        "has_loop": " while(" in hlo,
    }
    return time_calls(lambda i: tf.nest.flatten(compiled(images, labels, seeds[i % len(seeds)]))[0]), counts


def make_rows(
    size: int, batch: int, speeds: Mapping[str, list[float]], counts: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Returns one row per operation, with its time over that of the copy."""
    copy = statistics.median(1e6 / value for value in speeds["copy"])
    rows = []
    for name, values in speeds.items():
        microseconds = summarize([1e6 / value for value in values], "microseconds")
        rows.append(
            {
                "op": name,
                "kind": "copy" if name == "copy" else "operation" if name in OPERATIONS else "augmentation",
                "size": size,
                "batch": batch,
                **microseconds,
                "time_over_copy": microseconds["microseconds"] / copy,
                **counts[name],
                "gigabytes_per_second": counts[name]["bytes"] / microseconds["microseconds"] / 1e3,
            }
        )
    return rows


def format_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as a table for the terminal."""
    lines = [
        f"{'op':22} {'size':>4} {'us/image':>9} {'min..max':>17} {'x copy':>7} {'KB':>7} {'GB/s':>6} {'ops/value':>9}"
    ]
    for row in rows:
        spread = f"{row['min_microseconds']:.2f}..{row['max_microseconds']:.2f}"
        lines.append(
            f"{row['op']:22} {row['size']:>4} {row['microseconds']:>9.2f} {spread:>17} {row['time_over_copy']:>7.1f} "
            f"{row['bytes'] / 1e3:>7.1f} {row['gigabytes_per_second']:>6.1f} {row['operations_per_value']:>9.1f}"
        )
    return "\n".join(lines)
