"""scikit-learn's bundled handwritten digits as 32x32x3 images, and a documented corruption of their test part.

They are real data and need no network. The 1,797 images of 8x8 pixels are the *test* part of UCI's "Optical
Recognition of Handwritten Digits" (13 writers, none of them in UCI's own training part). That training part is not
bundled, so the parts here are cut from these 1,797: a random cut, in which the same writers occur in both parts.
Accuracy on this test part is therefore accuracy on known writers, not comparable with figures on UCI's own split.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable

import numpy as np

from tfaug.data.sources.base import Parts, Source
from tfaug.data.split import Split, stratified_split
from tfaug.extras import explained

with explained():
    from sklearn import datasets

CLASS_NAMES = tuple("0123456789")
NUM_TEST = 360
_SPLIT_SEED = 0  # fixed: the test part is the same in every run, whatever the experiment's seeds are
_UPSAMPLING = 4  # 8x8 -> 32x32

# The corruption of the test part, in the order of application. Chosen once, on scikit-learn's SVC and 3-neighbour
# classifier trained on the plain pixels, to cost them some of their accuracy (99 % -> 83 % and 99 % -> 88 %), not all.
ROTATION_DEG = 20.0  # each image by an angle drawn evenly from -20..20 degrees
BLUR_SIGMA_PX = 1.5
CONTRAST = 0.75  # what is left of the distance of each pixel from mid-grey (127.5)
NOISE_STD = 15.0  # grey levels; Gaussian, the same in the three channels
_CORRUPTION_SEED = 0


@dataclasses.dataclass(frozen=True)
class Digits(Source):
    """scikit-learn's digits, see `load_digits`. They need no network and no cache."""

    def load(self, parts: Iterable[str], cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        splits = dict(zip(("train", "test"), load_digits(), strict=True))
        return Parts({part: splits[part] for part in parts}, CLASS_NAMES, {"source": self.short_name})

    def describe(self) -> str:
        return (
            "digits: 360 of scikit-learn's 8x8 digits, enlarged to 32x32 and cut at random from the set that the other "
            "1,437 are of, so the same writers occur in both."
        )


@dataclasses.dataclass(frozen=True)
class CorruptedDigits(Source):
    """The test part of `Digits`, corrupted; see `load_corrupted_digits`. A test set alone."""

    @property
    def short_name(self) -> str:
        return "digits_corrupted"

    @property
    def parts(self) -> tuple[str, ...]:
        return ("test",)

    def load(self, parts: Iterable[str], cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        return Parts({part: load_corrupted_digits() for part in parts}, CLASS_NAMES, {"source": self.short_name})

    def describe(self) -> str:
        return (
            "digits_corrupted: an artificial corruption of digits' own test set (rotation within "
            f"{ROTATION_DEG:g} degrees, Gaussian blur of {BLUR_SIGMA_PX:g} pixels, contrast times {CONTRAST:g}, "
            f"Gaussian noise of {NOISE_STD:g} grey levels), not a second collection of digits."
        )


@functools.cache
def load_digits() -> tuple[Split, Split]:
    """Loads the digits: 1,437 images for training (and validation), 360 for testing.

    Each 8x8 image with values v in 0..16 becomes 32x32 by bilinear interpolation with pixel centres at half integers
    and edge pixels repeated (the convention of Pillow's BILINEAR), then round(v 255 / 16), repeated in three channels;
    in integers, so the bytes are the same everywhere. The cut is stratified by class with a fixed seed; the id of an
    example is its place in scikit-learn's set, 'digits_0000' .. 'digits_1796'.

    Returns:
      (train, test): uint8 images [1437, 32, 32, 3] and [360, 32, 32, 3], read-only because every caller gets the same.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
      as bundled by scikit-learn.
    """
    bundled = datasets.load_digits()
    images = _upsample(bundled.images.astype(np.int64))
    labels = bundled.target.astype(np.int64)
    ids = np.array([f"digits_{i:04d}" for i in range(len(labels))])
    whole = Split(images, labels, ids)
    train, test = stratified_split(labels, NUM_TEST, seed=_SPLIT_SEED)
    return _freeze(whole.take(train)), _freeze(whole.take(test))


@functools.cache
def load_corrupted_digits() -> Split:
    """Loads `digits_corrupted`: the test part of `digits`, each image corrupted in the same way in every run.

    In this order: rotation by an angle drawn evenly from -20..20 degrees (bilinear, black outside), Gaussian blur of
    1.5 pixels, contrast times 0.75 about mid-grey, Gaussian noise of 15 grey levels (the same in the three channels);
    then rounded and cut to 0..255. The angles and the noise come from a fixed seed. Labels and ids are those of the
    test part. It is an artificial corruption of 8x8 pictures, not a second collection of digits.

    Returns:
      uint8 images [360, 32, 32, 3], read-only.
    """
    _, test = load_digits()
    return _freeze(Split(corrupt(test.images), test.labels, test.ids))


def corrupt(images: np.ndarray) -> np.ndarray:
    """Corrupts images by this module's constants; see `load_corrupted_digits`.

    Args:
      images: uint8 [N, H, W, C].

    Returns:
      uint8 [N, H, W, C]; the same for the same input on one machine (across machines the float32 convolution may round
      a pixel to the neighbouring grey level).
    """
    # Imported here because it brings TensorFlow and tensorflow-addons, which the clean digits do without.
    import tensorflow as tf

    from tfaug import addons

    draws = np.random.Generator(np.random.Philox(key=_CORRUPTION_SEED))
    angles_deg = draws.uniform(-ROTATION_DEG, ROTATION_DEG, len(images)).astype(np.float32)
    noise = draws.normal(0.0, NOISE_STD, images.shape[:3]).astype(np.float32)
    with tf.device("/CPU:0"):
        rotated = addons.rotate(tf.constant(images, tf.float32), tf.constant(angles_deg))
        blurred = addons.gaussian_blur(rotated, BLUR_SIGMA_PX).numpy()
    faded = 127.5 + CONTRAST * (blurred - 127.5)
    return np.clip(np.rint(faded + noise[..., None]), 0, 255).astype(np.uint8)


def _freeze(split: Split) -> Split:
    """The same split, no longer writable."""
    for array in (split.images, split.labels, split.ids):
        array.setflags(write=False)
    return split


def _upsample(images: np.ndarray) -> np.ndarray:
    """int64 [N, 8, 8], 0..16 -> uint8 [N, 32, 32, 3]; bilinear weights are whole eighths at this factor."""
    small_px = images.shape[1]
    eighths = np.zeros((small_px * _UPSAMPLING, small_px), np.int64)
    for row in range(len(eighths)):
        # The centre of output pixel `row` lies at (row + 1/2) / 4 - 1/2 input pixels: an odd number of eighths.
        low, weight = divmod(2 * row + 1 - _UPSAMPLING, 2 * _UPSAMPLING)
        eighths[row, max(low, 0)] += 2 * _UPSAMPLING - weight
        eighths[row, min(low + 1, small_px - 1)] += weight
    large = eighths @ images @ eighths.T  # in 64ths of 0..16, so 1,024 is white
    grey = (large * 255 + 512) // 1024
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)
