"""Training written out: a data set, a network with batch statistics, and one loop, in numpy but for the network itself.

What is trained by `tfaug` is held to this. Its losses and their slopes are closed forms, its optimizers numpy, its
seeds the folds that a seed is documented to have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tests.train.test_optimizers import newton_schulz
from tfaug import rng
from tfaug.augment.base import Batch
from tfaug.data import ImageData, Split
from tfaug.models import Model, StagedModel, build_model
from tfaug.models.stages import Head, LayerMaker, Normalize, drawing
from tfaug.schedules import Progress
from tfaug.train.methods import Distill, Method, Supervised
from tfaug.train.optimizers import SGD, Muon
from tfaug.train.phase import Phase

SHAPE = (12, 12, 1)
CLASS_NAMES = ("flat", "rows", "columns")
NUM_CLASSES = len(CLASS_NAMES)
SUPERVISED = Supervised()


@dataclasses.dataclass(frozen=True)
class Normed(Model):
    """A convolution with batch statistics and a classifier.

    Attributes:
      filters: of the convolution.
    """

    filters: int = 4

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        make = LayerMaker(precision, seed, "fan_out")
        stem = [make.conv("conv", self.filters, 3), make.norm("norm", momentum=0.5), make.relu("relu")]
        head = Head(make.dense("dense", num_classes, policy="float32"), name="head")
        return [Normalize(mean, std, name="normalize"), make.chain("stem", stem), head]


def make_split(name: str, num: int) -> Split:
    """Returns noise with bright rows or columns, by the class."""
    generator = np.random.default_rng(len(name))
    labels = np.arange(num) % NUM_CLASSES
    textures = np.zeros((NUM_CLASSES, *SHAPE))
    textures[1, ::2], textures[2, :, ::2] = 90, 90
    images = (generator.integers(0, 160, (num, *SHAPE)) + textures[labels]).astype(np.uint8)
    return Split(images, labels, np.array([f"{name}/{i}" for i in range(num)]))


def make_data() -> ImageData:
    """Returns 52 images to train on, 22 to validate on, which have labels at random, and 16 to test on."""
    train, validation = make_split("train", 52), make_split("validation", 22)
    scaled = train.images / 255.0
    labels = np.random.default_rng(0).integers(0, NUM_CLASSES, 22)
    return ImageData(
        "textures",
        train,
        dataclasses.replace(validation, labels=labels),
        make_split("test", 16),
        CLASS_NAMES,
        (float(scaled.mean()),),
        (float(scaled.std()),),
    )


def build(model: Model, data: ImageData, seed: int = 0) -> StagedModel:
    """Returns the network with its first weights."""
    return build_model(
        model, image_shape=SHAPE, num_classes=NUM_CLASSES, mean=data.mean, std=data.std, precision="fp32", seed=seed
    )


def fold(seed: tf.Tensor, *numbers: int) -> tf.Tensor:
    """Folds one number after the other into a seed."""
    for number in numbers:
        seed = rng.fold_in(seed, number)
    return seed


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def loss_and_slope(
    phase: Phase, method: Method, labels: np.ndarray, logits: np.ndarray, answers: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the loss of each row, [B], and its derivative by the logits, [B, K].

    Args:
      phase: its loss and its label smoothing.
      method: of the training.
      labels: one-hot.
      logits: of the network.
      answers: logits of the teacher of `Distill`.
    """
    labels = labels * (1 - phase.label_smoothing) + phase.label_smoothing / labels.shape[1]
    logits = logits.astype(np.float64)
    if phase.loss == "binary_cross_entropy":
        yes = 1 / (1 + np.exp(-logits))
        losses = -(labels * np.log(yes) + (1 - labels) * np.log(1 - yes)).mean(1)
        return losses, (yes - labels) / labels.shape[1]
    probs = softmax(logits)
    losses, slope = -(labels * np.log(probs)).sum(1), probs - labels
    if not isinstance(method, Distill):
        return losses, slope
    alpha, temperature = method.alpha, method.temperature
    student, teacher = softmax(logits / temperature), softmax(answers.astype(np.float64) / temperature)
    ratio = np.log(student) - np.log(teacher)
    if method.direction == "teacher_student":
        divergence = -(teacher * ratio).sum(1)
        soft = (student - teacher) / temperature
    else:
        divergence = (student * ratio).sum(1)
        soft = student * (ratio - divergence[:, None]) / temperature
    weight = alpha * temperature**2
    return (1 - alpha) * losses + weight * divergence, (1 - alpha) * slope + weight * soft


def updated(
    optimizer: SGD | Muon, weight: np.ndarray, momentum: np.ndarray, gradient: np.ndarray, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a weight and its momentum after one step."""
    if isinstance(optimizer, SGD):
        momentum = optimizer.momentum * momentum - rate * gradient
        return weight + (optimizer.momentum * momentum - rate * gradient if optimizer.nesterov else momentum), momentum
    if weight.ndim == 4:
        momentum = optimizer.momentum * momentum + gradient
        step = newton_schulz(gradient + optimizer.momentum * momentum, optimizer.num_iterations)
        return weight * np.sqrt(weight.shape[-1]) / np.linalg.norm(weight) - rate * step, momentum
    factor = optimizer.matrix_rate if weight.ndim == 2 else optimizer.vector_rate
    gradient = gradient + optimizer.decay / factor * weight
    momentum = optimizer.other_momentum * momentum + gradient
    return weight - rate * factor * (gradient + optimizer.other_momentum * momentum), momentum


def train_by_hand(
    network: StagedModel,
    data: ImageData,
    phase: Phase,
    seed: tf.Tensor,
    rates: Sequence[float],
    *,
    num_replicas: int = 1,
    method: Method = SUPERVISED,
    teacher: StagedModel | None = None,
    choose: Callable[[int, list[Any]], np.ndarray] | None = None,
) -> tuple[list[dict[str, float]], list[list[np.ndarray]]]:
    """Trains a network through all epochs of a phase, and leaves it with the weights that the phase keeps.

    Args:
      network: with its weights before the phase.
      data: the images.
      phase: its `stop` is not asked.
      seed: of the phase.
      rates: of each step, and one more, which is the one that stands after the last.
      num_replicas: each sees its share of a batch and has statistics of its own; what is left has their mean.
      method: of the training.
      teacher: of `Distill`.
      choose: gives the batch of a step, for the momenta before it; None takes it from the epoch's permutation.

    Returns:
      What the history says of each epoch, and the weights after it.
    """
    train, batch_size = data.train, phase.batch_size
    steps_per_epoch = len(train) // batch_size
    weights, statistics = network.trainable_variables, network.non_trainable_variables
    momenta: list[Any] = [0.0] * len(weights)
    own = [[statistic.numpy() for statistic in statistics] for _ in range(num_replicas)]
    history, snapshots, part_size = [], [], batch_size // num_replicas // phase.accumulate
    average = network.get_weights()
    for epoch in range(phase.epochs):
        places = rng.permutation(fold(seed, 0, epoch), len(train)).numpy()
        losses, hits = [], []
        for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
            rows = places[step % steps_per_epoch * batch_size :][:batch_size]
            rows = rows if choose is None else choose(step, momenta)
            gradients = [phase.weight_decay * weight.numpy() for weight in weights]
            for replica, share in enumerate(np.split(rows, num_replicas)):
                labels = np.eye(NUM_CLASSES)[train.labels[share]]
                batch = Batch(tf.constant(train.images[share]), tf.constant(labels, tf.float32))
                for place, op in enumerate(phase.augment):
                    batch = op(batch, fold(seed, 1, step, replica, place))
                assign(statistics, own[replica])
                for i in range(phase.accumulate):
                    part = Batch(*(rows[i * part_size :][:part_size] for rows in batch))
                    labels = part.labels.numpy()
                    folds = (1, step, replica) if phase.accumulate == 1 else (1, step, replica, -3, i)
                    with tf.GradientTape() as tape, drawing(fold(seed, *folds, -2)):
                        if phase.mix_features is None:
                            logits = network(part.images, training=True)
                        else:
                            progress = Progress(tf.constant(step), steps_per_epoch * phase.epochs)
                            choice = phase.mix_features.sample(fold(seed, *folds, -1), (part_size, *SHAPE), progress)
                            logits, labels = phase.mix_features.forward(network, *part, choice, training=True)
                            labels = labels.numpy()
                    answers = None if teacher is None else teacher(part.images, training=False).numpy()
                    loss, slope = loss_and_slope(phase, method, labels, logits.numpy(), answers)
                    slope = tf.constant(slope / batch_size, tf.float32)
                    added = tape.gradient(logits, weights, output_gradients=slope)
                    gradients = [whole + one.numpy() for whole, one in zip(gradients, added, strict=True)]
                    losses.append(loss)
                    hits.append(logits.numpy().argmax(1) == labels.argmax(1))
                own[replica] = [statistic.numpy() for statistic in statistics]
            for i, weight in enumerate(weights):
                value, momenta[i] = updated(phase.optimizer, weight.numpy(), momenta[i], gradients[i], rates[step])
                weight.assign(value)
            if phase.ema:
                assign(statistics, [np.mean(values, axis=0) for values in zip(*own, strict=True)])
                pairs = zip(average, network.get_weights(), strict=True)
                average = [phase.ema * mean + (1 - phase.ema) * value for mean, value in pairs]
        raw = network.get_weights()
        measuring = own
        if phase.ema:
            network.set_weights(average)
            measuring = [[statistic.numpy() for statistic in statistics]] * num_replicas
        history.append(
            {
                "epoch": epoch + 1,
                "step": (epoch + 1) * steps_per_epoch,
                "learning_rate": rates[(epoch + 1) * steps_per_epoch],
                "loss": np.concatenate(losses).mean(),
                "accuracy": np.concatenate(hits).mean(),
                "weight_norm": np.sqrt(sum((weight.numpy() ** 2).sum() for weight in weights)),
                **measured(network, data.validation, measuring),
            }
        )
        assign(statistics, [np.mean(values, axis=0) for values in zip(*measuring, strict=True)])
        snapshots.append(network.get_weights())
        if phase.ema:
            network.set_weights(raw)
    network.set_weights(snapshots[-1])
    if phase.keep == "best":
        network.set_weights(snapshots[int(np.argmax([row["val_accuracy"] for row in history]))])
    return history, snapshots


def assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def measured(network: StagedModel, split: Split, own: Sequence[Sequence[np.ndarray]]) -> dict[str, float]:
    """Returns loss and accuracy on a split, of which each replica sees a share with its own batch statistics."""
    probs = []
    for statistics, images in zip(own, np.array_split(split.images, len(own)), strict=True):
        assign(network.non_trainable_variables, statistics)
        probs.append(softmax(network(images, training=False).numpy().astype(np.float64)))
    probs = np.concatenate(probs)
    right = probs[np.arange(len(probs)), split.labels]
    return {"val_loss": -np.log(right).mean(), "val_accuracy": (probs.argmax(1) == split.labels).mean()}
