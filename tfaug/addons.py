"""The one door to tensorflow-addons: rotation and Gaussian blur of image batches, with or without it.

tensorflow-addons 0.23 is its last release (its development ended in May 2024, its wheels end with Python 3.11), so
nothing else imports it. Where it is installed it does the work; elsewhere TensorFlow's own operations do, and a test
holds the two to 1e-3 of a grey level. `ENGINE` says which one it is here.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
import sys
import warnings
from typing import Any

import tensorflow as tf

ENGINES = ("tensorflow-addons", "tensorflow")

# What the package warns of at import, at each start of a command, and no user can act on: its end of life (the whole
# text), and a TensorFlow newer than it was made for (the beginning). What we call of it is tested on both lanes.
_END_OF_LIFE_BANNER = (
    "\n\nTensorFlow Addons (TFA) has ended development and introduction of new features.\n"
    "TFA has entered a minimal maintenance and release mode until a planned end of life in May 2024.\n"
    "Please modify downstream libraries to take dependencies from other repositories in our TensorFlow community "
    "(e.g. Keras, Keras-CV, and Keras-NLP). \n\n"
    "For more information see: https://github.com/tensorflow/addons/issues/2807 \n"
)
_NEWER_TENSORFLOW = "Tensorflow Addons supports using Python ops for all Tensorflow versions "
# What tensorflow-addons takes from Keras 2 by its private name; Keras 3 has no such module, tf-keras has.
_KERAS_ENGINE = "keras.src.engine"


def _is_there(module: str) -> bool:
    """Tells whether a module can be imported; one whose parent is missing cannot."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _import_addons() -> Any:
    """Returns tensorflow-addons, None where it, or the Keras 2 that it needs, is not installed."""
    if not _is_there("tensorflow_addons"):
        return None
    with warnings.catch_warnings():
        for text in (re.escape(_END_OF_LIFE_BANNER) + r"\Z", re.escape(_NEWER_TENSORFLOW)):
            warnings.filterwarnings("ignore", message=text, category=UserWarning)
        if _is_there(_KERAS_ENGINE):
            return importlib.import_module("tensorflow_addons")
        if not _is_there("tf_keras"):
            return None
        # It finds tf-keras in Keras's place while it is imported; what we call of it does without Keras.
        keras, tf.keras = tf.keras, importlib.import_module("tf_keras")
        before = _keras_modules()
        sys.modules["tensorflow.keras"] = tf.keras
        sys.modules[_KERAS_ENGINE] = importlib.import_module("tf_keras.src.engine")
        try:
            return importlib.import_module("tensorflow_addons")
        finally:
            for name in _keras_modules():
                del sys.modules[name]
            sys.modules.update(before)
            tf.keras = keras


def _keras_modules() -> dict[str, Any]:
    """Returns the loaded modules by whose names tensorflow-addons finds Keras."""
    names = [name for name in sys.modules if name.startswith(("tensorflow.keras", _KERAS_ENGINE))]
    return {name: sys.modules[name] for name in names}


_addons = _import_addons()
ENGINE = ENGINES[0] if _addons else ENGINES[1]


def rotate(images: tf.Tensor, angles_deg: tf.Tensor, fill: float = 0.0, engine: str = ENGINE) -> tf.Tensor:
    """Rotates each image about its centre, counter-clockwise, with bilinear interpolation.

    Args:
      images: float32 [B, H, W, C], 0..255.
      angles_deg: float32 [B], degrees, any value.
      fill: the grey level, 0..255, of places that come from outside the image.
      engine: who computes it, one of ENGINES.

    Returns:
      float32 [B, H, W, C], 0..255.

    Raises:
      ValueError: if `engine` is not installed, or no engine.
    """
    _check_engine(engine)
    angles_rad = tf.cast(angles_deg, tf.float32) * (math.pi / 180.0)
    if engine == "tensorflow-addons":
        return _addons.image.rotate(images, angles_rad, interpolation="bilinear", fill_mode="constant", fill_value=fill)
    last_row, last_column = (tf.cast(size - 1, tf.float32) for size in tf.unstack(tf.shape(images)[1:3]))
    cos, sin = tf.cos(angles_rad), tf.sin(angles_rad)
    # The place in the source of each place in the result: turned about the origin, then moved back to the centre.
    right = (last_column - (cos * last_column - sin * last_row)) / 2
    down = (last_row - (sin * last_column + cos * last_row)) / 2
    zero = tf.zeros_like(cos)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([cos, -sin, right, sin, cos, down, zero, zero], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=fill,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def gaussian_blur(images: tf.Tensor, sigma_px: float, engine: str = ENGINE) -> tf.Tensor:
    """Blurs each image by a normalised Gaussian cut at three deviations, the borders reflected.

    Args:
      images: float32 [B, H, W, C], 0..255; H and W larger than 3 sigma.
      sigma_px: the Gaussian's deviation in pixels, above 0.
      engine: who computes it, one of ENGINES.

    Returns:
      float32 [B, H, W, C], 0..255.

    Raises:
      ValueError: if `sigma_px` is not above 0, or `engine` is not installed, or no engine.
    """
    if not sigma_px > 0:
        raise ValueError(f"sigma_px is {sigma_px}; allowed: above 0")
    _check_engine(engine)
    radius_px = math.ceil(3 * sigma_px)
    size_px = 2 * radius_px + 1
    if engine == "tensorflow-addons":
        return _addons.image.gaussian_filter2d(images, filter_shape=size_px, sigma=sigma_px, padding="REFLECT")
    distances = tf.range(-radius_px, radius_px + 1, dtype=tf.float32)
    weights = tf.nn.softmax(-tf.square(distances) / (2.0 * sigma_px**2))
    kernel = (weights[:, tf.newaxis] * weights)[..., tf.newaxis, tf.newaxis]
    mirrored = tf.pad(images, [[0, 0], [radius_px, radius_px], [radius_px, radius_px], [0, 0]], mode="REFLECT")
    return tf.nn.depthwise_conv2d(mirrored, tf.repeat(kernel, images.shape[-1], axis=2), [1, 1, 1, 1], "VALID")


def _check_engine(engine: str) -> None:
    """Refuses what is no engine, and tensorflow-addons where it is not there."""
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}; allowed: {', '.join(ENGINES)}")
    if engine == "tensorflow-addons" and _addons is None:
        raise ValueError("engine is 'tensorflow-addons', which is not installed here; allowed: 'tensorflow'")
