"""Augment what any Keras model is trained on: the batches of a data set, or those that `model.fit` makes of arrays."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfaug import rng
from tfaug.augment.base import Augmentation
from tfaug.augment.keras_cv import check_unscheduled
from tfaug.augment.ranges import check_value_range, from_0_255, range_for, to_0_255
from tfaug.config import ConfigError, read_number
from tfaug.images.base import UNIT_RANGE, cast_images, in_unit_range

_WORD = 0x7466617567  # any number but 0: TensorFlow takes two zeros for no seed


def augment_dataset(
    dataset: tf.data.Dataset,
    op: Augmentation,
    seed: int,
    num_classes: int | None = None,
    value_range: Sequence[float] = (0, 255),
) -> tf.data.Dataset:
    """Returns the batches of `dataset`, augmented, with other draws in each epoch.

    Each batch of each iteration gets a seed of its own, and `model.fit` iterates once an epoch. The draws are a
    function of `seed`, of how often the result was iterated before and of the batch's place: a process that is started
    again draws the same, whatever the global seed of TensorFlow. Two iterations at once are two epochs, in the order in
    which they begin. A training that goes on in another process begins with the first epoch's draws, unless it gives
    another seed; and a `cache()` of the result would keep those of the first for all epochs.

    It is the op that decides what images of floats become: one that counts in grey levels leaves at most 256 values.
    One that only moves or mixes values (`op.counts_in_levels` is False) sees floats as they are, whatever their range,
    unless it fills with black and their lowest value is not 0.

    Args:
      dataset: batches of images [B, H, W, C] or of pairs (images, labels). Images are uint8, or floats in
        `value_range`. Where the op mixes labels, they are class numbers, integers [B] or [B, 1], or rows [B, K] of any
        numeric type, one-hot or soft; where it mixes none, anything.
      op: an op; `augment.compose` makes one of several. It must not go by the step: no schedule, no
        `Flip(alternate=True)`, no `GradualSumAug`.
      seed: an integer of at most 64 bits.
      num_classes: K, 2 or more; needed where class numbers are mixed.
      value_range: the lowest and the highest value of float images; uint8 has (0, 255). Where the first batch of an
        epoch lies in 0..1 instead of (0, 255) and the op counts in grey levels, a line on stderr says so.

    Returns:
      As many batches, and of the same structure. Images are of the type and range that came in, to uint8 rounded half
      to even. Labels are float32 [B, K] where the op mixes them, and else untouched.

    Raises:
      ConfigError: if `op` goes by the step or is none, or `num_classes` or `value_range` is out of range.
      ValueError: if the elements are no such batches: not batched, ragged, a dict, with sample weights, or integers
        other than uint8; or the labels that are mixed are neither class numbers nor rows, or come without
        `num_classes`.
      tf.errors.InvalidArgumentError: in the iteration, where a class number is not in 0..K-1.

    Example:
      >>> from tfaug import augment
      >>> images, labels = tf.zeros([10, 32, 32, 3], tf.uint8), tf.range(10)
      >>> dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
      >>> batches = augment_dataset(dataset, augment.CutMix(), seed=0, num_classes=10)
      >>> [(images.dtype.name, labels.shape.as_list()) for images, labels in batches]
      [('uint8', [4, 10]), ('uint8', [4, 10]), ('uint8', [2, 10])]
    """
    _check_arguments("augment_dataset", op, num_classes, value_range)
    if not isinstance(dataset, tf.data.Dataset):
        made = "tf.data.Dataset.from_tensor_slices((images, labels)).batch(B) makes one of arrays"
        raise ValueError(f"augment_dataset is given a {type(dataset).__name__}; allowed: a tf.data.Dataset; {made}")
    paired = isinstance(dataset.element_spec, tuple)
    if paired and len(dataset.element_spec) != 2:
        num = len(dataset.element_spec)
        raise ValueError(f"augment_dataset is given batches of {num} parts; allowed: images, or (images, labels)")

    @tf.autograph.experimental.do_not_convert
    def augmented(batch: Any, drawn: tuple[tf.Tensor, tf.Tensor]) -> Any:
        images, labels = batch if paired else (batch, None)
        _check_images(images, value_range)
        step, words = drawn
        if op.counts_in_levels and images.dtype != tf.uint8 and tuple(value_range) == (0, 255):
            tf.cond(step == 0, lambda: _say_if_in_unit_range(images), tf.no_op)
        images, labels = _augmented(op, images, labels, words, num_classes, value_range)
        return (images, labels) if paired else images

    numbered = tf.data.Dataset.zip((dataset, _seeds(seed).enumerate()))
    batches = numbered.map(augmented, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


def augment_training(
    model: tf.keras.Model,
    op: Augmentation,
    seed: int,
    num_classes: int | None = None,
    value_range: Sequence[float] = (0, 255),
) -> None:
    """Lets `model.fit` augment each batch inside the training step, also those that it makes of numpy arrays.

    The model's `train_step`, its own or Keras's, is called with the augmented batch; a second call of this function
    takes the place of the first. The draws are a function of `seed`, of `model.optimizer.iterations` and of the
    replica: others at each step of each epoch, and the same after a restart from a checkpoint. They are compiled as the
    step is. A `train_step` of the model's own must step `model.optimizer`, else all draws would be alike
    (`augment_dataset` counts by itself). Nothing is said of float images in 0..1 given as (0, 255), as by
    `augment_dataset`. Evaluation, validation and prediction augment nothing, and a saved model does not hold the op.

    Args:
      model: a Keras model, compiled or not. Its loss and its metrics take rows of labels where the op mixes them; so
        does `validation_data`.
      op: see `augment_dataset`, and so for the others.

    Raises:
      ConfigError, ValueError: as `augment_dataset`, the latter in `fit`.
      tf.errors.InvalidArgumentError: in `fit`, where a class number is not in 0..K-1, or a step leaves
        `model.optimizer.iterations` as they are and the optimizer does not scale the loss. Under XLA neither can be
        refused; such a class number makes the loss NaN.

    Example:
      >>> from tfaug import augment
      >>> model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(10)])
      >>> model.compile("sgd", tf.keras.losses.CategoricalCrossentropy(from_logits=True))
      >>> augment_training(model, augment.CutMix(), seed=0, num_classes=10)
      >>> history = model.fit(tf.zeros([20, 8, 8, 1], tf.uint8), tf.range(20) % 10, batch_size=10, verbose=0)
    """
    _check_arguments("augment_training", op, num_classes, value_range)
    start = rng.make_seed(seed)
    own_step = getattr(model.train_step, "own_step", model.train_step)

    @tf.autograph.experimental.do_not_convert
    def train_step(data: Any) -> Any:
        images, labels, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
        if weights is not None:
            raise ValueError("augment_training is given sample or class weights; allowed: none")
        _check_images(images, value_range)
        _check_counted(model.optimizer)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        step = tf.convert_to_tensor(model.optimizer.iterations)
        step_seed = rng.fold_in(rng.fold_in(start, step), replica)
        logs = own_step(_augmented(op, images, labels, step_seed, num_classes, value_range))
        _check_stepped(model, step)
        return logs

    train_step.own_step = own_step  # type: ignore[attr-defined]
    model.train_step = train_step
    model.train_function = None  # made anew by `fit`


def _check_counted(optimizer: Any) -> None:
    """Raises a ValueError if an optimizer does not count each step: steps that it counts as one would draw alike."""
    if optimizer is None:
        raise ValueError(
            "augment_training needs the model's optimizer, which counts the steps: compile the model with one"
        )
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if steps := getattr(inner, "gradient_accumulation_steps", None):
        raise ValueError(
            f"augment_training is given gradient_accumulation_steps={steps}, which counts them as one; allowed: "
            "None, or augment_dataset"
        )


def _check_stepped(model: tf.keras.Model, step: tf.Tensor) -> None:
    """Lets a training step fail after which the optimizer's iterations are those before it, `step`."""
    if hasattr(model.optimizer, "inner_optimizer"):
        return  # it scales the loss, and takes no step where that overflows
    tf.debugging.assert_greater(
        tf.convert_to_tensor(model.optimizer.iterations),
        step,
        f"augment_training goes by {type(model).__name__}.optimizer.iterations, which this train_step does not move, "
        "so that all draws would be alike; allowed: one that steps model.optimizer; or augment_dataset",
    )


def _seeds(seed: int) -> tf.data.Dataset:
    """Returns seeds, int32 [2], without end: others in each iteration, the same ones in each process.

    What `Dataset.random(seed, rerandomize_each_iteration=True)` gives, but that it folds in TensorFlow's global seed.
    """
    spec = tf.TensorSpec([], tf.int64)
    variant = tf.raw_ops.RandomDatasetV2(
        seed=tf.bitcast(rng.make_seed(seed), tf.int64),
        seed2=tf.constant(_WORD, tf.int64),
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        output_types=[spec.dtype],
        output_shapes=[spec.shape],
        rerandomize_each_iteration=True,
    )
    words = tf.data.experimental.from_variant(variant, spec).batch(2, drop_remainder=True)  # each of 32 bits
    return words.map(lambda pair: tf.bitcast(tf.cast(pair, tf.uint32), tf.int32))


def _check_arguments(who: str, op: Any, num_classes: Any, value_range: Any) -> None:
    """Raises a ConfigError if an argument of the function `who` is not what it says it takes."""
    if not isinstance(op, Augmentation):
        raise ConfigError(f"{who}.op is {op!r}; allowed: an op; augment.compose([...]) makes one of several")
    check_unscheduled(op, who)
    if num_classes is not None:
        read_number(f"{who}.num_classes", num_classes, 2, whole=True)
    check_value_range(f"{who}.value_range", value_range)


def _check_images(images: Any, value_range: Sequence[float]) -> None:
    """Raises a ValueError if `images` are no batch of images that can be augmented and given back as they came."""
    allowed = "allowed: uint8 or floats [B, H, W, C]"
    if not isinstance(images, tf.Tensor):
        got = f"dict of {sorted(images)}" if isinstance(images, dict) else type(images).__name__
        raise ValueError(f"the images are a {got}; {allowed}, or (images, labels)")
    got = f"{images.dtype.name} {images.shape}"
    if images.shape.rank != 4:
        hint = ": batch the data set first, dataset.batch(B)" if images.shape.rank == 3 else ""
        raise ValueError(f"the images are {got}; {allowed}{hint}")
    if images.dtype != tf.uint8 and not images.dtype.is_floating:
        raise ValueError(f"the images are {got}; {allowed}: cast them, and say value_range")
    if images.dtype == tf.uint8 and tuple(value_range) != (0, 255):
        raise ValueError(f"the images are uint8 and value_range is {value_range!r}; allowed: (0, 255), or float images")


def _augmented(
    op: Augmentation,
    images: tf.Tensor,
    labels: Any,
    seed: tf.Tensor,
    num_classes: int | None,
    value_range: Sequence[float],
) -> tuple[tf.Tensor, Any]:
    """Returns a batch augmented: images as they came in, and labels float32 [B, K] where the op mixes them."""
    value_range = range_for(op, value_range)
    scaled = to_0_255(images if images.dtype == tf.uint8 else tf.cast(images, tf.float32), value_range)
    if op.mixes_labels:
        scaled, labels = op((scaled, _label_rows(op, labels, num_classes)), seed)
    else:
        scaled = op(scaled, seed)
    return cast_images(from_0_255(scaled, value_range), images.dtype), labels


def _label_rows(op: Augmentation, labels: Any, num_classes: int | None) -> tf.Tensor:
    """Returns labels as rows to mix, float32 [B, K]."""
    who = f"{type(op).__name__} mixes labels"
    allowed = "allowed: class numbers, integers [B] or [B, 1], with num_classes, or rows [B, K]"
    if not isinstance(labels, tf.Tensor):
        raise ValueError(f"{who}, and got {'none' if labels is None else type(labels).__name__}; {allowed}")
    got, rank = f"{labels.dtype.name} {labels.shape}", labels.shape.rank
    if labels.dtype.is_integer and (rank == 1 or (rank == 2 and labels.shape[1] == 1)):
        if num_classes is None:
            raise ValueError(f"{who}, and got class numbers, {got}: say num_classes")
        classes = tf.cast(tf.reshape(labels, [-1]), tf.int64)
        inside = (classes >= 0) & (classes < num_classes)
        tf.debugging.assert_equal(inside, True, f"{who}; allowed: class numbers in 0..{num_classes - 1}")
        # Not a number where the assertion is left out, as by XLA: a row of zeros would pass for a label.
        return tf.where(inside[:, tf.newaxis], tf.one_hot(classes, num_classes), float("nan"))
    number = labels.dtype.is_integer or labels.dtype.is_floating or labels.dtype.is_bool
    if not number or rank != 2 or labels.shape[1] in (None, 1):
        raise ValueError(f"{who}, and got {got}; {allowed}")
    if num_classes not in (None, labels.shape[1]):
        raise ValueError(f"{who}, and got {got} with num_classes={num_classes}; allowed: rows [B, {num_classes}]")
    return tf.cast(labels, tf.float32)


def _say_if_in_unit_range(images: tf.Tensor) -> tf.Operation:
    """Returns the operation that prints a line where float images lie in 0..1."""
    said = f"augment_dataset: {UNIT_RANGE}; say value_range=(0, 1)"
    return tf.cond(in_unit_range(images), lambda: tf.print(said, output_stream=sys.stderr), tf.no_op)
