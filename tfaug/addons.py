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

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=re.escape(_END_OF_LIFE_BANNER) + r"\Z", category=UserWarning)
    import tensorflow_addons as tfa


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
    return tfa.image.rotate(images, angles_rad, interpolation="bilinear", fill_mode="constant", fill_value=fill)


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
    return tfa.image.gaussian_filter2d(images, filter_shape=size_px, sigma=sigma_px, padding="REFLECT")
