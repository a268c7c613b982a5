"""Run keras-cv's own layers in place of our ops, to compare with them: the configuration's `engine=keras_cv`.

This is keras-cv 0.9 as it is, and it differs from tfaug in more than speed:

* It is stateful: nothing here takes a seed, and a run can be neither repeated nor resumed bit for bit.
* RandAugment has ten operations (neither rotation nor posterize, sharpness, invert), skips each with probability 1/11,
  draws the strength from a normal distribution around `m / 30` (deviation 0.15), shears up to 1 and translates up to
  the whole image: the same `m` is another, stronger policy. It needs 3 channels.
* CutMix computes the label weight from the box before it is clipped at the border: not the share of the pixels.
* Flip is `RandomFlip`, Cutout `RandomCutout` (clipped at the border, its width held to the height), GaussianBlur
  `RandomGaussianBlur` (zeros outside the image), RandomResizedCrop `RandomCropAndResize` (the ratio relative to the
  image's) and RandomScale `RandomZoom` (uniform in 1 / factor, height and width alike).
* There is neither a padded crop (`RandomCrop` resamples at fractions of a pixel) nor Sum-Augmentation: PadCrop and
  SumAug are ours, with a seed that TensorFlow's stateful generator draws.
* What became an op from one of its layers (Rotate, Contrast, CropAndResize and so on) is that layer, in its arithmetic.
  ChannelShuffle and Grayscale take images as having three channels where the op does not say.
* There are no schedules, and but for Flip no probability per image.
* None of it compiles under XLA: it belongs in tf.data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import tensorflow as tf

from tfaug.augment.base import Augmentation, Batch, Compose, all_ops, labels_to_mix
from tfaug.augment.color import (
    AutoContrast,
    Brightness,
    ChannelShuffle,
    Contrast,
    Desaturate,
    Equalize,
    Grayscale,
    Posterize,
    Solarize,
)
from tfaug.augment.erase import Cutout, RandomCutout
from tfaug.augment.filters import GaussianBlur, GaussianFilter, Smooth
from tfaug.augment.mixing import CutMix, GradualSumAug, Mixup, SumAug
from tfaug.augment.policies import MAX_MAGNITUDE, RandAugment
from tfaug.augment.spatial import CropAndResize, Flip, PadCrop, RandomResizedCrop, RandomScale, pair_px
from tfaug.augment.warps import Rotate, Shear, Translate, Zoom
from tfaug.config import ConfigError
from tfaug.extras import explained
from tfaug.schedules import SCHEDULES

Pipeline: TypeAlias = Callable[[tf.Tensor, "tf.Tensor | None"], tuple[tf.Tensor, "tf.Tensor | None"]]


def keras_cv_pipeline(ops: Augmentation | Iterable[Augmentation]) -> Pipeline:
    """Builds a function that does with keras-cv's layers what `ops` do; the differences are listed above.

    Args:
      ops: one op or several, first to last: RandAugment, CutMix, Mixup, Flip, Cutout, GaussianBlur, RandomResizedCrop,
        RandomScale, PadCrop, SumAug, those that are one of keras-cv's layers, or a Compose of them. No field is a
        schedule.

    Returns:
      A function for `tf.data.Dataset.map`: (images uint8 or float32 [B, H, W, C], labels float32 [B, K]) ->
      (images float32, labels). Labels may be None where nothing is mixed.

    Raises:
      ConfigError: if keras-cv has no counterpart of an op or of its settings.

    Example:
      >>> from tfaug import augment
      >>> pipeline = keras_cv_pipeline((augment.RandAugment(2, 9.0), augment.CutMix()))
      >>> batches = tf.data.Dataset.from_tensors((tf.zeros([8, 32, 32, 3], tf.uint8), tf.one_hot(tf.range(8), 10)))
      >>> images, labels = next(iter(batches.map(pipeline)))
      >>> images.shape.as_list(), images.dtype.name
      ([8, 32, 32, 3], 'float32')
    """
    layers = []
    for op in _flatten([ops] if isinstance(ops, Augmentation) else ops):
        check_unscheduled(op, "keras-cv")
        layers.append(_layer(op))

    def augment(images: tf.Tensor, labels: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor | None]:
        batch = Batch(images, labels)
        for layer in layers:
            batch = layer(batch)
        return tf.cast(batch.images, tf.float32), batch.labels

    return augment


def check_unscheduled(op: Augmentation, who: str) -> None:
    """Checks that no op, nor one that it is made of, goes by the progress: a schedule, or flips that alternate.

    Args:
      op: the op.
      who: what cannot follow a schedule.

    Raises:
      ConfigError: naming the op, the field and its value.
    """
    for part in all_ops(op):
        for field in dataclasses.fields(part):  # type: ignore[arg-type]
            value = getattr(part, field.name)
            if isinstance(value, tuple(SCHEDULES.values())):
                name = f"{type(part).__name__}.{field.name}"
                raise ConfigError(f"{name} is {value!r}, which {who} cannot follow; allowed: a number")
        if isinstance(part, Flip) and part.alternate:
            raise ConfigError(f"Flip.alternate is True, which {who} cannot follow; allowed: False")
        if isinstance(part, GradualSumAug):
            raise ConfigError(f"GradualSumAug changes from step to step, which {who} cannot follow; allowed: SumAug")


def _flatten(ops: Iterable[Augmentation]) -> list[Augmentation]:
    return [part for op in ops for part in (_flatten(op.ops) if isinstance(op, Compose) else [op])]


def _layer(op: Augmentation) -> Callable[[Batch], Batch]:
    """Returns the function from batch to batch that stands for `op`."""
    layers = _import_keras_cv().layers
    settings: Any = op  # No field is a schedule.
    if type(op) not in _COUNTERPARTS:
        allowed = ", ".join(kind.__name__ for kind in _COUNTERPARTS)
        raise ConfigError(f"keras-cv has no counterpart of {type(op).__name__}; allowed: {allowed}")
    if isinstance(op, (PadCrop, SumAug)):
        return lambda batch: op(batch, tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32))
    if isinstance(op, Flip):
        return _call(layers.RandomFlip(op.axis, rate=settings.p))
    if isinstance(op, RandAugment):
        return _randaugment(layers, settings)
    if settings.p != 1:
        raise ConfigError(f"keras-cv augments every image: {type(op).__name__}.p is {settings.p!r}; allowed: 1")
    if isinstance(op, (CutMix, Mixup)):
        kind = layers.CutMix if isinstance(op, CutMix) else layers.MixUp
        return _call(kind(alpha=settings.alpha), mixes=True)
    if isinstance(op, Cutout):
        return _cutout(layers, settings)
    if isinstance(op, GaussianBlur):
        sigma = settings.sigma_px if isinstance(settings.sigma_px, tuple) else (settings.sigma_px, settings.sigma_px)
        return _call(layers.RandomGaussianBlur(2 * math.ceil(3 * sigma[1]) + 1, sigma))
    if type(op) in _SAME:
        return _call(_SAME[type(op)](layers, settings))
    if isinstance(op, RandomScale):
        zoom = tuple(1 / scale - 1 for scale in reversed(op.scale))
        if zoom[1] > 1:
            raise ConfigError(f"keras-cv zooms out to a half: RandomScale.scale is {op.scale!r}; allowed: 0.5 or more")
        return _call(layers.RandomZoom(zoom, fill_mode="constant", fill_value=float(op.fill)))
    if isinstance(op, CropAndResize):
        return _resized_crop(layers, settings, settings.area, settings.aspect)
    return _resized_crop(layers, settings, settings.scale, settings.ratio)


_RANGE = (0, 255)


def _reading(op: Any) -> dict[str, Any]:
    """Returns how a warp of ours reads the image, as keras-cv's arguments."""
    return {"fill_mode": op.fill_mode, "interpolation": op.interpolation, "fill_value": float(op.fill)}


# The layers that ops of ours were made after: keras-cv's layers and the op -> the layer.
_SAME: dict[type[Augmentation], Callable[[Any, Any], Any]] = {
    AutoContrast: lambda layers, op: layers.AutoContrast(_RANGE),
    Brightness: lambda layers, op: layers.RandomBrightness(op.shift_fraction),
    ChannelShuffle: lambda layers, op: layers.ChannelShuffle(op.num_groups or 3),
    Contrast: lambda layers, op: layers.RandomContrast(_RANGE, (1 - op.factor[0], op.factor[1] - 1)),
    Desaturate: lambda layers, op: layers.RandomColorDegeneration(op.luma_fraction),
    Equalize: lambda layers, op: layers.Equalization(_RANGE),
    GaussianFilter: lambda layers, op: layers.RandomGaussianBlur(pair_px(op.size_px)[::-1], op.sigma_px),
    Grayscale: lambda layers, op: layers.Grayscale(op.num_channels or 3),
    Posterize: lambda layers, op: layers.Posterization(_RANGE, op.bits),
    RandomCutout: lambda layers, op: layers.RandomCutout(op.height_fraction, op.width_fraction, fill_value=op.fill),
    Rotate: lambda layers, op: layers.RandomRotation([deg / 360 for deg in op.angle_deg], **_reading(op)),
    Shear: lambda layers, op: layers.RandomShear(op.x, op.y, **_reading(op)),
    Smooth: lambda layers, op: layers.RandomSharpness(op.smooth_fraction, _RANGE),
    Solarize: lambda layers, op: layers.Solarization(_RANGE, op.addition, op.threshold),
    Translate: lambda layers, op: layers.RandomTranslation(op.down_fraction, op.right_fraction, **_reading(op)),
    Zoom: lambda layers, op: layers.RandomZoom(op.height, op.width, **_reading(op)),
}

_COUNTERPARTS = (
    *_SAME,
    CropAndResize,
    RandAugment,
    CutMix,
    Mixup,
    Flip,
    Cutout,
    GaussianBlur,
    RandomResizedCrop,
    RandomScale,
    PadCrop,
    SumAug,
)


def _randaugment(layers: Any, op: Any) -> Callable[[Batch], Batch]:
    """Returns keras-cv's RandAugment, by our magnitude and spread."""
    if op.n == 0:
        return lambda batch: batch
    strength = {"magnitude": op.m / MAX_MAGNITUDE}
    if op.spread is not None:
        strength["magnitude_stddev"] = min(op.spread / MAX_MAGNITUDE, 1.0)
    return _call(layers.RandAugment((0, 255), augmentations_per_image=op.n, **strength), num_channels=3)


def _cutout(layers: Any, op: Any) -> Callable[[Batch], Batch]:
    """Returns keras-cv's RandomCutout with sides in px: their shares of the image are known when it is called."""
    largest = round(op.size_px)
    smallest = largest if op.min_size_px is None else op.min_size_px
    if not largest or not op.num_holes:
        return lambda batch: batch

    def make(height: int, width: int) -> Callable[[Batch], Batch]:
        # keras-cv rounds a share of the side up, so a share within the pixel before gives the whole number itself.
        low, high = (max(smallest - 0.999, 0.0), largest - 0.001) if smallest < largest else (largest - 0.5,) * 2
        factors = [(low / side, high / side) for side in (height, width)]
        return _call(layers.RandomCutout(*factors, fill_value=float(op.fill)))

    once = _sized(op, make)

    def call(batch: Batch) -> Batch:
        for _ in range(op.num_holes):
            batch = once(batch)
        return batch

    return call


def _resized_crop(
    layers: Any, op: Any, area: tuple[float, float], aspect: tuple[float, float]
) -> Callable[[Batch], Batch]:
    """Returns keras-cv's RandomCropAndResize; its aspect ratio is relative to the image's."""

    def make(height: int, width: int) -> Callable[[Batch], Batch]:
        size = op.output_shape((1, height, width, 3))[1:3]
        return _call(layers.RandomCropAndResize(size, area, aspect, op.interpolation), size=size)

    return _sized(op, make)


def _sized(op: Augmentation, make: Callable[[int, int], Callable[[Batch], Batch]]) -> Callable[[Batch], Batch]:
    """Returns a function that makes its layer for the height and width of the images, once for each size."""
    make = functools.cache(make)

    def call(batch: Batch) -> Batch:
        height, width = batch.images.shape[1:3]
        if height is None or width is None:
            raise ValueError(f"keras-cv's counterpart of {type(op).__name__} needs images of a known size")
        with tf.init_scope():
            layer = make(height, width)
        return layer(batch)

    return call


def _call(
    layer: Any, num_channels: int | None = None, mixes: bool = False, size: tuple[int, int] | None = None
) -> Callable[[Batch], Batch]:
    """Returns a keras-cv layer as a function from batch to batch; `size` is that of its images, if it changes it."""

    def call(batch: Batch) -> Batch:
        if num_channels is not None and batch.images.shape[-1] not in (None, num_channels):
            got = batch.images.shape[-1]
            raise ValueError(f"keras-cv's {layer.name} needs images with {num_channels} channels, got {got}")
        if mixes:
            batch = batch._replace(labels=labels_to_mix(f"keras-cv's {layer.name}", batch))
        inputs = {"images": tf.cast(batch.images, tf.float32)}
        if batch.labels is not None:
            inputs["labels"] = batch.labels
        outputs = layer(inputs, training=True)
        num, height, width, channels = batch.images.shape
        images = tf.ensure_shape(outputs["images"], [num, *(size or (height, width)), channels])
        return Batch(images, outputs.get("labels"))

    return call


def _import_keras_cv() -> Any:
    """Imports keras-cv here, where it is needed (it takes seconds), without the backend's name on the output."""
    with explained(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import keras_cv
    return keras_cv
