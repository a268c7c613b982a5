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


# (values [V], height, width) -> Q16 matrices int32 [V, 6]; a table, so that no sine is ever computed on a device.
_WARPS: dict[str, Callable[[np.ndarray, Size, Size], Any]] = {
    "rotate": kernels.rotation,
    "shear_x": lambda values, height, width: kernels.shear_x(values),
    "shear_y": lambda values, height, width: kernels.shear_y(values),
    "translate_x": lambda values, height, width: kernels.translation(values, 0.0),
    "translate_y": lambda values, height, width: kernels.translation(0.0, values),
    "translate_x_fraction": lambda values, height, width: kernels.translation_fraction(values, 0.0, height, width),
    "translate_y_fraction": lambda values, height, width: kernels.translation_fraction(0.0, values, height, width),
}

_POINTS: dict[str, _Point] = {
    "identity": _Point(None, lambda images: images),
    "autocontrast": _Point(None, kernels.autocontrast),
    "equalize": _Point(None, kernels.equalize),
    "invert": _Point(None, kernels.invert),
    "posterize": _Point(int, kernels.posterize),
    "solarize": _Point(int, kernels.solarize),
    "solarize_add": _Point(int, kernels.solarize_add),
    "color": _Point(kernels.factor_q20, kernels.color),
    "contrast": _Point(kernels.factor_q20, kernels.contrast),
    "brightness": _Point(kernels.factor_q20, kernels.brightness),
    "sharpness": _Point(kernels.factor_q20, kernels.sharpness),
}

# Every operation and the unit of its values.
OPERATIONS: dict[str, str] = {
    "identity": "",
    "autocontrast": "",
    "equalize": "",
    "invert": "",
    "posterize": "bits kept, 0..8, int()",
    "solarize": "lowest inverted level, 0..256, int()",
    "solarize_add": "levels added below 128, 0..255, int()",
    "color": "factor, 0..8",
    "contrast": "factor, 0..8",
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
      operations: an operation's index is its place here. Warps that stand side by side share one gather.
      op_index: int32 [B,n], n at least 1.
      value_index: int32 [B,n], places in the operation's values; held to the last one, so an operation without a
        value may be given any.
      centre_px: int32 [B,n,2], row and column of the centre, which `cutout` needs.
      weights: the expected share of each operation in a layer, in whole numbers; equal shares if None.
      fill: grey level 0..255 of what a warp or cutout leaves empty.
      interpolation: of warps, `nearest` or `bilinear`.

    Returns:
      uint8 [B,H,W,C].
    """
    num_ops, num_layers, shape = len(operations), op_index.shape[1], images.shape
    weights = [1] * num_ops if weights is None else weights
    counts = tf.reduce_sum(tf.cast(op_index[..., tf.newaxis] == tf.range(num_ops), tf.int32), 0)

    def one_round(layer: tf.Tensor, number: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # From the shape in here: XLA then knows the number even where TensorFlow does not know the batch size.
        slots = [-(-image_shape(images)[0] * weight // sum(weights)) for weight in weights]
        ops, values = tf.gather(op_index, layer, axis=1), tf.gather(value_index, layer, axis=1)
        centre = None if centre_px is None else tf.gather(centre_px, layer, axis=1)
        done = tf.reduce_all(tf.gather(counts, layer) <= (number + 1) * tf.stack(slots))
        images = _one_round(images, operations, ops, values, centre, number, slots, fill, interpolation)
        images = tf.ensure_shape(images, shape)
        return tf.where(done, layer + 1, layer), tf.where(done, 0, number + 1), images

    # One loop over all layers and rounds keeps the XLA program small.
    start = (tf.constant(0), tf.constant(0), images)
    return tf.while_loop(lambda layer, number, images: layer < num_layers, one_round, start)[2]


def _one_round(
    images: tf.Tensor,
    operations: Sequence[Operation],
    ops: tf.Tensor,
    values: tf.Tensor,
    centre: tf.Tensor | None,
    number: tf.Tensor,
    slots: Sequence[Size],
    fill: int,
    interpolation: str,
) -> tf.Tensor:
    """Applies operation i to its images number * slots[i] .. (number + 1) * slots[i] - 1 and leaves the others."""
    batch, num_ops = image_shape(images)[0], len(operations)
    order = tf.argsort(ops, stable=True)
    start = tf.reduce_sum(tf.cast(ops < tf.range(num_ops)[:, tf.newaxis], tf.int32), 1)
    first = number * tf.stack(slots)
    # Each operation's slice; where it has too few images, any others stand in and are not used.
    position = tf.concat([start[i] + first[i] + tf.range(slots[i]) for i in range(num_ops)], 0)
    source = tf.gather(order, tf.minimum(position, batch - 1))
    placed = tf.gather(images, source)
    placed_values = tf.gather(values, source)
    placed_centre = None if centre is None else tf.gather(centre, source)

    ends = [sum(slots[: i + 1]) for i in range(num_ops)]
    results, index = [], 0
    while index < num_ops:
        stop = index + 1
        if operations[index].name in _WARPS:
            while stop < num_ops and operations[stop].name in _WARPS:
                stop += 1
        part = slice(ends[index] - slots[index], ends[stop - 1])
        at = None if placed_centre is None else placed_centre[part]
        ours = (operations[index:stop], slots[index:stop])
        results.append(_apply(*ours, placed[part], placed_values[part], at, fill, interpolation))
        index = stop

    rank = tf.scatter_nd(order[:, tf.newaxis], tf.range(batch), [batch]) - tf.gather(start + first, ops)
    limit = tf.gather(tf.stack(slots), ops)
    begin = tf.gather(tf.stack([end - size for end, size in zip(ends, slots, strict=True)]), ops)
    mine = tf.gather(tf.concat(results, 0), begin + tf.clip_by_value(rank, 0, limit - 1))
    return tf.where(tf.reshape((rank >= 0) & (rank < limit), [-1, 1, 1, 1]), mine, images)


def _apply(
    operations: Sequence[Operation],
    slots: Sequence[Size],
    images: tf.Tensor,
    values: tf.Tensor,
    centre: tf.Tensor | None,
    fill: int,
    interpolation: str,
) -> tf.Tensor:
    """Applies one operation, or several warps to one slice of the images each."""
    name = operations[0].name
    if name in _WARPS:
        _, height, width, _ = image_shape(images)
        parts = tf.split(values, list(slots)) if len(operations) > 1 else [values]
        matrices = [_matrices(op, part, height, width) for op, part in zip(operations, parts, strict=True)]
        return kernels.warp(images, tf.concat(matrices, 0), fill)
    if name == "cutout":
        if centre is None:
            raise ValueError("the operation 'cutout' needs centre_px")
        half_px = _pick([int(value) for value in operations[0].values], values)
        return kernels.cutout(images, centre[:, 0], centre[:, 1], half_px, fill)
    point = _POINTS[name]
    if point.whole is None:
        return point.kernel(images)
    return point.kernel(images, _pick([point.whole(value) for value in operations[0].values], values))


def _pick(numbers: Sequence[int], index: tf.Tensor) -> int | tf.Tensor:
    """Returns numbers[index], int32 [B]; a single number as it is, for XLA to fold."""
    if len(numbers) == 1:
        return numbers[0]
    return tf.gather(tf.constant(numbers, tf.int32), tf.minimum(index, len(numbers) - 1))


def _matrices(operation: Operation, index: tf.Tensor, height: Size, width: Size) -> tf.Tensor:
    """Returns the warp matrices int32 [B,6] of the values at `index` [B]."""
    table = tf.convert_to_tensor(_WARPS[operation.name](np.array(operation.values), height, width))
    return tf.gather(table, tf.minimum(index, len(operation.values) - 1))


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
            result = _apply([operation], [tf.shape(images)[0]], images, values, centre, fill, interpolation)
            out = tf.where(tf.reshape(op_index[:, layer] == index, [-1, 1, 1, 1]), result, out)
        images = out
    return images
