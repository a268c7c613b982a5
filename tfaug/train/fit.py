"""Run phases with Keras `fit`, so that a killed run goes on from its last finished epoch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import files, metrics, predictions, rng
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
    order_seed,
    training_batches,
    visit_at,
)
from tfaug.data.service import MAX_BYTES
from tfaug.keras_versions import fit_across_workers
from tfaug.models import StagedModel
from tfaug.models.stages import infer
from tfaug.schedules import Schedule
from tfaug.train.average import Average, KeepAverage
from tfaug.train.callbacks import EpochRecorder, Pace, ProgressPictures, StopOnNonFinite, ends, to_numbers
from tfaug.train.methods import Method, Supervised
from tfaug.train.methods.base import Answers
from tfaug.train.order import ScoringOrder
from tfaug.train.order.loader import BeginEpoch, DataLoader
from tfaug.train.phase import Phase, resolve_schedules
from tfaug.train.plateau import ReduceOnPlateau
from tfaug.train.risks import TrainingRisks
from tfaug.train.state import State
from tfaug.train.step import Learner
from tfaug.train.strategy import compiles_on_device
from tfaug.train.workers import distribute_shares, spans_workers
from tfaug.workdir import OF_EPOCH, PhaseFolder, TrainingFolder


class PhaseRate(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A `tfaug.schedules` schedule over the steps of one phase, cut on plateaus if asked, for Keras optimizers."""

    def __init__(self, schedule: Schedule, total_steps: int, plateau: ReduceOnPlateau | None = None):
        super().__init__()
        self.schedule, self.total_steps, self.plateau = schedule, total_steps, plateau
        self._factor = tf.Variable(1.0, trainable=False) if plateau else None

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        rate = tf.cast(self.schedule.value(tf.cast(step, tf.float32), self.total_steps), tf.float32)
        if self.plateau is None or self._factor is None:
            return rate
        return tf.maximum(tf.convert_to_tensor(self._factor) * rate, tf.minimum(rate, self.plateau.lowest))

    def follow(self, history: Sequence[Mapping[str, float]]) -> None:
        """Sets the rate to that after the epochs that lie behind."""
        if self.plateau is not None and self._factor is not None:
            self._factor.assign(self.plateau.factor ** self.plateau.num_cuts(history))


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What every phase of one training run shares.

    Attributes:
      folder: of the training.
      data: the decoded images.
      strategy: the devices.
      seed: of this run, int32 [2].
      tensorboard: where the event files go.
      method: what the steps learn from.
      teacher: of the method; None where it asks nobody.
      hashes: what identifies each phase with all before it; written with its result, and none is done under another.
      on_epoch: called with the seconds of every finished epoch.
      on_pace: called once a phase with its name and the seconds of a step, when it has made 20 in this process.
      data_service: address of the tf.data service that makes the batches; empty makes them here.
    """

    folder: TrainingFolder
    data: ImageData
    strategy: tf.distribute.Strategy
    seed: tf.Tensor
    tensorboard: pathlib.Path
    method: Method = Supervised()
    teacher: Answers | None = None
    hashes: tuple[str, ...] = ()
    on_epoch: Callable[[float], None] | None = None
    on_pace: Callable[[str, float], None] | None = None
    data_service: str = ""


def train_phases(run: TrainingRun, network: StagedModel, phases: Sequence[Phase]) -> list[dict[str, Any]]:
    """Trains `network` through `phases`, going on where an earlier process stopped.

    Args:
      run: folder, data, devices, seed and method.
      network: built under `run.strategy`; holds the weights of the last phase at the end.
      phases: checked by `check_phases`.

    Returns:
      For each phase its name, epochs, validation accuracy and NLL at the end, seconds, the SHA-256 of its weights and
      what the history says of their epoch.

    Raises:
      NonFiniteLoss: when the loss or a weight is not finite; the last good checkpoint is kept.
      ConfigError: if a batch does not divide into the replicas, features are mixed at a stage that is not there, or
        TensorFlow would see a pattern in the folder's path.
    """
    files.refuse_pattern("the run's folder", run.folder.path)
    check_fits(phases, run.data, run.strategy, run.data_service)
    for phase in phases:
        if phase.mix_features is not None:
            phase.mix_features.places(network)
    results = []
    for index, (phase, schedule) in enumerate(zip(phases, resolve_schedules(tuple(phases)), strict=True)):
        folder = run.folder.phase(index, phase.name)
        held = files.read_json(folder.result) if folder.result.exists() else {}
        identity = run.hashes[index] if run.hashes else ""
        if held.get("hash") != identity:
            _train_phase(run, network, phase, schedule, index, folder)
        load_weights(network, folder.weights(phase.keep))
        if held.get("hash") != identity:
            held = {"hash": identity, **_phase_result(run, network, phase, folder)}
            files.write_json(folder.result, held)
        results.append({key: value for key, value in held.items() if key != "hash"})
    return results


def check_fits(
    phases: Sequence[Phase], data: ImageData, strategy: tf.distribute.Strategy, data_service: str = ""
) -> None:
    """Checks all phases before the first begins: batches that the devices can share, of no more images than there are,
    orders, and what a tf.data service has to make.

    Raises:
      ConfigError: if they do not fit, naming the phase.
    """
    num_examples = len(data.train)
    for phase in phases:
        try:
            phase.check_shared(strategy.num_replicas_in_sync)
            if phase.num_drawn > num_examples:
                drawn = f" {phase.batch_of}, {phase.num_drawn} images" if phase.batch_of != "images" else ""
                allowed = num_examples // (phase.num_drawn // phase.batch_size)
                raise ConfigError(
                    f"batch_size is {phase.batch_size}{drawn}, but there are {num_examples} training images; "
                    f"allowed: 1..{allowed}"
                )
            phase.order.check_fits(
                num_batches=num_examples // phase.num_drawn,
                num_held_out=len(data.validation),
                num_replicas=strategy.num_replicas_in_sync,
            )
            if data_service:
                _check_served(phase, data)
        except ConfigError as error:
            raise ConfigError(f"phase {phase.name}: {error}") from None


def _check_served(phase: Phase, data: ImageData) -> None:
    """Refuses a phase of which a tf.data service cannot make the batches."""
    if isinstance(phase.order, ScoringOrder):
        raise ConfigError(
            f"order is {phase.order!r}, which chooses each batch within the step: there is nothing for a data service "
            "to make; allowed: Shuffled(), or no --data_service"
        )
    if phase.engine == "keras_cv" and phase.augment_on == "host":
        raise ConfigError(
            "engine is 'keras_cv', which draws from generators of this process; allowed: engine 'tfaug', "
            "or no --data_service"
        )
    num_bytes = data.train.images.nbytes + 4 * len(data.train) * data.num_classes
    if num_bytes > MAX_BYTES:
        raise ConfigError(
            f"there are {num_bytes:,} bytes of training images and labels; a data service takes them in one message; "
            f"allowed: {MAX_BYTES:,} or fewer, or no --data_service"
        )


def _train_phase(
    run: TrainingRun, network: StagedModel, phase: Phase, schedule: Schedule, index: int, folder: PhaseFolder
) -> None:
    """Trains one phase to its end and publishes its weights."""
    steps_per_epoch = len(run.data.train.images) // phase.num_drawn
    seed = rng.fold_in(run.seed, index)
    augment = batch_function(phase)
    on_host = augment if phase.augment_on == "host" else None
    answers = ask_once(run) if run.teacher is not None and run.method.asks_once(phase) else None

    files.remove_partial(folder.path / "checkpoints")
    num_finished = max([0, *folder.checkpoints()])
    after = f", going on after epoch {num_finished}" if num_finished else ""
    print(f"[tfaug] phase {phase.name}: {phase.epochs} epochs of {steps_per_epoch} steps{after}", file=sys.stderr)
    with run.strategy.scope():
        rate = PhaseRate(schedule, steps_per_epoch * phase.epochs, phase.plateau)
        learner = make_learner(network, phase, rate, augmentation_seed(seed), augment, run.method, run.teacher, answers)
        average = Average(network, phase.ema, run.strategy) if phase.ema else None
        state = State(network, learner.optimizer, average.variables if average else ())
    measured = average.in_place if average else contextlib.nullcontext  # what validates, is kept and goes on

    def save(path: pathlib.Path) -> None:
        with measured():
            save_weights(network, path)

    risks = None
    if phase.risk_batches:
        risks = TrainingRisks(network, phase, run.data.train, run.data.num_classes, seed, augment)

    def measure() -> dict[str, float]:
        with measured():
            norm = float(tf.linalg.global_norm([tf.convert_to_tensor(w) for w in network.trainable_variables]))
            return {"weight_norm": norm, **(risks.measure(int(learner.optimizer.iterations.numpy())) if risks else {})}

    batches, callbacks = _feed(run, phase, learner, seed, num_finished, on_host)
    if num_finished:
        state.read(folder.checkpoint(num_finished))
    recorder = EpochRecorder(
        folder, state, save, phase.stop, num_finished, run.on_epoch, rate.follow, measure, phase.keep_epochs
    )
    rate.follow(to_numbers(recorder.rows))
    if num_finished < phase.epochs and not ends(phase.stop, recorder.rows):
        board = run.tensorboard / folder.path.name
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
                *([] if average is None else [KeepAverage(average)]),
                *callbacks,
                recorder,
                *([] if run.on_pace is None else [Pace(phase.name, run.on_pace)]),
                tf.keras.callbacks.TensorBoard(str(board), write_graph=False, profile_batch=0),
                ProgressPictures(board, preview(phase, run.data, seed, num_images=16)),
            ],
        )
    save(folder.weights("last"))


def _feed(
    run: TrainingRun, phase: Phase, learner: Learner, seed: tf.Tensor, first_epoch: int, on_host: BatchFunction | None
) -> tuple[tf.data.Dataset, list[tf.keras.callbacks.Callback]]:
    """Returns the batches from `first_epoch` on, or what stands for them where the order asks the network for them
    within the step; and the callbacks that this needs."""
    if isinstance(phase.order, ScoringOrder):
        loader = DataLoader(
            phase.order,
            learner,
            run.data.train,
            run.data.validation,
            run.data.num_classes,
            order_seed(seed),
            phase.num_drawn,
            run.strategy,
        )
        learner.loader = loader
        return loader.placeholders(first_epoch, phase.epochs), [BeginEpoch(loader)]
    batches_of = functools.partial(
        training_batches,
        run.data.train,
        num_classes=run.data.num_classes,
        batch_size=phase.num_drawn,
        seed=seed,
        first_epoch=first_epoch,
        num_epochs=phase.epochs,
        augment=on_host,
        num_replicas=run.strategy.num_replicas_in_sync,
        with_examples=on_host is None or learner.answers is not None,
        rows_of=phase.order.rows,
        service=run.data_service,
    )
    if spans_workers(run.strategy):
        return distribute_shares(run.strategy, lambda replicas: batches_of(replicas=replicas)), []
    return batches_of(), []


def make_learner(
    network: StagedModel,
    phase: Phase,
    rate: PhaseRate,
    seed: tf.Tensor,
    augment: BatchFunction,
    method: Method,
    teacher: Answers | None,
    answers: tf.Tensor | None = None,
) -> Learner:
    """Makes the Keras model that trains `network`, with its optimizer's variables; called under the strategy."""
    learner = Learner(
        network,
        method=method,
        teacher=teacher,
        answers=answers,
        loss=phase.loss,
        label_smoothing=phase.label_smoothing,
        weight_decay=phase.weight_decay,
        augment=augment if phase.augment_on == "device" else None,
        mix_features=phase.mix_features,
        seed=seed,
        total_steps=rate.total_steps,
        steps_per_epoch=rate.total_steps // phase.epochs,
        compile_step=compiles_on_device(),
        accumulate=phase.accumulate,
    )
    optimizer = phase.optimizer.make(rate)
    # Built now, so that a checkpoint finds all of its variables.
    optimizer.build(network.trainable_variables)
    learner.compile(optimizer=optimizer, jit_compile=False)  # compiles by itself what XLA can
    if spans_workers(tf.distribute.get_strategy()):
        fit_across_workers(learner)
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
    total_steps = len(data.train) // phase.num_drawn * phase.epochs
    batch = Batch(tf.constant(split.images), tf.constant(split.label_rows(data.num_classes)))
    seed, steps_per_epoch = augmentation_seed(seed), total_steps // phase.epochs
    progress = visit_at(seed, tf.constant(total_steps // 2), total_steps, steps_per_epoch, tf.range(len(split)))
    augmented = augment_replicas(function, batch, seed, progress, 1)
    return tf.cast(tf.round(tf.cast(augmented.images[:num_images], tf.float32)), tf.uint8)


def _phase_result(run: TrainingRun, network: StagedModel, phase: Phase, folder: PhaseFolder) -> dict[str, Any]:
    """Measures the end of a phase on the validation split."""
    logits = predict_logits(network, run.data.validation.images)
    probs = np.asarray(tf.nn.softmax(tf.constant(logits)))
    history = folder.read_history()
    kept = history[-1] if phase.keep == "last" else max(history, key=lambda row: float(row["val_accuracy"]))
    return {
        "name": phase.name,
        "epochs": len(history),
        "val_accuracy": metrics.accuracy(probs, run.data.validation.labels),
        "val_nll": metrics.nll(probs, run.data.validation.labels),
        "seconds": sum(float(row["seconds"]) for row in history),
        "weights_sha256": weights_sha256(network),
        "measured": {field: float(kept[field]) for field in OF_EPOCH if kept.get(field)},
    }


def ask_once(run: TrainingRun) -> tf.Tensor:
    """Returns the teacher's logits to every training image as it is, float32 [N, K].

    They lie in the training's folder, known by what the teacher answers from and by the images: a process that goes on
    reads the same bits.
    """
    teacher = run.teacher
    assert teacher is not None
    split, path = run.data.train, run.folder.answers
    key = {"teacher": teacher.key, "images_sha256": predictions.array_sha256(split.images)}
    with contextlib.suppress(FileNotFoundError, ConfigError):
        held = predictions.read_features(path)
        if predictions.is_of(held, key, split.labels, split.ids):
            return tf.constant(held.values)
    logits = predict_logits(lambda images, training: teacher(images), split.images)
    predictions.write(path, predictions.Features(logits, split.labels, split.ids, key))
    return tf.constant(logits)


def forward_pass(network: Callable[..., tf.Tensor]) -> Callable[[Any], tf.Tensor]:
    """Returns the network in inference mode as a compiled function, images -> logits."""
    return tf.function(lambda batch: infer(network, batch), reduce_retracing=True, autograph=False)


def predict_logits(
    network: Callable[..., tf.Tensor],
    images: np.ndarray,
    batch_size: int = 250,
    forward: Callable[[Any], tf.Tensor] | None = None,
) -> np.ndarray:
    """Returns the network's logits, float32 [N, K], for images uint8 or float32 [N, H, W, C], N of 0 or more.

    Args:
      forward: of `forward_pass`, where the network is asked more than once, with other weights.
    """
    forward = forward or forward_pass(network)
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


def images_per_second(folder: TrainingFolder, phases: Sequence[Phase], num_examples: int) -> float:
    """Returns the training speed of a run: images drawn over the seconds of all its epochs."""
    drawn, seconds = 0, 0.0
    for index, phase in enumerate(phases):
        rows = folder.phase(index, phase.name).read_history()
        drawn += len(rows) * (num_examples // phase.num_drawn) * phase.num_drawn
        seconds += sum(float(row["seconds"]) for row in rows)
    return drawn / seconds if seconds else float("nan")
