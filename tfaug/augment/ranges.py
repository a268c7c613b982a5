"""Images of any value range as the grey levels 0..255 that an op works on, and back in their own range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import rng
from tfaug.augment.base import Augmentation
from tfaug.config import LARGEST, ConfigError, is_number, to_python


def check_value_range(name: str, value_range: Any) -> Sequence[float]:
    """Returns two finite numbers of Python or numpy, the lower one first, as Python's.

    Raises:
      ConfigError: if `value_range`, which it calls `name`, is something else.
    """
    limits = to_python(value_range)
    good = isinstance(limits, (tuple, list)) and len(limits) == 2 and all(is_number(limit) for limit in limits)
    if not good or not -LARGEST <= limits[0] < limits[1] <= LARGEST:
        raise ConfigError(f"{name} is {value_range!r}; allowed: (lowest, highest), finite")
    return limits


def range_for(op: Augmentation, value_range: Sequence[float]) -> Sequence[float]:
    """Returns the range to take images of `value_range` from for `op`: (0, 255), which changes none, where it may."""
    return value_range if op.counts_in_levels or (op.fills_with_black and value_range[0] != 0) else (0, 255)


def to_0_255(images: tf.Tensor, value_range: Sequence[float]) -> tf.Tensor:
    """Returns images of `value_range` in 0..255: as they are, or float32."""
    low, high = value_range
    if (low, high) == (0, 255):
        return images
    return (tf.cast(images, tf.float32) - float(low)) * (255.0 / (high - low))


def from_0_255(images: tf.Tensor, value_range: Sequence[float]) -> tf.Tensor:
    """Returns images of 0..255, uint8 or float32, in `value_range`: as they are, or float32."""
    low, high = value_range
    if (low, high) == (0, 255):
        return images
    if images.dtype == tf.uint8:
        # From a table: a product and a sum would be rounded once by XLA and twice by TensorFlow.
        table = np.linspace(low, high, 256, dtype=np.float64).astype(np.float32)
        return tf.gather(tf.constant(table), tf.cast(images, tf.int32))
    return rng.unfused(images * ((high - low) / 255.0)) + float(low)
