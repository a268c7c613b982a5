"""Markdown tables from what tools/bench.py wrote, and their places in a page, so that no figure is copied by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfaug.augment.policies import PRESETS

_PEERS = {
    "keras": "Keras",
    "keras_cv": "keras-cv",
    "albumentations": "albumentations",
    "dali": "DALI, CPU",
    "kornia": "kornia, one operation for the whole batch",
    "plain_tf_data": "plain per-image `tf.data`",
}
_PATHS = {"host": "in `tf.data`", "device": "one call at a time", "alone": "called alone"}
_PLACE = re.compile(r"(<!-- bench: ([a-z-]+) -->\n).*?(<!-- bench end -->)", re.DOTALL)

Rows = Sequence[Mapping[str, Any]]


def make_tables(result: Mapping[str, Any]) -> dict[str, str]:
    """Returns by name the tables of one file of tools/bench.py, and a line on how it was measured.

    Args:
      result: the file's content.
    """
    command, rows = result["command"], result["rows"]
    measured = {f"{command}-measured": _measured(result["header"])}
    return measured | {name: make(rows) for name, make in _TABLES[command].items()}


def fill(page: str, tables: Mapping[str, str]) -> tuple[str, list[str]]:
    """Puts tables between `<!-- bench: NAME -->` and `<!-- bench end -->`, each of them a line of its own.

    Args:
      page: Markdown.
      tables: by name.

    Returns:
      The page, and the names of its places that no table has filled; these stay as they were.
    """
    missing = [name for _, name, _ in _PLACE.findall(page) if name not in tables]
    filled = _PLACE.sub(lambda m: f"{m[1]}{tables[m[2]]}\n{m[3]}" if m[2] in tables else m[0], page)
    return filled, missing


def _measured(header: Mapping[str, Any]) -> str:
    """Returns the machine, the versions and the rounds."""
    hardware, versions, rounds = header["hardware"], header["versions"], header["settings"]["rounds"]
    package, version = versions["tf.keras"].split()
    keras = "Keras" if package == "keras" else "tf-keras"
    # Of what is not installed, the reason stays in the file; Keras is a peer and what tf.keras is, named once.
    named = {_PEERS[name].split(",")[0]: found.split(":")[0] for name, found in header["peers"].items()}
    peers = "".join(f"; {name} {found}" for name, found in named.items() if (name, found) != (keras, version))
    return (
        f"{hardware['num_cores']} cores of {hardware['processor']}; Python {versions['python']}, TensorFlow "
        f"{versions['tensorflow']}, {keras} {version}{peers}; medians of {rounds} interleaved rounds."
    )


def _speed(rows: Rows) -> str:
    """Returns tfaug's ops in `tf.data`, then the peers' RandAugment on their faster paths, by size."""
    sizes = _sizes(rows)
    ratios = ("x Keras", "x keras-cv")
    lines = [[""] + [cell for size in sizes for cell in (f"{size} x {size}, images/s", *ratios)]]
    for op in dict.fromkeys(row["op"] for row in rows):
        ours = {row["size"]: row for row in rows if (row["op"], row["engine"], row["path"]) == (op, "tfaug", "host")}
        lines.append([f"**{op}**" + (" (peers: MixUp)" if op.startswith("SumAug") else ""), *_speeds(ours, sizes)])
    for engine, name in _PEERS.items():
        theirs: dict[int, Mapping[str, Any]] = {}
        for row in rows:
            if row["engine"] == engine and row["op"].startswith("RandAugment"):
                theirs[row["size"]] = max(row, theirs.get(row["size"], row), key=lambda row: row["images_per_second"])
        if theirs:
            lines.append([f"*RandAugment by {name}*", *_speeds(theirs, sizes)])
    return _markdown(lines)


def _rand_augment(rows: Rows) -> str:
    """Returns every way to do RandAugment, with its setting."""
    sizes = _sizes(rows)
    lines = [["", "setting"] + [cell for size in sizes for cell in (f"{size} x {size}", "x Keras", "x keras-cv")]]
    found = [row for row in rows if row["op"].startswith("RandAugment") and row["engine"] in ("tfaug", *_PEERS)]
    for engine, path in dict.fromkeys((row["engine"], row["path"]) for row in found):
        theirs = {row["size"]: row for row in found if (row["engine"], row["path"]) == (engine, path)}
        where = f", {_PATHS[path]}" if engine in ("tfaug", "keras", "keras_cv") else ""
        name = f"{_PEERS.get(engine, '**tfaug**')}{where}"
        lines.append(
            [name, "; ".join(dict.fromkeys(row["setting"] for row in theirs.values())), *_speeds(theirs, sizes)]
        )
    return _markdown(lines)


def _mixing(rows: Rows) -> str:
    """Returns tfaug's mixing next to the peers' layers and to copies."""
    columns = ("time over memory copy", "over `images + 1`", "over copy into float32")
    lines = [["", "size", "images/s (lowest to highest)", "x Keras", "x keras-cv", *columns]]
    for row in rows:
        if row["engine"] == "tfaug" and not row["op"].startswith("RandAugment"):
            times = [row[f"time_over_{copy}"] for copy in ("copy_uint8", "loop_uint8", "copy_float32")]
            cells = _speeds({row["size"]: row}, [row["size"]])
            lines.append([f"{row['op']}, {row['path']}", str(row["size"]), *cells, *map(_ratio, times)])
    return _markdown(lines)


def _training(rows: Rows) -> str:
    """Returns milliseconds a step, and what augmentation adds."""
    lines = [["augmentation", "ms a step (lowest to highest)", "over none (lowest to highest of the rounds)"]]
    for row in rows:
        step = _spread([1e3 * row[key] for key in ("seconds", "min_seconds", "max_seconds")], digits=1)
        ratio = _spread([row["ratio_to_none"], row["min_ratio"], row["max_ratio"]], digits=2)
        lines.append([row["augmentation"], step, ratio])
    return _markdown(lines)


def _train(rows: Rows) -> str:
    """Returns the speed of each network and precision, and the ratio to plain Keras."""
    lines = [["", "images/s (lowest to highest)", "of Keras's `fit`", "x Keras (lowest to highest of the rounds)"]]
    for row in rows:
        speeds = [
            _spread([row[f"{bound}{name}images_per_second"] for bound in ("", "min_", "max_")], digits=0)
            for name in ("", "keras_")
        ]
        ratio = _spread([row["ratio_to_keras"], row["min_ratio"], row["max_ratio"]], digits=2)
        lines.append([row["name"], *speeds, ratio])
    return _markdown(lines)


def _ordering(rows: Rows) -> str:
    """Returns milliseconds a step, in plain steps, and over as many as it has batches."""
    lines = [["", "ms a step (lowest to highest)", "plain steps", "over K + 1 plain steps (lowest to highest)"]]
    for row in rows:
        step = _spread([1e3 * row[key] for key in ("seconds", "min_seconds", "max_seconds")], digits=1)
        ratio = _spread([row["ratio_to_separate"], row["min_ratio"], row["max_ratio"]], digits=2)
        lines.append([row["name"], step, f"{row['steps']:.1f}", ratio])
    return _markdown(lines)


def _operations(rows: Rows) -> str:
    """Returns the time of each operation, and what it moves and computes at the largest size."""
    sizes = _sizes(rows)
    largest = sizes[-1]
    header = [cell for size in sizes for cell in (f"{size} px, us", "x copy")]
    lines = [["", *header, f"KB at {largest}", f"GB/s at {largest}", "operations a value"]]
    for op in dict.fromkeys(row["op"] for row in rows):
        found = {row["size"]: row for row in rows if row["op"] == op}
        cells = [op]
        for size in sizes:
            row = found.get(size)
            cells += [f"{row['microseconds']:.2f}", f"{row['time_over_copy']:.1f}"] if row else ["", ""]
        if last := found.get(largest):
            cells += [f"{last['bytes'] / 1e3:.0f}", f"{last['gigabytes_per_second']:.1f}"]
            cells += [f"{last['operations_per_value']:.1f}"]
        lines.append(cells + [""] * (len(lines[0]) - len(cells)))
    return _markdown(lines)


def _parts(rows: Rows) -> str:
    """Returns RandAugment's time next to that of its parts; nothing without the rows of all of them."""
    sizes, names = _sizes(rows), list(PRESETS["paper_cifar"])
    times = {(row["op"], row["size"]): row["microseconds"] for row in rows}
    if any((name, size) not in times for name in ("copy", "RandAugment", *names) for size in sizes):
        return "not measured"
    sums = {size: sum(times[name, size] for name in names) for size in sizes}
    lines: list[tuple[str, Callable[[int], float]]] = [
        ("a call with two operations of 14, us an image", lambda size: times["RandAugment", size]),
        ("the 14 operations, each on a seventh of the images, us", lambda size: sums[size] / 7),
        ("six copies, us", lambda size: 6 * times["copy", size]),
        ("equalize's share of the 14 operations, %", lambda size: 100 * times["equalize", size] / sums[size]),
        ("equalize, ns a value", lambda size: 1e3 * times["equalize", size] / (3 * size**2)),
        ("sharpness, ns a value", lambda size: 1e3 * times["sharpness", size] / (3 * size**2)),
        ("rotate, ns a pixel", lambda size: 1e3 * times["rotate", size] / size**2),
    ]
    cells = [[name, *(f"{value(size):.1f}" for size in sizes)] for name, value in lines]
    return _markdown([["", *(f"{size} px" for size in sizes)], *cells])


_TABLES: dict[str, dict[str, Callable[[Rows], str]]] = {
    "augment": {"speed": _speed, "rand-augment": _rand_augment, "mixing": _mixing},
    "training": {"training": _training},
    "train": {"train": _train},
    "ordering": {"ordering": _ordering},
    "ops": {"operations": _operations, "parts": _parts},
}
NAMES = tuple(name for command, makers in _TABLES.items() for name in (f"{command}-measured", *makers))


def _sizes(rows: Rows) -> list[int]:
    return sorted({row["size"] for row in rows})


def _speeds(by_size: Mapping[int, Mapping[str, Any]], sizes: Sequence[int]) -> list[str]:
    """Returns the cells of speed and ratios for each of `sizes`; empty ones where it was not measured."""
    cells = []
    for size in sizes:
        if row := by_size.get(size):
            spread = [row[f"{bound}images_per_second"] for bound in ("", "min_", "max_")]
            cells += [_spread(spread, digits=0), _ratio(row["ratio_to_keras"]), _ratio(row["ratio_to_keras_cv"])]
        else:
            cells += ["", "", ""]
    return cells


def _spread(values: Sequence[float], digits: int) -> str:
    """Returns the median, the lowest and the highest value of `values`, which hold these."""
    value, low, high = values
    return f"{value:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """Returns a table whose first line is its header."""
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, f"|{' --- |' * len(lines[0])}", *body])
