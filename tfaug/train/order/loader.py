"""The data loader of an order that asks the network: keeps scores and what remains, and chooses the batch of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfaug import rng
from tfaug.augment.base import Batch
from tfaug.data.load import Split
from tfaug.data.pipeline import shuffled_rows, step_seed
from tfaug.keras_versions import tf_variables
from tfaug.losses import smooth
from tfaug.models.stages import folding, infer
from tfaug.train.order.base import Pool, ScoringOrder

if TYPE_CHECKING:
    from tfaug.train.step import Learner

# Folded into the order's seed; epochs, which make the splits, are 0 or more.
_STEP, _STATIC = -1, -2
_NUM_SCORED = 1_000  # examples of one call at the beginning of an epoch


class DataLoader:
    """Chooses the batches of one phase, on one device, where the images are held as uint8.

    What it keeps lasts for an epoch and begins as a function of the seed, the epoch and the network, so a training that
    goes on at an epoch needs no more than its checkpoint.

    Args:
      order: which it asks.
      learner: with its optimizer; its steps are counted from the start of the phase.
      train: the images.
      held_out: images that are not trained on, for static batches.
      num_classes: of the labels.
      seed: of the order in this phase, int32 [2].
      batch_size: B.
      strategy: the device.
    """

    def __init__(
        self,
        order: ScoringOrder,
        learner: Learner,
        train: Split,
        held_out: Split,
        num_classes: int,
        seed: tf.Tensor,
        batch_size: int,
        strategy: tf.distribute.Strategy,
    ):
        self.order, self.learner, self.seed, self.batch_size = order, learner, seed, batch_size
        self._strategy = strategy
        self._train = Batch(tf.constant(train.images), tf.constant(train.label_rows(num_classes)))
        self._held_out = Batch(tf.constant(held_out.images), tf.constant(held_out.label_rows(num_classes)))
        # Variables of no strategy: what one replica alone may assign within its step.
        self._remaining = tf.Variable(tf.ones([len(train)], tf.bool), trainable=False)
        self._scores = tf.Variable(tf.zeros([len(train)]), trainable=False)
        self._try_step, self._mean_loss = self._tried, self._mean
        if learner.compile_step:
            self._try_step = tf.function(self._tried, jit_compile=True, autograph=False)
            self._mean_loss = tf.function(self._mean, jit_compile=True, autograph=False)
        self._score = tf.function(
            lambda items, step: self._strategy.run(self._score_at, (items, step)),
            autograph=False,
            reduce_retracing=True,
        )

    def placeholders(self, first_epoch: int, num_epochs: int) -> tf.data.Dataset:
        """Returns what `fit` takes in place of batches: for each step one with nothing to learn in it."""
        num_steps = (num_epochs - first_epoch) * self.learner.steps_per_epoch
        images, labels = self._train.images[:1], self._train.labels[:1]
        return tf.data.Dataset.from_tensors((images, labels)).repeat(num_steps)

    def begin_epoch(self, epoch: int) -> None:
        """Makes all examples remain again, and scores all learning items if the order has scores last for an epoch."""
        self._remaining.assign(tf.ones_like(self._remaining))
        if self.order.refresh != "epoch":
            return
        items = self.order.items(self._pool(tf.constant(epoch))).numpy()
        step = tf.convert_to_tensor(self.learner.optimizer.iterations)
        num = max(1, _NUM_SCORED // items.shape[1])
        scores = np.zeros(self._scores.shape, np.float32)
        for i in range(0, len(items), num):
            part = items[i : i + num]
            scores[part] = self._score(tf.constant(part), step).numpy()[:, None]
        self._scores.assign(scores)

    def next_batch(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns images uint8 [B, H, W, C], labels float32 [B, K] and their places int32 [B]; a part of the step."""
        seed = rng.fold_in(rng.fold_in(self.seed, _STEP), tf.cast(step, tf.int32))
        pool = self._pool(self._epoch(step))
        items = self.order.candidates(rng.fold_in(seed, 0), pool)
        if self.order.refresh == "epoch":
            scores = tf.reduce_mean(tf.gather(self._scores, items), axis=1)
        else:
            scores = self.order.scores(_AskAt(self, step), items)
        rows = self.order.choose(rng.fold_in(seed, 1), items, scores, self.batch_size)
        rows = tf.ensure_shape(rows, [self.batch_size])
        if not self.order.replaces:
            taken = tf.scatter_nd(rows[:, None], tf.ones_like(rows), self._remaining.shape) > 0
            self._remaining.assign(tf.logical_and(pool.remaining, tf.logical_not(taken)))
        return *self._take(rows), rows

    def _epoch(self, step: tf.Tensor) -> tf.Tensor:
        return step // self.learner.steps_per_epoch

    def _pool(self, epoch: tf.Tensor) -> Pool:
        """The split of an epoch, and what remains."""
        order = shuffled_rows(self.seed, epoch, self._train.labels)
        shape = [self.learner.steps_per_epoch, self.batch_size]
        return Pool(tf.reshape(order[: shape[0] * shape[1]], shape), tf.convert_to_tensor(self._remaining))

    def _take(self, rows: tf.Tensor) -> Batch:
        return Batch(tf.gather(self._train.images, rows), tf.gather(self._train.labels, rows))

    def _score_at(self, items: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        return self.order.scores(_AskAt(self, step), items)

    def _mean(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The mean loss in inference mode."""
        return tf.reduce_mean(self.losses_of(images, labels))

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        with folding():
            return infer(self.learner.network, images)

    def losses_of(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the phase's loss of each image in inference mode, [B]."""
        return self.learner.loss_function(smooth(labels, self.learner.label_smoothing), self._logits(images))

    def _tried(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The mean loss in inference mode, and its gradients with the decay of the weights."""
        variables = self.learner.network.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._mean(images, labels)
        gradients = tape.gradient(loss, variables)
        decay = self.learner.weight_decay
        return loss, [g + decay * tf.cast(v, g.dtype) for g, v in zip(gradients, variables, strict=True)]

    def losses(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the losses of some examples; see `Ask.losses`."""
        return self.losses_of(*self._take(rows))

    def errors(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the errors of some examples; see `Ask.errors`."""
        batch = self._take(rows)
        return tf.nn.softmax(self._logits(batch.images)) - batch.labels

    def deltas(self, batches: tf.Tensor, num_static: int, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the losses before and after a step on each batch; see `Ask.deltas`."""
        learner, static = self.learner, None
        if num_static:
            seed = rng.fold_in(rng.fold_in(self.seed, _STATIC), tf.cast(self._epoch(step), tf.int32))
            rows = rng.permutation(seed, int(self._held_out.labels.shape[0]))[:num_static]
            static = Batch(tf.gather(self._held_out.images, rows), tf.gather(self._held_out.labels, rows))
        # The optimizer's update asks all replicas at once, which TensorFlow allows in no loop of a graph.
        before, after = [], []
        static_loss = None if static is None else self._mean_loss(*static)
        weights = [variable for variable in tf_variables(learner.network) if variable.trainable]
        variables = [*weights, *tf_variables(learner.optimizer)]
        kept = [tf.identity(variable) for variable in variables]
        for rows in tf.unstack(batches):
            batch = learner.augment(self._take(rows), step_seed(learner.seed, step, 0), step, rows)
            loss, gradients = self._try_step(*batch)
            learner.optimizer.apply_gradients(zip(gradients, learner.network.trainable_variables, strict=True))
            before.append(loss if static_loss is None else static_loss)
            after.append(self._mean_loss(*(batch if static is None else static)))
            _assign_all(variables, kept)
        return tf.stack(before), tf.stack(after)


class _AskAt:
    """`Ask` at one step."""

    def __init__(self, loader: DataLoader, step: tf.Tensor):
        self.losses, self.errors = loader.losses, loader.errors
        self._loader, self._step = loader, step

    def deltas(self, batches: tf.Tensor, num_static: int) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Ask.deltas`."""
        return self._loader.deltas(batches, num_static, self._step)


def _assign_all(variables: list[Any], values: list[tf.Tensor]) -> None:
    """Puts values back, on the one replica that there is."""

    def assign(strategy: tf.distribute.Strategy, values: list[tf.Tensor]) -> None:
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(variable, lambda each, new: each.assign(new), args=(value,), group=True)

    tf.distribute.get_replica_context().merge_call(assign, (values,))


class BeginEpoch(tf.keras.callbacks.Callback):
    """Tells a data loader that an epoch begins."""

    def __init__(self, loader: DataLoader):
        super().__init__()
        self._loader = loader

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._loader.begin_epoch(epoch)
