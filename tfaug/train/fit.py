"""Run phases with Keras `fit`, so that a killed run goes on from its last finished epoch.

A phase's folder holds `history.csv`, `checkpoints/` while it runs, and `final.weights.h5` once it is done.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import sys
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfaug import files, metrics, rng
from tfaug.augment import compose
from tfaug.augment.base import Batch
from tfaug.augment.keras_cv import keras_cv_pipeline
from tfaug.config import ConfigError
from tfaug.data import ImageData
from tfaug.data.pipeline import (
    BatchFunction,
    augment_replicas,
    augmentation_seed,
    evaluation_batches,
    training_batches,
    visit_at,
)
from tfaug.keras_versions import tf_variables
from tfaug.models import StagedModel
from tfaug.models.stages import infer
from tfaug.schedules import Schedule
from tfaug.train.callbacks import (
    EpochRecorder,
    ProgressPictures,
    StopOnNonFinite,
    checkpoint_folder,
    finished_checkpoints,
    read_history,
)
from tfaug.train.distill import Distiller
from tfaug.train.phases import Phase, Student, resolve_schedules
from tfaug.train.step import Learner
from tfaug.train.strategy import compiles_on_device

FINAL_WEIGHTS = "final.weights.h5"


class PhaseRate(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A `tfaug.schedules` schedule over the steps of one phase, for Keras optimizers."""

    def __init__(self, schedule: Schedule, total_steps: int):
        super().__init__()
        self.schedule, self.total_steps = schedule, total_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.schedule.value(tf.cast(step, tf.float32), self.total_steps), tf.float32)


@dataclasses.dataclass(frozen=True)
class Run:
    """What every phase of one training run shares.

    Attributes:
      folder: of the run, for example `WORKDIR/teacher`.
      data: the decoded images.
      strategy: the devices.
      seed: of this run, int32 [2].
      tensorboard: where the event files go.
      on_epoch: called with the seconds of every finished epoch.
    """

    folder: pathlib.Path
    data: ImageData
    strategy: tf.distribute.Strategy
    seed: tf.Tensor
    tensorboard: pathlib.Path
    on_epoch: Callable[[float], None] | None = None


def phase_folder(folder: pathlib.Path, index: int, phase: Phase) -> pathlib.Path:
    """Returns where phase `index` of the run in `folder` keeps its files."""
    return folder / f"{index}_{phase.name}"


def train_phases(
    run: Run,
    network: StagedModel,
    phases: Sequence[Phase],
    *,
    teacher: StagedModel | None = None,
    student: Student | None = None,
) -> list[dict[str, object]]:
    """Trains `network` through `phases`, going on where an earlier process stopped.

    Args:
      run: folder, data, devices and seed.
      network: built under `run.strategy`; holds the weights of the last phase at the end.
      phases: checked by `check_phases`.
      teacher: if given, the network is trained as its student.
      student: the distillation's settings; needed with `teacher`.

    Returns:
      For each phase its name, epochs, validation accuracy and NLL at the end, seconds and the SHA-256 of its weights.

    Raises:
      NonFiniteLoss: when the loss or a weight is not finite; the last good checkpoint is kept.
      ConfigError: if a batch does not divide into the replicas, features are mixed at a stage that is not there, or
        TensorFlow would see a pattern in the folder's path.
    """
    files.refuse_pattern("the run's folder", run.folder)
    for phase in phases:
        if phase.mix_features is not None:
            phase.mix_features.places(network)
    results = []
    for index, (phase, schedule) in enumerate(zip(phases, resolve_schedules(tuple(phases)), strict=True)):
        folder = phase_folder(run.folder, index, phase)
        if not (folder / FINAL_WEIGHTS).exists():
            _train_phase(run, network, phase, schedule, index, folder, teacher, student)
        load_weights(network, folder / FINAL_WEIGHTS)
        results.append(_phase_result(run, network, phase, folder))
    return results


def _train_phase(
    run: Run,
    network: StagedModel,
    phase: Phase,
    schedule: Schedule,
    index: int,
    folder: pathlib.Path,
    teacher: StagedModel | None,
    student: Student | None,
) -> None:
    """Trains one phase to its end and publishes its weights."""
    num_replicas = run.strategy.num_replicas_in_sync
    if phase.batch_size % num_replicas:
        raise ConfigError(
            f"Phase.batch_size is {phase.batch_size}, which {num_replicas} devices cannot share; "
            f"allowed: a multiple of {num_replicas}"
        )
    steps_per_epoch = len(run.data.train.images) // phase.batch_size
    seed = rng.fold_in(run.seed, index)
    augment = batch_function(phase)
    on_host = augment if phase.augment_on == "host" else None

    files.remove_partial(folder / "checkpoints")
    num_finished = max([0, *finished_checkpoints(folder)])
    after = f", going on after epoch {num_finished}" if num_finished else ""
    print(f"[tfaug] phase {phase.name}: {phase.epochs} epochs of {steps_per_epoch} steps{after}", file=sys.stderr)
    batches = training_batches(
        run.data.train,
        num_classes=run.data.num_classes,
        batch_size=phase.batch_size,
        seed=seed,
        first_epoch=num_finished,
        num_epochs=phase.epochs,
        augment=on_host,
        num_replicas=num_replicas,
        with_examples=on_host is None,
    )
    with run.strategy.scope():
        rate = PhaseRate(schedule, steps_per_epoch * phase.epochs)
        learner = make_learner(network, phase, rate, augmentation_seed(seed), augment, teacher, student)
        # By their variables: the network itself would not lead to all of them in Keras 3.
        checkpoint = tf.train.Checkpoint(network=tf_variables(network), optimizer=tf_variables(learner.optimizer))

    if num_finished:
        checkpoint.read(str(checkpoint_folder(folder, num_finished) / "state")).assert_consumed()
    if num_finished < phase.epochs:
        board = run.tensorboard / folder.name
        learner.fit(
            batches,
            initial_epoch=num_finished,
            epochs=phase.epochs,
            steps_per_epoch=steps_per_epoch,
            validation_data=evaluation_batches(run.data.validation, num_classes=run.data.num_classes, batch_size=250),
            shuffle=False,  # the batches are in their order; Keras 3 warns otherwise
            verbose=1 if sys.stdout.isatty() else 2,
            callbacks=[
                StopOnNonFinite(phase.name),
                EpochRecorder(folder, checkpoint, num_finished, run.on_epoch),
                tf.keras.callbacks.TensorBoard(str(board), write_graph=False, profile_batch=0),
                ProgressPictures(board, preview(phase, run.data, seed, num_images=16)),
            ],
        )
    save_weights(network, folder / FINAL_WEIGHTS)
    files.remove_directory(folder / "checkpoints")


def make_learner(
    network: StagedModel,
    phase: Phase,
    rate: PhaseRate,
    seed: tf.Tensor,
    augment: BatchFunction,
    teacher: StagedModel | None,
    student: Student | None,
) -> Learner:
    """Makes the Keras model that trains `network`, with its optimizer's variables; called under the strategy."""
    arguments = dict(
        loss=phase.loss,
        label_smoothing=phase.label_smoothing,
        weight_decay=phase.weight_decay,
        augment=augment if phase.augment_on == "device" else None,
        mix_features=phase.mix_features,
        seed=seed,
        total_steps=rate.total_steps,
        steps_per_epoch=rate.total_steps // phase.epochs,
        compile_step=compiles_on_device(),
    )
    if teacher is not None and student is not None:
        learner: Learner = Distiller(network, teacher=teacher, student=student, **arguments)
    else:
        learner = Learner(network, **arguments)
    optimizer = phase.optimizer.make(rate)
    # Built now, so that a checkpoint finds all of its variables.
    optimizer.build(network.trainable_variables)
    learner.compile(optimizer=optimizer, jit_compile=False)  # compiles by itself what XLA can
    return learner


def batch_function(phase: Phase) -> BatchFunction:
    """Returns the phase's augmentation as `function(batch, seed, progress) -> batch`, compiled by XLA where it can."""
    if phase.engine == "keras_cv":
        # keras-cv draws from generators of its own: per call, not from our seed.
        pipeline = keras_cv_pipeline(phase.augment)
        return lambda batch, seed, progress: Batch(*pipeline(batch.images, batch.labels))
    return tf.function(compose(phase.augment), jit_compile=True, autograph=False)


def preview(phase: Phase, data: ImageData, seed: tf.Tensor, num_images: int) -> tf.Tensor:
    """Returns `num_images` training images as the phase augments them at its middle, uint8."""
    function = batch_function(phase)
    split = data.train.take(np.arange(min(len(data.train), 4 * num_images)))
    total_steps = len(data.train) // phase.batch_size * phase.epochs
    batch = Batch(tf.constant(split.images), tf.constant(split.label_rows(data.num_classes)))
    seed, steps_per_epoch = augmentation_seed(seed), total_steps // phase.epochs
    progress = visit_at(seed, tf.constant(total_steps // 2), total_steps, steps_per_epoch, tf.range(len(split)))
    augmented = augment_replicas(function, batch, seed, progress, 1)
    return tf.cast(tf.round(tf.cast(augmented.images[:num_images], tf.float32)), tf.uint8)


def _phase_result(run: Run, network: StagedModel, phase: Phase, folder: pathlib.Path) -> dict[str, object]:
    """Measures the end of a phase on the validation split."""
    logits = predict_logits(network, run.data.validation.images)
    probs = np.asarray(tf.nn.softmax(tf.constant(logits)))
    return {
        "name": phase.name,
        "epochs": phase.epochs,
        "val_accuracy": metrics.accuracy(probs, run.data.validation.labels),
        "val_nll": metrics.nll(probs, run.data.validation.labels),
        "seconds": sum(float(row["seconds"]) for row in read_history(folder / "history.csv")),
        "weights_sha256": weights_sha256(network),
    }


def predict_logits(network: tf.keras.Model, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """Returns the network's logits, float32 [N, K], for images uint8 or float32 [N, H, W, C], N of 0 or more."""
    forward = tf.function(lambda batch: infer(network, batch), reduce_retracing=True)
    starts = range(0, max(len(images), 1), batch_size)
    return np.concatenate([forward(images[i : i + batch_size]).numpy() for i in starts])


def save_weights(network: tf.keras.Model, path: pathlib.Path) -> None:
    """Writes a network's weights, whole or not at all.

    Raises:
      OSError: if the disk is full or refuses.
    """
    num_bytes = sum(int(np.prod(variable.shape)) * 4 + 4096 for variable in network.weights) + 65536
    with files.atomic_file(path) as partial:
        partial.write_bytes(bytes(num_bytes))  # HDF5 crashes on a full disk, so the room is taken before it writes
        network.save_weights(partial)


def load_weights(network: tf.keras.Model, path: pathlib.Path) -> None:
    """Loads weights into a network.

    Raises:
      OSError: if the file is absent or damaged, naming it.
    """
    with files.named(path):
        network.load_weights(path)


def weights_sha256(network: tf.keras.Model) -> str:
    """Returns the SHA-256 of all weights' float32 bytes, in the network's own order."""
    digest = hashlib.sha256()
    for variable in network.weights:
        digest.update(np.ascontiguousarray(variable.numpy(), dtype="<f4").tobytes())
    return digest.hexdigest()


def images_per_second(folder: pathlib.Path, phases: Sequence[Phase], num_examples: int) -> float:
    """Returns the training speed of a run: images drawn over the seconds of all its epochs."""
    drawn, seconds = 0, 0.0
    for index, phase in enumerate(phases):
        rows = read_history(phase_folder(folder, index, phase) / "history.csv")
        drawn += len(rows) * (num_examples // phase.batch_size) * phase.batch_size
        seconds += sum(float(row["seconds"]) for row in rows)
    return drawn / seconds if seconds else float("nan")
