"""Keras layers with keras-cv's names, arguments and calling convention: a keras-cv user changes one import.

    from tfaug.augment import layers as keras_cv_layers

What holds for all of them:

* Input: an image [H, W, C] or a batch [B, H, W, C] of any numeric type; or a dict with `images` and, where there are
  labels, `labels` (or `targets`). Other keys pass untouched. Ragged images, bounding boxes, key points and masks are
  refused.
* Output: what was given, with images of the layer's `compute_dtype`: float32, or what `dtype=` or the policy says.
  `dtype="uint8"` keeps uint8 from end to end.
* Each image draws its own parameters, in one batched computation that compiles under XLA.
* `training=False`, as in `model.predict` and `model.evaluate`, gives the images back as they are. Outside a model the
  default is True. keras-cv 0.9 has no such argument and augments always. AutoContrast, Equalization, Grayscale and
  Posterization draw nothing and do their work in both cases; crops give their size in both cases.
* Randomness: a layer holds a `tf.random.Generator`, whose state each call takes and advances in one atomic step. It
  works eagerly, in `tf.data`, in a `tf.function`, under XLA and in a SavedModel; the replicas of a strategy draw
  differently if the layer is made in its scope. `seed=None` takes the system's entropy once, when the layer is made,
  and not TensorFlow's global seed. With a seed the layer's first, second, ... call always draw the same; which batch
  of a `dataset.map` with parallel calls is the first is not determined. `layer(images, seed=...)`, an integer or int32
  [2] (`tfaug.rng`), leaves the state alone: the same seed gives the same bits, everywhere.
* A layer has no weights. Its state is in checkpoints, in SavedModels and in `.keras` files.
* `layer.sample_choice` and `layer.apply_choice` are to a layer what `sample` and `apply` are to an op.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfaug import augment, rng
from tfaug import images as kernels
from tfaug.augment import policies
from tfaug.augment.base import Augmentation, Batch, Choice, Shape, image_shape
from tfaug.augment.keras_cv import check_unscheduled
from tfaug.config import ConfigError

# A number, or the lowest and the highest one.
Factor: TypeAlias = float | Sequence[float]

_REFUSED_KEYS = ("bounding_boxes", "keypoints", "segmentation_masks")
_LABEL_KEYS = ("labels", "targets")
_FILL_MODES = ("reflect", "wrap", "constant", "nearest")
_INTERPOLATIONS = ("nearest", "bilinear")
_ONE = 1 << 16  # coordinates are whole multiples of 2**-16 px
_FRACTION_BITS = 24  # shares of a side, as rng.uniform draws them
_TABLE_SIZE = 4096
_LUMA = (0.2989, 0.587, 0.114)

_register = tf.keras.saving.register_keras_serializable(package="tfaug")


class ImageLayer(tf.keras.layers.Layer):
    """Gives a layer its calling convention and its randomness; the layer itself has sample_choice and apply_choice.

    Args:
      seed: an integer, or None for one of the system.
      **kwargs: of a Keras layer: name, dtype, trainable.
    """

    _mixes = False  # whether images are mixed with each other, and labels with them
    _random = True  # whether anything is drawn
    _resizes = False  # whether the images change their size
    _keeps_number = True  # whether as many images come out as go in

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.seed = seed
        start = int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) if seed is None else seed
        with tf.init_scope():
            self._generator = tf.random.Generator.from_seed(start, alg="philox")

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws everything that is random for images of `shape`; see Augmentation.sample."""
        return {}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Carries out `choice` on images, uint8 or float32 [B, H, W, C], and labels, float32 [B, K] or None."""
        raise NotImplementedError(f"{type(self).__name__} has no apply_choice(batch, choice)")

    def choice_at_rest(self, shape: Shape) -> Choice:
        """Returns the choice that stands in for a drawn one where `training` is False and the size changes."""
        raise NotImplementedError(f"{type(self).__name__} has no choice_at_rest(shape)")

    def call(self, inputs: Any, training: bool | None = True, seed: Any = None) -> Any:
        """Augments an image or a batch; see the module's docstring.

        Args:
          inputs: images [H, W, C] or [B, H, W, C], or a dict with `images`.
          training: whether to augment; None as True.
          seed: an integer or int32 [2], used in place of the layer's state.

        Returns:
          As `inputs`.

        Raises:
          ValueError: if the inputs are none of these, or a layer that mixes images gets one image or no labels.
        """
        return self._call(inputs, training is None or bool(training), seed)

    @tf.autograph.experimental.do_not_convert  # It has no Python control flow on tensors; converting costs seconds.
    def _call(self, inputs: Any, training: bool, seed: Any) -> Any:
        parts = dict(inputs) if isinstance(inputs, dict) else {"images": inputs}
        images = self._check(parts)
        single = images.shape.rank == 3
        label_key = next((key for key in _LABEL_KEYS if key in parts), None)
        labels = self._labels_to_mix(parts[label_key], single) if label_key else None
        batch = Batch(images, labels)
        if single:
            batch = Batch(*(None if part is None else part[tf.newaxis] for part in batch))
        shape = image_shape(batch.images)
        if not self._random:
            batch = self.apply_choice(batch, {})
        elif training:
            batch = self.apply_choice(batch, self.sample_choice(self._seed(seed), shape))
        elif self._resizes:
            batch = self.apply_choice(batch, self.choice_at_rest(shape))
        if single:
            batch = Batch(*(None if part is None else part[0] for part in batch))
        images = _cast(batch.images, tf.as_dtype(self.compute_dtype))
        if not isinstance(inputs, dict):
            return images
        if labels is not None:
            parts[label_key] = batch.labels
        return {**parts, "images": images}

    def _check(self, parts: dict[str, Any]) -> tf.Tensor:
        """Returns the images as uint8 or float32."""
        if "images" not in parts:
            raise ValueError(f"{self.name} is given a dict with {sorted(parts)}; needed: 'images'")
        for key in _REFUSED_KEYS:
            if key in parts:
                raise ValueError(f"{self.name} cannot augment {key!r}: it is for images and class labels")
        if isinstance(parts["images"], tf.RaggedTensor):
            raise ValueError(f"{self.name} is given ragged images; allowed: one size for the whole batch")
        if not self._keeps_number and (others := sorted({*parts} - {"images", *_LABEL_KEYS})):
            raise ValueError(f"{self.name} changes the number of images, but not that of {others}: take them out")
        images = tf.convert_to_tensor(parts["images"])
        if images.shape.rank not in (3, 4):
            raise ValueError(f"images are [H, W, C] or [B, H, W, C], got the shape {images.shape}")
        if not (images.dtype.is_floating or images.dtype.is_integer):
            raise ValueError(f"images are numbers, got {images.dtype.name}")
        return images if images.dtype == tf.uint8 else tf.cast(images, tf.float32)

    def _labels_to_mix(self, labels: Any, single: bool) -> tf.Tensor:
        """Returns the labels as the op needs them, float32 [B, K]; None where they pass."""
        return None

    def _seed(self, seed: Any) -> tf.Tensor:
        """Returns the seed of this call, int32 [2]."""
        if seed is None:
            return self._generator.uniform_full_int([2], tf.int32)
        seed = rng.make_seed(int(seed)) if isinstance(seed, (int, np.integer)) else tf.convert_to_tensor(seed)
        if seed.dtype != tf.int32 or not seed.shape.is_compatible_with([2]):
            raise ValueError(f"a seed is an integer or int32 [2] (tfaug.rng), got {seed.dtype.name} {seed.shape}")
        return seed

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "kwargs"]
        return {**super().get_config(), "seed": self.seed, **{name: getattr(self, name) for name in names}}

    def save_own_variables(self, store: Any) -> None:
        """Puts the generator's state into a `.keras` file."""
        store["state"] = np.array(self._generator.state)

    def load_own_variables(self, store: Any) -> None:
        """Takes the generator's state from a `.keras` file; from weights of a model without it, nothing."""
        if "state" in store:
            self._generator.reset(np.array(store["state"]))


def _cast(images: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns the images in another type; to a type of whole numbers, rounded and clipped."""
    if dtype.is_integer and images.dtype.is_floating:
        images = tf.round(images)
    return tf.saturate_cast(images, dtype) if dtype.is_integer else tf.cast(images, dtype)


def _pair(name: str, factor: Any, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """Returns the lowest and the highest factor; a single number goes from `low` up to it.

    Raises:
      ConfigError: if it is no such thing or leaves low..high.
    """
    numbers = (low, factor) if isinstance(factor, (int, float)) else factor
    good = isinstance(numbers, (tuple, list)) and len(numbers) == 2
    good = good and all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers)
    if not good or not low <= numbers[0] <= numbers[1] <= high:
        raise ConfigError(f"{name} is {factor!r}; allowed: a number or (lowest, highest) in {low:g}..{high:g}")
    return float(numbers[0]), float(numbers[1])


def _symmetric(name: str, factor: Any, low: float = -1.0, high: float = 1.0) -> tuple[float, float]:
    """Returns the lowest and the highest factor; a single number x means -x..x."""
    if isinstance(factor, (int, float)) and not isinstance(factor, bool):
        factor = (-factor, factor)
    return _pair(name, factor, low, high)


def _one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raises a ConfigError if `value` is not among `allowed`."""
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; allowed: {', '.join(map(str, allowed))}")


def _column(values: tf.Tensor) -> tf.Tensor:
    """Shapes values [B] so that they broadcast over [B, H, W, C]."""
    return tf.reshape(values, [-1, 1, 1, 1])


class RangeLayer(ImageLayer):
    """A layer whose images lie in `value_range`, to which the 256 grey levels are spread.

    Args:
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
      seed: see ImageLayer.
    """

    def __init__(self, value_range: Sequence[float], seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        _pair(f"{type(self).__name__}.value_range", value_range, -float("inf"), float("inf"))
        if not value_range[0] < value_range[1]:
            raise ConfigError(f"{type(self).__name__}.value_range is {value_range!r}; allowed: (lowest, highest)")
        self.value_range = value_range

    def _to_0_255(self, images: tf.Tensor) -> tf.Tensor:
        """Returns images of `value_range` in 0..255: as they are, or float32."""
        low, high = self.value_range
        if (low, high) == (0, 255):
            return images
        return (tf.cast(images, tf.float32) - float(low)) * (255.0 / (high - low))

    def _to_levels(self, images: tf.Tensor) -> tf.Tensor:
        """Returns images of `value_range` as grey levels, uint8: rounded and clipped."""
        return kernels.to_uint8(self._to_0_255(images))

    def _from_0_255(self, images: tf.Tensor) -> tf.Tensor:
        """Returns images of 0..255 in `value_range`."""
        low, high = self.value_range
        if (low, high) == (0, 255):
            return images
        if images.dtype == tf.uint8:
            # From a table: a product and a sum would be rounded once by XLA and twice by TensorFlow.
            table = np.linspace(low, high, 256, dtype=np.float64).astype(np.float32)
            return tf.gather(tf.constant(table), tf.cast(images, tf.int32))
        return rng.unfused(images * ((high - low) / 255.0)) + float(low)


# Images mixed with each other.


class OpLayer(ImageLayer):
    """A layer that does what an op does; for images of any range.

    Args:
      op: the op.
      seed: see ImageLayer.
    """

    def __init__(self, op: Augmentation, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        self._op = op

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws the op's choice; see ImageLayer.sample_choice."""
        return self._op.sample(seed, shape)

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Applies the op; see ImageLayer.apply_choice."""
        return self._op.apply(batch, choice)


class MixingLayer(OpLayer):
    """A layer that does what a mixing op does: it needs a batch, and labels [B, K] of any numeric type."""

    def _labels_to_mix(self, labels: Any, single: bool) -> tf.Tensor:
        labels = tf.convert_to_tensor(labels)
        if single:
            raise ValueError(f"{self.name} mixes the images of a batch, and is given one image")
        if labels.shape.rank != 2:
            got = f"{labels.dtype.name} {labels.shape}"
            raise ValueError(f"{self.name} mixes labels [B, K], got {got}; tf.one_hot(labels, num_classes) makes them")
        return tf.cast(labels, tf.float32)


@_register
class CutMix(MixingLayer):
    """Pastes a box of another image of the batch into each image: `tfaug.augment.CutMix`.

    Differences from keras-cv: the label's weight is the share of the pixels that were kept, where keras-cv takes the
    box before it is clipped at the border (off by 0.18 on average); the box's sides are rounded down to even numbers.

    Args:
      alpha: of the Beta distribution, above 0.
      seed: see ImageLayer.

    Example:
      >>> inputs = {"images": tf.zeros([8, 32, 32, 3]), "labels": tf.one_hot(tf.range(8), 10)}
      >>> sorted((key, value.shape.as_list()) for key, value in CutMix(seed=1)(inputs).items())
      [('images', [8, 32, 32, 3]), ('labels', [8, 10])]
    """

    def __init__(self, alpha: float = 1.0, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(augment.CutMix(alpha=alpha), seed=seed, **kwargs)
        self.alpha = alpha


@_register
class MixUp(MixingLayer):
    """Blends each image, and its label, with another image of the batch: `tfaug.augment.Mixup`.

    As keras-cv: a weight for each image. Labels must be given.

    Args:
      alpha: of the Beta distribution, above 0.
      seed: see ImageLayer.
    """

    def __init__(self, alpha: float = 0.2, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(augment.Mixup(alpha=alpha), seed=seed, **kwargs)
        self.alpha = alpha


@_register
class SumAugmentation(MixingLayer):
    """Averages k images, and their labels, into one: `tfaug.augment.SumAug`. Not in keras-cv.

    B images become B // k, so a dict may hold nothing but images and labels; with `training=False` it stays B.

    Args:
      k: how many images are summed, 1 or more.
      seed: see ImageLayer.
    """

    _keeps_number = False

    def __init__(self, k: int = 2, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(augment.SumAug(k=k), seed=seed, **kwargs)
        self.k = k


class RangeOpLayer(RangeLayer):
    """A layer that does what an op does, which sees images of 0..255.

    Args:
      op: the op.
      value_range: see RangeLayer.
      seed: see ImageLayer.

    Raises:
      ConfigError: if a field of the op is a schedule: a layer does not know where training stands.
    """

    def __init__(self, op: Augmentation, value_range: Sequence[float], seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        check_unscheduled(op, "a Keras layer")
        self._op = op

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws the op's choice; see ImageLayer.sample_choice."""
        return self._op.sample(seed, shape)

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Applies the op; see ImageLayer.apply_choice."""
        result = self._op.apply(batch._replace(images=self._to_0_255(batch.images)), choice)
        return result._replace(images=self._from_0_255(result.images))


@_register
class Augment(RangeOpLayer):
    """Does what any op of tfaug does. Not in keras-cv.

    With `training=False` the images keep their size, also where the op changes it.

    Args:
      op: an op, or its text as `tfaug.augment.parse_op` reads it. None of its fields is a schedule.
      value_range: the lowest and the highest value of the images; the op sees 0..255.
      seed: see ImageLayer.

    Raises:
      ConfigError: if the text is no op, or a field of the op is a schedule.

    Example:
      >>> layer = Augment("PadCrop(4) + Flip()", dtype="uint8")
      >>> layer(tf.zeros([4, 32, 32, 3], tf.uint8)).dtype.name
      'uint8'
    """

    def __init__(
        self,
        op: Augmentation | str,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        built = augment.parse_op(op) if isinstance(op, str) else op
        if not isinstance(built, Augmentation):
            raise ConfigError(f"Augment.op is {op!r}; allowed: an op (tfaug.augment.AUGMENTATIONS) or its text")
        super().__init__(built, value_range, seed=seed, **kwargs)
        num = 5040  # a multiple of many k
        self._keeps_number = built.output_shape((num, 64, 64, 3))[0] == num

    @property
    def op(self) -> str:
        """The op's text, which `tfaug.augment.parse_op` reads."""
        return repr(self._op)

    def _labels_to_mix(self, labels: Any, single: bool) -> tf.Tensor:
        # An op that mixes none leaves them as they are; one that does asks for [B, K] itself.
        labels = tf.convert_to_tensor(labels)
        good = labels.dtype.is_floating and labels.shape.rank == (1 if single else 2)
        return tf.cast(labels, tf.float32) if good else None


# Operations on grey levels, 0..255 in whole numbers.


@_register
class RandAugment(RangeLayer):
    """Applies operations to each image, drawn for each: `tfaug.augment.RandAugment` with the preset `keras_cv`.

    The operations, their shares and their ranges are keras-cv's, `magnitude` 0..1 included, with the differences that
    the preset's table lists: they work on whole grey levels as PIL's do; what a warp leaves empty is filled with grey
    and not by reflection, and warps take the nearest pixel; solarize adds nothing first, contrast moves about the
    image's mean grey and brightness multiplies. The paper's operations and ranges are
    `Augment(tfaug.augment.RandAugment(n, m))`.

    Any number of channels that the op takes (1 or 3); keras-cv needs 3. Compiles under XLA, where it is fastest. With
    `rate` above 10/11 or `geometric=False` a call takes about twice as long, for the batch is less balanced.

    Args:
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
      augmentations_per_image: layers of operations, 0 or more; 0 is the identity.
      magnitude: mean strength, 0..1. A translation by the whole image, at 1, is refused.
      magnitude_stddev: standard deviation of the strength, 0..1.
      rate: probability that a layer does something to an image, 0..1.
      geometric: whether shears and translations are among the operations.
      seed: see ImageLayer.

    Raises:
      ConfigError: if an argument is out of its range.

    Example:
      >>> layer = RandAugment(value_range=(0, 255), augmentations_per_image=2, magnitude=0.3, dtype="uint8")
      >>> layer(tf.zeros([4, 32, 32, 3], tf.uint8)).shape.as_list()
      [4, 32, 32, 3]
    """

    def __init__(
        self,
        value_range: Sequence[float],
        augmentations_per_image: int = 3,
        magnitude: float = 0.5,
        magnitude_stddev: float = 0.15,
        rate: float = 10 / 11,
        geometric: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        for name, value in (("magnitude", magnitude), ("magnitude_stddev", magnitude_stddev), ("rate", rate)):
            _pair(f"RandAugment.{name}", value)
        if not isinstance(augmentations_per_image, int) or augmentations_per_image < 0:
            got = f"RandAugment.augmentations_per_image is {augmentations_per_image!r}"
            raise ConfigError(f"{got}; allowed: a whole number, 0 or more")
        self.augmentations_per_image = augmentations_per_image
        self.magnitude = magnitude
        self.magnitude_stddev = magnitude_stddev
        self.rate = rate
        self.geometric = geometric
        top = policies.MAX_MAGNITUDE
        self._layer = augment.RandAugment(n=1, m=magnitude * top, preset="keras_cv", spread=magnitude_stddev * top)
        self._all = dataclasses.replace(self._layer, n=augmentations_per_image)
        names = self._layer.op_names
        used = [name != "identity" and (geometric or name not in _GEOMETRIC) for name in names]
        # The preset's identity is a rate of 10/11. Another one is a share of images that are skipped on top of it; or
        # the identity, and what else is not wanted, is drawn anew among the rest.
        natural = 1 - 1 / len(names)
        self._as_preset = geometric and abs(rate - natural) < 1e-6
        self._used = None if geometric and rate < natural else used
        self._skipped = 1 - rate if self._used else 1 - rate / natural

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws operations, strengths and, where the rate is not 10/11, what is skipped; see ImageLayer."""
        if self._as_preset:
            return self._all.sample(seed, shape)
        choice: Choice = {}
        for i in range(self.augmentations_per_image):
            own = rng.fold_in(seed, i)
            drawn = self._layer.sample(rng.fold_in(own, 0), shape)
            if self._used is not None:
                others = tf.constant(np.flatnonzero(self._used), tf.int32)
                again = tf.gather(
                    others, rng.randint(rng.fold_in(own, 1), [shape[0], 1], 0, len(np.flatnonzero(self._used)))
                )
                wanted = tf.gather(tf.constant(self._used), drawn["op_index"])
                drawn["op_index"] = tf.where(wanted, drawn["op_index"], again)
            drawn["skipped"] = rng.bernoulli(rng.fold_in(own, 2), [shape[0]], self._skipped)
            choice.update({f"{i}.{name}": value for name, value in drawn.items()})
        return choice

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Applies the operations; see ImageLayer.apply_choice."""
        levels = self._to_levels(batch.images)
        if self._as_preset:
            levels = self._all.apply(Batch(levels), choice).images
        else:
            for i in range(self.augmentations_per_image):
                own = {name.partition(".")[2]: value for name, value in choice.items() if name.startswith(f"{i}.")}
                skipped = _column(own.pop("skipped"))
                levels = tf.where(skipped, levels, self._layer.apply(Batch(levels), own).images)
        return batch._replace(images=self._from_0_255(levels))


_GEOMETRIC = ("shear_x", "shear_y", "translate_x_fraction", "translate_y_fraction")


@_register
class AutoAugment(RangeOpLayer):
    """Applies a sub-policy of a published policy to each image: `tfaug.augment.AutoAugment`. Not in keras-cv.

    Args:
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
      policy: `cifar10`, `cifar10_full` or `imagenet`.
      rate: probability that an image is augmented at all, 0..1.
      seed: see ImageLayer.
    """

    def __init__(
        self,
        value_range: Sequence[float],
        policy: str = "cifar10",
        rate: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(augment.AutoAugment(policy, p=rate), value_range, seed=seed, **kwargs)
        self.policy, self.rate = policy, rate


@_register
class RandomErasing(RangeOpLayer):
    """Covers a rectangle of random area and shape, wholly inside the image: `tfaug.augment.RandomErasing`.

    Not in keras-cv, whose RandomCutout draws the sides and clips at the border.

    Args:
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
      rate: probability per image, 0..1.
      area_factor: (lowest, highest) share of the area, 0..1.
      aspect_ratio_factor: (lowest, highest) height over width, 0.01..100.
      fill: grey level 0..255, or `noise`.
      seed: see ImageLayer.
    """

    def __init__(
        self,
        value_range: Sequence[float],
        rate: float = 0.5,
        area_factor: Sequence[float] = (0.02, 0.33),
        aspect_ratio_factor: Sequence[float] = (0.3, 3.3),
        fill: int | str = 0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        area = _pair("RandomErasing.area_factor", area_factor)
        aspect = _pair("RandomErasing.aspect_ratio_factor", aspect_ratio_factor, 0.01, 100)
        op = augment.RandomErasing(rate, area, aspect, fill)
        super().__init__(op, value_range, seed=seed, **kwargs)
        self.rate, self.fill = rate, fill
        self.area_factor, self.aspect_ratio_factor = area_factor, aspect_ratio_factor


@_register
class AutoContrast(RangeLayer):
    """Stretches each channel of each image over the whole range, as PIL does; with or without `training`.

    As keras-cv, but for whole grey levels.

    Args:
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
    """

    _random = False

    def __init__(self, value_range: Sequence[float], **kwargs: Any) -> None:
        super().__init__(value_range, **kwargs)

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Stretches; see ImageLayer.apply_choice."""
        levels = kernels.autocontrast(self._to_levels(batch.images))
        return batch._replace(images=self._from_0_255(levels))


@_register
class Equalization(RangeLayer):
    """Flattens the histogram of each channel of each image, as PIL does; with or without `training`.

    Differences from keras-cv: 256 bins only; the last step of PIL's table is the pixels of the highest value, where
    keras-cv takes those of the rarest.

    Args:
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
      bins: 256.
    """

    _random = False

    def __init__(self, value_range: Sequence[float], bins: int = 256, **kwargs: Any) -> None:
        super().__init__(value_range, **kwargs)
        _one_of("Equalization.bins", bins, (256,))
        self.bins = bins

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Flattens; see ImageLayer.apply_choice."""
        return batch._replace(images=self._from_0_255(kernels.equalize(self._to_levels(batch.images))))


@_register
class Posterization(RangeLayer):
    """Keeps the highest bits of each grey level; with or without `training`.

    As keras-cv, but for values that are rounded to grey levels where keras-cv cuts the fraction off.

    Args:
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
      bits: how many bits are kept, 1..8.
    """

    _random = False

    def __init__(self, value_range: Sequence[float], bits: int, **kwargs: Any) -> None:
        super().__init__(value_range, **kwargs)
        _one_of("Posterization.bits", bits, range(1, 9))
        self.bits = bits

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Cuts the lowest bits off; see ImageLayer.apply_choice."""
        return batch._replace(images=self._from_0_255(kernels.posterize(self._to_levels(batch.images), self.bits)))


@_register
class Solarization(RangeLayer):
    """Adds to all values, clips them to the range, and inverts those at or above a threshold.

    As keras-cv, but for whole grey levels.

    Args:
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
      addition_factor: grey levels that are added, 0..255: (lowest, highest), or the highest.
      threshold_factor: lowest inverted level, 0..255, likewise. The default inverts all.
      seed: see ImageLayer.
    """

    def __init__(
        self,
        value_range: Sequence[float],
        addition_factor: Factor = 0.0,
        threshold_factor: Factor = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        self.addition_factor, self.threshold_factor = addition_factor, threshold_factor
        self._additions = _pair("Solarization.addition_factor", addition_factor, 0, 255)
        self._thresholds = _pair("Solarization.threshold_factor", threshold_factor, 0, 255)

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `addition` and `threshold`, int32 [B]; see ImageLayer.sample_choice."""
        return {
            "addition": tf.cast(tf.round(rng.uniform(rng.fold_in(seed, 0), [shape[0]], *self._additions)), tf.int32),
            "threshold": tf.cast(
                tf.math.ceil(rng.uniform(rng.fold_in(seed, 1), [shape[0]], *self._thresholds)), tf.int32
            ),
        }

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Adds and inverts; see ImageLayer.apply_choice."""
        values = tf.cast(self._to_levels(batch.images), tf.int32) + _column(choice["addition"])
        added = tf.cast(tf.minimum(values, 255), tf.uint8)
        return batch._replace(images=self._from_0_255(kernels.solarize(added, choice["threshold"])))


@_register
class RandomSharpness(RangeLayer):
    """Blends each image with its smoothed form, PIL's 3x3 mean: a factor of 0 is the image, 1 the smoothed one.

    As keras-cv, but for whole grey levels. (PIL counts the other way round.)

    Args:
      factor: share of the smoothed image, 0..1: (lowest, highest), or the highest.
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
      seed: see ImageLayer.
    """

    def __init__(self, factor: Factor, value_range: Sequence[float], seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        self.factor = factor
        self._factors = _pair("RandomSharpness.factor", factor)

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `factor`, float32 [B]; see ImageLayer.sample_choice."""
        return {"factor": rng.uniform(seed, [shape[0]], *self._factors)}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Smooths; see ImageLayer.apply_choice."""
        one = kernels.factor_q20(1)
        kept = one - tf.cast(tf.round(choice["factor"] * one), tf.int32)
        return batch._replace(images=self._from_0_255(kernels.sharpness(self._to_levels(batch.images), kept)))


# Operations on the values as they are, float32.


def _mix(first: tf.Tensor, second: tf.Tensor, weight: tf.Tensor | float) -> tf.Tensor:
    """Returns (1 - weight) first + weight second, the same bits with and without XLA."""
    return rng.unfused((1.0 - weight) * first) + rng.unfused(weight * second)


def _gray(images: tf.Tensor) -> tf.Tensor:
    """Returns the luma 0.2989 R + 0.587 G + 0.114 B, float32 [B, H, W, 1]."""
    if images.shape[-1] == 1:
        return images
    if images.shape[-1] != 3:
        raise ValueError(f"images have {images.shape[-1]} channels; allowed: 1 or 3")
    red, green, blue = (rng.unfused(images[..., i : i + 1] * share) for i, share in enumerate(_LUMA))
    return red + green + blue


@_register
class RandomBrightness(RangeLayer):
    """Adds a share of the range to all values of an image, and clips. As keras-cv.

    Args:
      factor: share of the range, -1..1: (lowest, highest), or x for -x..x.
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
      seed: see ImageLayer.
    """

    def __init__(
        self, factor: Factor, value_range: Sequence[float] = (0, 255), seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        self.factor = factor
        self._factors = _symmetric("RandomBrightness.factor", factor)

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `factor`, float32 [B]; see ImageLayer.sample_choice."""
        return {"factor": rng.uniform(seed, [shape[0]], *self._factors)}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Adds; see ImageLayer.apply_choice."""
        low, high = self.value_range
        added = rng.unfused(_column(choice["factor"]) * float(high - low))
        return batch._replace(images=tf.clip_by_value(tf.cast(batch.images, tf.float32) + added, low, high))


@_register
class RandomContrast(RangeLayer):
    """Moves the values of each channel of an image away from the channel's mean, or towards it, and clips.

        mean + factor (value - mean)

    As keras-cv, but that the mean is that of the grey levels, to 1/256 of a level.

    Args:
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
      factor: (a, b) for factors 1 - a .. 1 + b, or a for 1 - a .. 1 + a; a is at most 2, b at most 1.
      seed: see ImageLayer.
    """

    def __init__(self, value_range: Sequence[float], factor: Factor, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        self.factor = factor
        below, above = (factor, factor) if isinstance(factor, (int, float)) else factor
        self._factors = _pair("RandomContrast: 1 - a, 1 + b of factor", (1 - below, 1 + above), -1, 2)

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `factor`, float32 [B]; see ImageLayer.sample_choice."""
        return {"factor": rng.uniform(seed, [shape[0]], *self._factors)}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Moves the values; see ImageLayer.apply_choice."""
        levels = tf.cast(self._to_levels(batch.images), tf.int64)
        num_pixels = tf.cast(tf.shape(levels)[1] * tf.shape(levels)[2], tf.int64)
        # In whole numbers: the order of a sum of floats, and so its bits, would be the device's.
        total = tf.reduce_sum(levels, [1, 2], keepdims=True) * 256
        mean = self._from_0_255(tf.cast((total + num_pixels // 2) // num_pixels, tf.float32) * (1 / 256))
        moved = mean + rng.unfused(_column(choice["factor"]) * (tf.cast(batch.images, tf.float32) - mean))
        return batch._replace(images=tf.clip_by_value(moved, *self.value_range))


@_register
class RandomColorDegeneration(ImageLayer):
    """Blends each image with its luma, and clips to 0..255: a factor of 0 is the image, 1 the grey one. As keras-cv.

    Images of one channel stay as they are.

    Args:
      factor: share of the luma, 0..1: (lowest, highest), or the highest.
      seed: see ImageLayer.
    """

    def __init__(self, factor: Factor, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        self.factor = factor
        self._factors = _pair("RandomColorDegeneration.factor", factor)

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `factor`, float32 [B]; see ImageLayer.sample_choice."""
        return {"factor": rng.uniform(seed, [shape[0]], *self._factors)}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Blends; see ImageLayer.apply_choice."""
        images = tf.cast(batch.images, tf.float32)
        return batch._replace(images=tf.clip_by_value(_mix(images, _gray(images), _column(choice["factor"])), 0, 255))


@_register
class Grayscale(ImageLayer):
    """Replaces the colours by their luma; with or without `training`. As keras-cv; one channel is taken too.

    Args:
      output_channels: 1, or 3 equal ones.
    """

    _random = False

    def __init__(self, output_channels: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _one_of("Grayscale.output_channels", output_channels, (1, 3))
        self.output_channels = output_channels

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Takes the luma; see ImageLayer.apply_choice."""
        gray = _gray(tf.cast(batch.images, tf.float32))
        return batch._replace(images=tf.repeat(gray, self.output_channels, axis=-1))


@_register
class ChannelShuffle(ImageLayer):
    """Permutes the groups of channels of each image. As keras-cv.

    Args:
      groups: number of groups, which divides the number of channels.
      seed: see ImageLayer.
    """

    def __init__(self, groups: int = 3, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        if not isinstance(groups, int) or groups < 1:
            raise ConfigError(f"ChannelShuffle.groups is {groups!r}; allowed: a whole number, 1 or more")
        self.groups = groups

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `order`, int32 [B, groups]; see ImageLayer.sample_choice."""
        keys = tf.bitcast(rng.bits(seed, [shape[0], self.groups]), tf.int32)
        return {"order": tf.argsort(keys, stable=True)}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Permutes; see ImageLayer.apply_choice."""
        channels = batch.images.shape[-1]
        if channels % self.groups:
            raise ValueError(f"images have {channels} channels, which {self.groups} groups do not divide")
        size = channels // self.groups
        source = tf.reshape(choice["order"][..., tf.newaxis] * size + tf.range(size), [-1, channels])
        return batch._replace(images=tf.gather(batch.images, source, axis=3, batch_dims=1))


# Pixels moved, covered and smoothed, whatever their values.


def _fill_in(index: tf.Tensor, size: Any, fill_mode: str) -> tf.Tensor:
    """Returns the pixel that stands for `index`, which may lie outside 0..size-1."""
    if fill_mode == "reflect":  # d c b a | a b c d | d c b a
        index = tf.math.floormod(index, 2 * size)
        return tf.minimum(index, 2 * size - 1 - index)
    if fill_mode == "wrap":
        return tf.math.floormod(index, size)
    return tf.clip_by_value(index, 0, size - 1) if fill_mode == "nearest" else index


def _sample_pixels(
    images: tf.Tensor, y: tf.Tensor, x: tf.Tensor, interpolation: str, fill_mode: str, fill_value: float
) -> tf.Tensor:
    """Returns the images at places between pixels, float32 [B, H', W', C].

    Args:
      images: [B, H, W, C].
      y: int32, in 2**-16 px, 0 the centre of the first row; broadcasts to [B, H', W'].
      x: likewise.
      interpolation: `nearest` or `bilinear`.
      fill_mode: what stands outside the image: `reflect`, `wrap`, `nearest`, or `constant` for `fill_value`.
      fill_value: a number.
    """
    images = tf.cast(images, tf.float32)
    _, height, width, _ = image_shape(images)

    def pixels(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        places = _fill_in(row, height, fill_mode), _fill_in(column, width, fill_mode)
        return kernels.gather_pixels(images, *places, fill_value)  # type: ignore[arg-type]

    if interpolation == "nearest":
        return pixels(*(tf.bitwise.right_shift(place + _ONE // 2, 16) for place in (y, x)))
    (top, down), (left, right) = (
        (tf.bitwise.right_shift(place, 16), tf.cast(tf.bitwise.bitwise_and(place, _ONE - 1), tf.float32) * (1 / _ONE))
        for place in (y, x)
    )
    right = right[..., tf.newaxis]
    upper = _mix(pixels(top, left), pixels(top, left + 1), right)
    lower = _mix(pixels(top + 1, left), pixels(top + 1, left + 1), right)
    return _mix(upper, lower, down[..., tf.newaxis])


def _q16(values: tf.Tensor) -> tf.Tensor:
    """Returns values in whole multiples of 2**-16, int32."""
    return tf.cast(tf.round(values * _ONE), tf.int32)


class WarpLayer(ImageLayer):
    """A layer that maps each image affinely: out[y, x] = in[d x + e y + f, a x + b y + c].

    Args:
      fill_mode: what stands outside the image: `reflect` (d c b a | a b c d | d c b a), `wrap`, `nearest`, or
        `constant` for `fill_value`.
      interpolation: `nearest` or `bilinear`.
      fill_value: a number, in the unit of the images.
      bounding_box_format: None; here because keras-cv has it.
      segmentation_classes: likewise.
      seed: see ImageLayer.
    """

    def __init__(
        self,
        fill_mode: str,
        interpolation: str,
        fill_value: float,
        bounding_box_format: None = None,
        segmentation_classes: None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        name = type(self).__name__
        _one_of(f"{name}.fill_mode", fill_mode, _FILL_MODES)
        _one_of(f"{name}.interpolation", interpolation, _INTERPOLATIONS)
        _one_of(f"{name}.bounding_box_format", bounding_box_format, (None,))
        _one_of(f"{name}.segmentation_classes", segmentation_classes, (None,))
        self.fill_mode, self.interpolation, self.fill_value = fill_mode, interpolation, fill_value
        self.bounding_box_format, self.segmentation_classes = bounding_box_format, segmentation_classes

    def _warp(self, images: tf.Tensor, matrix: Sequence[Any]) -> tf.Tensor:
        """Maps the images by a, b, c, d, e, f, each int32 [B] in 2**-16."""
        _, height, width, _ = image_shape(images)
        a, b, c, d, e, f = (tf.reshape(value, [-1, 1, 1]) for value in matrix)
        x, y = tf.range(width)[tf.newaxis, tf.newaxis], tf.range(height)[tf.newaxis, :, tf.newaxis]
        warped = _sample_pixels(
            images, d * x + e * y + f, a * x + b * y + c, self.interpolation, self.fill_mode, self.fill_value
        )
        return tf.ensure_shape(warped, images.shape)


@_register
class RandomRotation(WarpLayer):
    """Turns each image about its centre. As keras-cv, but that the angle is one of 4,096, evenly spaced.

    Args:
      factor: turns counter-clockwise: (lowest, highest), or x for -x..x; 0.1 is 36 degrees.
      fill_mode: see WarpLayer.
      interpolation: see WarpLayer.
      seed: see ImageLayer.
      fill_value: see WarpLayer.
      bounding_box_format: None.
      segmentation_classes: None.
    """

    def __init__(
        self,
        factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        bounding_box_format: None = None,
        segmentation_classes: None = None,
        **kwargs: Any,
    ) -> None:
        boxes = (bounding_box_format, segmentation_classes)
        super().__init__(fill_mode, interpolation, fill_value, *boxes, seed=seed, **kwargs)
        self.factor = factor
        low, high = _symmetric("RandomRotation.factor", factor, -float("inf"), float("inf"))
        # From a table, so that no sine is computed on a device.
        angles = 2 * np.pi * (low + (high - low) * (np.arange(_TABLE_SIZE) + 0.5) / _TABLE_SIZE)
        self._cosines, self._sines = (np.rint(f(angles) * _ONE).astype(np.int32) for f in (np.cos, np.sin))

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `angle`, int32 [B], a place in the table; see ImageLayer.sample_choice."""
        return {"angle": rng.randint(seed, [shape[0]], 0, _TABLE_SIZE)}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Turns; see ImageLayer.apply_choice."""
        cos, sin = (tf.gather(tf.constant(table), choice["angle"]) for table in (self._cosines, self._sines))
        _, height, width, _ = image_shape(batch.images)
        last_x, last_y = width - 1, height - 1
        c = tf.bitwise.right_shift((_ONE - cos) * last_x + sin * last_y, 1)
        f = tf.bitwise.right_shift((_ONE - cos) * last_y - sin * last_x, 1)
        return batch._replace(images=self._warp(batch.images, (cos, -sin, c, sin, cos, f)))


@_register
class RandomShear(WarpLayer):
    """Shears each image along x, then along y, by a factor of a drawn sign. As keras-cv.

    Args:
      x_factor: px per px, 0 or more: (lowest, highest), or the highest; None for no shear along x.
      y_factor: likewise, along y.
      interpolation: see WarpLayer.
      fill_mode: see WarpLayer.
      fill_value: see WarpLayer.
      bounding_box_format: None.
      seed: see ImageLayer.
    """

    def __init__(
        self,
        x_factor: Factor | None = None,
        y_factor: Factor | None = None,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        bounding_box_format: None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, fill_value, bounding_box_format, seed=seed, **kwargs)
        self.x_factor, self.y_factor = x_factor, y_factor
        factors = {"x": x_factor, "y": y_factor}
        self._factors = {
            axis: _pair(f"RandomShear.{axis}_factor", factor, 0, float("inf"))
            for axis, factor in factors.items()
            if factor is not None
        }

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `x` and `y`, float32 [B], those that are wanted; see ImageLayer.sample_choice."""
        choice = {}
        for i, (axis, factors) in enumerate(self._factors.items()):
            size = rng.uniform(rng.fold_in(seed, 2 * i), [shape[0]], *factors)
            choice[axis] = tf.where(rng.bernoulli(rng.fold_in(seed, 2 * i + 1), [shape[0]], 0.5), -size, size)
        return choice

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Shears; see ImageLayer.apply_choice."""
        images = batch.images
        if "x" in choice:
            images = self._warp(images, (_ONE, _q16(choice["x"]), 0, 0, _ONE, 0))
        if "y" in choice:
            images = self._warp(images, (_ONE, 0, 0, _q16(choice["y"]), _ONE, 0))
        return batch._replace(images=images)


@_register
class RandomTranslation(WarpLayer):
    """Moves each image down and to the right by shares of its sides. As keras-cv.

    Args:
      height_factor: share of the height, -1..1: (lowest, highest), or x for -x..x; positive is down.
      width_factor: share of the width, likewise; positive is to the right.
      fill_mode: see WarpLayer.
      interpolation: see WarpLayer.
      seed: see ImageLayer.
      fill_value: see WarpLayer.
      bounding_box_format: None.
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        bounding_box_format: None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, fill_value, bounding_box_format, seed=seed, **kwargs)
        self.height_factor, self.width_factor = height_factor, width_factor
        self._down = _symmetric("RandomTranslation.height_factor", height_factor)
        self._right = _symmetric("RandomTranslation.width_factor", width_factor)

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `down` and `right`, float32 [B], shares of the sides; see ImageLayer.sample_choice."""
        return {
            "down": rng.uniform(rng.fold_in(seed, 0), [shape[0]], *self._down),
            "right": rng.uniform(rng.fold_in(seed, 1), [shape[0]], *self._right),
        }

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Moves; see ImageLayer.apply_choice."""
        _, height, width, _ = image_shape(batch.images)
        down, right = _part(choice["down"], height, _ONE), _part(choice["right"], width, _ONE)
        return batch._replace(images=self._warp(batch.images, (_ONE, 0, -right, 0, _ONE, -down)))


def _part(share: tf.Tensor, size: Any, unit: int) -> tf.Tensor:
    """Returns `share` of `size` in 1/unit px, int32, computed in whole numbers."""
    share = tf.cast(tf.round(share * 2.0**_FRACTION_BITS), tf.int64)
    half = 2 ** (_FRACTION_BITS - 1)
    part = tf.bitwise.right_shift(share * tf.cast(size, tf.int64) * unit + half, tf.constant(_FRACTION_BITS, tf.int64))
    return tf.cast(part, tf.int32)


@_register
class RandomZoom(WarpLayer):
    """Zooms each image out or in about its centre. As keras-cv.

    Args:
      height_factor: -1..1, positive for out and negative for in: (lowest, highest), or x for -x..x.
      width_factor: likewise; None for the height's draw, which keeps the aspect ratio.
      fill_mode: see WarpLayer.
      interpolation: see WarpLayer.
      seed: see ImageLayer.
      fill_value: see WarpLayer.
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, fill_value, seed=seed, **kwargs)
        self.height_factor, self.width_factor = height_factor, width_factor
        self._heights = _symmetric("RandomZoom.height_factor", height_factor)
        self._widths = (
            None if width_factor is None else _symmetric("RandomZoom.width_factor", width_factor, -1, float("inf"))
        )

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `height` and `width`, float32 [B], the zooms minus 1; see ImageLayer.sample_choice."""
        height = rng.uniform(rng.fold_in(seed, 0), [shape[0]], *self._heights)
        if self._widths is None:
            return {"height": height, "width": height}
        return {"height": height, "width": rng.uniform(rng.fold_in(seed, 1), [shape[0]], *self._widths)}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Zooms; see ImageLayer.apply_choice."""
        _, height, width, _ = image_shape(batch.images)
        down, across = _q16(choice["height"]), _q16(choice["width"])
        f, c = (tf.bitwise.right_shift(-zoom * (size - 1), 1) for zoom, size in ((down, height), (across, width)))
        return batch._replace(images=self._warp(batch.images, (_ONE + across, 0, c, 0, _ONE + down, f)))


@_register
class RandomFlip(ImageLayer):
    """Mirrors each image left to right, top to bottom or, each by itself, both. As keras-cv.

    Args:
      mode: `horizontal`, `vertical` or `horizontal_and_vertical`.
      rate: probability of each, 0..1.
      seed: see ImageLayer.
      bounding_box_format: None.
    """

    def __init__(
        self,
        mode: str = "horizontal",
        rate: float = 0.5,
        seed: int | None = None,
        bounding_box_format: None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        _one_of("RandomFlip.mode", mode, ("horizontal", "vertical", "horizontal_and_vertical"))
        _pair("RandomFlip.rate", rate)
        _one_of("RandomFlip.bounding_box_format", bounding_box_format, (None,))
        self.mode, self.rate, self.bounding_box_format = mode, rate, bounding_box_format
        self._flips = {axis: augment.Flip(rate, axis) for axis in mode.split("_and_")}

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `horizontal` and `vertical`, bool [B], those that the mode names; see ImageLayer.sample_choice."""
        return {axis: op.sample(rng.fold_in(seed, len(axis)), shape)["flip"] for axis, op in self._flips.items()}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Mirrors; see ImageLayer.apply_choice."""
        for axis, op in self._flips.items():
            batch = op.apply(batch, {"flip": choice[axis]})
        return batch


@_register
class RandomCutout(ImageLayer):
    """Covers a rectangle of each image, about a pixel drawn uniformly; it is clipped at the borders.

    As keras-cv, but that it fills with a constant only. (There, a width is held to the height.)

    Args:
      height_factor: share of the height, 0..1, rounded up to whole px: (lowest, highest), or the highest.
      width_factor: share of the width, likewise.
      fill_mode: `constant`.
      fill_value: a number, in the unit of the images.
      seed: see ImageLayer.
    """

    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        _one_of("RandomCutout.fill_mode", fill_mode, ("constant",))
        self.height_factor, self.width_factor = height_factor, width_factor
        self.fill_mode, self.fill_value = fill_mode, fill_value
        self._heights = _pair("RandomCutout.height_factor", height_factor)
        self._widths = _pair("RandomCutout.width_factor", width_factor)

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `centre_px` and `size_px`, int32 [B, 2], of rows and columns; see ImageLayer.sample_choice."""
        batch, height, width, _ = shape
        centres, sizes = [], []
        for i, (side, factors) in enumerate(((height, self._heights), (width, self._widths))):
            centres.append(rng.randint(rng.fold_in(seed, 2 * i), [batch], 0, side))
            share = rng.uniform(rng.fold_in(seed, 2 * i + 1), [batch], *factors)
            whole = tf.cast(tf.round(share * 2.0**_FRACTION_BITS), tf.int64) * tf.cast(side, tf.int64)
            bits = tf.constant(_FRACTION_BITS, tf.int64)
            sizes.append(tf.cast(tf.bitwise.right_shift(whole + 2**_FRACTION_BITS - 1, bits), tf.int32))
        return {"centre_px": tf.stack(centres, 1), "size_px": tf.stack(sizes, 1)}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Covers; see ImageLayer.apply_choice."""
        _, height, width, _ = image_shape(batch.images)
        inside = []
        for i, side in enumerate((height, width)):
            # Twice the distance: the rectangle reaches half of its side to the left of the pixel's corner.
            twice = 2 * (tf.range(side) - choice["centre_px"][:, i : i + 1])
            size = choice["size_px"][:, i : i + 1]
            inside.append((twice >= -size) & (twice < size))
        covered = inside[0][:, :, tf.newaxis, tf.newaxis] & inside[1][:, tf.newaxis, :, tf.newaxis]
        return batch._replace(images=tf.where(covered, self.fill_value, tf.cast(batch.images, tf.float32)))


class CropLayer(ImageLayer):
    """A layer that cuts a window out of each image and brings it to one size, with and without `training`."""

    _resizes = True

    def _cut(self, images: tf.Tensor, places: Sequence[tf.Tensor], interpolation: str) -> tf.Tensor:
        """Returns the images at rows, int32 [B, H'], and columns, int32 [B, W'], in 2**-16 px."""
        y, x = places
        return _sample_pixels(images, y[:, :, tf.newaxis], x[:, tf.newaxis, :], interpolation, "nearest", 0.0)


@_register
class RandomCrop(CropLayer):
    """Cuts a window out of each image, at a place of its own; an image that is smaller is resized, bilinear.

    The window lies on whole pixels, where keras-cv takes fractions of a pixel and so may leave out a row and double
    another. Without `training` it is the window in the middle.

    Args:
      height: rows of the window.
      width: columns of the window.
      seed: see ImageLayer.
      bounding_box_format: None.
    """

    def __init__(
        self, height: int, width: int, seed: int | None = None, bounding_box_format: None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        for name, value in (("height", height), ("width", width)):
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"RandomCrop.{name} is {value!r}; allowed: a whole number, 1 or more")
        _one_of("RandomCrop.bounding_box_format", bounding_box_format, (None,))
        self.height, self.width, self.bounding_box_format = height, width, bounding_box_format

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `top` and `left`, int32 [B], 0 where the image is smaller; see ImageLayer.sample_choice."""
        batch, height, width, _ = shape
        rows, columns = (tf.maximum(size + 1, 1) for size in (height - self.height, width - self.width))
        return {
            "top": rng.randint(rng.fold_in(seed, 0), [batch], 0, rows),
            "left": rng.randint(rng.fold_in(seed, 1), [batch], 0, columns),
        }

    def choice_at_rest(self, shape: Shape) -> Choice:
        """Returns the middle; see ImageLayer.choice_at_rest."""
        batch, height, width, _ = shape
        return {
            "top": tf.repeat(tf.maximum((height - self.height) // 2, 0), batch),
            "left": tf.repeat(tf.maximum((width - self.width) // 2, 0), batch),
        }

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Cuts; see ImageLayer.apply_choice."""
        _, height, width, _ = image_shape(batch.images)
        fits = (height >= self.height) & (width >= self.width)
        places = []
        for first, size, target in ((choice["top"], height, self.height), (choice["left"], width, self.width)):
            steps = tf.range(target)[tf.newaxis]
            # Resized, pixel i's centre stands at (i + 1/2) size / target.
            resized = (2 * steps + 1) * size * (_ONE // 2) // target - _ONE // 2
            places.append(tf.where(fits, (first[:, tf.newaxis] + steps) * _ONE, resized))
        return batch._replace(images=self._cut(batch.images, places, "bilinear"))


@_register
class RandomCropAndResize(CropLayer):
    """Cuts a window of drawn area and aspect ratio out of each image and resizes it.

    As keras-cv: sides sqrt(area / aspect) and sqrt(area aspect) of the image's, at most 1. Area and aspect ratio are
    each one of 4,096 numbers, evenly spaced. Without `training` the whole image is resized. The op
    `tfaug.augment.RandomResizedCrop` is the papers' form.

    Args:
      target_size: rows and columns of the result.
      crop_area_factor: (lowest, highest) share of the area, 0..1.
      aspect_ratio_factor: (lowest, highest) width over height, above 0, relative to the image's.
      interpolation: `bilinear` or `nearest`.
      bounding_box_format: None.
      seed: see ImageLayer.
    """

    def __init__(
        self,
        target_size: tuple[int, int],
        crop_area_factor: Sequence[float],
        aspect_ratio_factor: Sequence[float],
        interpolation: str = "bilinear",
        bounding_box_format: None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        good = isinstance(target_size, (tuple, list)) and len(target_size) == 2
        if not good or not all(isinstance(size, int) and size > 0 for size in target_size):
            raise ConfigError(f"RandomCropAndResize.target_size is {target_size!r}; allowed: (rows, columns)")
        _one_of("RandomCropAndResize.interpolation", interpolation, _INTERPOLATIONS)
        _one_of("RandomCropAndResize.bounding_box_format", bounding_box_format, (None,))
        areas = _pair("RandomCropAndResize.crop_area_factor", crop_area_factor)
        aspects = _pair("RandomCropAndResize.aspect_ratio_factor", aspect_ratio_factor, 0, float("inf"))
        if aspects[0] == 0:
            raise ConfigError(f"RandomCropAndResize.aspect_ratio_factor is {aspect_ratio_factor!r}; allowed: above 0")
        self.target_size, self.interpolation, self.bounding_box_format = target_size, interpolation, bounding_box_format
        self.crop_area_factor, self.aspect_ratio_factor = crop_area_factor, aspect_ratio_factor
        # Square roots from tables: a device's own might differ in the last bit.
        grid = (np.arange(_TABLE_SIZE) + 0.5) / _TABLE_SIZE
        self._area_roots, self._aspect_roots = (
            np.sqrt(low + (high - low) * grid).astype(np.float32) for low, high in (areas, aspects)
        )

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `offset` and `size`, float32 [B, 2], shares of the image's sides; see ImageLayer.sample_choice."""
        area = tf.gather(tf.constant(self._area_roots), rng.randint(rng.fold_in(seed, 0), [shape[0]], 0, _TABLE_SIZE))
        index = rng.randint(rng.fold_in(seed, 1), [shape[0]], 0, _TABLE_SIZE)
        wide, high = (tf.gather(tf.constant(table), index) for table in (self._aspect_roots, 1 / self._aspect_roots))
        size = tf.minimum(tf.stack([area * high, area * wide], 1), 1.0)
        return {"offset": rng.uniform(rng.fold_in(seed, 2), [shape[0], 2]) * (1.0 - size), "size": size}

    def choice_at_rest(self, shape: Shape) -> Choice:
        """Returns the whole image; see ImageLayer.choice_at_rest."""
        return {"offset": tf.zeros([shape[0], 2]), "size": tf.ones([shape[0], 2])}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Cuts and resizes; see ImageLayer.apply_choice."""
        places = []
        for i, target in enumerate(self.target_size):
            # From the first pixel's centre to the last one's, as tf.image.crop_and_resize has it.
            last = image_shape(batch.images)[1 + i] - 1
            first, length = (_part(choice[name][:, i : i + 1], last, _ONE) for name in ("offset", "size"))
            if target == 1:
                places.append(first + length // 2)
            else:
                moved = tf.cast(length, tf.int64) * tf.range(target, dtype=tf.int64) // (target - 1)
                places.append(first + tf.cast(moved, tf.int32))
        return batch._replace(images=self._cut(batch.images, places, self.interpolation))


@_register
class RandomGaussianBlur(ImageLayer):
    """Smooths each image with a Gaussian of its own width; pixels outside the image count as 0. As keras-cv.

    The standard deviation is one of 4,096 numbers, evenly spaced.

    Args:
      kernel_size: px of the kernel, or (columns, rows).
      factor: standard deviation in px, 0 or more: (lowest, highest), or the highest.
    """

    def __init__(self, kernel_size: int | Sequence[int], factor: Factor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        sizes = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size, kernel_size)
        if len(sizes) != 2 or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ConfigError(f"RandomGaussianBlur.kernel_size is {kernel_size!r}; allowed: px, or (columns, rows)")
        self.kernel_size, self.factor = kernel_size, factor
        low, high = _pair("RandomGaussianBlur.factor", factor, 0, float("inf"))
        sigmas = low + (high - low) * (np.arange(_TABLE_SIZE) + 0.5) / _TABLE_SIZE
        self._columns, self._rows = (_gaussians(sigmas, size) for size in sizes)

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws `sigma`, int32 [B], a place in the table; see ImageLayer.sample_choice."""
        return {"sigma": rng.randint(seed, [shape[0]], 0, _TABLE_SIZE)}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Smooths; see ImageLayer.apply_choice."""
        images = tf.cast(batch.images, tf.float32)
        for axis, table in ((2, self._columns), (1, self._rows)):
            images = _smooth(images, tf.gather(tf.constant(table), choice["sigma"]), axis)
        return batch._replace(images=images)


def _gaussians(sigmas: np.ndarray, size: int) -> np.ndarray:
    """Returns kernels that sum to 1, float32 [V, size]; at a width of 0 the middle alone."""
    at = np.arange(-size // 2 + 1, size // 2 + 1)
    weights = np.exp(-(at**2) / (2 * np.maximum(sigmas, 1e-7)[:, np.newaxis] ** 2))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _smooth(images: tf.Tensor, weights: tf.Tensor, axis: int) -> tf.Tensor:
    """Correlates each image with its own weights [B, k] along an axis, with zeros outside."""
    size = weights.shape[1]
    before = (size - 1) // 2
    padding = [[before, size - 1 - before] if i == axis else [0, 0] for i in range(4)]
    padded, length = tf.pad(images, padding), image_shape(images)[axis]
    total = tf.zeros_like(images)
    # Term by term: the order of a convolution's sum, and so its bits, would be the device's.
    for i in range(size):
        part = padded[:, i : i + length] if axis == 1 else padded[:, :, i : i + length]
        total += rng.unfused(part * _column(weights[:, i]))
    return total
