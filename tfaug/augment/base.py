"""The contract that all augmentations keep: `sample` draws the choice, `apply` carries it out.

An augmentation ("op") is a frozen dataclass with

    sample(seed, shape, progress) -> choice     all randomness, drawn at once: a dict of tensors
    apply(batch, choice) -> batch               deterministic, batched, no variables; compiles under XLA

and `op(batch, seed)` is `op.apply(batch, op.sample(seed, shape))`. The same seed gives the same bits eager, inside
`tf.data`, in a `tf.function` and under XLA. A field that is a schedule is read in `sample`, at the `progress` of the
training phase; `apply` sees only numbers that are in the choice.

Images are grey levels 0..255, also where they are floats. Floats in 0..1 come out black from an op that counts in
levels, or covered by far too bright a grey; where their values are seen, which is eagerly, it warns once. An op that
moves or mixes values, such as Flip or Mixup, takes floats of any range: its `counts_in_levels` is False.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from tfaug import rng
from tfaug.config import LARGEST, ConfigError, is_number, to_python
from tfaug.images.base import cast_images, check_size
from tfaug.schedules import Progress, Schedule, value_at
from tfaug.shapes import held_to

Choice: TypeAlias = dict[str, tf.Tensor]
Size: TypeAlias = int | tf.Tensor
Shape: TypeAlias = tuple[Size, Size, Size, Size]

_COMPOSITE = (tf.RaggedTensor, tf.SparseTensor)


class Batch(NamedTuple):
    """Images and their labels.

    Attributes:
      images: uint8 or float32 [B, H, W, C], 0..255.
      labels: float32 [B, K], each row sums to 1, for ops that mix them. Others leave them as they are: class numbers,
        or a dict or tuple of tensors, pass. None where there are none.
    """

    images: tf.Tensor
    labels: Any = None


def image_shape(images: tf.Tensor) -> Shape:
    """Returns [B, H, W, C] of `images`: Python integers where they are known, else scalar int32 tensors."""
    dynamic = tf.shape(images)
    return tuple(dynamic[i] if size is None else size for i, size in enumerate(images.shape))  # type: ignore[return-value]


class Augmentation:
    """Gives an op its call; the op itself has `sample` and `apply`."""

    @property
    def mixes_images(self) -> bool:
        """Whether what becomes of an image depends on the other images of its batch."""
        return False

    @property
    def mixes_labels(self) -> bool:
        """Whether labels are mixed, and must be what `labels_to_mix` takes; labels of any kind pass the other ops."""
        return False

    @property
    def counts_in_levels(self) -> bool:
        """Whether values must be grey levels 0..255: it makes whole levels of floats, or fills with one above 0.

        Where not, the op does to floats times a number what it does to them, times the number.
        """
        return True

    @property
    def fills_with_black(self) -> bool:
        """Whether some values become 0, which must then be the lowest value of the images."""
        return False

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
            Images: uint8 or float32 [B, H, W, C], 0..255. Labels: float32 [B, K], K of 2 or more, for ops that mix
            labels; others leave labels of any type and shape [B, ...] as they are, also in a dict or tuple.
          seed: int32 [2], or an integer. Two ops that are called with one seed draw the same random numbers, so what
            they do goes together (where `PadCrop` cuts and where `Cutout` covers: correlated by 0.99): `Compose` them,
            or call op i with `rng.fold_in(seed, i)`.
          progress: (step, total_steps) of the training phase, needed where a field of the op is a schedule; or a
            `Visit`, needed where the op goes by the examples.

        Returns:
          A Batch for a Batch or a pair, images for images.

        Raises:
          ValueError: if the images or labels have another rank or type, or do not agree in number; or if an op that
            mixes labels got none or class numbers, or one with a schedule no progress.
          tf.errors.InvalidArgumentError: if they do not agree in a number that is known only at run time.

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
        result = self.apply(whole, self.sample(rng.as_seed(seed), image_shape(whole.images), progress))
        return result if paired else result.images


def check_batch(batch: Batch) -> Batch:
    """Returns `batch` as tensors; the labels keep their type and structure.

    Raises:
      ValueError: if the images are not uint8 or float32 [B, H, W, C] or too large, or there are not as many labels.
    """
    images = tf.convert_to_tensor(batch.images)
    if images.dtype not in (tf.uint8, tf.float32):
        raise ValueError(f"images are uint8 or float32 in 0..255, got {images.dtype.name}")
    if images.shape.rank != 4:
        raise ValueError(f"images are [B, H, W, C], got the shape {images.shape}")
    check_size(images.shape)
    if batch.labels is None:
        return Batch(images)
    labels = tf.convert_to_tensor(batch.labels) if isinstance(batch.labels, list) else batch.labels
    return Batch(images, tf.nest.map_structure(lambda part: _as_many(images, part), labels))


def labels_to_mix(name: str, batch: Batch, one_hot_integers: bool = False) -> tf.Tensor:
    """Returns the labels of `batch` for what mixes them: float32 [B, K].

    Their values are not looked at: rows need not sum to 1.

    Args:
      name: of what mixes them, for the errors.
      batch: images [B, H, W, C] and labels.
      one_hot_integers: whether labels [B, K] of an integer type are taken.

    Raises:
      ValueError: if there are no labels, several, or another number than that of the images; or if they are class
        numbers or may be: [B], [B, 1] or of an integer type.
      tf.errors.InvalidArgumentError: if a number is known only at run time, and is wrong.
    """
    labels, needed = batch.labels, "labels float [B, K], K of 2 or more"
    if labels is None:
        given = "an op takes (images, labels), a layer a dict with 'images' and 'labels'"
        raise ValueError(f"{name} mixes labels too and got none: {given}; {needed}")
    if isinstance(labels, (dict, tuple, *_COMPOSITE)):
        keys = f" with {sorted(labels)}" if isinstance(labels, dict) else ""
        raise ValueError(f"{name} mixes {needed}, in one tensor; got a {type(labels).__name__}{keys}")
    labels = tf.convert_to_tensor(labels)
    good = labels.dtype.is_floating or (labels.dtype.is_integer and one_hot_integers)
    if not good or labels.shape.rank != 2 or labels.shape[1] == 1:
        raise ValueError(f"{name} mixes {needed}; got {labels.dtype.name} {labels.shape}{_one_hot(labels)}")
    return _as_many(batch.images, tf.cast(labels, tf.float32), least=2)


def _one_hot(labels: tf.Tensor) -> str:
    """Returns how labels that cannot be mixed become such that can, for the end of an error."""
    if labels.shape.rank == 2 and labels.shape[1] != 1:
        return "; tf.cast(labels, tf.float32) if their rows are one-hot"
    if labels.shape.rank not in (1, 2):
        return ""
    numbers = "labels" if labels.shape.rank == 1 else "labels[:, 0]"
    numbers = numbers if labels.dtype.is_integer else f"tf.cast({numbers}, tf.int32)"
    return f"; if they are class numbers, tf.one_hot({numbers}, num_classes)"


def _as_many(images: tf.Tensor, labels: Any, least: int = 0) -> Any:
    """Returns `labels` as a tensor, as many as there are images, each other size `least` or more."""
    labels = labels if isinstance(labels, _COMPOSITE) else tf.convert_to_tensor(labels)
    if not images.shape[:1].is_compatible_with(labels.shape[:1]):
        given = f"{labels.shape[0]} labels" if labels.shape.rank else "one label"
        raise ValueError(f"there are {images.shape[0]} images and {given}; their numbers must agree")
    known = images.shape[0] is not None and labels.shape.is_fully_defined()
    if known or labels.shape.rank is None or isinstance(labels, _COMPOSITE):
        return labels
    sizes = [tf.maximum(tf.shape(labels)[i], least) if n is None else n for i, n in enumerate(labels.shape)]
    return held_to(labels, [image_shape(images)[0], *sizes[1:]], "as many labels as images")


class Sometimes:
    """Gives an op that changes each image by itself, with probability `p`, its `sample` and `apply`.

    The op itself has `_draw` and `_change`.

    uint8 images stay uint8: values between the grey levels are rounded half to even. Floats stay unrounded, unless the
    op makes grey levels, uint8, of them.

    Choice: what `_draw` returns and, unless `p` is 1, `applied` bool [B].
    """

    p: float | Schedule

    def _draw(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws what the op does to each image."""
        return {}

    def _change(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        """Returns all images changed, uint8 or float32."""
        raise NotImplementedError(f"{type(self).__name__} has no _change(images, choice)")

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws what is done to which image; see Augmentation.sample."""
        choice = self._draw(seed, shape)
        if self.p == 1:
            return choice
        p = value_at(self, "p", progress)
        return {**choice, "applied": rng.bernoulli(rng.fold_in(seed, _APPLIED), [shape[0]], p)}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Changes the images that are to be; see Augmentation.apply."""
        images = self._change(batch.images, choice)
        if batch.images.dtype == tf.uint8:
            images = cast_images(images, tf.uint8)
        if "applied" in choice:
            applied = tf.reshape(choice["applied"], [-1, 1, 1, 1])
            images = tf.where(applied, images, cast_images(batch.images, images.dtype))
        return batch._replace(images=images)


_APPLIED = 1 << 16  # what `Sometimes` folds into the seed; an op's own draws fold in small numbers


def uniform_each(seed: tf.Tensor, shape: Shape, limits: Mapping[str, tuple[float, float]]) -> Choice:
    """Draws for each image a number uniformly between each pair of limits, by its name, float32 [B]."""
    named = enumerate(limits.items())
    return {name: rng.uniform(rng.fold_in(seed, i), [shape[0]], *pair) for i, (name, pair) in named}


class _OfOps:
    """What ops that are made of ops have in common."""

    ops: tuple[Augmentation, ...]

    @property
    def mixes_images(self) -> bool:
        """Whether one of the ops does."""
        return any(op.mixes_images for op in self.ops)

    @property
    def mixes_labels(self) -> bool:
        """Whether one of the ops does."""
        return any(op.mixes_labels for op in self.ops)

    @property
    def counts_in_levels(self) -> bool:
        """Whether one of the ops does."""
        return any(op.counts_in_levels for op in self.ops)

    @property
    def fills_with_black(self) -> bool:
        """Whether one of the ops does."""
        return any(op.fills_with_black for op in self.ops)


@dataclasses.dataclass(frozen=True)
class Compose(_OfOps, Augmentation):
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
        _check_ops(self, self.ops)

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the choices of all ops; see Augmentation.sample."""
        choice: Choice = {}
        for i, op in enumerate(self.ops):
            choice.update(_named(i, op.sample(rng.fold_in(seed, i), shape, progress)))
            shape = op.output_shape(shape)
        return choice

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Applies all ops; see Augmentation.apply."""
        for i, op in enumerate(self.ops):
            batch = op.apply(batch, _own(i, choice))
        return batch

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the shape that images of `shape`, [B, H, W, C], become."""
        for op in self.ops:
            shape = op.output_shape(shape)
        return shape


@dataclasses.dataclass(frozen=True)
class OneOf(_OfOps, Augmentation):
    """Does to each image what one of several ops does, drawn for each image.

    All ops see the whole batch, and of each image, and its label, the result of one op is kept. So an op that mixes
    images takes its partners from all of them, and the call costs what all ops cost together. Where one op gives
    float32 images (of uint8 ones: Mixup), all do, which changes no value.

    Op i draws with `fold_in(seed, i)` and the op of each image with `fold_in(seed, len(ops))`, with the probabilities
    `weights / sum(weights)` to within 2**-24.

    Choice: `op_index` int32 [B], and the choices of the ops under `"i.name"`.

    Args:
      ops: the ops, one or more. All give images of one size, and as many.
      weights: how often each is drawn beside the others, above 0; None for all alike.

    Raises:
      ConfigError: if `ops` is not such a tuple of ops or `weights` not a positive number for each.

    Example:
      >>> from tfaug import augment
      >>> op = augment.OneOf((augment.CutMix(), augment.Mixup(0.2), augment.Compose(())), weights=(2, 1, 1))
      >>> batch = op((tf.zeros([8, 32, 32, 3], tf.uint8), tf.one_hot(tf.range(8), 10)), seed=1)
      >>> batch.images.dtype.name, batch.labels.shape.as_list()
      ('float32', [8, 10])
    """

    ops: tuple[Augmentation, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_ops(self, self.ops)
        if not self.ops:
            raise ConfigError("OneOf.ops is (); allowed: one op or more")
        for op in self.ops[1:]:
            if op.output_shape(_PROBE) != self.ops[0].output_shape(_PROBE):
                first = self.ops[0]
                raise ConfigError(f"OneOf.ops {first!r} and {op!r} give images of another size or number; allowed: one")
        if self.weights is not None:
            weights = to_python(self.weights)
            good = isinstance(weights, (tuple, list)) and len(weights) == len(self.ops)
            if not good or not all(is_number(weight) and 0 < weight <= LARGEST for weight in weights):
                allowed = f"{len(self.ops)} finite numbers above 0, one for each op, or None"
                raise ConfigError(f"OneOf.weights is {self.weights!r}; allowed: {allowed}")
            object.__setattr__(self, "weights", tuple(float(weight) for weight in weights))

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the op of each image and the choices of all ops; see Augmentation.sample."""
        choice: Choice = {}
        for i, op in enumerate(self.ops):
            choice.update(_named(i, op.sample(rng.fold_in(seed, i), shape, progress)))
        weights = np.ones(len(self.ops)) if self.weights is None else np.array(self.weights)
        # Where one op's share ends and the next one's begins, as multiples of 2**-24, of which the draws are.
        ends = np.round(np.cumsum(weights / weights.max())[:-1] / np.sum(weights / weights.max()) * 2**24) / 2**24
        drawn = rng.uniform(rng.fold_in(seed, len(self.ops)), [self.output_shape(shape)[0], 1])
        index = tf.reduce_sum(tf.cast(drawn >= tf.constant(ends, tf.float32), tf.int32), axis=1)
        return {"op_index": index, **choice}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Applies all ops and keeps one result of each image; see Augmentation.apply."""
        if self.mixes_labels:
            batch = batch._replace(labels=labels_to_mix("OneOf", batch))
        results, index = [op.apply(batch, _own(i, choice)) for i, op in enumerate(self.ops)], choice["op_index"]
        images = [result.images for result in results]
        if any(part.dtype == tf.float32 for part in images):
            images = [tf.cast(part, tf.float32) for part in images]
        labels = _pick([result.labels for result in results], index) if self.mixes_labels else batch.labels
        return Batch(_pick(images, index), labels)

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the shape that images of `shape`, [B, H, W, C], become."""
        return self.ops[0].output_shape(shape)


# Divisible by many numbers; larger than what ops cut out.
_PROBE = (5040, 5039, 5021, 3)


def images_per_row(op: Augmentation) -> int:
    """Returns how many images of a batch an op makes one of: k of `SumAug(k)`, 1 of an op that keeps their number."""
    num = 2**40  # so many that what a division leaves over does not count
    return num // int(op.output_shape((num, *_PROBE[1:]))[0])


def all_ops(op: Augmentation) -> list[Augmentation]:
    """Returns an op, or, of one that is made of ops, those: all that do something themselves."""
    return [part for inner in op.ops for part in all_ops(inner)] if isinstance(op, _OfOps) else [op]


def _check_ops(owner: Augmentation, ops: Any) -> None:
    """Raises a ConfigError if the field `ops` of `owner` is not a tuple of ops."""
    name = f"{type(owner).__name__}.ops"
    if not isinstance(ops, tuple):
        raise ConfigError(f"{name} is {ops!r}; allowed: a tuple of ops")
    for i, op in enumerate(ops):
        if not isinstance(op, Augmentation):
            hint = "; a class was given, not an op" if isinstance(op, type) else ""
            raise ConfigError(f"{name}[{i}] is {op!r}; allowed: ops (tfaug.augment.AUGMENTATIONS){hint}")


def _named(i: int, choice: Choice) -> Choice:
    """Returns the choice of op i under the names that it has in the choice of the whole."""
    return {f"{i}.{name}": value for name, value in choice.items()}


def _own(i: int, choice: Choice) -> Choice:
    """Returns what `_named` put into a choice for op i."""
    prefix = f"{i}."
    return {name[len(prefix) :]: value for name, value in choice.items() if name.startswith(prefix)}


def _pick(values: list[tf.Tensor], index: tf.Tensor) -> tf.Tensor:
    """Returns row b of the tensor number `index[b]` among `values`, for each b; bits are kept."""
    picked = values[0]
    for i, value in enumerate(values[1:], start=1):
        picked = tf.where(tf.reshape(index == i, [-1] + [1] * (value.shape.rank - 1)), value, picked)
    return picked
