"""Losses for soft labels: one number per image, always computed in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug.shapes import held_to

NUM_CHECKED = 8  # images on which `check_logits` is worth its forward pass: few of them do not look alike by chance
_SUM_TOLERANCE = 1e-2  # how far the probabilities of a row may sum from 1: wide enough for bfloat16
DIRECTIONS = ("teacher_student", "student_teacher")


def _check_pair(first: Any, second: Any, names: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Both as float32, after checking that they are [B, K] of the same K (and B where known)."""
    first, second = (tf.cast(value, tf.float32) for value in (first, second))
    if first.shape.rank not in (2, None) or not first.shape.is_compatible_with(second.shape):
        raise ValueError(f"{names} have the shapes {first.shape} and {second.shape}; allowed: two times [B, K]")
    if first.shape.rank == 2 and None in (first.shape[0], second.shape[0]):
        # One row would be taken for every row.
        num_classes = tf.shape(first)[1] if first.shape[1] is None else first.shape[1]
        first = held_to(first, [tf.shape(second)[0], num_classes], "as many rows in both")
    return first, second


def check_logits(logits: Any) -> np.ndarray:
    """Checks that what a model gives can be logits, the mirror of `tfaug.metrics.check_predictions`.

    Args:
      logits: float [B, K]; the more rows, the less likely that logits pass for probabilities.

    Returns:
      The logits, float64 [B, K].

    Raises:
      ValueError: if they are not [B, K] with K of 2 or more, or every row is a distribution: no value below 0, and a
        sum of 1 within 1e-2.

    Example:
      >>> check_logits([[2.0, -1.0]]).shape
      (1, 2)
    """
    values = np.asarray(logits, np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"the model gives {list(values.shape)}; allowed: logits [B, K], K of 2 or more")
    if len(values) and (values >= 0).all() and (np.abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE).all():
        raise ValueError(
            "the model gives rows of 0 or more that sum to 1, so probabilities; allowed: logits, as before a softmax"
        )
    return values


def smooth(labels: tf.Tensor, share: float) -> tf.Tensor:
    """Returns `(1 - share) labels + share / K`: float [B, K], each row summing to 1 as those of `labels` do.

    Source: Szegedy et al. 2016 (Rethinking the Inception architecture), section 7.
    """
    return labels if share == 0 else labels * (1.0 - share) + share / labels.shape[-1]


def soft_cross_entropy(labels: Any, logits: Any) -> tf.Tensor:
    """Computes the softmax cross-entropy against soft labels.

        loss_i = -sum_k labels_ik * log softmax(logits_i)_k

    It is linear in the labels: for a mean of k one-hot labels it is the mean of the k usual cross-entropies, which is
    how the 2019 code of `sum` writes it.

    Args:
      labels: float [B, K]; each row sums to 1.
      logits: float [B, K].

    Returns:
      float32 [B], 0 or more.

    Raises:
      ValueError: if the shapes are not two equal [B, K].

    Source: `sum`, chapter 3 (loss of the Sum-Augmentation tables).

    Example:
      >>> round(float(soft_cross_entropy([[0.5, 0.5]], [[3.0, 3.0]])[0]), 4)   # log 2
      0.6931
    """
    labels, logits = _check_pair(labels, logits, "labels and logits")
    return tf.nn.softmax_cross_entropy_with_logits(labels, logits)


def binary_cross_entropy(labels: Any, logits: Any) -> tf.Tensor:
    """Computes the mean over the classes of K separate sigmoid cross-entropies against soft labels.

        loss_i = (1/K) sum_k -[labels_ik * log s(logits_ik) + (1 - labels_ik) * log(1 - s(logits_ik))],  s = sigmoid

    Args:
      labels: float [B, K], each 0..1.
      logits: float [B, K].

    Returns:
      float32 [B], 0 or more.

    Raises:
      ValueError: if the shapes are not two equal [B, K].

    Source: `sum`, section on Gradually Cascading Sum Augmentation.
    """
    labels, logits = _check_pair(labels, logits, "labels and logits")
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits), axis=-1)


def distillation_loss(
    labels: Any,
    student_logits: Any,
    teacher_logits: Any,
    alpha: float = 0.5,
    temperature: float = 20.0,
    direction: str = "teacher_student",
) -> tf.Tensor:
    """Computes the loss of a student that learns from the labels and from a teacher.

        p_T = softmax(teacher_logits / T),  p_S = softmax(student_logits / T)
        loss_i = (1 - alpha) * CE(labels_i, softmax(student_logits_i)) + alpha * T^2 * KL

    with KL = KL(p_T || p_S) for `teacher_student` (Hinton et al. 2015 and most code) and KL(p_S || p_T) for
    `student_teacher` (what `distill` prints). The gradients of the two differ. No gradient reaches the teacher.

    Args:
      labels: float [B, K]; each row sums to 1.
      student_logits: float [B, K].
      teacher_logits: float [B, K].
      alpha: weight of the teacher, 0..1 (`distill`: gamma = 0.5).
      temperature: T, above 0 (`distill`: 20).
      direction: 'teacher_student' or 'student_teacher'.

    Returns:
      float32 [B], 0 or more.

    Raises:
      ValueError: if alpha, temperature or direction is outside what is allowed, or the shapes differ.

    Source: `distill`, section 3; Hinton et al. 2015, section 2 (the factor T^2).
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha!r}; allowed: 0..1")
    if not 0.0 < temperature < float("inf"):
        raise ValueError(f"temperature is {temperature!r}; allowed: a finite number above 0")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction is {direction!r}; allowed: {', '.join(DIRECTIONS)}")
    student, teacher = _check_pair(student_logits, teacher_logits, "student_logits and teacher_logits")
    log_student = tf.nn.log_softmax(student / temperature)
    log_teacher = tf.nn.log_softmax(tf.stop_gradient(teacher) / temperature)
    first, second = (log_teacher, log_student) if direction == "teacher_student" else (log_student, log_teacher)
    divergence = tf.reduce_sum(tf.exp(first) * (first - second), axis=-1)
    return (1.0 - alpha) * soft_cross_entropy(labels, student) + alpha * temperature**2 * divergence


LOSSES: dict[str, Callable[[Any, Any], tf.Tensor]] = {
    "cross_entropy": soft_cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
}
