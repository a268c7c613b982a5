"""What the layers have in common: inputs and outputs, `training`, randomness, value ranges, checks of arguments."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfaug import rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape, image_shape, labels_to_mix
from tfaug.augment.keras_cv import check_unscheduled
from tfaug.augment.ranges import check_value_range, from_0_255, range_for, to_0_255
from tfaug.config import LARGEST, ConfigError, is_number, read_number, to_python
from tfaug.images.base import MAX_SIDE_PX, cast_images, check_size

# A number, or the lowest and the highest one.
Factor: TypeAlias = float | Sequence[float]

_REFUSED_KEYS = ("bounding_boxes", "keypoints", "segmentation_masks")
_LABEL_KEYS = ("labels", "targets")
_LABELS_IN_A_DICT = "labels go into a dict: layer({'images': images, 'labels': labels})"
_NUM_IMAGES = 5040  # a multiple of many k

_PACKAGE = "tfaug.augment.layers"

register = tf.keras.utils.register_keras_serializable(package="tfaug")


class ImageLayer(tf.keras.layers.Layer):
    """Gives a layer its calling convention and its randomness; the layer itself says what is drawn and done.

    Args:
      seed: an integer, or None for one of the system.
      bounding_box_format: None; here because keras-cv has it.
      segmentation_classes: likewise.
      package: where the layer is; in `get_config`, so that Keras 2, where it was not told of the layer, refuses to take
        its own of the same name.
      **kwargs: of a Keras layer: name, dtype, trainable.
    """

    _random = True  # whether anything is drawn
    _resizes = False  # whether the images change their size
    _keeps_number = True  # whether as many images come out as go in
    _mixes = False  # whether what becomes of an image depends on the others
    _guesses_range = False  # whether it works on grey levels, and nobody said where those of wide integers lie

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Makes the constructor's arguments, which `get_config` returns, attributes of the layer, numbers Python's."""
        layer = super().__new__(cls, *args, **kwargs)
        given = inspect.signature(cls.__init__).bind_partial(layer, *args, **kwargs)
        given.apply_defaults()
        for name in _argument_names(cls):
            if name in given.arguments and not isinstance(getattr(cls, name, None), property):
                object.__setattr__(layer, name, to_python(given.arguments[name]))
        return layer

    def __init__(
        self,
        seed: int | None = None,
        bounding_box_format: None = None,
        segmentation_classes: None = None,
        package: str = _PACKAGE,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        one_of(f"{type(self).__name__}.package", package, (_PACKAGE,))
        one_of(f"{type(self).__name__}.bounding_box_format", bounding_box_format, (None,))
        one_of(f"{type(self).__name__}.segmentation_classes", segmentation_classes, (None,))
        if seed is not None:
            seed = read_number(f"{type(self).__name__}.seed", seed, *rng.SEED_LIMITS, whole=True)
        self.seed = seed
        start = int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) if seed is None else seed
        with tf.init_scope():
            self._generator = tf.random.Generator.from_seed(start, alg="philox")

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws everything that is random for images of `shape`.

        Args:
          seed: int32 [2], see tfaug.rng.
          shape: [B, H, W, C], integers or scalar integer tensors.
        """
        raise NotImplementedError(f"{type(self).__name__} has no sample_choice(seed, shape)")

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Carries out `choice` on images, uint8 or float32 [B, H, W, C], and labels; float32 [B, K] to be mixed."""
        raise NotImplementedError(f"{type(self).__name__} has no apply_choice(batch, choice)")

    def choice_at_rest(self, shape: Shape) -> Choice:
        """Returns the choice that stands in for a drawn one where `training` is False and the size changes."""
        raise NotImplementedError(f"{type(self).__name__} has no choice_at_rest(shape)")

    @tf.autograph.experimental.do_not_convert
    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuses calls as for another layer, before Keras reads them; see `call`."""
        if isinstance(inputs, (tuple, list)):
            raise ValueError(f"{self.name} is given a {type(inputs).__name__} of {len(inputs)}; {_LABELS_IN_A_DICT}")
        training: Any = args[0] if args else kwargs.get("training")
        if not _is_switch(training):
            given = type(training).__name__
            if hasattr(training, "dtype"):
                given = f"{tf.as_dtype(training.dtype).name} {training.shape}"
            raise ValueError(f"{self.name} got {given} as `training`; allowed: True, False, None; {_LABELS_IN_A_DICT}")
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any, training: bool | tf.Tensor | None = True, seed: Any = None) -> Any:
        """Augments an image or a batch; see `tfaug.augment.layers`.

        Args:
          inputs: images [H, W, C] or [B, H, W, C], or a dict with `images`.
          training: whether to augment; None as True. A tensor, bool [], may be one that is known only at run time; XLA
            then needs a layer that keeps number and size of the images.
          seed: an integer or int32 [2], used in place of the layer's state.

        Returns:
          As `inputs`.

        Raises:
          ValueError: if the inputs are none of these, or a layer that mixes images gets one image, or no labels or
            class numbers; or if `training` is something else, such as the labels.
        """
        if not tf.is_tensor(training):
            return self._call(inputs, training is None or bool(training), seed)
        known = tf.get_static_value(training)
        if known is not None:
            return self._call(inputs, bool(known), seed)
        return tf.cond(training, lambda: self._call(inputs, True, seed), lambda: self._call(inputs, False, seed))

    @tf.autograph.experimental.do_not_convert  # It has no Python control flow on tensors; converting costs seconds.
    def _call(self, inputs: Any, training: bool, seed: Any) -> Any:
        parts = dict(inputs) if isinstance(inputs, dict) else {"images": inputs}
        images = self._check(parts)
        single = images.shape.rank == 3
        label_keys = [key for key in _LABEL_KEYS if key in parts]
        if self._mixes and single:
            raise ValueError(f"{self.name} mixes the images of a batch, and is given one image")
        if self._mixes and len(label_keys) > 1:
            raise ValueError(f"{self.name} mixes one kind of labels, and is given 'labels' and 'targets': take one out")
        # Those of a single image pass, as no layer that takes one has a use for them.
        labels = self._labels(images, parts[label_keys[0]]) if label_keys and not single else None
        batch = Batch(images[tf.newaxis] if single else images, labels)
        shape = image_shape(batch.images)
        if not self._random:
            batch = self.apply_choice(batch, {})
        elif training:
            batch = self.apply_choice(batch, self.sample_choice(self._seed(seed), shape))
        elif self._resizes:
            batch = self.apply_choice(batch, self.choice_at_rest(shape))
        images = cast_images(batch.images[0] if single else batch.images, tf.as_dtype(self.compute_dtype))
        if not isinstance(inputs, dict):
            return images
        if labels is not None:
            parts[label_keys[0]] = batch.labels
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
        check_size(images.shape)
        if not (images.dtype.is_floating or images.dtype.is_integer):
            raise ValueError(f"images are numbers, got {images.dtype.name}")
        if self._guesses_range and images.dtype.is_integer and images.dtype != tf.uint8:
            ranged = "value_range" in _argument_names(type(self))
            hint = ", else say by value_range where they lie" if ranged else ""
            raise ValueError(
                f"{self.name} is given {images.dtype.name} images and works on values in (0, 255): cast them to uint8"
                f" if they lie there{hint}"
            )
        dtype = tf.as_dtype(self.compute_dtype)
        wider = images.dtype.is_integer and dtype.is_integer
        if wider and (images.dtype.max > dtype.max or images.dtype.min < dtype.min):
            raise ValueError(
                f"{self.name} is given {images.dtype.name} images and makes {dtype.name}, which may not hold them:"
                " cast them first, or make the layer with another dtype"
            )
        return images if images.dtype == tf.uint8 else tf.cast(images, tf.float32)

    def _labels(self, images: tf.Tensor, labels: Any) -> Any:
        """Returns the labels as `apply_choice` needs them; None where it has no use for them."""
        return None

    def _seed(self, seed: Any) -> tf.Tensor:
        """Returns the seed of this call, int32 [2]."""
        if seed is None:
            return self._generator.uniform_full_int([2], tf.int32)
        return rng.as_seed(seed)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {name: getattr(self, name) for name in _argument_names(type(self))}
        return {**super().get_config(), "seed": self.seed, "package": _PACKAGE, **own}

    def save_own_variables(self, store: Any) -> None:
        """Puts the generator's state into a `.keras` file."""
        store["state"] = np.asarray(self._generator.state)

    def load_own_variables(self, store: Any) -> None:
        """Takes the generator's state from a `.keras` file; from weights of a model without it, nothing."""
        if "state" in store:
            self._generator.reset(np.array(store["state"]))


class OpLayer(ImageLayer):
    """A layer that does what an op does, which sees images of 0..255, or as they are where it counts in no levels.

    Integers other than uint8 may lie anywhere: where the constructor has the argument, they are refused at (0, 255).

    Args:
      op: the op.
      value_range: the lowest and the highest value of the images, such as (0, 255), (0, 1) or (0, 65535), to which the
        256 grey levels are spread; the default suits images of any range where the op only moves or mixes values.
        Images of 0..1 given as (0, 255) come out black or nearly so; where their values are seen, which is eagerly,
        that is warned of once.
      seed: see ImageLayer.

    Raises:
      ConfigError: if a field of the op is a schedule: a layer does not know where training stands.
    """

    _op: Any

    def __init__(
        self, op: Augmentation, value_range: Sequence[float] = (0, 255), seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        self.value_range = check_value_range(f"{type(self).__name__}.value_range", value_range)
        ranged = "value_range" in _argument_names(type(self)) and tuple(self.value_range) == (0, 255)
        self._guesses_range = self._guesses_range or ranged
        check_unscheduled(op, "a Keras layer")
        self._op = op
        self._mixes = op.mixes_images
        self._keeps_number = op.output_shape((_NUM_IMAGES, 64, 64, 3))[0] == _NUM_IMAGES

    def _labels(self, images: tf.Tensor, labels: Any) -> Any:
        if not self._op.mixes_labels or labels is None:
            return labels
        return labels_to_mix(self.name, Batch(images, labels), one_hot_integers=True)

    def sample_choice(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws the op's choice; see ImageLayer.sample_choice."""
        return self._op.sample(seed, shape)

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Applies the op; see ImageLayer.apply_choice."""
        value_range = range_for(self._op, self.value_range)
        result = self._op.apply(batch._replace(images=to_0_255(batch.images, value_range)), choice)
        return result._replace(images=from_0_255(result.images, value_range))


class FloatLayer(OpLayer):
    """A layer of an op that would round what it makes of uint8 images: it gets them as floats of their own range."""

    def apply_choice(self, batch: Batch, choice: Choice) -> Batch:
        """Applies the op; see ImageLayer.apply_choice."""
        return self._op.apply(batch._replace(images=tf.cast(batch.images, tf.float32)), choice)


def _is_switch(training: Any) -> bool:
    """Tells whether `training` may say whether to augment: None, a bool, 0, 1, or a tensor bool []."""
    if hasattr(training, "dtype"):
        return tf.as_dtype(training.dtype) == tf.bool and tf.TensorShape(training.shape).rank == 0
    return training is None or (isinstance(training, int) and training in (0, 1))


def _argument_names(layer_class: type) -> list[str]:
    """Returns the names of a constructor's arguments, without `self` and `**kwargs`."""
    parameters = list(inspect.signature(layer_class.__init__).parameters.values())[1:]  # type: ignore[misc]
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]


def pair(name: str, factor: Any, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """Returns the lowest and the highest factor; a single number goes from `low` up to it.

    Raises:
      ConfigError: if it is no such thing or leaves low..high.
    """
    return read_limits(name, factor, low, high, lambda a, b=None: (low, a) if b is None else (a, b))


def symmetric(name: str, factor: Any, low: float = -1.0, high: float = 1.0) -> tuple[float, float]:
    """Returns the lowest and the highest factor as `pair` does, but that a single number x means -x..x."""
    return read_limits(name, factor, low, high, lambda a, b=None: (-a, a) if b is None else (a, b))


def read_limits(
    name: str, factor: Any, low: float, high: float, read: Callable[..., Sequence[float]], allowed: str = ""
) -> tuple[float, float]:
    """Returns the lowest and the highest number that a constructor's argument stands for.

    Args:
      name: what the error calls it.
      factor: a number or two, of Python or numpy.
      low: the lowest number allowed.
      high: the highest.
      read: returns the two that are meant, of one number or two.
      allowed: what the error allows, if it is not what `pair` takes.

    Raises:
      ConfigError: if it is no such thing or leaves low..high, with the value as it was passed.
    """
    numbers = to_python(factor)
    numbers = numbers if isinstance(numbers, (tuple, list)) and len(numbers) == 2 else (numbers,)
    lowest, highest = read(*numbers) if all(is_number(number) for number in numbers) else (math.nan, math.nan)
    if not low <= lowest <= highest <= high:
        usual = f"a number or (lowest, highest) in {low:g}..{high:g}"
        usual = usual if high < LARGEST else "a finite number or (lowest, highest)"
        raise ConfigError(f"{name} is {factor!r}; allowed: {allowed or usual}")
    return float(lowest), float(highest)


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raises a ConfigError if `value` is not among `allowed`, of its type: neither 3.0 nor True is a whole number."""
    own = to_python(value)
    if not any(own == i and isinstance(own, type(i)) and is_number(own) == is_number(i) for i in allowed):
        raise ConfigError(f"{name} is {value!r}; allowed: {', '.join(map(str, allowed))}")


def two_sizes(name: str, sizes: Any, meaning: str, square: bool = False) -> tuple[int, int]:
    """Returns two whole numbers of px, which one number stands for where `square` says so.

    Raises:
      ConfigError: if `sizes` are not that; `meaning` says what they are.
    """
    numbers = to_python(sizes)
    numbers = (numbers, numbers) if square and is_number(numbers) else numbers
    good = isinstance(numbers, (tuple, list)) and len(numbers) == 2
    if not good or not all(is_number(number, whole=True) and 1 <= number <= MAX_SIDE_PX for number in numbers):
        raise ConfigError(f"{name} is {sizes!r}; allowed: {meaning}, whole numbers, 1..{MAX_SIDE_PX}")
    return numbers[0], numbers[1]
