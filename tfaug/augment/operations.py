"""Give each image of a batch a pixel operation of its own: what RandAugment and AutoAugment are made of.

An operation has a name and a list of values; an image's choice says which operation, which of its values and, for
cutout, where. `apply_operations` computes each operation on its own images only: they are gathered into slices of a
static size. `apply_densely` computes every operation on every image and selects; it is the plain definition, and slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfaug import images as kernels
from tfaug.augment.base import Size, image_shape


class Operation(NamedTuple):
    """A pixel operation and the values that it may be applied with.

    Attributes:
      name: a key of `OPERATIONS`.
      values: in the operation's unit; at least one, also where the operation takes none.
    """

    name: str
    values: tuple[float, ...]


class _Point(NamedTuple):
    """An operation that keeps pixels where they are: how its values become whole numbers, and its kernel."""

    whole: Callable[[float], int] | None
    kernel: Callable[..., tf.Tensor]


class _Warp(NamedTuple):
    """An operation that moves pixels: how its values become matrices, and the form that those have."""

    # (values [V], height, width) -> Q16 [V, 6]: a table, so that no sine is ever computed on a device.
    matrices: Callable[[np.ndarray, Size, Size], Any]
    form: str


_WARPS: dict[str, _Warp] = {
    "rotate": _Warp(kernels.rotation, "affine"),
    "shear_x": _Warp(lambda values, height, width: kernels.shear_x(values), "shear_x"),
    "shear_y": _Warp(lambda values, height, width: kernels.shear_y(values), "shear_y"),
    "translate_x": _Warp(lambda values, height, width: kernels.translation(values, 0.0), "translate_x"),
    "translate_y": _Warp(lambda values, height, width: kernels.translation(0.0, values), "translate_y"),
    "translate_x_fraction": _Warp(
        lambda values, height, width: kernels.translation_fraction(values, 0.0, height, width), "translate_x"
    ),
    "translate_y_fraction": _Warp(
        lambda values, height, width: kernels.translation_fraction(0.0, values, height, width), "translate_y"
    ),
}

_POINTS: dict[str, _Point] = {
    "identity": _Point(None, lambda images: images),
    "autocontrast": _Point(None, kernels.autocontrast),
    "equalize": _Point(None, kernels.equalize),
    "equalize_rarest": _Point(None, kernels.equalize_rarest),
    "invert": _Point(None, kernels.invert),
    "posterize": _Point(int, kernels.posterize),
    "solarize": _Point(int, kernels.solarize),
    "solarize_add": _Point(int, kernels.solarize_add),
    "add_solarize": _Point(kernels.factor_q20, kernels.add_solarize),
    "add": _Point(round, kernels.add),
    "color": _Point(kernels.factor_q20, kernels.color),
    "contrast": _Point(kernels.factor_q20, kernels.contrast),
    "contrast_channel": _Point(kernels.factor_q20, kernels.contrast_channel),
    "brightness": _Point(kernels.factor_q20, kernels.brightness),
    "sharpness": _Point(kernels.factor_q20, kernels.sharpness),
}

# Every operation and the unit of its values.
OPERATIONS: dict[str, str] = {
    "identity": "",
    "autocontrast": "",
    "equalize": "",
    "equalize_rarest": "",
    "invert": "",
    "posterize": "bits kept, 0..8, int()",
    "solarize": "lowest inverted level, 0..256, int()",
    "solarize_add": "levels added below 128, 0..255, int()",
    "add_solarize": "share of 110 levels added, and of 255 off the lowest inverted sum, 0..1",
    "add": "levels added, -255..255, rounded",
    "color": "factor, 0..8",
    "contrast": "factor, 0..8",
    "contrast_channel": "factor, 0..8",
    "brightness": "factor, 0..8",
    "sharpness": "factor, 0..8",
    "rotate": "deg, counter-clockwise",
    "shear_x": "px per px",
    "shear_y": "px per px",
    "translate_x": "px",
    "translate_y": "px",
    "translate_x_fraction": "fraction of the width, rounded down to whole px",
    "translate_y_fraction": "fraction of the height, rounded down to whole px",
    "cutout": "half the side, px, int()",
}


def apply_operations(
    images: tf.Tensor,
    operations: Sequence[Operation],
    op_index: tf.Tensor,
    value_index: tf.Tensor,
    centre_px: tf.Tensor | None = None,
    *,
    weights: Sequence[int] | None = None,
    fill: int = 128,
    interpolation: str = "nearest",
) -> tf.Tensor:
    """Applies to each image its own operations, layer by layer.

    Any operation indices are right; balanced ones are fast: operation i is computed for
    ceil(B weights_i / sum(weights)) images at a time, as often as the choice needs it, so at worst on all images.

    Args:
      images: uint8 [B,H,W,C], 1 or 3 channels.
      operations: an operation's index is its place here.
      op_index: int32 [B,n], n at least 1.
      value_index: int32 [B,n], places in the operation's values; held to the last one, so an operation without a
        value may be given any.
      centre_px: int32 [B,n,2], row and column of the centre, which `cutout` needs.
      weights: the expected share of each operation in a layer, whole numbers of 1 or more; equal shares if None.
      fill: grey level 0..255 of what a warp or cutout leaves empty.
      interpolation: of warps, `nearest` or `bilinear`.

    Returns:
      uint8 [B,H,W,C].

    Raises:
      ValueError: if there is not a weight of 1 or more for each operation.
    """
    num_ops, num_layers, shape = len(operations), op_index.shape[1], images.shape
    weights = [1] * num_ops if weights is None else weights
    if len(weights) != num_ops or min(weights) < 1:  # Without slots an operation's images would never be done.
        raise ValueError(f"weights are {list(weights)}; allowed: {num_ops} whole numbers of 1 or more")
    counts = tf.reduce_sum(tf.cast(op_index[..., tf.newaxis] == tf.range(num_ops), tf.int32), 0)

    def one_round(layer: tf.Tensor, number: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # From the shape in here: XLA then knows the number even where TensorFlow does not know the batch size.
        slots = [-(-image_shape(images)[0] * weight // sum(weights)) for weight in weights]
        # The images in the order of their operations; operation i's begin at start[i].
        order = tf.argsort(tf.gather(op_index, layer, axis=1), stable=True)
        count = tf.gather(counts, layer)
        start = tf.cumsum(count, exclusive=True)
        done = tf.constant(True)
        for i, operation in enumerate(operations):
            if operation.name == "identity":
                continue
            # Where fewer are left than there are slots, the last one takes the others too and is written repeatedly.
            place = tf.minimum(number * slots[i] + tf.range(slots[i]), count[i] - 1)
            chosen = tf.gather(order, tf.maximum(start[i] + place, 0))
            images = replace(images, chosen, count[i] > number * slots[i], operation, layer)
            done &= count[i] <= (number + 1) * slots[i]
        return tf.where(done, layer + 1, layer), tf.where(done, 0, number + 1), tf.ensure_shape(images, shape)

    def replace(
        images: tf.Tensor, chosen: tf.Tensor, is_drawn: tf.Tensor, operation: Operation, layer: tf.Tensor
    ) -> tf.Tensor:
        """Returns `images` with the chosen ones replaced by what the operation makes of them."""
        part = tf.gather(images, chosen)
        values = tf.gather(tf.gather(value_index, layer, axis=1), chosen)
        centre = None if centre_px is None else tf.gather(tf.gather(centre_px, layer, axis=1), chosen)

        def changed() -> tf.Tensor:
            return tf.ensure_shape(_apply(operation, part, values, centre, fill, interpolation), part.shape)

        # The condition saves the work of an operation that nobody drew. It also keeps XLA from merging all operations
        # into one loop that asks for each value anew whose it is: that took twice as long.
        return tf.tensor_scatter_nd_update(images, chosen[:, tf.newaxis], tf.cond(is_drawn, changed, lambda: part))

    # One loop over all layers and rounds keeps the XLA program small.
    start = (tf.constant(0), tf.constant(0), images)
    return tf.while_loop(lambda layer, number, images: layer < num_layers, one_round, start)[2]


def _apply(
    operation: Operation,
    images: tf.Tensor,
    values: tf.Tensor,
    centre: tf.Tensor | None,
    fill: int,
    interpolation: str,
) -> tf.Tensor:
    """Applies one operation to all images, each with its own value."""
    name = operation.name
    if name in _WARPS:
        _, height, width, _ = image_shape(images)
        table = tf.convert_to_tensor(_WARPS[name].matrices(np.array(operation.values), height, width))
        matrices = tf.gather(table, tf.minimum(values, len(operation.values) - 1))
        if interpolation == "bilinear":
            return kernels.warp_bilinear(images, matrices, fill)
        return kernels.warp(images, matrices, fill, _WARPS[name].form)
    if name == "cutout":
        if centre is None:
            raise ValueError("the operation 'cutout' needs centre_px")
        half_px = _pick([int(value) for value in operation.values], values)
        return kernels.cutout(images, centre[:, 0], centre[:, 1], half_px, fill)
    point = _POINTS[name]
    if point.whole is None:
        return point.kernel(images)
    return point.kernel(images, _pick([point.whole(value) for value in operation.values], values))


def _pick(numbers: Sequence[int], index: tf.Tensor) -> int | tf.Tensor:
    """Returns numbers[index], int32 [B]; a single number as it is, for XLA to fold."""
    if len(numbers) == 1:
        return numbers[0]
    return tf.gather(tf.constant(numbers, tf.int32), tf.minimum(index, len(numbers) - 1))


def apply_densely(
    images: tf.Tensor,
    operations: Sequence[Operation],
    op_index: tf.Tensor,
    value_index: tf.Tensor,
    centre_px: tf.Tensor | None = None,
    *,
    fill: int = 128,
    interpolation: str = "nearest",
) -> tf.Tensor:
    """Computes every operation on every image and selects: the definition that `apply_operations` must equal."""
    for layer in range(op_index.shape[1]):
        out, values = images, value_index[:, layer]
        centre = None if centre_px is None else centre_px[:, layer]
        for index, operation in enumerate(operations):
            result = _apply(operation, images, values, centre, fill, interpolation)
            out = tf.where(tf.reshape(op_index[:, layer] == index, [-1, 1, 1, 1]), result, out)
        images = out
    return images
