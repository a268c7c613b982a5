"""The RandAugment that a user would write: plain TensorFlow, one image at a time, for `Dataset.map`.

The operations and their ranges are those of our `paper_cifar` at m = 9. Each image draws its operations and signs from
TensorFlow's stateful generator and runs the drawn branch only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import tensorflow as tf

FILL = 128


def _identity(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    return image


def _autocontrast(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    values = tf.cast(image, tf.float32)
    low = tf.reduce_min(values, [0, 1])
    span = tf.reduce_max(values, [0, 1]) - low
    stretched = tf.cast((values - low) * 255 / tf.maximum(span, 1), tf.uint8)
    return tf.where(span > 0, stretched, image)


def _equalize(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    channels = [_equalize_channel(channel) for channel in tf.unstack(tf.cast(image, tf.int32), axis=-1)]
    return tf.cast(tf.stack(channels, -1), tf.uint8)


def _equalize_channel(channel: tf.Tensor) -> tf.Tensor:
    """Equalizes int32 [H, W]."""
    counts = tf.math.bincount(tf.reshape(channel, [-1]), minlength=256, maxlength=256)
    step = (tf.size(channel) - counts[tf.reduce_max(channel)]) // 255
    table = (tf.cumsum(counts, exclusive=True) + step // 2) // tf.maximum(step, 1)
    return tf.where(step > 0, tf.gather(tf.minimum(table, 255), channel), channel)


def _solarize(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    return tf.where(image < tf.cast(value, tf.uint8), image, 255 - image)


def _posterize(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    shift = tf.cast(8 - tf.cast(value, tf.int32), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def _blend(degenerate: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Returns degenerate + factor (image - degenerate) as uint8; `degenerate` is float32."""
    blended = degenerate + factor * (tf.cast(image, tf.float32) - degenerate)
    return tf.cast(tf.clip_by_value(blended, 0, 255), tf.uint8)


def _color(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    return _blend(tf.cast(tf.image.rgb_to_grayscale(image), tf.float32), image, value)


def _contrast(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(tf.cast(tf.image.rgb_to_grayscale(image), tf.float32))
    return _blend(tf.round(mean), image, value)


def _brightness(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    return _blend(tf.constant(0.0), image, value)


def _sharpness(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    values = tf.cast(image, tf.float32)
    kernel = tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13
    kernel = tf.tile(kernel[:, :, tf.newaxis, tf.newaxis], [1, 1, 3, 1])
    smooth = tf.nn.depthwise_conv2d(values[tf.newaxis], kernel, [1, 1, 1, 1], "VALID")[0]
    inner = _blend(tf.round(smooth), image[1:-1, 1:-1], value)
    padding = [[1, 1], [1, 1], [0, 0]]
    return tf.where(tf.pad(tf.ones_like(inner, tf.bool), padding), tf.pad(inner, padding), image)


def _transform(image: tf.Tensor, a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, d: tf.Tensor, e: tf.Tensor, f: tf.Tensor):
    """Returns out[y, x] = image at (a x + b y + c, d x + e y + f), all of them places of pixel centres, nearest."""
    zero = tf.zeros([])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.stack([a, b, c, d, e, f, zero, zero])[tf.newaxis],
        output_shape=tf.shape(image)[:2],
        fill_value=float(FILL),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]


def _rotate(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    angle = -value * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    size = tf.cast(tf.shape(image), tf.float32)
    middle_y, middle_x = (size[0] - 1) / 2, (size[1] - 1) / 2
    left = middle_x - cos * middle_x - sin * middle_y
    top = middle_y + sin * middle_x - cos * middle_y
    return _transform(image, cos, sin, left, -sin, cos, top)


def _shear_x(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    one, zero = tf.ones([]), tf.zeros([])
    return _transform(image, one, value, value / 2, zero, one, zero)


def _shear_y(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    one, zero = tf.ones([]), tf.zeros([])
    return _transform(image, one, zero, zero, value, one, value / 2)


def _translate_x(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    one, zero = tf.ones([]), tf.zeros([])
    return _transform(image, one, zero, value, zero, one, zero)


def _translate_y(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    one, zero = tf.ones([]), tf.zeros([])
    return _transform(image, one, zero, zero, zero, one, value)


# By name the function of (uint8 [H, W, 3], float32 scalar) and its value at m = 9; a tuple's sign is drawn.
OPERATIONS: dict[str, tuple[Callable[[tf.Tensor, tf.Tensor], tf.Tensor], tuple[float, ...]]] = {
    "identity": (_identity, (0.0,)),
    "autocontrast": (_autocontrast, (0.0,)),
    "equalize": (_equalize, (0.0,)),
    "solarize": (_solarize, (76.0,)),
    "color": (_color, (0.64,)),
    "posterize": (_posterize, (5.0,)),
    "contrast": (_contrast, (0.64,)),
    "brightness": (_brightness, (0.64,)),
    "sharpness": (_sharpness, (0.64,)),
    "rotate": (_rotate, (9.0, -9.0)),
    "shear_x": (_shear_x, (0.09, -0.09)),
    "shear_y": (_shear_y, (0.09, -0.09)),
    "translate_x": (_translate_x, (3.0, -3.0)),
    "translate_y": (_translate_y, (3.0, -3.0)),
}


def rand_augment(image: tf.Tensor) -> tf.Tensor:
    """Applies two operations, each drawn from `OPERATIONS`, to uint8 [H, W, 3]."""
    shape = image.shape
    for _ in range(2):
        sign = tf.cast(2 * tf.random.uniform([], 0, 2, tf.int32) - 1, tf.float32)
        branches = [
            functools.partial(function, image, values[0] * (sign if len(values) > 1 else tf.ones([])))
            for function, values in OPERATIONS.values()
        ]
        image = tf.switch_case(tf.random.uniform([], 0, len(branches), tf.int32), branches)
    return tf.ensure_shape(image, shape)


def dataset(images: tf.Tensor, parallel_calls: int, prefetch: bool) -> tf.data.Dataset:
    """Returns endless augmented batches, as large as `images`, of uint8 images that are mapped one by one."""
    batches = tf.data.Dataset.from_tensor_slices(images).repeat().map(rand_augment, num_parallel_calls=parallel_calls)
    batches = batches.batch(images.shape[0], drop_remainder=True)
    return batches.prefetch(tf.data.AUTOTUNE) if prefetch else batches
