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
from tfaug.models.stages import infer
from tfaug.schedules import Progress
from tfaug.train.methods.base import Answers, Method

# The ops of a step fold 0, 1, 2, ... into its seed, see Compose.
_MIX_FEATURES = -1


class Learner(tf.keras.Model):
    """Trains a network on soft labels by a method, with the augmentation inside the step where asked.

    The network stays an object of its own (`network`): it is what is saved, exported and taught.

    Args:
      network: images [B, H, W, C], 0..255 -> float32 logits [B, K].
      method: what the loss is made of.
      teacher: of the method, images -> logits in inference mode; None where it asks nobody.
      loss: a name in `tfaug.losses.LOSSES`.
      label_smoothing: share of each label that is spread over the classes in the training loss.
      weight_decay: L2 penalty added to the gradient of every trainable variable.
      augment: `function(batch, seed, progress) -> batch` run under XLA in the step; None where the host has done it.
      mix_features: mixes inside the network; None leaves the features as they are.
      seed: int32 [2], folded with the step and the replica for `augment` and `mix_features`.
      total_steps: steps of the phase, for what is scheduled; the optimizer counts them.
      steps_per_epoch: for what goes by the epoch.
      compile_step: whether the forward and backward pass of each replica is compiled by XLA. The reduction over
        replicas and the update stay outside, where MirroredStrategy needs them.
    """

    def __init__(
        self,
        network: StagedModel,
        *,
        method: Method,
        teacher: Answers | None,
        loss: str,
        label_smoothing: float,
        weight_decay: float,
        augment: BatchFunction | None,
        mix_features: ManifoldMixup | None,
        seed: tf.Tensor,
        total_steps: int,
        steps_per_epoch: int,
        compile_step: bool,
    ):
        super().__init__(name="learner")
        self.network, self.method, self.teacher = network, method, teacher
        self.loss_function, self.label_smoothing = LOSSES[loss], label_smoothing
        self.weight_decay = weight_decay
        self.mix_features = mix_features
        self.seed = seed
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self._augment = tf.function(augment, jit_compile=True, autograph=False) if augment is not None else None
        self._gradients_of = self._gradients
        if compile_step:
            self._gradients_of = tf.function(self._gradients, jit_compile=True, autograph=False)
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
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the logits in training mode, and the labels as the network has mixed them."""
        if self.mix_features is None:
            return self.network(images, training=True), labels
        seed, progress = rng.fold_in(seed, _MIX_FEATURES), Progress(step, self.total_steps)
        choice = self.mix_features.sample(seed, image_shape(images), progress)
        return self.mix_features.forward(self.network, images, labels, choice, training=True)

    def _gradients(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, step: tf.Tensor) -> tuple[Any, ...]:
        """Returns this replica's gradients, losses, labels and logits; no communication, so XLA may compile it."""
        with tf.GradientTape() as tape:
            logits, labels = self._logits(images, labels, seed, step)
            labels_to_learn = smooth(labels, self.label_smoothing)
            losses = self.method.losses(self.loss_function, images, labels_to_learn, logits, self.teacher)
            # Every replica holds the same number of rows, and the optimizer adds the replicas' gradients up.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            objective = tf.reduce_mean(losses) / replicas
        variables = self.network.trainable_variables
        gradients = tape.gradient(objective, variables)
        if self.weight_decay:
            decay = self.weight_decay / replicas
            gradients = [g + decay * tf.cast(v, g.dtype) for g, v in zip(gradients, variables, strict=True)]
        return gradients, losses, labels, logits

    def train_step(self, data: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """Takes one step on this replica's share of the batch: images, labels and, to augment here, the examples."""
        images, labels, *examples = data
        step = tf.convert_to_tensor(self.optimizer.iterations)
        seed = step_seed(self.seed, step, tf.distribute.get_replica_context().replica_id_in_sync_group)
        if self._augment is not None:
            progress = visit_at(self.seed, step, self.total_steps, self.steps_per_epoch, *examples)
            images, labels = self._augment(Batch(images, labels), seed, progress)
        gradients, losses, labels, logits = self._gradients_of(images, labels, seed, step)
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
