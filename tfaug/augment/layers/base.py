"""What the layers have in common: inputs and outputs, `training`, randomness, value ranges, checks of arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape, image_shape
from tfaug.augment.keras_cv import check_unscheduled
from tfaug.config import ConfigError

# A number, or the lowest and the highest one.
Factor: TypeAlias = float | Sequence[float]

TABLE_SIZE = 4096

_REFUSED_KEYS = ("bounding_boxes", "keypoints", "segmentation_masks")
_LABEL_KEYS = ("labels", "targets")
_NUM_IMAGES = 5040  # a multiple of many k

register = tf.keras.utils.register_keras_serializable(package="tfaug")


class ImageLayer(tf.keras.layers.Layer):
    """Gives a layer its calling convention and its randomness; the layer itself says what is drawn and done.

    Args:
      seed: an integer, or None for one of the system.
      bounding_box_format: None; here because keras-cv has it.
      segmentation_classes: likewise.
      **kwargs: of a Keras layer: name, dtype, trainable.
    """

    _random = True  # whether anything is drawn
    _resizes = False  # whether the images change their size
    _keeps_number = True  # whether as many images come out as go in
    # What is drawn uniformly for each image: the lowest and the highest value.
    _factors: Mapping[str, tuple[float, float]] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Makes the constructor's arguments, which `get_config` returns, attributes of the layer."""
        layer = super().__new__(cls, *args, **kwargs)
        given = inspect.signature(cls.__init__).bind_partial(layer, *args, **kwargs)
        given.apply_defaults()
        for name in _argument_names(cls):
            if name in given.arguments and not isinstance(getattr(cls, name, None), property):
                object.__setattr__(layer, name, given.arguments[name])
        return layer

    def __init__(
        self,
        seed: int | None = None,
        bounding_box_format: None = None,
        segmentation_classes: None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        one_of(f"{type(self).__name__}.bounding_box_format", bounding_box_format, (None,))
        one_of(f"{type(self).__name__}.segmentation_classes", segmentation_classes, (None,))
        self.seed = seed
        start = int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) if seed is None else seed
        with tf.init_scope():
            self._generator = tf.random.Generator.from_seed(start, alg="philox")

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws everything that is random for images of `shape`; here each factor by its name, float32 [B].

        Args:
          seed: int32 [2], see tfaug.rng.
          shape: [B, H, W, C], integers or scalar integer tensors.
        """
        factors = enumerate(self._factors.items())
        return {name: rng.uniform(rng.fold_in(seed, i), [shape[0]], *limits) for i, (name, limits) in factors}

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Carries out `choice` on images, uint8 or float32 [B, H, W, C], and labels, float32 [B, K] or None."""
        return batch._replace(images=self._augment(batch.images, choice))

    def _augment(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        """Carries out `choice` on images alone."""
        raise NotImplementedError(f"{type(self).__name__} has neither apply_choice nor _augment(images, choice)")

    def choice_at_rest(self, shape: Shape) -> Choice:
        """Returns the choice that stands in for a drawn one where `training` is False and the size changes."""
        raise NotImplementedError(f"{type(self).__name__} has no choice_at_rest(shape)")

    def call(self, inputs: Any, training: bool | None = True, seed: Any = None) -> Any:
        """Augments an image or a batch; see `tfaug.augment.layers`.

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
        own = {name: getattr(self, name) for name in _argument_names(type(self))}
        return {**super().get_config(), "seed": self.seed, **own}

    def save_own_variables(self, store: Any) -> None:
        """Puts the generator's state into a `.keras` file."""
        store["state"] = np.asarray(self._generator.state)

    def load_own_variables(self, store: Any) -> None:
        """Takes the generator's state from a `.keras` file; from weights of a model without it, nothing."""
        if "state" in store:
            self._generator.reset(np.array(store["state"]))


class RangeLayer(ImageLayer):
    """A layer whose images lie in `value_range`, to which the 256 grey levels are spread.

    Args:
      value_range: the lowest and the highest value of the images, such as (0, 255) or (0, 1).
      seed: see ImageLayer.
    """

    def __init__(self, value_range: Sequence[float], seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        pair(f"{type(self).__name__}.value_range", value_range, -float("inf"), float("inf"))
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


class OpLayer(RangeLayer):
    """A layer that does what an op does, which sees images of 0..255.

    Args:
      op: the op.
      value_range: see RangeLayer; the default suits images of any range where the op only moves or mixes values.
      seed: see ImageLayer.

    Raises:
      ConfigError: if a field of the op is a schedule: a layer does not know where training stands.
    """

    def __init__(
        self, op: Augmentation, value_range: Sequence[float] = (0, 255), seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        check_unscheduled(op, "a Keras layer")
        self._op = op
        self._keeps_number = op.output_shape((_NUM_IMAGES, 64, 64, 3))[0] == _NUM_IMAGES

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws the op's choice; see ImageLayer.sample_choice."""
        return self._op.sample(seed, shape)

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Applies the op; see ImageLayer.apply_choice."""
        result = self._op.apply(batch._replace(images=self._to_0_255(batch.images)), choice)
        return result._replace(images=self._from_0_255(result.images))


def _argument_names(layer_class: type) -> list[str]:
    """Returns the names of a constructor's arguments, without `self` and `**kwargs`."""
    parameters = list(inspect.signature(layer_class.__init__).parameters.values())[1:]  # type: ignore[misc]
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]


def _cast(images: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns the images in another type; to a type of whole numbers, rounded and clipped."""
    if dtype.is_integer and images.dtype.is_floating:
        images = tf.round(images)
    return tf.saturate_cast(images, dtype) if dtype.is_integer else tf.cast(images, dtype)


def pair(name: str, factor: Any, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
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


def symmetric(name: str, factor: Any, low: float = -1.0, high: float = 1.0) -> tuple[float, float]:
    """Returns the lowest and the highest factor as `pair` does, but that a single number x means -x..x."""
    if isinstance(factor, (int, float)) and not isinstance(factor, bool):
        factor = (-factor, factor)
    return pair(name, factor, low, high)


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raises a ConfigError if `value` is not among `allowed`."""
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; allowed: {', '.join(map(str, allowed))}")


def whole(name: str, value: Any, low: int) -> None:
    """Raises a ConfigError if `value` is not a whole number, `low` or more."""
    if not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} is {value!r}; allowed: a whole number, {low} or more")


def two_sizes(name: str, sizes: Any, allowed: str) -> None:
    """Raises a ConfigError if `sizes` are not two whole numbers above 0."""
    good = isinstance(sizes, (tuple, list)) and len(sizes) == 2
    if not good or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ConfigError(f"{name} is {sizes!r}; allowed: {allowed}")


def table(low: float, high: float) -> np.ndarray:
    """Returns the evenly spaced numbers that stand for low..high where functions of them are tabulated, [TABLE_SIZE].

    A device's own sine or square root might differ in the last bit.
    """
    return low + (high - low) * (np.arange(TABLE_SIZE) + 0.5) / TABLE_SIZE


def column(values: tf.Tensor) -> tf.Tensor:
    """Shapes values [B] so that they broadcast over [B, H, W, C]."""
    return tf.reshape(values, [-1, 1, 1, 1])


def mix(first: tf.Tensor, second: tf.Tensor, weight: tf.Tensor | float) -> tf.Tensor:
    """Returns (1 - weight) first + weight second, the same bits with and without XLA."""
    return rng.unfused((1.0 - weight) * first) + rng.unfused(weight * second)
