"""What the stages of a network and of its teacher give, for the methods that compare it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from tfaug.config import ConfigError, near_name
from tfaug.models import StagedModel
from tfaug.train.methods.base import Method
from tfaug.train.teachers import FromWorkdir, Teacher, check_teacher

if TYPE_CHECKING:
    from tfaug.train.phase import Phase


def run_stages(
    network: StagedModel, images: tf.Tensor, stages: Sequence[str], training: bool = False
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Runs a network once.

    Args:
      network: has the stages.
      images: uint8 or float [B, H, W, C], 0..255.
      stages: names; "" for the stage before the head.
      training: see `StagedModel.forward`.

    Returns:
      The logits, float32 [B, K], and what each of the stages gave, in the order asked for.
    """
    names = [stage or network.stage_names[-2] for stage in stages]
    given: dict[str, tf.Tensor] = {}
    features, start = images, 0
    for place in sorted({network.stage_names.index(name) for name in names}):
        features = network.forward(features, start=start, stop=place + 1, training=training)
        given[network.stage_names[place]], start = features, place + 1
    return network.forward(features, start=start, training=training), tuple(given[name] for name in names)


def check_stages(
    method: Method, network: StagedModel, teacher: StagedModel, image_shape: tuple[int, int, int]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Returns what each pair of stages gives for an image: the student's shape and the teacher's, without the batch.

    Raises:
      ConfigError: if a stage is not there, or is the head, naming those that are.
    """
    sides = list(zip(*method.stage_pairs, strict=True))
    for who, one, names in (("the student", network, sides[0]), ("the teacher", teacher, sides[1])):
        allowed = one.stage_names[:-1]
        for name in names:
            if name and name not in allowed:
                raise ConfigError(
                    f"{method!r} names {name!r}{near_name(name, allowed)}; {who} is a {one.name} and has the stages "
                    f"{', '.join(allowed)}"
                )
    blank = tf.zeros((1, *image_shape), tf.uint8)
    shapes = (
        [tuple(features.shape[1:]) for features in run_stages(one, blank, names)[1]]
        for one, names in zip((network, teacher), sides, strict=True)
    )
    return list(zip(*shapes, strict=True))


def check_feature_teacher(method: Method) -> None:
    """Refuses a teacher of which features cannot be had."""
    elsewhere = isinstance(method.asks, Teacher) and not isinstance(method.asks, FromWorkdir)
    check_teacher(method, FromWorkdir, ", which gives logits and no features" if elsewhere else "")


def check_plain_features(phase: Phase) -> None:
    """Refuses mixed features, of which the teacher knows nothing."""
    if phase.mix_features is not None:
        raise ConfigError(
            f"mix_features is {phase.mix_features!r}; the teacher's answer to mixed features is not defined; "
            "allowed: None"
        )
