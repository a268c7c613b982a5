"""What the pixel kernels share: the integer scale, checks and shapes."""

from __future__ import annotations

from typing import Union

import tensorflow as tf

IntOrTensor = Union[int, tf.Tensor]  # noqa: UP007

Q16 = 65536


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """Returns `images` as uint8: floats 0..255 are rounded half to even and clipped, uint8 passes untouched."""
    if images.dtype == tf.uint8:
        return images
    if images.dtype.is_floating:
        return tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)
    raise ValueError(f"images have dtype {images.dtype.name}; allowed: uint8, or float 0..255")


def check_images(images: tf.Tensor) -> None:
    """Refuses anything but uint8 [B,H,W,C]."""
    if images.dtype != tf.uint8 or images.shape.rank != 4:
        raise ValueError(f"images are {images.dtype.name} {images.shape}; allowed: uint8 [B,H,W,C]")


def num_channels(images: tf.Tensor) -> int:
    """Returns the static number of channels, 1 or 3."""
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"images have {channels} channels; allowed: 1 or 3")
    return channels


def per_image(value: IntOrTensor, rank: int = 4) -> IntOrTensor:
    """Shapes a per-image parameter so that it broadcasts over [B,H,W,C]; numbers pass."""
    if isinstance(value, int):
        return value
    value = tf.convert_to_tensor(value, tf.int32)
    return tf.reshape(value, [-1] + [1] * (rank - 1)) if value.shape.rank == 1 else value


def size_of(images: tf.Tensor, axis: int) -> IntOrTensor:
    """Returns the size along `axis`: an int where it is known, else a scalar int32 tensor."""
    size = images.shape[axis]
    return tf.shape(images)[axis] if size is None else size


def computed_once(values: tf.Tensor) -> tf.Tensor:
    """Returns whole numbers as they are, any rank; XLA would compute each of them anew for every reader.

    XLA merges what is computed element by element into what reads it. A sum of (value, 0) is one that it neither
    simplifies nor merges. The sum takes its time, so this pays for values that are few or dear.
    """
    all_bits = -1 if values.dtype.min < 0 else values.dtype.max
    masks = tf.constant([all_bits, 0], values.dtype)
    return tf.reduce_sum(values & tf.reshape(masks, [2] + [1] * values.shape.rank), 0)


def floor_sqrt(square: tf.Tensor) -> tf.Tensor:
    """Returns the whole part of the square root of int64 values up to 2**40, exactly: float roots differ by device."""
    root = tf.cast(tf.sqrt(tf.cast(square, tf.float32)), tf.int64)
    root -= tf.cast(root * root > square, tf.int64)
    return root + tf.cast((root + 1) * (root + 1) <= square, tf.int64)
