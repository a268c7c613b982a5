"""The contract that all augmentations keep: `sample` draws the choice, `apply` carries it out.

An augmentation ("op") is a frozen dataclass with

    sample(seed, shape, progress) -> choice     all randomness, drawn at once: a dict of tensors
    apply(batch, choice) -> batch               deterministic, batched, no variables; compiles under XLA

and `op(batch, seed)` is `op.apply(batch, op.sample(seed, shape))`. The same seed gives the same bits eager, inside
`tf.data`, in a `tf.function` and under XLA. A field that is a schedule is read in `sample`, at the `progress` of the
training phase; `apply` sees only numbers that are in the choice.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from tfaug import rng
from tfaug.config import ConfigError
from tfaug.schedules import Progress

Choice: TypeAlias = dict[str, tf.Tensor]
Size: TypeAlias = int | tf.Tensor
Shape: TypeAlias = tuple[Size, Size, Size, Size]


class Batch(NamedTuple):
    """Images and their labels.

    Attributes:
      images: uint8 or float32 [B, H, W, C], 0..255.
      labels: float32 [B, K], each row sums to 1; None where there are none.
    """

    images: tf.Tensor
    labels: tf.Tensor = None


def image_shape(images: tf.Tensor) -> Shape:
    """Returns [B, H, W, C] of `images`: Python integers where they are known, else scalar int32 tensors."""
    dynamic = tf.shape(images)
    return tuple(dynamic[i] if size is None else size for i, size in enumerate(images.shape))  # type: ignore[return-value]


class Augmentation:
    """Gives an op its call; the op itself has `sample` and `apply`."""

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the choice for images of `shape`.

        Args:
          seed: int32 [2], see tfaug.rng.
          shape: [B, H, W, C], integers or scalar integer tensors.
          progress: where training stands; needed where a field is a schedule.

        Raises:
          ValueError: if a field is a schedule and there is no progress.
        """
        raise NotImplementedError(f"{type(self).__name__} has no sample(seed, shape, progress)")

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Carries out `choice`, as `sample` returns it, on `batch`."""
        raise NotImplementedError(f"{type(self).__name__} has no apply(batch, choice)")

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the shape that images of `shape`, [B, H, W, C], become."""
        return shape

    @tf.autograph.experimental.do_not_convert  # It has no Python control flow on tensors; converting costs seconds.
    def __call__(self, batch: Any, seed: int | tf.Tensor, progress: Progress | None = None) -> Any:
        """Augments a batch.

        Args:
          batch: a Batch or an (images, labels) pair; or images alone, for ops that do not mix images.
            Images: uint8 or float32 [B, H, W, C], 0..255. Labels: float32 [B, K].
          seed: int32 [2], or an integer.
          progress: (step, total_steps) of the training phase, needed where a field of the op is a schedule; or a
            `Visit`, needed where the op goes by the examples.

        Returns:
          A Batch for a Batch or a pair, images for images.

        Raises:
          ValueError: if the images or labels have another rank or type, or do not agree in number; or if an op that
            mixes images got no labels, or one with a schedule no progress.

        Example:
          >>> from tfaug import augment
          >>> images = tf.zeros([4, 32, 32, 3], tf.uint8)
          >>> augment.Flip()(images, seed=1).shape.as_list()
          [4, 32, 32, 3]
        """
        paired = isinstance(batch, (tuple, list))
        if paired and len(batch) != 2:
            raise ValueError(f"a batch is (images, labels) or images alone, got {len(batch)} parts")
        whole = check_batch(Batch(*batch) if paired else Batch(batch))
        seed = tf.convert_to_tensor(rng.make_seed(int(seed)) if isinstance(seed, (int, np.integer)) else seed)
        if seed.dtype != tf.int32 or not seed.shape.is_compatible_with([2]):
            raise ValueError(f"a seed is an integer or int32 [2] (tfaug.rng), got {seed.dtype.name} {seed.shape}")
        result = self.apply(whole, self.sample(seed, image_shape(whole.images), progress))
        return result if paired else result.images


def check_batch(batch: Batch) -> Batch:
    """Returns `batch` as tensors.

    Raises:
      ValueError: if the images are not uint8 or float32 [B, H, W, C], or the labels not floating-point [B, K].
    """
    images = tf.convert_to_tensor(batch.images)
    if images.dtype not in (tf.uint8, tf.float32):
        raise ValueError(f"images are uint8 or float32 in 0..255, got {images.dtype.name}")
    if images.shape.rank != 4:
        raise ValueError(f"images are [B, H, W, C], got the shape {images.shape}")
    if batch.labels is None:
        return Batch(images)
    labels = tf.convert_to_tensor(batch.labels)
    if not labels.dtype.is_floating or labels.shape.rank != 2:
        hint = "; tf.one_hot(labels, num_classes) makes them" if labels.dtype.is_integer else ""
        raise ValueError(f"labels are float32 [B, K], got {labels.dtype.name} {labels.shape}{hint}")
    if not images.shape[:1].is_compatible_with(labels.shape[:1]):
        raise ValueError(f"there are {images.shape[0]} images and {labels.shape[0]} labels; their numbers must agree")
    return Batch(images, tf.cast(labels, tf.float32))


@dataclasses.dataclass(frozen=True)
class Compose(Augmentation):
    """Applies ops one after the other.

    Op i draws with `fold_in(seed, i)` for the batch that op i-1 leaves. No ops at all is the identity. The choice holds
    the choices of the ops under `"i.name"`.

    Args:
      ops: the ops, first to last.

    Raises:
      ConfigError: if `ops` is not a tuple of ops.

    Example:
      >>> from tfaug import augment
      >>> op = augment.Compose((augment.PadCrop(4), augment.Flip(), augment.CutMix(p=0.5)))
      >>> batch = op((tf.zeros([8, 32, 32, 3], tf.uint8), tf.one_hot(tf.range(8), 10)), seed=1)
      >>> batch.labels.shape.as_list()
      [8, 10]
    """

    ops: tuple[Augmentation, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.ops, tuple):
            raise ConfigError(f"Compose.ops is {self.ops!r}; allowed: a tuple of ops")
        for i, op in enumerate(self.ops):
            if not isinstance(op, Augmentation):
                hint = "; a class was given, not an op" if isinstance(op, type) else ""
                raise ConfigError(f"Compose.ops[{i}] is {op!r}; allowed: ops (tfaug.augment.AUGMENTATIONS){hint}")

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the choices of all ops; see Augmentation.sample."""
        choice: Choice = {}
        for i, op in enumerate(self.ops):
            drawn = op.sample(rng.fold_in(seed, i), shape, progress)
            choice.update({f"{i}.{name}": value for name, value in drawn.items()})
            shape = op.output_shape(shape)
        return choice

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Applies all ops; see Augmentation.apply."""
        for i, op in enumerate(self.ops):
            prefix = f"{i}."
            own = {name[len(prefix) :]: value for name, value in choice.items() if name.startswith(prefix)}
            batch = op.apply(batch, own)
        return batch

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the shape that images of `shape`, [B, H, W, C], become."""
        for op in self.ops:
            shape = op.output_shape(shape)
        return shape
