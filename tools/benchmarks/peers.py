"""Which peers are there, and RandAugment(2, 9) by those outside TensorFlow, each with both cores.

What is not installed is named and left out.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.metadata
import io
import pathlib
import pkgutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np

from benchmarks import albumentations_worker
from benchmarks.timing import Engine, Timer

# By engine the modules, or names in them, that it needs and the distribution whose version the header names.
_NEEDS = {
    "keras": (("keras.layers.RandAugment", "keras.layers.CutMix", "keras.layers.MixUp"), ("keras",)),
    "keras_cv": (("keras_cv",), ("keras-cv",)),
    "albumentations": (("cv2", "albumentations"), ("albumentations",)),
    "dali": (("nvidia.dali", "nvidia.dali.auto_aug.rand_augment"), ("nvidia-dali-cuda120", "nvidia-dali-cuda130")),
    "kornia": (("torch", "kornia.augmentation.auto"), ("kornia",)),
}


def find_peers(names: tuple[str, ...]) -> dict[str, str]:
    """Returns by peer its version, or `not installed: ` and the reason."""
    found = {}
    for name in names:
        needs, distributions = _NEEDS[name]
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for need in needs:
                    pkgutil.resolve_name(need)
        except Exception as error:  # Native libraries fail in many ways, and none of them may end the run.
            found[name] = f"not installed: {type(error).__name__}: {error}"
            continue
        found[name] = _version(distributions)
    return found


def _version(distributions: tuple[str, ...]) -> str:
    """Returns the version of the first of `distributions` that is installed."""
    for distribution in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return "unknown version"


def rand_augment_engines(images: np.ndarray) -> dict[str, Callable[[], list[Engine]]]:
    """Returns by name the makers of the engines that augment `images`, uint8 [B, H, W, 3]."""
    return {
        "albumentations": lambda: [_albumentations(images)],
        "dali": lambda: [_dali(images)],
        "kornia": lambda: [_kornia(images)],
    }


def _albumentations(images: np.ndarray) -> Engine:
    return Engine(
        "albumentations",
        "host",
        {
            "1 thread": lambda: _albumentations_threads(images, 1, 0),
            "1 thread, OpenCV 2 threads": lambda: _albumentations_threads(images, 1, 2),
            "2 threads": lambda: _albumentations_threads(images, 2, 0),
            "2 processes": lambda: _albumentations_processes(images),
        },
        "uint8 in and out; per image; it has no RandAugment: two of the 14 transforms nearest to it",
    )


def _albumentations_threads(images: np.ndarray, num_threads: int, opencv_threads: int) -> Timer:
    """Times threads of this process, each with its share of the batch."""
    import cv2

    out = np.empty_like(images)
    pool = concurrent.futures.ThreadPoolExecutor(num_threads)
    shares = [
        (albumentations_worker.make_transform(), part, target)
        for part, target in zip(np.array_split(images, num_threads), np.array_split(out, num_threads), strict=True)
    ]

    def run(num_batches: int) -> float:
        cv2.setNumThreads(opencv_threads)
        start = time.perf_counter()
        for _ in range(num_batches):
            for done in [pool.submit(albumentations_worker.augment, *share) for share in shares]:
                done.result()
        return time.perf_counter() - start

    return Timer(run, pool.shutdown)


def _albumentations_processes(images: np.ndarray) -> Timer:
    """Times two processes that share memory with this one, each with half of the batch."""
    folder = tempfile.TemporaryDirectory()
    path_in, path_out = (pathlib.Path(folder.name) / name for name in ("in", "out"))
    images.tofile(path_in)
    np.zeros_like(images).tofile(path_out)
    arguments = [str(path_in), str(path_out), str(images.shape[0]), str(images.shape[1])]
    workers = [
        subprocess.Popen(
            [sys.executable, albumentations_worker.__file__, *arguments, str(share)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in range(2)
    ]

    def run(num_batches: int) -> float:
        start = time.perf_counter()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{num_batches}\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout is not None
            if worker.stdout.readline() != "done\n":
                raise RuntimeError("a process of albumentations ended early")
        return time.perf_counter() - start

    def close() -> None:
        for worker in workers:
            worker.communicate()
        folder.cleanup()

    return Timer(run, close)


def _dali(images: np.ndarray) -> Engine:
    return Engine(
        "dali",
        "host",
        {"2 threads": lambda: _dali_timer(images)},
        "uint8 in and out; per image; CPU operators, its own ranges (monotonic_mag=False), nearest pixel",
    )


def _dali_timer(images: np.ndarray) -> Timer:
    """Times a pipeline on the CPU that is fed from memory."""
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.auto_aug import rand_augment

    @pipeline_def(batch_size=len(images), num_threads=2, device_id=None, enable_conditionals=True)
    def make_pipeline():
        data = fn.external_source(source=lambda: images, batch=True, layout="HWC", no_copy=True)
        return rand_augment.rand_augment(
            data,
            n=2,
            m=9,
            fill_value=128,
            interp_type=types.INTERP_NN,
            max_translate_abs=10,
            monotonic_mag=False,
        )

    with contextlib.redirect_stderr(io.StringIO()):  # It warns of operators that it itself uses.
        pipeline = make_pipeline()
        pipeline.build()
    ahead = 2  # Batches that the pipeline makes in advance, which is its default.

    def run(num_batches: int) -> float:
        for _ in range(ahead):
            pipeline.run()
        start = time.perf_counter()
        for _ in range(num_batches):
            pipeline.run()
        seconds = time.perf_counter() - start
        # It goes on until its queue is full: that must not fall into another engine's turn.
        time.sleep((ahead + 1) * seconds / num_batches)
        return seconds

    return Timer(run)


def _kornia(images: np.ndarray) -> Engine:
    return Engine(
        "kornia",
        "host",
        {"1 thread": lambda: _kornia_timer(images, 1), "2 threads": lambda: _kornia_timer(images, 2)},
        "not per image: each batch draws two operations for all of its images; uint8 [B, C, H, W] in, converted to "
        "float32 0..1 in the timed part because it takes no other, float32 out; bilinear",
    )


def _kornia_timer(images: np.ndarray, num_threads: int) -> Timer:
    """Times kornia on PyTorch's CPU kernels."""
    import torch
    from kornia.augmentation.auto import RandAugment

    transform = RandAugment(n=2, m=9, transformation_matrix_mode="skip")
    batch = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

    def run(num_batches: int) -> float:
        torch.set_num_threads(num_threads)
        start = time.perf_counter()
        with torch.no_grad():
            for _ in range(num_batches):
                transform(batch.float() / 255)
        return time.perf_counter() - start

    return Timer(run)
