"""Measure tfaug's speed beside that of its peers, in one process and in turns.

    python tools/bench.py augment --json=build/bench.json
    python tools/bench.py augment --json=build/bench.json --sizes=32 --rounds=9

`augment` times RandAugment(2, 9), CutMix, Mixup and Sum-Augmentation (k = 2) on uint8 images that lie in memory, by:

    tfaug          the op compiled by XLA (`jit_compile=True`), one call after the other
    tfaug_tf_data  the same compiled op in `Dataset.map`, two calls at a time
    keras_cv       keras-cv's own layer in `Dataset.map`, two calls at a time: the best setting that we know for it
    albumentations two of its transforms per image, one image after the other (RandAugment only, where it is installed)

keras-cv has no Sum-Augmentation: there its MixUp is the peer, as the row says, although it blends with weights and does
not halve the batch. Speeds count the images that go in. Each number is the median over the rounds; in each round each
engine has its turn, so that a slow moment of the machine does not fall on one of them alone. A ratio is the quotient of
two medians.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import itertools
import math
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

from tfaug import files
from tfaug.startup import import_tensorflow

import_tensorflow()
import tensorflow as tf  # noqa: E402

from tfaug import augment, rng  # noqa: E402
from tfaug.augment.keras_cv import keras_cv_pipeline  # noqa: E402

_JSON = flags.DEFINE_string("json", None, "file for the header and the rows")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "turns of each engine; the medians are taken over them", lower_bound=1)
_SIZES = flags.DEFINE_list("sizes", ["32", "224"], "heights and widths of the images, in pixels")
_QUICK = flags.DEFINE_bool("quick", False, "a small run to see that it works: 2 rounds of a few images; no speeds")

NUM_CLASSES = 10
PARALLEL_CALLS = 2  # For the machine with two cores that the README's table names.
MIN_SETS = 4  # Sets of PARALLEL_CALLS batches in a turn, however slow an engine is.

# Takes a number of batches, augments as many, and returns the seconds it took.
Timer = Callable[[int], float]


@dataclasses.dataclass(frozen=True)
class Case:
    """One op at one image size.

    Attributes:
      name: the op's name in the rows.
      op: our op.
      peer_op: the op whose keras-cv layer is the peer.
      peer: what the peer is called in the rows.
    """

    name: str
    op: augment.Augmentation
    peer_op: augment.Augmentation
    peer: str


CASES = (
    Case("RandAugment(2, 9)", augment.RandAugment(2, 9.0), augment.RandAugment(2, 9.0), "keras_cv RandAugment"),
    Case("CutMix", augment.CutMix(), augment.CutMix(), "keras_cv CutMix"),
    Case("Mixup", augment.Mixup(), augment.Mixup(), "keras_cv MixUp"),
    Case("SumAug(2)", augment.SumAug(2), augment.Mixup(), "keras_cv MixUp (it has no Sum-Augmentation)"),
)


def make_images(num: int, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns random uint8 images [num, size, size, 3] and one-hot labels."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (num, size, size, 3), np.uint8)
    labels = np.eye(NUM_CLASSES, dtype=np.float32)[generator.integers(0, NUM_CLASSES, num)]
    return tf.constant(images), tf.constant(labels)


def time_calls(op: augment.Augmentation, images: tf.Tensor, labels: tf.Tensor) -> Timer:
    """Returns a timer of the op compiled by XLA, one call at a time."""
    function, seed = tf.function(op, jit_compile=True), rng.make_seed(0)
    seeds = [rng.fold_in(seed, i) for i in range(16)]

    def run(num_batches: int) -> float:
        start = time.perf_counter()
        for i in range(num_batches):
            result = function(augment.Batch(images, labels), seeds[i % len(seeds)])
        _wait(result)
        return time.perf_counter() - start

    return run


def _wait(batch: augment.Batch) -> None:
    """Waits for a batch that a device may still be computing; reads one pixel of it."""
    batch.images[0, 0, 0, 0].numpy()


def time_dataset(function: Callable[..., Any], images: tf.Tensor, labels: tf.Tensor) -> Timer:
    """Returns a timer of `function(index, images, labels)` in Dataset.map."""
    counter = tf.data.Dataset.counter()
    dataset = counter.map(lambda index: function(index, images, labels), num_parallel_calls=PARALLEL_CALLS)

    def run(num_batches: int) -> float:
        # A new iterator each time, so that nothing runs on in the background during another engine's turn. The first
        # batches are not timed: they start the threads. Calls side by side also end side by side, so both the untimed
        # and the timed batches are whole sets of them: else one that was finished before would count.
        iterator = iter(dataset)
        for _ in range(2 * PARALLEL_CALLS):
            next(iterator)
        start = time.perf_counter()
        for _ in range(num_batches):
            next(iterator)
        return time.perf_counter() - start

    return run


def time_albumentations(images: tf.Tensor) -> Timer:
    """Returns a timer of two albumentations transforms per image, drawn from those nearest to RandAugment(2, 9)."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # It would ask the network for its newest version.
    import albumentations

    transform = albumentations.SomeOf(
        [
            albumentations.NoOp(p=1),
            albumentations.AutoContrast(p=1),
            albumentations.Equalize(p=1),
            albumentations.Rotate(limit=9, p=1),
            albumentations.Solarize(threshold_range=(0.3, 0.3), p=1),
            albumentations.ColorJitter(0, 0, (0.64, 0.64), 0, p=1),
            albumentations.Posterize(num_bits=5, p=1),
            albumentations.RandomBrightnessContrast((0, 0), (-0.36, -0.36), p=1),
            albumentations.RandomBrightnessContrast((-0.36, -0.36), (0, 0), p=1),
            albumentations.Sharpen(p=1),
            albumentations.Affine(shear={"x": (-5, 5)}, p=1),
            albumentations.Affine(shear={"y": (-5, 5)}, p=1),
            albumentations.Affine(translate_px={"x": (-3, 3)}, p=1),
            albumentations.Affine(translate_px={"y": (-3, 3)}, p=1),
        ],
        n=2,
        p=1,
    )
    array = images.numpy()

    def run(num_batches: int) -> float:
        start = time.perf_counter()
        for _ in range(num_batches):
            for image in array:
                transform(image=image)
        return time.perf_counter() - start

    return run


def engines(case: Case, images: tf.Tensor, labels: tf.Tensor) -> dict[str, Timer]:
    """Returns the timers of all engines that can do the op."""
    compiled, seed, pipeline = tf.function(case.op, jit_compile=True), rng.make_seed(0), keras_cv_pipeline(case.peer_op)

    def augment_ours(index: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> augment.Batch:
        return compiled(augment.Batch(images, labels), rng.fold_in(seed, index))

    def augment_theirs(index: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        return pipeline(images, labels)

    timers = {
        "tfaug": time_calls(case.op, images, labels),
        "tfaug_tf_data": time_dataset(augment_ours, images, labels),
        "keras_cv": time_dataset(augment_theirs, images, labels),
    }
    if isinstance(case.op, augment.RandAugment) and importlib.util.find_spec("albumentations"):
        timers["albumentations"] = time_albumentations(images)
    return timers


def measure(timers: dict[str, Timer], batch: int, rounds: int, seconds: float) -> Iterator[tuple[str, float]]:
    """Times the engines in turn and yields (engine, images per second) once per engine and round.

    Args:
      timers: by engine.
      batch: images in a batch.
      rounds: turns of each engine.
      seconds: that a turn should take at least; the number of batches is chosen by a first run that does not count.
    """
    num_batches = {}
    for engine, timer in timers.items():
        timer(1)  # Traces and compiles.
        trial = 2 * PARALLEL_CALLS
        num_sets = math.ceil(seconds / timer(trial) * trial / PARALLEL_CALLS)
        num_batches[engine] = PARALLEL_CALLS * max(num_sets, MIN_SETS)
    for _, (engine, timer) in itertools.product(range(rounds), timers.items()):
        yield engine, num_batches[engine] * batch / timer(num_batches[engine])


def make_rows(case: Case, size: int, batch: int, speeds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Returns one row per engine: medians over the rounds, their spread, and the ratio of the medians to keras-cv's."""
    medians = {engine: statistics.median(values) for engine, values in speeds.items()}
    return [
        {
            "op": case.name,
            "size": size,
            "batch": batch,
            "engine": engine,
            "images_per_second": medians[engine],
            "ratio_to_keras_cv": medians[engine] / medians["keras_cv"],
            "num_rounds": len(values),
            "min_images_per_second": min(values),
            "max_images_per_second": max(values),
            "peer": case.peer,
        }
        for engine, values in speeds.items()
    ]


def describe(rounds: int, seconds: float) -> dict[str, Any]:
    """Returns what a reader needs to judge the numbers: the machine, the versions and the settings."""
    packages = ["tensorflow", "keras", "keras-cv", "numpy", "albumentations"]
    versions = {"python": platform.python_version(), "tfaug": importlib.metadata.version("tfaug")}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "hardware": {
            "processor": _processor(),
            "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "devices": [
                tf.config.experimental.get_device_details(device).get("device_name", device.name)
                for device in tf.config.list_physical_devices()
            ],
        },
        "versions": versions,
        "num_rounds": rounds,
        "min_seconds_per_turn": seconds,
        "num_parallel_calls": PARALLEL_CALLS,
        "images": "random uint8 in memory, 3 channels",
        "images_per_second": "median over the rounds, of the images that go in",
        "ratio_to_keras_cv": "quotient of the medians of the engine and of keras_cv",
    }


def _processor() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def bench_augment(sizes: Sequence[int], rounds: int, quick: bool) -> dict[str, Any]:
    """Measures all cases and returns the header and the rows."""
    seconds = 0.0 if quick else 1.0
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(sizes) * len(CASES), unit="op", file=sys.stderr) as progress:
        for size, case in itertools.product(sizes, CASES):
            batch = 16 if quick else (1024 if size <= 64 else 128)
            progress.set_description(f"{case.name} at {size} x {size}")
            speeds: dict[str, list[float]] = {}
            for engine, speed in measure(engines(case, *make_images(batch, size)), batch, rounds, seconds):
                speeds.setdefault(engine, []).append(speed)
            rows += make_rows(case, size, batch, speeds)
            progress.update()
    return {"header": describe(rounds, seconds), "rows": rows}


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as a table for the terminal."""
    lines = [f"{'op':18} {'size':>4} {'batch':>5} {'engine':15} {'images/s':>10} {'min..max':>19} {'x keras-cv':>10}"]
    for row in rows:
        spread = f"{row['min_images_per_second']:,.0f}..{row['max_images_per_second']:,.0f}"
        lines.append(
            f"{row['op']:18} {row['size']:>4} {row['batch']:>5} {row['engine']:15} {row['images_per_second']:>10,.0f} "
            f"{spread:>19} {row['ratio_to_keras_cv']:>10.2f}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Runs what the command line names."""
    if list(argv[1:]) != ["augment"]:
        raise app.UsageError(f"got {' '.join(argv[1:]) or 'no command'!r}; allowed: augment")
    if not all(size.isdigit() and int(size) >= 16 for size in _SIZES.value):
        raise app.UsageError(f"--sizes={','.join(_SIZES.value)}; allowed: whole numbers of pixels, 16 or more")
    rounds = min(_ROUNDS.value, 2) if _QUICK.value else _ROUNDS.value
    result = bench_augment([int(size) for size in _SIZES.value], rounds, _QUICK.value)
    print(format_rows(result["rows"]))
    if _JSON.value:
        files.write_json(_JSON.value, result)


if __name__ == "__main__":
    app.run(main)
