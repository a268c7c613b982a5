"""Measure RandAugment(2, 9), CutMix, Mixup and Sum-Augmentation next to other libraries and a plain copy."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from benchmarks import header, peers, plain
from benchmarks.timing import (
    MIN_SETS,
    PARALLEL_CALLS,
    Engine,
    Timer,
    make_timers,
    measure,
    summarize,
    time_calls,
    time_dataset,
)
from tfaug import augment, rng
from tfaug.augment.keras_cv import keras_cv_pipeline
from tfaug.augment.policies import MAX_MAGNITUDE

NUM_CLASSES = 10
COPIES = ("copy_uint8", "loop_uint8", "copy_float32")
ENGINES = ("tfaug", "keras", "keras_cv", "albumentations", "dali", "kornia", "plain_tf_data", "copy")
_PEERS = ("keras", "keras_cv", "albumentations", "dali", "kornia")


@dataclasses.dataclass(frozen=True)
class BenchCase:
    """One op.

    Attributes:
      name: the op's name in the rows.
      op: our op.
      peer_op: the op whose layers in Keras and keras-cv are the peers.
      keras_note: what the layer of Keras does otherwise.
      keras_cv_note: what the layer of keras-cv does otherwise.
    """

    name: str
    op: augment.Augmentation
    peer_op: augment.RandAugment | augment.CutMix | augment.Mixup
    keras_note: str = ""
    keras_cv_note: str = ""


_RAND_AUGMENT = augment.RandAugment(2, 9.0)
_NO_SUMS = "; it has no Sum-Augmentation: this is its MixUp"
CASES = {
    "RandAugment": BenchCase(
        "RandAugment(2, 9)",
        _RAND_AUGMENT,
        _RAND_AUGMENT,
        "; factor 9 / 30; eleven operations of its own ranges, all computed and one kept, twice; which one is drawn "
        "once a call, so for the whole batch, and the strength image by image",
        "; ten operations, strengths drawn",
    ),
    "CutMix": BenchCase("CutMix", augment.CutMix(), augment.CutMix(), "; weight of the box before it meets the pixels"),
    "Mixup": BenchCase("Mixup", augment.Mixup(), augment.Mixup()),
    "SumAug": BenchCase("SumAug(2)", augment.SumAug(2), augment.Mixup(), _NO_SUMS, _NO_SUMS),
}


def make_images(num: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random uint8 images [num, size, size, 3] and one-hot labels."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (num, size, size, 3), np.uint8)
    return images, np.eye(NUM_CLASSES, dtype=np.float32)[generator.integers(0, NUM_CLASSES, num)]


def batch_size(size: int, quick: bool) -> int:
    """Returns how many images of `size` x `size` pixels make a batch."""
    return 16 if quick else (1024 if size <= 64 else 128)


def find_engines(case: BenchCase, images: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], list[Engine]]]:
    """Returns by the name that `--engines` takes the maker of its engines for the op."""
    makers: dict[str, Callable[[], list[Engine]]] = {
        "tfaug": lambda: _tfaug(case.op, images, labels),
        "keras": lambda: _keras(case, images, labels),
        "keras_cv": lambda: _keras_cv(case, images, labels),
    }
    if isinstance(case.op, augment.RandAugment):
        makers |= peers.rand_augment_engines(images)
        makers["plain_tf_data"] = lambda: [_plain(images)]
    makers["copy"] = lambda: _copies(case.op, images, labels)
    return makers


def _on(device: str, *arrays: np.ndarray) -> tuple[tf.Tensor, ...]:
    """Returns the arrays as tensors in the memory of the host or of the device."""
    place = "GPU:0" if device == "device" and tf.config.list_physical_devices("GPU") else "CPU:0"
    with tf.device(place):
        return tuple(tf.identity(tf.constant(array)) for array in arrays)


def _mapped(function: Callable[[tf.Tensor], Any], parallel_calls: int, prefetch: bool = False) -> Callable[[], Timer]:
    """Returns the maker of a timer of `function(index)` in Dataset.map."""

    def make() -> Timer:
        dataset = tf.data.Dataset.counter().map(function, num_parallel_calls=parallel_calls)
        return time_dataset(dataset.prefetch(tf.data.AUTOTUNE) if prefetch else dataset)

    return make


def _jitted_engines(
    name: str, function: Callable[..., Any], images: np.ndarray, labels: np.ndarray, note: str
) -> list[Engine]:
    """Returns the host and the device engine of `function(images, labels, seed) -> (images, labels)` under XLA."""
    compiled = tf.function(function, jit_compile=True, autograph=False)
    seed = rng.make_seed(0)
    seeds = [rng.fold_in(seed, i) for i in range(16)]
    host, device = _on("host", images, labels), _on("device", images, labels)
    calls = f"{PARALLEL_CALLS} parallel calls"
    return [
        Engine(
            name,
            "host",
            {calls: _mapped(lambda index: compiled(*host, rng.fold_in(seed, index)), PARALLEL_CALLS)},
            note,
        ),
        Engine(
            name,
            "device",
            {"one call at a time": lambda: time_calls(lambda i: compiled(*device, seeds[i % len(seeds)])[0])},
            note,
        ),
    ]


def output_of(op: augment.Augmentation, images: np.ndarray, labels: np.ndarray) -> tuple[int, str]:
    """Returns how many images `op` makes of a batch, and their type."""
    specs = [tf.TensorSpec(array.shape, array.dtype) for array in (images, labels)]
    function = tf.function(lambda images, labels: op(augment.Batch(images, labels), rng.make_seed(0)), autograph=False)
    result = function.get_concrete_function(*specs).structured_outputs.images
    return result.shape[0], result.dtype.name


def _tfaug(op: augment.Augmentation, images: np.ndarray, labels: np.ndarray) -> list[Engine]:
    def run(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> augment.Batch:
        return op(augment.Batch(images, labels), seed)

    note = f"uint8 in, {output_of(op, images, labels)[1]} out"
    return _jitted_engines("tfaug", run, images, labels, note)


def _copies(op: augment.Augmentation, images: np.ndarray, labels: np.ndarray) -> list[Engine]:
    """Returns copies of the batch: by memory copy, by a loop over the values, and into float32 where the op does so."""

    def copy(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.identity(images), tf.identity(labels)

    def loop(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return images + 1, tf.identity(labels)  # Without the addition XLA makes a memory copy of it.

    num, dtype = output_of(op, images, labels)

    def convert(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(images[:num], tf.float32), tf.identity(labels[:num])

    engines = _jitted_engines("copy_uint8", copy, images, labels, "uint8 in and out: a memory copy of the whole batch")
    engines += _jitted_engines("loop_uint8", loop, images, labels, "uint8 in and out: a loop over all values, plus 1")
    if dtype == "float32":
        note = "uint8 in, float32 out, in the shape of the op's output"
        engines += _jitted_engines("copy_float32", convert, images, labels, note)
    return engines


def keras_layer(op: augment.RandAugment | augment.CutMix | augment.Mixup) -> Any:
    """Returns the layer of Keras 3 that stands for `op`, at its fastest settings.

    RandAugment's `factor` is a strength between 0 and 1: m / 30, as in keras-cv; each operation draws from 0 to it.
    CutMix's `factor` is a range from which each call draws alpha: a range of one number.
    """
    import keras

    settings: Any = op  # No field is a schedule.
    if isinstance(op, augment.RandAugment):
        # Whole pixels, as ours: bilinear, its default, is slower.
        return keras.layers.RandAugment((0, 255), op.n, settings.m / MAX_MAGNITUDE, interpolation="nearest")
    if isinstance(op, augment.CutMix):
        return keras.layers.CutMix((settings.alpha, settings.alpha))
    return keras.layers.MixUp(settings.alpha)


def _keras(case: BenchCase, images: np.ndarray, labels: np.ndarray) -> list[Engine]:
    """Returns the layer of Keras 3 in Dataset.map and alone; with the labels, where it mixes."""
    layer, batch = keras_layer(case.peer_op), len(images)
    per_image: dict[str, Callable[[], Timer]] = {}
    if isinstance(case.peer_op, augment.RandAugment):
        # It takes seconds for a large batch, and is no faster there.
        batch = max(batch // 16, 8)

        def function(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return layer(images), labels

        def per_image_timer() -> Timer:
            dataset = tf.data.Dataset.from_tensor_slices(host).repeat().map(function, tf.data.AUTOTUNE)
            return time_dataset(dataset.batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE))

        per_image["image by image, AUTOTUNE, prefetch"] = per_image_timer

    else:

        def function(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            result = layer({"images": images, "labels": labels})
            return result["images"], result["labels"]

    host = _on("host", images[:batch], labels[:batch])
    graph = tf.function(function, autograph=False)
    compiled = tf.function(function, jit_compile=True, autograph=False)
    refusal = _refusal(compiled, *host)
    mapped = {
        f"{n} parallel calls": _mapped(lambda index: graph(*host), n) for n in (PARALLEL_CALLS, 2 * PARALLEL_CALLS)
    }
    mapped["AUTOTUNE, prefetch"] = _mapped(lambda index: graph(*host), tf.data.AUTOTUNE, prefetch=True)
    alone = {"one call at a time": lambda: time_calls(lambda i: graph(*host)[0])}
    if not refusal:
        alone["one call at a time, XLA"] = lambda: time_calls(lambda i: compiled(*host)[0])
    note = f"uint8 in, float32 out, its own type: not converted back{case.keras_note}{refusal and '; ' + refusal}"
    return [
        Engine("keras", "host", mapped | per_image, note, batch),
        Engine("keras", "alone", alone, note, batch),
    ]


def _refusal(compiled: Callable[..., Any], *arguments: tf.Tensor) -> str:
    """Returns nothing if XLA compiles a function, else that it does not, and why."""
    try:
        with _nothing_on_stderr():
            compiled(*arguments)
    except Exception as error:  # What is not supported is found by TensorFlow or by XLA, each with errors of its own.
        kernel = re.search(r"No registered '(\w+)' OpKernel", str(error))
        return f"XLA does not compile it ({'no ' + kernel[1] if kernel else type(error).__name__})"
    return ""


@contextlib.contextmanager
def _nothing_on_stderr() -> Iterator[None]:
    """Holds back the pages that XLA writes to the file descriptor when it refuses a program."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _keras_cv(case: BenchCase, images: np.ndarray, labels: np.ndarray) -> list[Engine]:
    pipeline = keras_cv_pipeline(case.peer_op)
    function = tf.function(pipeline)  # With AutoGraph, which some of its layers need; traced once for all settings.
    host = _on("host", images, labels)
    note = f"uint8 in, float32 out, its own type: not converted back{case.keras_cv_note}"
    settings = {
        f"{n} parallel calls": _mapped(lambda index: function(*host), n) for n in (PARALLEL_CALLS, 2 * PARALLEL_CALLS)
    }
    return [
        Engine("keras_cv", "host", settings, note),
        Engine("keras_cv", "alone", {"one call at a time": lambda: time_calls(lambda i: function(*host)[0])}, note),
    ]


def _plain(images: np.ndarray) -> Engine:
    (host,) = _on("host", images)
    settings = {
        f"{PARALLEL_CALLS} parallel calls": lambda: time_dataset(plain.dataset(host, PARALLEL_CALLS, False)),
        "AUTOTUNE, prefetch": lambda: time_dataset(plain.dataset(host, tf.data.AUTOTUNE, True)),
    }
    return Engine("plain_tf_data", "host", settings, "uint8 in and out; per image, in TensorFlow's own kernels")


def bench(
    sizes: Sequence[int], names: Sequence[str], ops: Sequence[str], rounds: int, seconds: float, quick: bool
) -> dict[str, Any]:
    """Measures and returns the header and the rows.

    Args:
      sizes: heights and widths of the images, px.
      names: of `ENGINES`.
      ops: of `CASES`.
      rounds: turns of each engine.
      seconds: that a turn takes at least.
      quick: with batches of a few images.
    """
    trial = 0 if quick else 2 * PARALLEL_CALLS
    found = peers.find_peers(tuple(name for name in _PEERS if name in names))
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(sizes) * len(ops) * (rounds + 1), unit="round", file=sys.stderr) as progress:
        for size, name in itertools.product(sizes, ops):
            case, batch = CASES[name], batch_size(size, quick)
            images, labels = make_images(batch, size)
            engines, timers = {}, {}
            for key, make in find_engines(case, images, labels).items():
                if key not in names or found.get(key, "").startswith("not installed"):
                    continue
                progress.set_description(f"{case.name} at {size} x {size}: {key} starts")
                try:
                    for engine in make():
                        timers[engine.key] = make_timers(engine, trial)
                        engines[engine.key] = engine
                except Exception as error:
                    if key not in _PEERS:
                        raise
                    found[key] += f"; failed at {case.name}, {size} x {size}: {type(error).__name__}: {error}"
            progress.update()
            progress.set_description(f"{case.name} at {size} x {size}")
            running = {key: timer for key, (_, timer) in timers.items()}
            batches = {key: engine.batch or batch for key, engine in engines.items()}
            speeds = measure(running, batches, rounds, seconds, progress.update)
            settings = {key: setting for key, (setting, _) in timers.items()}
            rows += make_rows(case.name, size, batches, engines, settings, speeds)
            for timer in running.values():
                timer.close()
    return {"header": header.describe(found, _settings(rounds, seconds)), "rows": rows}


def _settings(rounds: int, seconds: float) -> dict[str, Any]:
    """Returns what the header says of how it was measured."""
    return {
        "rounds": rounds,
        "min_seconds_per_turn": seconds,
        "min_batches_per_turn": PARALLEL_CALLS * MIN_SETS,
        "images": "random uint8 in memory, 3 channels",
        "images_per_second": "of the images that go in; median, min_ and max_ over the rounds",
        "setting": "the fastest in a short trial, if an engine has several",
        "ratio_to_keras, ratio_to_keras_cv": "quotient of the medians: the engine's over that of the peer's faster one",
        "time_over_copy_uint8": "the engine's time over that of a memory copy of the batch on its path (alone: device)",
        "time_over_loop_uint8": "likewise, of the least that XLA's own code can do: a loop that reads and writes all",
        "time_over_copy_float32": "likewise, of a copy into float32 of its output's shape; null if that is uint8",
    }


def make_rows(
    op: str,
    size: int,
    batches: Mapping[tuple[str, str], int],
    engines: Mapping[tuple[str, str], Engine],
    settings: Mapping[tuple[str, str], str],
    speeds: Mapping[tuple[str, str], list[float]],
) -> list[dict[str, Any]]:
    """Returns one row per engine, with the ratios of its median to Keras's, to keras-cv's and to the copies'."""
    medians = {key: statistics.median(values) for key, values in speeds.items()}
    fastest = {
        peer: max((median for (name, _), median in medians.items() if name == peer), default=None)
        for peer in ("keras", "keras_cv")
    }
    rows = []
    for key, values in speeds.items():
        name, path = key
        beside = "host" if path == "host" else "device"
        copies = {copy: medians.get((copy, beside)) for copy in COPIES}
        rows.append(
            {
                "op": op,
                "size": size,
                "batch": batches[key],
                "engine": name,
                "path": path,
                "setting": settings[key],
                **summarize(values, "images_per_second"),
                **{f"ratio_to_{peer}": medians[key] / best if best else None for peer, best in fastest.items()},
                **{f"time_over_{copy}": speed / medians[key] if speed else None for copy, speed in copies.items()},
                "note": engines[key].note,
            }
        )
    return rows


def format_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as a table for the terminal."""
    lines = [
        f"{'op':17} {'size':>4} {'batch':>5} {'engine':14} {'path':6} {'setting':26} {'images/s':>10} "
        f"{'min..max':>21} {'x keras':>8} {'x keras-cv':>10} {'/ copy u8':>9} {'/ loop u8':>9} {'/ copy f32':>10}"
    ]
    for row in rows:
        spread = f"{row['min_images_per_second']:,.0f}..{row['max_images_per_second']:,.0f}"
        lines.append(
            f"{row['op']:17} {row['size']:>4} {row['batch']:>5} {row['engine']:14} {row['path']:6} {row['setting']:26} "
            f"{row['images_per_second']:>10,.0f} {spread:>21} {_number(row['ratio_to_keras']):>8} "
            f"{_number(row['ratio_to_keras_cv']):>10} "
            f"{_number(row['time_over_copy_uint8']):>9} {_number(row['time_over_loop_uint8']):>9} "
            f"{_number(row['time_over_copy_float32']):>10}"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
