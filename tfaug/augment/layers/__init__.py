"""Keras layers with keras-cv's names, arguments and calling convention: a keras-cv user changes one import.

    from tfaug.augment import layers as keras_cv_layers

What holds for all of them:

* Input: an image [H, W, C] or a batch [B, H, W, C] of any numeric type; or a dict with `images` and, where there are
  labels, `labels` (or `targets`). Other keys pass untouched. Ragged images, bounding boxes, key points and masks are
  refused, and so is a pair (images, labels).
* Integers other than uint8 may lie in any range: layers with the argument `value_range` refuse them while it is
  (0, 255), RandomColorDegeneration always, and so does a layer whose own integer dtype, such as `dtype="uint8"`, does
  not hold them all.
* Layers that mix take a batch with labels of any numeric type [B, K], K of 2 or more; class numbers, [B] or [B, 1], are
  refused. All others leave labels of any type and shape as they are.
* Output: what was given, with images of the layer's `compute_dtype`: float32, or what `dtype=` or the policy says.
  `dtype="uint8"` keeps uint8 from end to end.
* Each image draws its own parameters, in one batched computation that compiles under XLA.
* `training=False`, as in `model.predict` and `model.evaluate`, gives the images back as they are. Outside a model the
  default is True. It may be a tensor, bool []. keras-cv 0.9 has no such argument and augments always. AutoContrast,
  Equalization, Grayscale and Posterization draw nothing and do their work in both cases; crops give their size in both
  cases.
* `model.export` of Keras 3 does not say `training=False`, and then they augment, as Keras's own layers do; see
  docs/keras_cv.md.
* Randomness: a layer holds a `tf.random.Generator`, whose state each call takes and advances in one atomic step. It
  works eagerly, in `tf.data`, in a `tf.function`, under XLA and in a SavedModel; the replicas of a strategy draw
  differently if the layer is made in its scope. `seed=None` takes the system's entropy once, when the layer is made,
  and not TensorFlow's global seed. With a seed the layer's first, second, ... call always draw the same; which batch
  of a `dataset.map` with parallel calls is the first is not determined. `layer(images, seed=...)`, an integer or int32
  [2] (`tfaug.rng`), leaves the state alone: the same seed gives the same bits, everywhere.
* A layer has no weights. Its state is in checkpoints, in SavedModels and in `.keras` files. To load those,
  `import tfaug`, before TensorFlow or after; Keras refuses a layer that it was not told of.
* Arguments that a layer's own documentation leaves out are those of its base class: `seed` of `ImageLayer`,
  `value_range` of `OpLayer`, `fill_mode`, `interpolation` and `fill_value` of `WarpLayer`.
* `layer.sample_choice` and `layer.apply_choice` are to a layer what `sample` and `apply` are to an op.
"""

from __future__ import annotations

from tfaug.augment.layers.base import ImageLayer
from tfaug.augment.layers.ops import (
    Augment,
    AutoAugment,
    AutoContrast,
    ChannelShuffle,
    CutMix,
    Equalization,
    Grayscale,
    MixUp,
    Posterization,
    RandAugment,
    RandomBrightness,
    RandomColorDegeneration,
    RandomContrast,
    RandomCrop,
    RandomCropAndResize,
    RandomCutout,
    RandomErasing,
    RandomFlip,
    RandomGaussianBlur,
    RandomRotation,
    RandomSharpness,
    RandomShear,
    RandomTranslation,
    RandomZoom,
    Solarization,
    SumAugmentation,
)

__all__ = [
    "Augment",
    "AutoAugment",
    "AutoContrast",
    "ChannelShuffle",
    "CutMix",
    "Equalization",
    "Grayscale",
    "ImageLayer",
    "MixUp",
    "Posterization",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomContrast",
    "RandomCrop",
    "RandomCropAndResize",
    "RandomCutout",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomRotation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "Solarization",
    "SumAugmentation",
]
