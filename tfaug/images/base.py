"""What the pixel kernels share: the integer scale, its limits, checks and shapes."""

from __future__ import annotations

import warnings
from typing import Union

import tensorflow as tf

IntOrTensor = Union[int, tf.Tensor]  # noqa: UP007

Q16 = 65536

# With longer sides a place in Q16 would pass 31 bits, and with more pixels in a batch the number of a pixel.
MAX_SIDE_PX = 16384
MAX_BATCH_PX = 2**31 - 1


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """Returns `images` as uint8: floats are rounded half to even and held to 0..255, NaN is 0; uint8 passes."""
    if images.dtype == tf.uint8:
        return images
    if images.dtype.is_floating:
        warn_of_unit_range(images)
        return tf.cast(hold(whole_levels(images), 0, 255), tf.uint8)
    raise ValueError(f"images have dtype {images.dtype.name}; allowed: uint8, or float 0..255")


def whole_levels(values: tf.Tensor) -> tf.Tensor:
    """Returns floats rounded half to even, NaN as 0: what NaN becomes as a whole number is each device's own choice."""
    return tf.round(tf.where(tf.math.is_nan(values), tf.zeros([], values.dtype), values))


def cast_images(images: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns the images in another type; to a type of whole numbers, rounded half to even and clipped."""
    if images.dtype == dtype:
        return images
    if dtype.is_integer and images.dtype.is_floating:
        images = whole_levels(images)
    return tf.saturate_cast(images, dtype) if dtype.is_integer else tf.cast(images, dtype)


def hold(values: tf.Tensor, low: float | tf.Tensor, high: float | tf.Tensor) -> tf.Tensor:
    """Returns floats held to low..high; NaN stays NaN, which a minimum or maximum keeps eagerly and drops under XLA."""
    low, high = tf.cast(low, values.dtype), tf.cast(high, values.dtype)
    return tf.where(values < low, low, tf.where(values > high, high, values))


def check_images(images: tf.Tensor) -> None:
    """Refuses anything but uint8 [B,H,W,C] within `check_size`'s limits."""
    if images.dtype != tf.uint8 or images.shape.rank != 4:
        raise ValueError(f"images are {images.dtype.name} {images.shape}; allowed: uint8 [B,H,W,C]")
    check_size(images.shape)


def check_size(shape: tf.TensorShape) -> None:
    """Refuses images too large for 32-bit places, as far as [B,H,W,C] or [H,W,C] is known when the call is traced.

    Raises:
      ValueError: if a side passes 16,384 px, or a batch 2**31 - 1 px.
    """
    sides, num = shape[-3:-1], shape[-4:-1]
    if any(side is not None and side > MAX_SIDE_PX for side in sides):
        raise ValueError(f"images are {shape[-3]} x {shape[-2]} px; allowed: sides of up to {MAX_SIDE_PX:,} px")
    if num.is_fully_defined() and num.num_elements() > MAX_BATCH_PX:
        raise ValueError(
            f"a batch {shape} has {num.num_elements():,} px; allowed: {MAX_BATCH_PX:,}, so smaller batches"
        )


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
    """Returns the whole part of the square root of int64 values up to 2**44, exactly: float roots differ by device."""
    root = tf.cast(tf.sqrt(tf.cast(square, tf.float32)), tf.int64)
    root -= tf.cast(root * root > square, tf.int64)
    return root + tf.cast((root + 1) * (root + 1) <= square, tf.int64)


UNIT_RANGE = "the images are floats in 0..1 where grey levels 0..255 are expected"


def warn_of_unit_range(images: tf.Tensor) -> None:
    """Warns, once, if images that should lie in 0..255 lie in 0..1; where they are only traced, nothing is seen."""
    if images.dtype.is_floating and tf.executing_eagerly() and in_unit_range(images):
        warnings.warn(f"{UNIT_RANGE}: scale them, or say value_range=(0, 1) where that can be said")  # noqa: B028


def in_unit_range(images: tf.Tensor) -> tf.Tensor:
    """Tells whether floats lie in 0..1, and some between: black and white alone are no sign. A bool scalar."""
    inside = (tf.reduce_max(images) <= 1) & (tf.reduce_min(images) >= 0)
    return inside & tf.reduce_any((images > 0) & (images < 1))
