"""Manifold Mixup: mixes the features inside a network, and the labels in the same proportion.

It needs the network between two of its stages, so it is no op on a batch and is not in `AUGMENTATIONS`; a phase of
training has it as `mix_features`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import tensorflow as tf

from tfaug import rng
from tfaug.augment.base import Batch, Choice, Shape, labels_to_mix
from tfaug.augment.mixing import blend, check_alpha, draw_beta
from tfaug.config import ConfigError
from tfaug.schedules import Progress, Schedule, check_scheduled, value_at

if TYPE_CHECKING:
    from tfaug.models import StagedModel

INPUT = "input"


@dataclasses.dataclass(frozen=True)
class ManifoldMixup:
    """Blends the features of each image with another image's, at a place of the network drawn for the batch.

        g = what the network has computed up to the place;   g_i <- weight * g_i + (1 - weight) * g_partner
        labels likewise;   weight ~ Beta(alpha, alpha)

    The partner is given by a random permutation of the batch. Unlike in the authors' code, where one weight serves the
    whole batch, each image has a weight of its own, rounded to a multiple of 2**-16; the place is drawn once per batch
    (with several replicas, per replica), as there.

    The network runs once: at each place that may be drawn the features are blended, with the weight 1 where it was not.
    So there are no branches, it compiles under XLA, and gradients flow through both images.

    Choice: `place` int32 scalar, the position in `stages`; `partner` int32 [B]; `weight` float32 [B], 1 where the image
    stays as it is.

    Args:
      alpha: of the Beta distribution, above 0; 2 in the paper, 1 in `refine`. A schedule's is rounded to one of 33
        alphas, see `mixing.draw_beta`.
      stages: the places, each equally likely: `input` for the images, or the name of a stage of the network (but its
        last) for what comes out of it. The authors' networks draw from the input and the first two of three stages.
      p: probability per image, 0..1, or a schedule; 0 is the identity.

    Raises:
      ConfigError: if a field is out of range.

    Source: Verma et al. 2019 (Manifold Mixup), section 2, and its authors' code.

    Example:
      >>> from tfaug.models import LeNet, build_model
      >>> network = build_model(
      ...     LeNet(), image_shape=(28, 28, 1), num_classes=10, mean=[0.1], std=[0.3], seed=0
      ... )
      >>> mix, images, labels = ManifoldMixup(), tf.zeros([8, 28, 28, 1], tf.uint8), tf.one_hot(tf.range(8), 10)
      >>> choice = mix.sample(rng.make_seed(1), (8, 28, 28, 1))
      >>> logits, mixed_labels = mix.forward(network, images, labels, choice)
      >>> logits.shape.as_list(), mixed_labels.shape.as_list()
      ([8, 10], [8, 10])
    """

    alpha: float | Schedule = 2.0
    stages: tuple[str, ...] = (INPUT, "stage1", "stage2")
    p: float | Schedule = 1.0

    def __post_init__(self) -> None:
        check_alpha(self)
        check_scheduled(self, "p", 0, 1)
        named = isinstance(self.stages, tuple) and all(isinstance(stage, str) for stage in self.stages)
        if not named or not self.stages or len(set(self.stages)) != len(self.stages):
            raise ConfigError(
                f"ManifoldMixup.stages is {self.stages!r}; allowed: a tuple of different names, not empty"
            )

    def sample(self, seed: tf.Tensor, shape: Shape, progress: Progress | None = None) -> Choice:
        """Draws the place, partners and weights.

        Args:
          seed: int32 [2], see tfaug.rng.
          shape: [B, H, W, C] of the images, integers or scalar integer tensors.
          progress: where training stands; needed where a field is a schedule.

        Raises:
          ValueError: if a field is a schedule and there is no progress.
        """
        weight = draw_beta(self, rng.fold_in(seed, 0), [shape[0]], progress)
        applied = rng.bernoulli(rng.fold_in(seed, 1), [shape[0]], value_at(self, "p", progress))
        return {
            "place": rng.randint(rng.fold_in(seed, 2), [], 0, len(self.stages)),
            "partner": rng.permutation(rng.fold_in(seed, 3), shape[0]),
            "weight": tf.where(applied, weight, 1.0),
        }

    def forward(
        self, network: StagedModel, images: tf.Tensor, labels: tf.Tensor, choice: Choice, training: bool = True
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs the network, mixing where `choice` says.

        Args:
          network: has the stages named in `stages`.
          images: uint8 or float32 [B, H, W, C], 0..255.
          labels: float32 [B, K].
          choice: from `sample` for B images.
          training: whether batch normalisation uses, and learns from, the statistics of this batch.

        Returns:
          The logits float32 [B, K] of the mixed features, and the mixed labels float32 [B, K].

        Raises:
          ConfigError: if the network has no stage of a name, naming those it has.
          ValueError: if the labels are others; see `tfaug.augment.base.labels_to_mix`.
        """
        labels = labels_to_mix("ManifoldMixup", Batch(images, labels))
        place, partner, weight = choice["place"], choice["partner"], choice["weight"]
        features, start = images, 0
        for stop, index in self.places(network):
            features = network.forward(features, start=start, stop=stop, training=training)
            here = tf.where(place == index, weight, 1.0)
            mixed = blend(features, tf.gather(features, partner), here)
            # In float32, since bfloat16 cannot hold the weights; a weight of 1 leaves bfloat16 features as they are.
            features = mixed if features.dtype == tf.uint8 else tf.cast(mixed, features.dtype)
            start = stop
        logits = network.forward(features, start=start, training=training)
        return logits, blend(labels, tf.gather(labels, partner), weight)

    def places(self, network: StagedModel) -> list[tuple[int, int]]:
        """Returns for each place, in the network's order, how many of its stages run before and its position here.

        Raises:
          ConfigError: if the network has no stage of a name, naming those it has.
        """
        allowed = (INPUT, *network.stage_names[:-1])
        for stage in self.stages:
            if stage not in allowed:
                raise ConfigError(f"ManifoldMixup.stages names {stage!r}; {network.name} allows: {', '.join(allowed)}")
        return sorted((allowed.index(stage), index) for index, stage in enumerate(self.stages))
