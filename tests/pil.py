"""PIL and test images: the oracles of the pixel kernels' tests."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image, ImageEnhance

FILL = 128


def crops(photo: np.ndarray, height: int, width: int, num: int, generator: np.random.Generator) -> np.ndarray:
    """Cuts `num` windows out of a photograph."""
    tops = generator.integers(0, photo.shape[0] - height + 1, num)
    lefts = generator.integers(0, photo.shape[1] - width + 1, num)
    return np.stack([photo[y : y + height, x : x + width] for y, x in zip(tops, lefts, strict=True)])


@functools.cache
def image_set(name: str) -> np.ndarray:
    """Returns a named test set, uint8 [B,H,W,C]."""
    generator = np.random.default_rng(0)
    if name == "cifar10":
        if "TFDS_DATA_DIR" not in os.environ:
            pytest.skip("needs TFDS_DATA_DIR with cifar10")
        import tensorflow_datasets as tfds

        data = tfds.load(
            "cifar10", split="test[:64]", data_dir=os.environ["TFDS_DATA_DIR"], download=False, batch_size=64
        )
        return np.asarray(next(iter(tfds.as_numpy(data)))["image"])
    if name == "digits":
        digits = sklearn.datasets.load_digits().images[:40]
        return np.kron(digits * 255 / 16, np.ones([3, 3])).astype(np.uint8)[..., np.newaxis]
    photos = [np.asarray(photo) for photo in sklearn.datasets.load_sample_images().images]
    small = [np.asarray(Image.fromarray(photo).resize((160, 107))) for photo in photos]
    if name == "photos":
        noise = generator.integers(0, 256, [10, 32, 32, 3]).astype(np.uint8)
        narrow = generator.integers(90, 140, [10, 32, 32, 3]).astype(np.uint8)
        flat = np.full([1, 32, 32, 3], 77, np.uint8)
        cut = [crops(photo, 32, 32, 40, generator) for photo in small]
        return np.concatenate([*cut, noise, narrow, flat])
    if name == "oblong":
        return np.concatenate([crops(photo, 21, 38, 20, generator) for photo in small])
    if name == "large":
        return np.concatenate([crops(photo, 224, 224, 2, generator) for photo in photos])
    raise KeyError(name)


def on_pil(images: np.ndarray, operation: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Applies a PIL operation to each image."""
    grey = images.shape[-1] == 1
    results = [np.asarray(operation(Image.fromarray(image[..., 0] if grey else image))) for image in images]
    return np.stack(results).reshape(images.shape)


def fill_of(image: Image.Image) -> int | tuple[int, ...]:
    """Returns the grey FILL as a colour of the image's mode."""
    return FILL if image.mode == "L" else (FILL,) * 3


def affine(image: Image.Image, *data: float, bilinear: bool = False) -> Image.Image:
    """Warps by the inverse map a, b, c, d, e, f."""
    resampling = Image.Resampling.BILINEAR if bilinear else Image.Resampling.NEAREST
    return image.transform(image.size, Image.Transform.AFFINE, data, resampling, fillcolor=fill_of(image))


def rotate(image: Image.Image, degrees: float, bilinear: bool = False) -> Image.Image:
    """Turns counter-clockwise about the centre."""
    resampling = Image.Resampling.BILINEAR if bilinear else Image.Resampling.NEAREST
    return image.rotate(degrees, resampling, fillcolor=fill_of(image))


def enhance(image: Image.Image, name: str, factor: float) -> Image.Image:
    """Blends with the degenerate image of PIL's `ImageEnhance` class of that name."""
    return getattr(ImageEnhance, name.capitalize())(image).enhance(factor)
