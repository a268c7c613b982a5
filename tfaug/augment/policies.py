"""Policies that draw pixel operations for each image: RandAugment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from tfaug import images as kernels
from tfaug import rng
from tfaug.augment.base import Augmentation, Batch, Choice, Shape, image_shape
from tfaug.config import check_choice, check_range

MAX_MAGNITUDE = 30.0


class Strength(NamedTuple):
    """How strong an operation is at magnitude m: low + (high - low) m / 30, with a drawn sign where `signed`."""

    low: float
    high: float
    signed: bool
    unit: str


_FIXED = Strength(0, 0, False, "")

# An operation's index is its place in its table. Warps that stand side by side share one gather.
PRESETS: dict[str, dict[str, Strength]] = {
    "paper_cifar": {
        "identity": _FIXED,
        "autocontrast": _FIXED,
        "equalize": _FIXED,
        "solarize": Strength(0, 256, False, "threshold"),
        "color": Strength(0.1, 1.9, False, "factor"),
        "posterize": Strength(4, 8, False, "bits kept"),
        "contrast": Strength(0.1, 1.9, False, "factor"),
        "brightness": Strength(0.1, 1.9, False, "factor"),
        "sharpness": Strength(0.1, 1.9, False, "factor"),
        "rotate": Strength(0, 30, True, "deg"),
        "shear_x": Strength(0, 0.3, True, "px per px"),
        "shear_y": Strength(0, 0.3, True, "px per px"),
        "translate_x": Strength(0, 10, True, "px"),
        "translate_y": Strength(0, 10, True, "px"),
    },
}

# (signed value, height, width) -> Q16 matrix. The strength is one number, so no sine is ever computed on a device.
_WARPS: dict[str, Callable[[float, Any, Any], tf.Tensor]] = {
    "rotate": kernels.rotation,
    "shear_x": lambda value, height, width: kernels.shear_x(value),
    "shear_y": lambda value, height, width: kernels.shear_y(value),
    "translate_x": lambda value, height, width: kernels.translation(value, 0.0),
    "translate_y": lambda value, height, width: kernels.translation(0.0, value),
}

# (images, value) -> images
_POINT_OPS: dict[str, Callable[[tf.Tensor, float], tf.Tensor]] = {
    "identity": lambda images, value: images,
    "autocontrast": lambda images, value: kernels.autocontrast(images),
    "equalize": lambda images, value: kernels.equalize(images),
    "solarize": lambda images, value: kernels.solarize(images, int(value)),
    "color": lambda images, value: kernels.color(images, kernels.factor_q20(value)),
    "posterize": lambda images, value: kernels.posterize(images, int(value)),
    "contrast": lambda images, value: kernels.contrast(images, kernels.factor_q20(value)),
    "brightness": lambda images, value: kernels.brightness(images, kernels.factor_q20(value)),
    "sharpness": lambda images, value: kernels.sharpness(images, kernels.factor_q20(value)),
}


@dataclass(frozen=True)
class RandAugment(Augmentation):
    """Applies n operations to each image, each drawn uniformly from the preset's, all at magnitude m.

    Every image draws its own operations, and its layers are independent. Within a layer the batch is balanced: each
    operation serves at most ceil(B / number of operations) images, so that it can work on its own images only. Each
    image's operation is exactly uniform; two images share one a little less often than if drawn independently.

    An operation's value is low + (high - low) m / 30; rotations, shears and translations get a random sign. With
    `paper_cifar`:

    | operation | m = 0 | m = 9 | m = 30 | as m grows |
    | --- | --- | --- | --- | --- |
    | identity, autocontrast, equalize | | | | does not change |
    | rotate, degrees, about the centre | 0 | 9 | 30 | stronger |
    | shear_x, shear_y, about the top left corner | 0 | 0.09 | 0.3 | stronger |
    | translate_x, translate_y, px | 0 | 3 | 10 | stronger |
    | color, contrast, brightness, sharpness, factor | 0.1 | 0.64 | 1.9 | weaker to nothing at m = 15, then stronger |
    | posterize, bits kept, int() | 4 | 5 | 8 | weaker; nothing at m = 30 |
    | solarize, lowest inverted value, int() | 0 | 76 | 256 | weaker; inverts all at m = 0, nothing at m = 30 |

    So a larger m is not always a stronger policy: six of the fourteen operations get weaker over some of the range or
    all of it, and m = 0 is *not* the identity (n = 0 is). The published results were got with these ranges.

    Images: uint8 [B,H,W,C] with 1 or 3 channels, B at least 1; float images are rounded and clipped to 0..255 first.
    Returns uint8. On one channel `color` does nothing. Labels pass. Without XLA (`jit_compile=True`) it runs several
    times slower.

    Attributes:
      n: number of operations per image, 0 or more; 0 is the identity.
      m: magnitude, 0..30; one for all operations.
      preset: name of the table of operations and ranges, one of `PRESETS`.
      fill: grey level 0..255 of the places that a warp leaves empty.

    Raises:
      ConfigError: when an attribute is out of its range.
      ValueError: when called on images that a translation at this m would push out entirely.

    Source: Cubuk et al. 2020, "RandAugment", section 3, for the operations; the ranges are those of the public PyTorch
    version that reproduced its CIFAR results (ildoonet/pytorch-randaugment, 616ef12), which has invert in the place of
    contrast, with AutoAugment's 10 px for translations.

    Example:
      >>> import tensorflow as tf
      >>> from tfaug import rng
      >>> images = tf.zeros([4, 32, 32, 3], tf.uint8)
      >>> augment = tf.function(RandAugment(n=2, m=9), jit_compile=True)
      >>> augment(images, rng.make_seed(0)).shape.as_list()
      [4, 32, 32, 3]
    """

    n: int = 2
    m: float = 9.0
    preset: str = "paper_cifar"
    fill: int = 128

    def __post_init__(self) -> None:
        check_range(self, "n", 0)
        check_range(self, "m", 0, MAX_MAGNITUDE)
        check_choice(self, "preset", PRESETS)
        check_range(self, "fill", 0, 255)

    @property
    def op_names(self) -> tuple[str, ...]:
        """The preset's operations in the order of their indices."""
        return tuple(PRESETS[self.preset])

    def value(self, op_name: str) -> float:
        """Returns an operation's value at magnitude m, in its table's unit and without a sign."""
        strength = PRESETS[self.preset][op_name]
        return strength.low + (strength.high - strength.low) * self.m / MAX_MAGNITUDE

    def sample(self, seed: tf.Tensor, shape: Shape) -> Choice:
        """Draws each image's operations and signs.

        Args:
          seed: int32 [2].
          shape: [B,H,W,C].

        Returns:
          `op_index`, int32 [B,n]: places in `op_names`. `negative`, bool [B,n]: whether a signed value is negated.
        """
        batch, num_ops = shape[0], len(self.op_names)
        if self.n == 0:
            return {"op_index": tf.zeros([batch, 0], tf.int32), "negative": tf.zeros([batch, 0], tf.bool)}
        # Each image gets a place of its own among equally many per operation.
        per_op = _per_op(batch, num_ops)
        places = [rng.permutation(rng.fold_in(seed, layer), num_ops * per_op)[:batch] for layer in range(self.n)]
        negative = rng.bernoulli(rng.fold_in(seed, self.n), [batch, self.n], 0.5)
        return {"op_index": tf.stack(places, 1) // per_op, "negative": negative}

    def apply(self, batch: Batch, choice: Choice) -> Batch:
        """Applies each image's operations, layer by layer.

        Any operation indices are right; balanced ones, such as `sample` draws, are fast: an operation is computed for
        ceil(B / number of operations) images at a time, as often as the choice needs it, so at worst on all images.
        """
        images = kernels.to_uint8(batch.images)
        if self.n:
            self._check_size(images)
            images = self._apply_in_slices(images, choice["op_index"], choice["negative"])
        return batch._replace(images=images)

    def _check_size(self, images: tf.Tensor) -> None:
        """Refuses images that a translation would push out entirely."""
        for name, axis, side in (("translate_x", 2, "width"), ("translate_y", 1, "height")):
            size = images.shape[axis]
            if name in self.op_names and size is not None and self.value(name) >= size:
                raise ValueError(
                    f"RandAugment's preset {self.preset!r} at m={self.m:g} translates by {self.value(name):g} px, but "
                    f"the images' {side} is {size} px; allowed: less than that, by a smaller m or larger images"
                )

    def _apply_in_slices(self, images: tf.Tensor, op_index: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
        """Runs rounds until every image had its operations; one loop over all layers keeps the XLA program small."""
        num_ops, shape = len(self.op_names), images.shape
        counts = tf.reduce_sum(tf.cast(op_index[..., tf.newaxis] == tf.range(num_ops), tf.int32), 0)
        most = tf.reduce_max(counts, 1)

        def one_round(layer: tf.Tensor, first: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            ops, signs = tf.gather(op_index, layer, axis=1), tf.gather(negative, layer, axis=1)
            # From the shape in here: XLA then knows the number even where TensorFlow does not know the batch size.
            per_op = _per_op(image_shape(images)[0], num_ops)
            images = tf.ensure_shape(self._apply_slices(images, ops, signs, first, per_op), shape)
            done = first + per_op >= most[layer]
            return tf.where(done, layer + 1, layer), tf.where(done, 0, first + per_op), images

        start = (tf.constant(0), tf.constant(0), images)
        return tf.while_loop(lambda layer, first, images: layer < self.n, one_round, start)[2]

    def _apply_slices(
        self, images: tf.Tensor, ops: tf.Tensor, negative: tf.Tensor, first: tf.Tensor, per_op: int | tf.Tensor
    ) -> tf.Tensor:
        """Applies each operation to its images number first .. first + per_op - 1, and leaves the others."""
        names, num_ops = self.op_names, len(self.op_names)
        batch = image_shape(images)[0]
        order = tf.argsort(ops, stable=True)
        start = tf.reduce_sum(tf.cast(ops < tf.range(num_ops)[:, tf.newaxis], tf.int32), 1)
        # Row i holds operation i's images; where it has too few, any others stand in and are not used.
        position = start[:, tf.newaxis] + first + tf.range(per_op)
        source = tf.gather(order, tf.minimum(position, batch - 1))
        placed = tf.gather(images, source)
        placed_negative = tf.gather(negative, source)

        results, index = [], 0
        while index < num_ops:
            stop = index + 1
            if names[index] in _WARPS:
                while stop < num_ops and names[stop] in _WARPS:
                    stop += 1
                matrices = [self._matrices(names[i], images, placed_negative[i]) for i in range(index, stop)]
                run = tf.reshape(placed[index:stop], tf.concat([[-1], tf.shape(images)[1:]], 0))
                results.append(kernels.warp(run, tf.concat(matrices, 0), self.fill))
            else:
                results.append(_POINT_OPS[names[index]](placed[index], self.value(names[index])))
            index = stop

        number = tf.scatter_nd(order[:, tf.newaxis], tf.range(batch), [batch]) - tf.gather(start, ops) - first
        mine = tf.gather(tf.concat(results, 0), ops * per_op + tf.clip_by_value(number, 0, per_op - 1))
        return tf.where(tf.reshape((number >= 0) & (number < per_op), [-1, 1, 1, 1]), mine, images)

    def _matrices(self, name: str, images: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
        """Returns the warp matrices int32 [B,6] for signs `negative` bool [B]."""
        _, height, width, _ = image_shape(images)
        value = self.value(name)
        by_sign = tf.stack([_WARPS[name](value, height, width), _WARPS[name](-value, height, width)])
        return tf.gather(by_sign, tf.cast(negative, tf.int32))

    def _apply_dense(self, images: tf.Tensor, choice: Choice) -> tf.Tensor:
        """Computes every operation on every image and selects: the plain definition that `apply` must equal."""
        for layer in range(self.n):
            ops, negative = choice["op_index"][:, layer], choice["negative"][:, layer]
            out = images
            for index, name in enumerate(self.op_names):
                if name in _WARPS:
                    result = kernels.warp(images, self._matrices(name, images, negative), self.fill)
                else:
                    result = _POINT_OPS[name](images, self.value(name))
                out = tf.where(tf.reshape(ops == index, [-1, 1, 1, 1]), result, out)
            images = out
        return images


def _per_op(batch: int | tf.Tensor, num_ops: int) -> int | tf.Tensor:
    """Returns the batch's size over the number of operations, rounded up."""
    return -(-batch // num_ops)
