"""The Keras model whose `train_step` augments, learns and reports."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfaug import rng
from tfaug.augment import ManifoldMixup
from tfaug.augment.base import Batch, image_shape
from tfaug.data.pipeline import BatchFunction, step_seed, visit_at
from tfaug.losses import LOSSES, smooth
from tfaug.models import StagedModel
from tfaug.models.stages import drawing, infer
from tfaug.schedules import Progress
from tfaug.train.methods.base import Answers, Lesson, Method
from tfaug.train.methods.features import run_stages
from tfaug.train.order.loader import DataLoader

# The ops of a step fold 0, 1, 2, ... into its seed, see Compose.
_MIX_FEATURES, _LAYERS, _PART = -1, -2, -3


class Learner(tf.keras.Model):
    """Trains a network on soft labels by a method, with the augmentation inside the step where asked.

    The network stays an object of its own (`network`): it is what is saved, exported and taught.

    Args:
      network: images [B, H, W, C], 0..255 -> float32 logits [B, K].
      method: what the loss is made of.
      teacher: of the method; None where it asks nobody.
      answers: of the teacher to each example of the training images, [N, K], where it is asked once; else None.
      loss: a name in `tfaug.losses.LOSSES`.
      label_smoothing: share of each label that is spread over the classes in the training loss.
      weight_decay: L2 penalty added to the gradient of every trainable variable.
      augment: `function(batch, seed, progress) -> batch` run under XLA in the step; None where the host has done it.
      mix_features: mixes inside the network; None leaves the features as they are.
      seed: int32 [2], folded with the step and the replica for `augment`, `mix_features` and the layers that draw.
      total_steps: steps of the phase, for what is scheduled; the optimizer counts them.
      steps_per_epoch: for what goes by the epoch.
      accumulate: parts of a replica's share that go through the network one after the other.
      compile_step: whether the forward and backward pass of each replica is compiled by XLA. The reduction over
        replicas and the update stay outside, where MirroredStrategy needs them.
    """

    def __init__(
        self,
        network: StagedModel,
        *,
        method: Method,
        teacher: Answers | None,
        answers: tf.Tensor | None = None,
        loss: str,
        label_smoothing: float,
        weight_decay: float,
        augment: BatchFunction | None,
        mix_features: ManifoldMixup | None,
        seed: tf.Tensor,
        total_steps: int,
        steps_per_epoch: int,
        compile_step: bool,
        accumulate: int = 1,
    ):
        super().__init__(name="learner")
        self.network, self.method, self.teacher, self.answers = network, method, teacher, answers
        self.loss_function, self.label_smoothing = LOSSES[loss], label_smoothing
        self.weight_decay = weight_decay
        self.mix_features = mix_features
        self.seed = seed
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.compile_step = compile_step
        self.loader: DataLoader | None = None  # of an order that asks the network; it needs the optimizer
        self._augment = tf.function(augment, jit_compile=True, autograph=False) if augment is not None else None
        self.accumulate = accumulate
        self._gradients_of = self._gradients if accumulate == 1 else self._accumulated
        if compile_step:
            self._gradients_of = tf.function(self._gradients_of, jit_compile=True, autograph=False)
        self.loss_metric = tf.keras.metrics.Mean("loss")
        self.accuracy_metric = tf.keras.metrics.Mean("accuracy")

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """The metrics that Keras resets at the start of every epoch."""
        return [self.loss_metric, self.accuracy_metric]

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the network's logits."""
        return self.network(images, training=training)

    def _logits(
        self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Returns the logits in training mode, the labels as the network has mixed them, and features to compare."""
        if self.method.stage_pairs:
            logits, features = run_stages(self.network, images, [own for own, _ in self.method.stage_pairs], True)
            return logits, labels, features
        if self.mix_features is None:
            return self.network(images, training=True), labels, ()
        seed, progress = rng.fold_in(seed, _MIX_FEATURES), Progress(step, self.total_steps)
        choice = self.mix_features.sample(seed, image_shape(images), progress)
        return *self.mix_features.forward(self.network, images, labels, choice, training=True), ()

    def _taught(self, shown: tf.Tensor) -> tuple[tf.Tensor | None, tuple[tf.Tensor, ...]]:
        """Returns what the teacher answers to what it is shown, or has answered, and its features to compare."""
        if self.teacher is None:
            return None, ()
        if self.answers is not None:
            return shown, ()
        if self.method.stage_pairs:
            assert self.teacher.network is not None
            return run_stages(self.teacher.network, shown, [theirs for _, theirs in self.method.stage_pairs])
        return self.teacher(shown), ()

    def _gradients(
        self, images: tf.Tensor, labels: tf.Tensor, shown: tf.Tensor, seed: tf.Tensor, step: tf.Tensor
    ) -> tuple[Any, ...]:
        """Returns this replica's gradients, losses, labels and logits; no communication, so XLA may compile it."""
        answers, taught = self._taught(shown)
        with tf.GradientTape() as tape, drawing(rng.fold_in(seed, _LAYERS)):
            logits, labels, features = self._logits(images, labels, seed, step)
            labels_to_learn = smooth(labels, self.label_smoothing)
            lesson = Lesson(images, labels_to_learn, logits, answers, features, taught)
            losses = self.method.losses(self.loss_function, lesson)
            # Every replica holds the same number of rows, and the optimizer adds the replicas' gradients up.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            objective = tf.reduce_mean(losses) / replicas
        variables = self.network.trainable_variables
        gradients = tape.gradient(objective, variables)
        if self.weight_decay:
            decay = self.weight_decay / replicas
            gradients = [g + decay * tf.cast(v, g.dtype) for g, v in zip(gradients, variables, strict=True)]
        return gradients, losses, labels, logits

    def _accumulated(
        self, images: tf.Tensor, labels: tf.Tensor, shown: tf.Tensor, seed: tf.Tensor, step: tf.Tensor
    ) -> tuple[Any, ...]:
        """Returns what `_gradients` does, with the mean of the gradients of parts that follow each other."""
        num = images.shape[0] // self.accumulate
        parts = [tf.reshape(each, [self.accumulate, num, *each.shape[1:]]) for each in (images, labels, shown)]

        def add(i: tf.Tensor, sums: list[tf.Tensor], rows: list[tf.TensorArray]) -> tuple[Any, ...]:
            own = rng.fold_in(rng.fold_in(seed, _PART), i)
            part = [tf.gather(each, i) for each in parts]
            gradients, *told = self._gradients(part[0], part[1], part[2], own, step)
            sums = [s + g / self.accumulate for s, g in zip(sums, gradients, strict=True)]
            return i + 1, sums, [row.write(i, each) for row, each in zip(rows, told, strict=True)]

        zeros = [tf.zeros(v.shape, tf.float32) for v in self.network.trainable_variables]
        rows = [
            tf.TensorArray(tf.float32, self.accumulate, element_shape=shape)
            for shape in ([num], [num, labels.shape[1]], [num, labels.shape[1]])
        ]
        _, gradients, rows = tf.while_loop(
            lambda i, *_: i < self.accumulate, add, (0, zeros, rows), parallel_iterations=1
        )
        return gradients, *(row.concat() for row in rows)

    def augment(self, batch: Batch, seed: tf.Tensor, step: tf.Tensor, *examples: tf.Tensor) -> Batch:
        """Augments a replica's share of a batch, if the step does so."""
        if self._augment is None:
            return batch
        progress = visit_at(self.seed, step, self.total_steps, self.steps_per_epoch, *examples)
        return self._augment(batch, seed, progress)

    def train_step(self, data: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """Takes one step on this replica's share of the batch: images, labels and, where they count, the examples."""
        step = tf.convert_to_tensor(self.optimizer.iterations)
        images, labels, *examples = data if self.loader is None else self.loader.next_batch(step)
        plain = Batch(images, labels)
        seed = step_seed(self.seed, step, tf.distribute.get_replica_context().replica_id_in_sync_group)
        images, labels = self.augment(plain, seed, step, *examples)
        shown = images if self.answers is None else tf.gather(self.answers, *examples)
        if self.method.augment == "teacher":
            images, labels = plain
        gradients, losses, labels, logits = self._gradients_of(images, labels, shown, seed, step)
        self.optimizer.apply_gradients(zip(gradients, self.network.trainable_variables, strict=True))
        return self._record(losses, labels, logits)

    def test_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Measures one batch; the loss is the plain cross-entropy whatever the training loss is.

        A replica's share of the last batch may be empty.
        """
        images, labels = data
        logits = infer(self.network, images)
        return self._record(LOSSES["cross_entropy"](labels, logits), labels, logits)

    def _record(self, losses: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        hits = tf.equal(tf.argmax(labels, axis=-1), tf.argmax(logits, axis=-1))
        self.loss_metric.update_state(losses)
        self.accuracy_metric.update_state(tf.cast(hits, tf.float32))
        return {metric.name: metric.result() for metric in self.metrics}
