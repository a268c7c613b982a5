"""The cross-entropy on training images as they are and as a phase augments them: how far the two lie apart."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfaug import rng
from tfaug.augment.base import Batch, image_shape
from tfaug.data import Split
from tfaug.data.pipeline import BatchFunction, step_seed, visit_at
from tfaug.data.split import stratified_subset
from tfaug.losses import soft_cross_entropy
from tfaug.models import StagedModel
from tfaug.models.stages import infer
from tfaug.schedules import Progress
from tfaug.train.phase import Phase

# Beside 0 for the order and 1 for the augmentation of what is trained on.
_RISKS = 2


class TrainingRisks:
    """Measures a network in inference mode on a class-stratified part of the training images, the same every time.

        clean_loss     = mean of CE(labels, f(images))
        augmented_loss = mean of CE(labels', f(images')),   (images', labels') as the phase augments and mixes them

    Labels that are mixed have an entropy, below which no network comes. What is drawn is the same every time; schedules
    stand at the step.

    Args:
      network: images -> logits.
      phase: `risk_batches` of its batches are measured, or as many as there are.
      split: the training images.
      num_classes: K.
      seed: of the phase, int32 [2].
      augment: of the phase.

    Source: He et al. 2019 (`refine`), table 2.
    """

    def __init__(
        self,
        network: StagedModel,
        phase: Phase,
        split: Split,
        num_classes: int,
        seed: tf.Tensor,
        augment: BatchFunction,
    ):
        self._steps_per_epoch = len(split) // phase.num_drawn
        num_batches = min(phase.risk_batches, self._steps_per_epoch)
        rows = stratified_subset(split.labels, num_batches * phase.num_drawn, seed=0)
        self._rows = rng.permutation(rng.fold_in(seed, _RISKS), len(rows)).numpy()
        self._split = split.take(rows)
        self._labels = self._split.label_rows(num_classes)
        self._network, self._phase = network, phase
        self._seed, self._augment = rng.fold_in(seed, _RISKS), augment
        self._logits = tf.function(lambda images: infer(network, images), reduce_retracing=True, autograph=False)

    def measure(self, step: int) -> dict[str, float]:
        """Returns both, after `step` steps of the phase."""
        clean, augmented = [], []
        total_steps = self._steps_per_epoch * self._phase.epochs
        for i, rows in enumerate(np.split(self._rows, len(self._rows) // self._phase.num_drawn)):
            batch = Batch(tf.constant(self._split.images[rows]), tf.constant(self._labels[rows]))
            clean.append(soft_cross_entropy(batch.labels, self._logits(batch.images)).numpy())
            now = tf.constant(min(step, total_steps - 1))
            visit = visit_at(self._seed, now, total_steps, self._steps_per_epoch, tf.constant(rows, tf.int32))
            seed = step_seed(self._seed, i, 0)
            augmented.append(self._mixed_losses(self._augment(batch, seed, visit), seed, Progress(now, total_steps)))
        return {
            "clean_loss": float(np.concatenate(clean).mean()),
            "augmented_loss": float(np.concatenate(augmented).mean()),
        }

    def _mixed_losses(self, batch: Batch, seed: tf.Tensor, progress: Progress) -> np.ndarray:
        """Returns the loss of each augmented row, whose features are mixed where the phase does so."""
        mix = self._phase.mix_features
        if mix is None:
            return soft_cross_entropy(batch.labels, self._logits(batch.images)).numpy()
        choice = mix.sample(rng.fold_in(seed, -1), image_shape(batch.images), progress)
        logits, labels = mix.forward(self._network, *batch, choice, training=False)
        return soft_cross_entropy(labels, logits).numpy()
