from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tfaug.losses import LOSSES, binary_cross_entropy, check_logits, distillation_loss, smooth, soft_cross_entropy


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    labels = rng.dirichlet(np.ones(7), 5).astype(np.float32)
    return labels, *(3 * rng.standard_normal((2, 5, 7))).astype(np.float32)


def test_cross_entropy_by_hand():
    # logits (log 3, 0): probabilities 3/4 and 1/4
    loss = soft_cross_entropy([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], [[np.log(3), 0.0]] * 3)
    np.testing.assert_allclose(loss, [np.log(4 / 3), np.log(4), np.log(16 / 3) / 2], rtol=1e-6)


def test_cross_entropy_agrees_with_scipy(arrays):
    labels, logits, _ = arrays
    expected = -(labels * scipy.special.log_softmax(logits, axis=1)).sum(axis=1)
    np.testing.assert_allclose(soft_cross_entropy(labels, logits), expected, rtol=1e-5)


def test_cross_entropy_of_a_mean_of_labels_is_the_mean_of_the_cross_entropies(arrays):
    logits = arrays[1]
    groups = np.random.default_rng(1).integers(0, 7, (3, 5))
    mixed = np.eye(7, dtype=np.float32)[groups].mean(axis=0)
    one_by_one = [tf.nn.sparse_softmax_cross_entropy_with_logits(group, logits) for group in groups]
    np.testing.assert_allclose(soft_cross_entropy(mixed, logits), np.mean(one_by_one, axis=0), rtol=1e-5)


def test_binary_cross_entropy_by_hand():
    # sigmoid(log 3) = 3/4, sigmoid(0) = 1/2
    loss = binary_cross_entropy([[1.0, 0.5], [0.0, 0.0]], [[np.log(3), 0.0]] * 2)
    np.testing.assert_allclose(loss, [(np.log(4 / 3) + np.log(2)) / 2, (np.log(4) + np.log(2)) / 2], rtol=1e-6)


def test_binary_cross_entropy_agrees_with_numpy(arrays):
    labels, logits, _ = arrays
    p = scipy.special.expit(logits.astype(np.float64))
    expected = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean(axis=1)
    np.testing.assert_allclose(binary_cross_entropy(labels, logits), expected, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_stay_finite_at_extreme_logits_and_come_as_float32(name):
    loss = LOSSES[name]([[1.0, 0.0], [0.0, 1.0]], tf.constant([[1e4, -1e4]] * 2, tf.bfloat16))
    assert loss.dtype == tf.float32
    assert np.isfinite(loss).all() and loss[0] == 0 and loss[1] > 1e3


@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_distillation_agrees_with_scipy(arrays, direction, temperature):
    labels, student, teacher = arrays
    p_student, p_teacher = (scipy.special.softmax(z / temperature, axis=1) for z in (student, teacher))
    pair = (p_teacher, p_student) if direction == "teacher_student" else (p_student, p_teacher)
    divergence = scipy.special.rel_entr(*pair).sum(axis=1)
    hard = -(labels * scipy.special.log_softmax(student, axis=1)).sum(axis=1)
    loss = distillation_loss(labels, student, teacher, 0.3, temperature, direction)
    np.testing.assert_allclose(loss, 0.7 * hard + 0.3 * temperature**2 * divergence, rtol=2e-3)


def test_distillation_by_hand():
    # teacher (3/4, 1/4), student (1/2, 1/2), T = 1
    teacher, student = [[np.log(3), 0.0]], [[0.0, 0.0]]
    forward = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    backward = 0.5 * np.log(2 / 3) + 0.5 * np.log(2)
    labels = [[1.0, 0.0]]
    for direction, divergence in (("teacher_student", forward), ("student_teacher", backward)):
        loss = distillation_loss(labels, student, teacher, 0.5, 1.0, direction)
        np.testing.assert_allclose(loss, [0.5 * np.log(2) + 0.5 * divergence], rtol=1e-6)


def test_distillation_without_weight_on_the_teacher_is_the_cross_entropy(arrays):
    labels, student, teacher = arrays
    np.testing.assert_array_equal(
        distillation_loss(labels, student, teacher, alpha=0.0), soft_cross_entropy(labels, student)
    )


@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
def test_distillation_from_an_equal_teacher_costs_nothing_and_pulls_nowhere(arrays, direction):
    labels, logits, _ = arrays
    student = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = distillation_loss(labels, student, logits, 1.0, 20.0, direction)
    np.testing.assert_allclose(loss, 0, atol=1e-4)
    np.testing.assert_allclose(tape.gradient(loss, student), 0, atol=1e-4)


def test_gradient_of_the_default_direction_is_t_times_the_difference_of_probabilities(arrays):
    labels, student_logits, teacher = arrays
    student = tf.constant(student_logits)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = distillation_loss(labels, student, teacher, 1.0, 4.0)
    p_student, p_teacher = (scipy.special.softmax(z / 4.0, axis=1) for z in (student_logits, teacher))
    np.testing.assert_allclose(tape.gradient(loss, student), 4.0 * (p_student - p_teacher), atol=1e-5)


@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
def test_no_gradient_reaches_the_teacher(arrays, direction):
    labels, student, teacher_logits = arrays
    teacher = tf.constant(teacher_logits)
    with tf.GradientTape() as tape:
        tape.watch(teacher)
        loss = distillation_loss(labels, student, teacher, 0.5, 4.0, direction)
    assert tape.gradient(loss, teacher) is None


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"alpha": 1.5}, r"alpha is 1.5; allowed: 0..1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"direction": "forward"}, "direction is 'forward'; allowed: teacher_student, student_teacher"),
    ],
)
def test_distillation_settings_out_of_range_are_refused(arrays, settings, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(*arrays, **settings)


def test_shapes_that_would_broadcast_are_refused(arrays):
    labels, logits, _ = arrays
    for loss in LOSSES.values():
        with pytest.raises(ValueError, match=r"labels and logits have the shapes \(1, 7\) and \(5, 7\)"):
            loss(labels[:1], logits)
        with pytest.raises(ValueError, match="two times"):
            loss(labels[0], logits[0])
    with pytest.raises(ValueError, match="student_logits and teacher_logits"):
        distillation_loss(labels, logits, logits[:, :3])


def test_smoothed_labels_keep_their_sum_and_give_each_class_its_share() -> None:
    labels = tf.constant([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    np.testing.assert_allclose(smooth(labels, 0.2), [[0.85, 0.05, 0.05, 0.05], [0.45, 0.45, 0.05, 0.05]], rtol=1e-6)
    assert smooth(labels, 0.0) is labels


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16, tf.bfloat16])
def test_probabilities_are_not_taken_for_logits(arrays, dtype):
    logits = tf.cast(arrays[1], dtype)
    np.testing.assert_array_equal(check_logits(logits), tf.cast(logits, tf.float64))
    check_logits(tf.nn.log_softmax(logits))
    check_logits(tf.zeros([3, 4], dtype))  # of a network without weights yet
    check_logits([[0.4, 0.6], [1.0, 3.0]])
    assert check_logits(tf.zeros([0, 4], dtype)).shape == (0, 4)
    with pytest.raises(ValueError, match="so probabilities; allowed: logits"):
        check_logits(tf.nn.softmax(logits))


@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 2, 2), (8, 0)])
def test_an_output_that_is_no_row_of_classes_is_refused(shape):
    with pytest.raises(ValueError, match=r"the model gives \[8.*\]; allowed: logits \[B, K\], K of 2 or more"):
        check_logits(np.zeros(shape))
