"""Train `BasicConv` on every order of an epoch's batches at once, and score each on test images.

What the network makes of an image is a mean over its 3x3 windows, each of which goes through the same small layers:

    logits = dense(mean over windows of norm2(relu(conv2(norm1(relu(conv1(window)))))))

with conv1 at the four 2x2 places of a window and conv2 at its one. So many trainings are products of matrices with the
same windows. A window that a batch holds several times, as the dark ones of digits, is computed once and counted; in
evaluation a normalisation is a part of the layer after it. Orders that begin alike share their first steps: 6 batches
have 720 orders of 4,320 steps, which are 1,956 different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfaug.models import StagedModel

RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 1e-4  # `sum`, section 2.2, by its authors' code; Nesterov's momentum
_KEPT, _EPSILON = 0.9, 1e-5  # of the network's normalisations, see LayerMaker.norm
_WINDOW = 3
_TAPS = [(row, column) for row in (0, 1) for column in (0, 1)]  # the places of conv1 in a window
_TRAINED_TOGETHER = 16  # steps on so many runs, and scores on so many images, stay in a processor's cache
_IMAGES_TOGETHER = 16
_SCORED_TOGETHER = 120


class Runs(NamedTuple):
    """Trainings of one network, run by run.

    Attributes:
      weights: float32 [R, ...], the network's `trainable_variables`.
      momenta: of the weights, of their shapes.
      statistics: float32 [R, C], the network's `non_trainable_variables`.
    """

    weights: tuple[np.ndarray, ...]
    momenta: tuple[np.ndarray, ...]
    statistics: tuple[np.ndarray, ...]

    def take(self, index: Sequence[int] | np.ndarray) -> Runs:
        """Returns the runs at `index`."""
        return Runs(*(tuple(array[np.asarray(index)] for array in part) for part in self))


def begin(network: StagedModel) -> Runs:
    """Returns one run that has taken no step yet.

    Args:
      network: of `BasicConv`.
    """
    weights, statistics = (
        tuple(np.asarray(variable)[None] for variable in variables)
        for variables in (network.trainable_variables, network.non_trainable_variables)
    )
    return Runs(weights, tuple(np.zeros_like(weight) for weight in weights), statistics)


def join(parts: Sequence[Runs]) -> Runs:
    """Returns the runs of all parts, one after the other."""
    return Runs(*(tuple(map(np.concatenate, zip(*part, strict=True))) for part in zip(*parts, strict=True)))


class Windows(NamedTuple):
    """The different windows of a batch.

    Attributes:
      inputs: float32 [W, 9 C].
      first: float32 [W, 4], how many of conv1's places each stands for; every place of an image is in one window's.
      counts: float32 [B, W], how often each is in an image.
      labels: int32 [B].
    """

    inputs: tf.Tensor
    first: tf.Tensor
    counts: tf.Tensor
    labels: tf.Tensor


def batch_windows(images: np.ndarray, labels: np.ndarray) -> Windows:
    """Returns the windows of a batch.

    Args:
      images: float32 [B, H, W, C], normalised.
      labels: int [B].
    """
    windows = _cut(images)
    num, height, width = windows.shape[:3]
    # Of the windows that have a place of conv1 the lowest rightmost one stands for it, there by its first place.
    row, column = np.ogrid[: height + 1, : width + 1]
    first = np.zeros((height, width, len(_TAPS)))
    below, right = np.broadcast_to(row == height, (height + 1, width + 1)), column == width
    for tap, (down, across) in enumerate(_TAPS):
        rows, columns = np.nonzero((below == down) & (right == across))
        first[rows - down, columns - across, tap] += 1
    inputs, place = np.unique(windows.reshape(-1, windows.shape[-1]), axis=0, return_inverse=True)
    place = place.reshape(num, height * width)
    counts = np.stack([np.bincount(each, minlength=len(inputs)) for each in place])
    shares = np.zeros((len(inputs), len(_TAPS)))
    np.add.at(shares, place.ravel(), np.tile(first.reshape(-1, len(_TAPS)), (num, 1)))
    return Windows(
        tf.constant(inputs),
        tf.constant(shares, tf.float32),
        tf.constant(counts, tf.float32),
        tf.constant(labels, tf.int32),
    )


class ScoringImages(NamedTuple):
    """Images to score on, sorted by how many of their windows are not the commonest one.

    Attributes:
      groups: float32 [M, W, 9 C] of M images each: their windows but for some commonest ones.
      commonest: float32 [1, 9 C].
      num_windows: of an image, in all.
      labels: int32 [N].
    """

    groups: tuple[tf.Tensor, ...]
    commonest: tf.Tensor
    num_windows: int
    labels: tf.Tensor


def scoring_images(images: np.ndarray, labels: np.ndarray) -> ScoringImages:
    """Returns the images to score on; see `batch_windows`."""
    windows = _cut(images)
    windows = windows.reshape(len(windows), -1, windows.shape[-1])
    different, place, counts = np.unique(
        windows.reshape(-1, windows.shape[-1]), axis=0, return_inverse=True, return_counts=True
    )
    commonest = int(counts.argmax())
    rare = place.reshape(windows.shape[:2]) != commonest
    order = np.argsort(rare.sum(1), kind="stable")
    groups = []
    for start in range(0, len(order), _IMAGES_TOGETHER):
        chosen = order[start : start + _IMAGES_TOGETHER]
        kept = np.argsort(~rare[chosen], axis=1, kind="stable")[:, : max(int(rare[chosen].sum(1).max()), 1)]
        groups.append(tf.constant(np.take_along_axis(windows[chosen], kept[..., None], axis=1)))
    return ScoringImages(
        tuple(groups),
        tf.constant(different[commonest : commonest + 1]),
        windows.shape[1],
        tf.constant(labels[order], tf.int32),
    )


def _cut(images: np.ndarray) -> np.ndarray:
    """Returns the windows of images, float32 [N, H - 2, W - 2, 9 C]."""
    cut = np.lib.stride_tricks.sliding_window_view(images.astype(np.float32), (_WINDOW, _WINDOW), axis=(1, 2))
    return np.moveaxis(cut, 3, -1).reshape(*cut.shape[:3], -1)


# -- training ------------------------------------------------------------------------------------------------------


def train_all_orders(run: Runs, batches: Sequence[Windows]) -> Runs:
    """Trains one run through an epoch, in every order of its batches.

    Args:
      run: a single one.
      batches: b of them.

    Returns:
      b! runs, in the order of `itertools.permutations(range(b))`.
    """
    runs, taken = run, list[tuple[int, ...]]([()])
    for _ in batches:
        steps = [(i, new) for i, path in enumerate(taken) for new in range(len(batches)) if new not in path]
        made, places = [], []
        for number, batch in enumerate(batches):
            of_batch = [place for place, (_, chosen) in enumerate(steps) if chosen == number]
            for start in range(0, len(of_batch), _TRAINED_TOGETHER):
                chosen = of_batch[start : start + _TRAINED_TOGETHER]
                stepped = _step(runs.take([steps[place][0] for place in chosen]), batch)
                made.append(tf.nest.map_structure(lambda tensor: tensor.numpy(), stepped))
                places += chosen
        runs = join(made).take(np.argsort(places))
        taken = [(*taken[parent], batch) for parent, batch in steps]
    return runs


@tf.function(autograph=False, reduce_retracing=True)
def _step(runs: Runs, batch: Windows) -> Runs:
    """Takes one step of every run on a batch."""
    num_places = tf.reduce_sum(batch.first)
    num_windows = tf.reduce_sum(batch.counts)
    weights = tuple(map(tf.convert_to_tensor, runs.weights))
    with tf.GradientTape() as tape:
        tape.watch(weights)
        kernel1, bias1, gamma1, beta1, kernel2, bias2, gamma2, beta2, dense, bias = weights
        hidden = _first_layer(kernel1, bias1, batch.inputs)
        places = tf.reshape(hidden, [tf.shape(hidden)[0], -1, kernel1.shape[-1]])
        mean1, variance1 = _moments(places, tf.reshape(batch.first, [1, 1, -1]) / num_places)
        second = _second_layer(kernel2, bias2, *_scale_and_shift(mean1, variance1, gamma1, beta1))
        features = tf.nn.relu(tf.matmul(hidden, second[0]) + second[1][:, None])
        mean2, variance2 = _moments(features, tf.reduce_sum(batch.counts, 0)[None, None] / num_windows)
        scale, shift = _scale_and_shift(mean2, variance2, gamma2, beta2)
        per_image = num_windows / tf.cast(tf.shape(batch.counts)[0], tf.float32)
        pooled = tf.matmul(batch.counts[None] / per_image, features)
        logits = tf.matmul(pooled * scale[:, None] + shift[:, None], dense) + bias[:, None]
        loss = tf.reduce_sum(tf.reduce_mean(_losses(batch.labels, logits), axis=1))
    gradients = tape.gradient(loss, weights)
    new_weights, new_momenta = [], []
    for weight, momentum, gradient in zip(weights, runs.momenta, gradients, strict=True):
        step = RATE * (gradient + WEIGHT_DECAY * weight)
        momentum = MOMENTUM * momentum - step
        new_momenta.append(momentum)
        new_weights.append(weight + MOMENTUM * momentum - step)
    moments = ((mean1, num_places), (variance1, num_places), (mean2, num_windows), (variance2, num_windows))
    statistics = []
    for index, (held, (found, num)) in enumerate(zip(runs.statistics, moments, strict=True)):
        unbiased = found * num / (num - 1) if index % 2 else found  # what is kept of a variance
        statistics.append(_KEPT * held + (1 - _KEPT) * unbiased)
    return Runs(tuple(new_weights), tuple(new_momenta), tuple(statistics))


def _first_layer(kernel: tf.Tensor, bias: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
    """Returns relu(conv1) at the four places of each window, [R, W, 4 filters]."""
    matrix, bias = _first_matrix(kernel, bias)
    return tf.nn.relu(tf.matmul(inputs[None], matrix) + bias[:, None])


def _first_matrix(kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns conv1 as a matrix of windows, [R, 9 C, 4 filters], and its bias."""
    shifted = [tf.pad(kernel, [[0, 0], [i, 1 - i], [j, 1 - j], [0, 0], [0, 0]]) for i, j in _TAPS]
    size, filters = _WINDOW**2 * kernel.shape[3], len(_TAPS) * kernel.shape[4]
    return tf.reshape(tf.stack(shifted, axis=4), [-1, size, filters]), tf.tile(bias, [1, len(_TAPS)])


def _second_layer(
    kernel: tf.Tensor, bias: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns conv2 of what is scaled and shifted before, as a matrix [R, 4 filters, filters], and its bias."""
    matrix = tf.reshape(kernel, [-1, len(_TAPS) * kernel.shape[3], kernel.shape[4]])
    scale, shift = (tf.tile(each, [1, len(_TAPS)]) for each in (scale, shift))
    return scale[..., None] * matrix, bias + tf.matmul(shift[:, None], matrix)[:, 0]


def _moments(values: tf.Tensor, shares: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and variance [R, C] of values [R, N, C] with shares [1, 1, N] that sum to 1."""
    mean = tf.matmul(shares, values)
    return mean[:, 0], tf.matmul(shares, tf.square(values - mean))[:, 0]


def _scale_and_shift(
    mean: tf.Tensor, variance: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what a normalisation multiplies with and adds."""
    scale = gamma * tf.math.rsqrt(variance + _EPSILON)
    return scale, beta - mean * scale


def _losses(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of every image, [R, B]."""
    labels = tf.broadcast_to(labels[None], tf.shape(logits)[:2])
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


# -- scoring -------------------------------------------------------------------------------------------------------


def score(runs: Runs, test: ScoringImages) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean cross-entropy and the accuracy of every run on the test images, in evaluation mode.

    Args:
      runs: R of them.
      test: the images.

    Returns:
      (losses, accuracies): float32 [R].
    """
    index = np.arange(len(runs.weights[0]))
    parts = [_score(runs.take(index[start:][:_SCORED_TOGETHER]), test) for start in index[::_SCORED_TOGETHER]]
    losses, accuracies = (np.concatenate([each.numpy() for each in part]) for part in zip(*parts, strict=True))
    return losses, accuracies


@tf.function(autograph=False, reduce_retracing=True)
def _score(runs: Runs, test: ScoringImages) -> tuple[tf.Tensor, tf.Tensor]:
    kernel1, bias1, gamma1, beta1, kernel2, bias2, gamma2, beta2, dense, bias = map(tf.convert_to_tensor, runs.weights)
    mean1, variance1, mean2, variance2 = runs.statistics
    first = _first_matrix(kernel1, bias1)
    second = _second_layer(kernel2, bias2, *_scale_and_shift(mean1, variance1, gamma1, beta1))

    def pool(layers: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """Returns the mean over windows of one run, [N, filters]."""
        matrix1, vector1, matrix2, vector2 = layers

        def features(inputs: tf.Tensor) -> tf.Tensor:
            hidden = tf.nn.relu(tf.nn.bias_add(tf.matmul(inputs, matrix1), vector1))
            return tf.nn.relu(tf.nn.bias_add(tf.matmul(hidden, matrix2), vector2))

        common = features(test.commonest)
        pooled = []
        for group in test.groups:
            num, kept, size = group.shape
            sums = tf.reduce_sum(tf.reshape(features(tf.reshape(group, [-1, size])), [num, kept, -1]), axis=1)
            pooled.append((sums + (test.num_windows - kept) * common) / test.num_windows)
        return tf.concat(pooled, axis=0)

    pooled = tf.map_fn(pool, (*first, *second), fn_output_signature=tf.float32, parallel_iterations=2)
    scale, shift = _scale_and_shift(mean2, variance2, gamma2, beta2)
    logits = tf.matmul(pooled * scale[:, None] + shift[:, None], dense) + bias[:, None]
    hits = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), test.labels[None])
    return tf.reduce_mean(_losses(test.labels, logits), axis=1), tf.reduce_mean(tf.cast(hits, tf.float32), axis=1)
