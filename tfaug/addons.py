"""The one door to tensorflow-addons: rotation and Gaussian blur of image batches.

tensorflow-addons 0.23 is its last release (its development ended in May 2024), so nothing else imports it. To replace
it: `rotate` is `tf.raw_ops.ImageProjectiveTransformV3` with the matrix of a rotation about the image's centre, and
`gaussian_blur` is `tf.nn.depthwise_conv2d` with a normalised Gaussian kernel on reflected borders; the tests hold both
to SciPy, so a replacement that passes them is right.
"""

from __future__ import annotations

import math
import re
import warnings

import tensorflow as tf

# The whole text of the banner that the package prints (twice) at import. Only this text is silenced: its other
# warnings, such as the one for an unsupported TensorFlow, stay visible.
_END_OF_LIFE_BANNER = (
    "\n\nTensorFlow Addons (TFA) has ended development and introduction of new features.\n"
    "TFA has entered a minimal maintenance and release mode until a planned end of life in May 2024.\n"
    "Please modify downstream libraries to take dependencies from other repositories in our TensorFlow community "
    "(e.g. Keras, Keras-CV, and Keras-NLP). \n\n"
    "For more information see: https://github.com/tensorflow/addons/issues/2807 \n"
)


def rotate(images: tf.Tensor, angles_deg: tf.Tensor, fill: float = 0.0) -> tf.Tensor:
    """Rotates each image about its centre, counter-clockwise, with bilinear interpolation.

    Args:
      images: float32 [B, H, W, C], 0..255.
      angles_deg: float32 [B], degrees, any value.
      fill: the grey level, 0..255, of places that come from outside the image.

    Returns:
      float32 [B, H, W, C], 0..255.
    """
    angles_rad = tf.cast(angles_deg, tf.float32) * (math.pi / 180.0)
    h, w = tf.cast(tf.shape(images)[1], tf.float32), tf.cast(tf.shape(images)[2], tf.float32)
    cos, sin = tf.cos(angles_rad), tf.sin(angles_rad)
    dx = ((w - 1) - (cos * (w - 1) - sin * (h - 1))) / 2
    dy = ((h - 1) - (sin * (w - 1) + cos * (h - 1))) / 2
    zero = tf.zeros_like(cos)
    transforms = tf.stack([cos, -sin, dx, sin, cos, dy, zero, zero], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(images=images, transforms=transforms, output_shape=tf.shape(images)[1:3],
        fill_value=fill, interpolation="BILINEAR", fill_mode="CONSTANT")


def gaussian_blur(images: tf.Tensor, sigma_px: float) -> tf.Tensor:
    """Blurs each image by a normalised Gaussian cut at three deviations, the borders reflected.

    Args:
      images: float32 [B, H, W, C], 0..255; H and W larger than 3 sigma.
      sigma_px: the Gaussian's deviation in pixels, above 0.

    Returns:
      float32 [B, H, W, C], 0..255.

    Raises:
      ValueError: if `sigma_px` is not above 0.
    """
    if not sigma_px > 0:
        raise ValueError(f"sigma_px is {sigma_px}; allowed: above 0")
    size_px = 2 * math.ceil(3 * sigma_px) + 1
    r = size_px // 2
    x = tf.range(-r, r + 1, dtype=tf.float32)
    k = tf.nn.softmax(-(x**2) / (2.0 * sigma_px**2))
    c = images.shape[-1]
    k2 = tf.tile(tf.reshape(k[:, None] * k[None, :], [size_px, size_px, 1, 1]), [1, 1, c, 1])
    padded = tf.pad(images, [[0, 0], [r, r], [r, r], [0, 0]], mode="REFLECT")
    return tf.nn.depthwise_conv2d(padded, k2, [1, 1, 1, 1], "VALID")
