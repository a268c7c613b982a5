"""A model is a sequence of ordered, named stages and takes raw images: the sequence and its layers."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import rng
from tfaug.keras_versions import add_statistic, takes_training

_NUM_ADAPT_IMAGES = 5000
POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16"}
_STEP_SEED: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar("step_seed", default=None)
_FOLDS: contextvars.ContextVar[bool] = contextvars.ContextVar("folds", default=False)


@contextlib.contextmanager
def drawing(seed: tf.Tensor) -> Iterator[None]:
    """Gives a seed to the layers that draw in training (dropout, Shake-Shake), for the calls made within.

    Each folds its place in the network into it, so what a step draws follows from its seed alone: no state, the same
    bits under XLA and after a restart. It reaches layers inside a Keras graph too, to which no argument can be passed.
    In a `tf.function` it stands inside, with a seed that is an argument: what is outside is seen once, at the tracing.

    Args:
      seed: int32 [2], one of each step and replica.

    Example:
      >>> from tfaug.models import WideResNet, build_model
      >>> model = WideResNet(10, 1, dropout=0.3)
      >>> network = build_model(model, image_shape=(16, 16, 1), num_classes=3, mean=[0.1], std=[0.3], seed=0)
      >>> with drawing(rng.make_seed(0)):
      ...     logits = network(tf.zeros([2, 16, 16, 1]), training=True)
      >>> logits.shape.as_list()
      [2, 3]
    """
    token = _STEP_SEED.set(seed)
    try:
        yield
    finally:
        _STEP_SEED.reset(token)


@contextlib.contextmanager
def folding() -> Iterator[None]:
    """Within it, inference multiplies a batch normalisation that follows a convolution into the convolution's weights.

    The same function of images and weights but for rounding, gradients too, and without a pass over the features for
    each normalisation, of which a gradient has several.

    Example:
      >>> from tfaug.models import ResNet, build_model
      >>> network = build_model(ResNet(8), image_shape=(8, 8, 1), num_classes=3, mean=[0.1], std=[0.3], seed=0)
      >>> images = tf.ones([2, 8, 8, 1])
      >>> with folding():
      ...     logits = infer(network, images)
      >>> float(tf.reduce_max(tf.abs(logits - infer(network, images)))) < 1e-5
      True
    """
    token = _FOLDS.set(True)
    try:
        yield
    finally:
        _FOLDS.reset(token)


def infer(model: Any, images: tf.Tensor) -> tf.Tensor:
    """Returns `model(images, training=False)`, of no images too: a convolution refuses 0 rows and gets a blank one.

    Args:
      model: images -> logits [B, K].
      images: [B, H, W, C], B of 0 or more.
    """
    if images.shape[0]:  # known
        return model(images, training=False)
    num_rows = tf.shape(images)[0]
    blank = tf.zeros([tf.maximum(1 - num_rows, 0), *images.shape[1:]], images.dtype)
    return model(tf.concat([images, blank], axis=0), training=False)[:num_rows]


class KaimingNormal(tf.keras.initializers.Initializer):
    """Draws weights from N(0, scale^2 2 / fan) with numpy: the bits depend on the seed alone, not on the device.

    Args:
      seed: whole numbers, as of numpy's SeedSequence.
      mode: which fan, `fan_in` or `fan_out`.
      scale: factor of the deviation.

    Source: He et al. 2015 (Delving deep into rectifiers), equations 10 (fan_in) and 14 (fan_out).
    """

    def __init__(self, seed: Sequence[int], mode: str, scale: float = 1.0) -> None:
        self._seed, self._mode, self._scale = tuple(seed), mode, scale

    def __call__(self, shape: Any, dtype: Any = tf.float32, **kwargs: Any) -> tf.Tensor:
        """Returns weights of `shape` [..., inputs, outputs]."""
        shape = tuple(int(size) for size in shape)
        fan = int(np.prod(shape[:-2])) * (shape[-1] if self._mode == "fan_out" else shape[-2])
        draws = np.random.default_rng(self._seed).standard_normal(shape)
        return tf.constant(draws * (self._scale * np.sqrt(2.0 / fan)), dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"seed": self._seed, "mode": self._mode, "scale": self._scale}


class LayerMaker:
    """Makes layers of one dtype policy, each with initial weights of its own from one seed.

    Args:
      precision: 'fp32', or 'bf16' for bfloat16 arithmetic on float32 variables.
      seed: 0 or more; the i-th layer made draws from (seed, i).
      mode: 'fan_in' or 'fan_out', the fan of the initial weights.
    """

    def __init__(self, precision: str, seed: int, mode: str) -> None:
        self.policy = tf.keras.mixed_precision.Policy(POLICIES[precision])
        self._seed, self._mode, self._num_made, self._num_drawing = seed, mode, 0, 0

    def next_seed(self) -> tuple[int, int]:
        """Returns the seed of the next layer's initial weights."""
        self._num_made += 1
        return self._seed, self._num_made - 1

    def _initializer(self) -> KaimingNormal:
        """The next layer's initial weights."""
        return KaimingNormal(self.next_seed(), self._mode)

    def conv(
        self,
        name: str,
        filters: int,
        size_px: int,
        stride: int = 1,
        bias: bool = False,
        pad_px: int | None = None,
        initializer: Any = None,
        groups: int = 1,
    ) -> tf.keras.layers.Layer:
        """Makes a square convolution; without `pad_px` it keeps the size of the image, but for the stride."""
        pad_px = (size_px - 1) // 2 if pad_px is None else pad_px
        initializer = initializer or self._initializer()
        return Conv(filters, size_px, stride, pad_px, bias, initializer, groups, dtype=self.policy, name=name)

    def norm(self, name: str, momentum: float = 0.9, scale: bool = True) -> tf.keras.layers.Layer:
        """Makes a batch normalisation, by default with the constants of the papers' (PyTorch) code."""
        return Norm(momentum=momentum, epsilon=1e-5, scale=scale, name=name)

    def relu(self, name: str) -> tf.keras.layers.Layer:
        """Makes a rectifier."""
        return tf.keras.layers.Activation("relu", dtype=self.policy, name=name)

    def next_place(self) -> int:
        """Returns the place of the next layer that draws in training."""
        self._num_drawing += 1
        return self._num_drawing - 1

    def dropout(self, name: str, rate: float) -> tf.keras.layers.Layer:
        """Makes a dropout of a share of the numbers."""
        return Dropout(rate, self.next_place(), dtype=self.policy, name=name)

    def dense(self, name: str, units: int, policy: Any = None) -> tf.keras.layers.Layer:
        """Makes a fully connected layer with zero bias."""
        initializer = self._initializer()
        return tf.keras.layers.Dense(units, kernel_initializer=initializer, dtype=policy or self.policy, name=name)

    def chain(self, name: str, layers: Sequence[tf.keras.layers.Layer]) -> Chain:
        """Makes one layer of several, run in order."""
        return Chain(layers, dtype=self.policy, name=name)


class Conv(tf.keras.layers.Layer):
    """A square convolution with the same zero padding on all four sides.

    Keras's `same` pads a strided convolution of an even-sized image on the right and below only, which shifts it by a
    pixel against the 1x1 shortcut beside it.

    Args:
      filters: number of output channels.
      size_px: height and width of the kernel.
      stride: step between outputs, 1 or more.
      pad_px: rows and columns of zeros on each side.
      bias: whether to add a bias, zero at first.
      initializer: of the kernel [size_px, size_px, inputs / groups, filters].
      groups: of channels, each of which sees its share of the inputs alone; divides inputs and filters.
    """

    def __init__(
        self,
        filters: int,
        size_px: int,
        stride: int,
        pad_px: int,
        bias: bool,
        initializer: Any,
        groups: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._filters, self._size_px, self._stride, self._pad_px = filters, size_px, stride, pad_px
        self._has_bias, self._initializer, self._groups = bias, initializer, groups

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        shape = (self._size_px, self._size_px, int(input_shape[-1]) // self._groups, self._filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self._initializer)
        self.bias = None
        if self._has_bias:
            self.bias = self.add_weight(name="bias", shape=(self._filters,), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, scale: tf.Tensor | None = None, shift: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the convolution [B, H', W', filters], times `scale` and plus `shift`, float [filters], if given."""
        same = self._stride == 1 and 2 * self._pad_px == self._size_px - 1
        if self._pad_px and not same:  # the operation's own explicit padding is many times slower in bfloat16 on CPU
            pad = [self._pad_px, self._pad_px]
            inputs = tf.pad(inputs, [[0, 0], pad, pad, [0, 0]])
        kernel, bias = self.kernel, self.bias
        if scale is not None:
            kernel, bias = kernel * scale, shift if bias is None else bias * scale + shift
        outputs = tf.nn.conv2d(inputs, kernel, self._stride, padding="SAME" if same else "VALID")
        return outputs if bias is None else tf.nn.bias_add(outputs, bias)


class Norm(tf.keras.layers.Layer):
    """Batch normalisation with float32 statistics, on images of any float type; each replica has its own statistics.

    (x - mean) / sqrt(variance + epsilon) * gamma + beta per channel, by TensorFlow's fused operation. This is what
    Keras 2's BatchNormalization computes; that of Keras 3 is not fused and cannot be trained on two replicas.

    Args:
      momentum: share of the old moving statistics that a step keeps, 0..1.
      epsilon: added to the variance, above 0.
      scale: whether gamma is learned; else it is 1.

    Source: Ioffe and Szegedy 2015, algorithms 1 and 2.
    """

    def __init__(self, momentum: float, epsilon: float, scale: bool = True, **kwargs: Any) -> None:
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self._momentum, self._epsilon, self._scale = momentum, epsilon, scale

    def build(self, input_shape: Any) -> None:
        """Makes the variables, each float32 [C]."""
        size = int(input_shape[-1])
        self.gamma = self.add_weight(name="gamma", shape=(size,), initializer="ones") if self._scale else None
        self.beta = self.add_weight(name="beta", shape=(size,), initializer="zeros")
        self.moving_mean = add_statistic(self, "moving_mean", size, "zeros")
        self.moving_variance = add_statistic(self, "moving_variance", size, "ones")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the normalised images [B, H, W, C], in the inputs' type."""
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.ones_like(self.beta) if self.gamma is None else self.gamma,
            self.beta,
            self.moving_mean,
            self.moving_variance,
            epsilon=self._epsilon,
            is_training=training,
            exponential_avg_factor=1.0 - self._momentum,
        )
        if training:
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return outputs

    def factors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the scale and the shift of inference, float32 [C] each."""
        scale = tf.math.rsqrt(self.moving_variance + self._epsilon)
        scale = scale if self.gamma is None else scale * self.gamma
        return scale, self.beta - self.moving_mean * scale


class Drawing(tf.keras.layers.Layer):
    """A layer that draws in training, by the seed that `drawing` gives.

    Args:
      place: a number of its own in the network.
    """

    def __init__(self, place: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._place = place

    def seed(self) -> tf.Tensor:
        """Returns the layer's seed of this step, int32 [2]."""
        seed = _STEP_SEED.get()
        if seed is None:
            raise ValueError(
                f"the layer {self.name!r} draws in training and has no seed; allowed: network(images, training=True) "
                "within tfaug.models.drawing(seed)"
            )
        return rng.fold_in(seed, self._place)


class Dropout(Drawing):
    """Sets a share of the numbers to 0 in training and scales up the rest.

    Args:
      rate: the share, 0 <= rate < 1; 0 draws nothing.
      place: see `Drawing`.
      over: axes along which a draw is shared, such as (1, 2) for whole maps.

    Source: Srivastava et al. 2014, section 4, scaled in training instead of testing.
    """

    def __init__(self, rate: float, place: int, over: Sequence[int] = (), **kwargs: Any) -> None:
        super().__init__(place, **kwargs)
        self._rate, self._over = rate, tuple(over)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns numbers of the same shape and type."""
        if not training or not self._rate:
            return inputs
        sizes = tf.unstack(tf.shape(inputs))
        shape = [1 if axis in self._over else size for axis, size in enumerate(sizes)]
        kept = rng.uniform(self.seed(), shape) >= self._rate
        return tf.where(kept, inputs * (1 / (1 - self._rate)), tf.zeros([], inputs.dtype))


class Chain(tf.keras.layers.Layer):
    """Runs layers in order."""

    def __init__(self, layers: Sequence[tf.keras.layers.Layer], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = list(layers)
        self._take_training = tuple(takes_training(part) for part in self.parts)
        pairs = enumerate(itertools.pairwise(self.parts))
        self._folded = tuple(i for i, (one, other) in pairs if isinstance(one, Conv) and isinstance(other, Norm))

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the output of the last layer."""
        folded = self._folded if _FOLDS.get() and not training else ()
        for place, (part, takes) in enumerate(zip(self.parts, self._take_training, strict=True)):
            if place - 1 in folded:
                continue
            if place in folded:
                inputs = part(inputs, *self.parts[place + 1].factors())
            else:
                inputs = part(inputs, training=training) if takes else part(inputs)
        return inputs


class Normalize(tf.keras.layers.Layer):
    """Scales images: (images / 255 - mean) / std, per channel, in float32.

    Args:
      mean, std: float [C], in 0..1 units.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs: Any) -> None:
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self._scale = (1.0 / (255.0 * np.asarray(std, np.float64))).astype(np.float32)
        self._shift = (-np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 of the same shape."""
        return tf.cast(images, tf.float32) * self._scale + self._shift


class Head(tf.keras.layers.Layer):
    """Pools over all places and classifies, in float32.

    Args:
      dense: the fully connected layer (float32).
      pool: the mean or the maximum over axes: `tf.reduce_mean` or `tf.reduce_max`.
    """

    def __init__(self, dense: tf.keras.layers.Layer, pool: Any = tf.reduce_mean, **kwargs: Any) -> None:
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.dense, self._pool = dense, pool

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Returns float32 logits [B, K]."""
        return self.dense(self._pool(tf.cast(features, tf.float32), axis=[1, 2]))


class StagedModel(tf.keras.Model):
    """A classifier of raw images made of ordered, named stages.

    `model(images)` runs all stages; `model.forward(x, start, stop)` runs some, so that something may be done to the
    features in between:

        features = model.forward(images, stop="stage2")      # everything before stage2
        logits = model.forward(mixed, start="stage2")        # stage2 and everything after

    The first stage, `normalize`, takes images 0..255 (uint8 or float); the last, `head`, gives float32 logits.

    Args:
      stages: layers with different names, in order.
      name: name of the model.
    """

    def __init__(self, stages: Sequence[tf.keras.layers.Layer], name: str) -> None:
        # autocast would round float images to bfloat16 before they are normalised
        super().__init__(name=name, dtype="float32", autocast=False)
        self.stages = list(stages)
        self.stage_names = tuple(stage.name for stage in stages)
        self._take_training = tuple(takes_training(stage) for stage in self.stages)
        if len(set(self.stage_names)) != len(self.stage_names):
            raise ValueError(f"stages are named {self.stage_names}; allowed: different names")

    def get_config(self) -> dict[str, Any]:
        """Returns name and stages, for Keras asks even when it saves weights alone; `build_model` rebuilds."""
        return {"name": self.name, "stage_names": self.stage_names}

    def _index(self, stage: str | int | None, default: int, argument: str) -> int:
        """The place of `stage`, a name or a place already."""
        if stage is None:
            return default
        if isinstance(stage, str) and stage in self.stage_names:
            return self.stage_names.index(stage)
        if isinstance(stage, int) and 0 <= stage <= len(self.stages):
            return stage
        names = ", ".join(self.stage_names)
        raise ValueError(f"{argument} is {stage!r}; allowed: 0..{len(self.stages)}, None or one of {names}")

    def forward(
        self, x: tf.Tensor, start: str | int | None = None, stop: str | int | None = None, training: bool = False
    ) -> tf.Tensor:
        """Runs the stages from `start` (included) to `stop` (left out).

        Args:
          x: images 0..255 [B, H, W, C] where start is the first stage, else what the stage before `start` gave.
          start: name or place of the first stage to run; None for the first.
          stop: name or place of the first stage not to run; None to run to the end.
          training: whether batch normalisation uses, and learns from, the statistics of this batch.

        Returns:
          The output of the last stage run; x itself where start = stop.

        Raises:
          ValueError: if start or stop is no stage, or start comes after stop.
        """
        first = self._index(start, 0, "start")
        end = self._index(stop, len(self.stages), "stop")
        if first > end:
            raise ValueError(f"start {start!r} comes after stop {stop!r}; the order is {', '.join(self.stage_names)}")
        for stage, takes in zip(self.stages[first:end], self._take_training[first:end], strict=True):
            x = stage(x, training=training) if takes else stage(x)
        return x

    def adapt(self, images: np.ndarray) -> None:
        """Sets what is computed from the training images before training, in the stages that have such a thing.

        Args:
          images: uint8 [N, H, W, C] in any order that does not go by the class; the first 5,000 are used.
        """
        for stage in self.stages:
            if hasattr(stage, "adapt"):
                stage.adapt(self.forward(images[:_NUM_ADAPT_IMAGES], stop=stage.name).numpy())

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the logits.

        Args:
          images: uint8 or float [B, H, W, C], 0..255.
          training: whether batch normalisation uses, and learns from, the statistics of this batch.

        Returns:
          float32 [B, K].
        """
        return self.forward(images, training=training)
