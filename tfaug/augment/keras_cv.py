"""Run keras-cv's own layers in place of our ops, to compare with them: the configuration's `engine=keras_cv`.

This is keras-cv 0.9 as it is, and it differs from tfaug in more than speed:

* It is stateful: nothing here takes a seed, and a run can be neither repeated nor resumed bit for bit.
* RandAugment has ten operations (neither rotation nor posterize, sharpness, invert), skips each with probability 1/11,
  draws the strength from a normal distribution around `m / 30` (deviation 0.15), shears up to 1 and translates up to
  the whole image: the same `m` is another, stronger policy. It needs 3 channels.
* CutMix computes the label weight from the box before it is clipped at the border: not the share of the pixels.
* Flip is `RandomFlip`. There is neither a padded crop (`RandomCrop` resamples at fractions of a pixel) nor
  Sum-Augmentation: PadCrop and SumAug are ours, with a seed that TensorFlow's stateful generator draws.
* None of it compiles under XLA: it belongs in tf.data.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import tensorflow as tf

from tfaug.augment.base import Augmentation, Batch, Compose
from tfaug.augment.mixing import CutMix, Mixup, SumAug
from tfaug.augment.policies import MAX_MAGNITUDE, RandAugment
from tfaug.augment.spatial import Flip, PadCrop
from tfaug.config import ConfigError

Pipeline: TypeAlias = Callable[[tf.Tensor, "tf.Tensor | None"], tuple[tf.Tensor, "tf.Tensor | None"]]


def keras_cv_pipeline(ops: Augmentation | Iterable[Augmentation]) -> Pipeline:
    """Builds a function that does with keras-cv's layers what `ops` do; the differences are listed above.

    Args:
      ops: one op or several, first to last: RandAugment, CutMix, Mixup, Flip, PadCrop, SumAug, or a Compose of them.

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
    layers = [_layer(op) for op in _flatten([ops] if isinstance(ops, Augmentation) else ops)]

    def augment(images: tf.Tensor, labels: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor | None]:
        batch = Batch(images, labels)
        for layer in layers:
            batch = layer(batch)
        return tf.cast(batch.images, tf.float32), batch.labels

    return augment


def _flatten(ops: Iterable[Augmentation]) -> list[Augmentation]:
    return [part for op in ops for part in (_flatten(op.ops) if isinstance(op, Compose) else [op])]


def _layer(op: Augmentation) -> Callable[[Batch], Batch]:
    """Returns the function from batch to batch that stands for `op`."""
    layers = _import_keras_cv().layers
    if isinstance(op, RandAugment):
        if op.n == 0:
            return lambda batch: batch
        magnitude = op.m / MAX_MAGNITUDE
        return _call(layers.RandAugment((0, 255), augmentations_per_image=op.n, magnitude=magnitude), num_channels=3)
    if isinstance(op, (CutMix, Mixup)):
        if op.p != 1:
            raise ConfigError(f"keras-cv mixes every image: {type(op).__name__}.p is {op.p!r}; allowed: 1")
        return _call((layers.CutMix if isinstance(op, CutMix) else layers.MixUp)(alpha=op.alpha), mixes=True)
    if isinstance(op, Flip):
        return _call(layers.RandomFlip("horizontal", rate=op.p))
    if isinstance(op, (PadCrop, SumAug)):
        return lambda batch: op(batch, tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32))
    allowed = "RandAugment, CutMix, Mixup, Flip, PadCrop, SumAug"
    raise ConfigError(f"keras-cv has no counterpart of {type(op).__name__}; allowed: {allowed}")


def _call(layer: Any, num_channels: int | None = None, mixes: bool = False) -> Callable[[Batch], Batch]:
    """Returns a keras-cv layer as a function from batch to batch."""

    def call(batch: Batch) -> Batch:
        if num_channels is not None and batch.images.shape[-1] not in (None, num_channels):
            got = batch.images.shape[-1]
            raise ValueError(f"keras-cv's {layer.name} needs images with {num_channels} channels, got {got}")
        if mixes and batch.labels is None:
            raise ValueError(f"keras-cv's {layer.name} mixes labels too: give it (images, labels)")
        inputs = {"images": tf.cast(batch.images, tf.float32)}
        if batch.labels is not None:
            inputs["labels"] = batch.labels
        outputs = layer(inputs, training=True)
        images = tf.ensure_shape(outputs["images"], batch.images.shape)
        return Batch(images, outputs.get("labels"))

    return call


def _import_keras_cv() -> Any:
    """Imports keras-cv here, where it is needed (it takes seconds), without the backend's name on the output."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import keras_cv
    return keras_cv
