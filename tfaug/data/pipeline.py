"""From decoded images to training batches: seeded order, restartable at any epoch, augmented on the host if asked.

The order of an epoch is a stateless permutation of (seed, epoch), so a run that restarts at epoch e sees what an
uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfaug import rng
from tfaug.augment.base import Batch
from tfaug.config import ConfigError
from tfaug.data.load import Split
from tfaug.data.service import in_order
from tfaug.schedules import Progress, Visit

BatchFunction = Callable[[Batch, tf.Tensor, Any], Batch]  # the last is a Progress or a Visit
RowsFunction = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]  # seed, epoch, labels -> places of examples


def shuffled_rows(seed: tf.Tensor, epoch: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns every example once, int32 [N], in a permutation of its own for each epoch.

    Args:
      seed: int32 [2].
      epoch: scalar integer, from 0.
      labels: [N, K], of the examples.
    """
    return rng.permutation(rng.fold_in(seed, tf.cast(epoch, tf.int32)), int(labels.shape[0]))


def step_seed(seed: tf.Tensor, step: tf.Tensor | int, replica: tf.Tensor | int) -> tf.Tensor:
    """Returns the seed with which one replica augments its share of the batch of one step."""
    return rng.fold_in(rng.fold_in(seed, tf.cast(step, tf.int32)), replica)


def augment_replicas(
    function: BatchFunction,
    batch: Batch,
    seed: tf.Tensor,
    progress: Progress | Visit,
    num_replicas: int,
    first: int = 0,
) -> Batch:
    """Augments each replica's equal share of a global batch by itself, as the replicas would on their devices.

    Args:
      function: `function(batch, seed, progress) -> batch`.
      batch: images [B, H, W, C] and labels [B, K], B a multiple of `num_replicas`.
      seed: of the phase, int32 [2].
      progress: the step, counted from the start of the phase, the steps of the phase and, in a `Visit`, the examples.
      num_replicas: 1 or more.
      first: which replica the first share is of; the others follow.

    Returns:
      The augmented shares, one after the other.
    """
    if num_replicas == 1:
        return function(batch, step_seed(seed, progress.step, first), progress)
    images, labels = tf.split(batch.images, num_replicas), tf.split(batch.labels, num_replicas)
    progresses = [progress] * num_replicas
    if isinstance(progress, Visit):
        progresses = [progress._replace(examples=share) for share in tf.split(progress.examples, num_replicas)]
    shares = [
        function(Batch(images[i], labels[i]), step_seed(seed, progress.step, first + i), progresses[i])
        for i in range(num_replicas)
    ]
    return Batch(*(tf.concat(parts, axis=0) for parts in zip(*shares, strict=True)))


def training_batches(
    split: Split,
    *,
    num_classes: int,
    batch_size: int,
    seed: tf.Tensor,
    first_epoch: int,
    num_epochs: int,
    augment: BatchFunction | None = None,
    num_replicas: int = 1,
    with_examples: bool = False,
    rows_of: RowsFunction = shuffled_rows,
    replicas: range | None = None,
    service: str = "",
) -> tf.data.Dataset:
    """Returns (images, labels) batches of the epochs first_epoch..num_epochs - 1, each epoch in its own seeded order.

    Args:
      split: the training images, uint8, in memory.
      num_classes: K.
      batch_size: B; the last images of an epoch that do not fill a batch are left out (the order differs each epoch).
      seed: of the phase, int32 [2].
      first_epoch: where to start; a restarted run sees the same batches from there on.
      num_epochs: of the phase, where to stop.
      augment: `function(batch, seed, progress) -> batch` applied on the host, per replica share; None leaves the images
        as they are.
      num_replicas: how many replicas share a batch.
      rows_of: which examples an epoch visits, in their order: `function(seed, epoch, labels) -> int32 [N or more]`.
      with_examples: whether a batch also holds the place of each image in `split`, for augmenting on the device.
      replicas: of which replicas to return the shares alone, those of one worker; None for the whole batch.
      service: address of the tf.data service that makes the batches, see `tfaug.data.service`; empty makes them here.

    Returns:
      A data set of images uint8 (or what `augment` makes of them) [B, H, W, C] and labels float32 [B, K]; then, if
      asked for, examples int32 [B]. B is that of the shares asked for.

    Raises:
      ConfigError: if there are fewer images than one batch needs.
    """
    num_examples = len(split.images)
    if batch_size > num_examples:
        raise ConfigError(
            f"batch_size is {batch_size}, but there are {num_examples} training images; allowed: 1..{num_examples}"
        )
    steps_per_epoch = num_examples // batch_size
    images, labels = tf.constant(split.images), tf.constant(split.label_rows(num_classes))
    augment_seed = augmentation_seed(seed)
    replicas = replicas or range(num_replicas)
    own = slice(*(place * (batch_size // num_replicas) for place in (replicas.start, replicas.stop)))

    def rows_at(epoch: tf.Tensor) -> tf.Tensor:
        order = rows_of(order_seed(seed), epoch, labels)
        rows = tf.reshape(order[: steps_per_epoch * batch_size], [steps_per_epoch, batch_size])
        return rows if len(replicas) == num_replicas else rows[:, own]

    def epoch_of(epoch: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(rows_at(epoch)).enumerate(epoch * steps_per_epoch)

    def load(step: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
        batch = Batch(tf.gather(images, rows), tf.gather(labels, rows))
        if augment is not None:
            visit = visit_at(augment_seed, step, num_epochs * steps_per_epoch, steps_per_epoch, rows)
            batch = augment_replicas(augment, batch, augment_seed, visit, len(replicas), replicas.start)
        return (batch.images, batch.labels, rows) if with_examples else (batch.images, batch.labels)

    def load_at(step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return load(step, rows_at(step // steps_per_epoch)[step % steps_per_epoch])

    if service:
        batches = in_order(first_epoch * steps_per_epoch, num_epochs * steps_per_epoch, load_at, service)
    else:
        batches = tf.data.Dataset.range(first_epoch, num_epochs).flat_map(epoch_of).map(load, num_parallel_calls=2)
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.prefetch(4).with_options(options)


def visit_at(seed: tf.Tensor, step: tf.Tensor, total_steps: int, steps_per_epoch: int, examples: tf.Tensor) -> Visit:
    """Returns where a phase stands at one step, and what it sees there.

    Args:
      seed: of the phase's augmentation, int32 [2].
      step: 0 .. total_steps - 1.
      total_steps: of the phase.
      steps_per_epoch: 1 or more.
      examples: int32 [B], the place of each image of the batch in the training set.

    Returns:
      The progress that an augmentation takes.
    """
    return Visit(step, total_steps, seed, step // steps_per_epoch, examples)


def order_seed(seed: tf.Tensor) -> tf.Tensor:
    """Returns the seed that `training_batches` orders with, for choosing on the device instead."""
    return rng.fold_in(seed, 0)


def augmentation_seed(seed: tf.Tensor) -> tf.Tensor:
    """Returns the seed that `training_batches` augments with, for augmenting on the device instead."""
    return rng.fold_in(seed, 1)


def evaluation_batches(split: Split, *, num_classes: int, batch_size: int) -> tf.data.Dataset:
    """Returns (images, labels) batches of `split` in its own order, the last one as short as it comes.

    Raises:
      ConfigError: if there are no images.
    """
    if not len(split):
        raise ConfigError("there are 0 images to validate on; allowed: 1 or more")
    labels = split.label_rows(num_classes)
    return tf.data.Dataset.from_tensor_slices((split.images, labels)).batch(batch_size).prefetch(2)
