"""Find trained networks: those of a workdir, and teachers in a workdir, an export or behind an endpoint."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import files
from tfaug.config import ConfigError, from_dict, near_name
from tfaug.data import ImageData, Split
from tfaug.experiment import CLASSES
from tfaug.export import load_exported
from tfaug.models import StagedModel, build_model
from tfaug.train import fit
from tfaug.train.methods.base import Answers
from tfaug.train.strategy import compiles_on_device
from tfaug.train.teachers import FromEndpoint, FromSavedModel, FromWorkdir, Teacher
from tfaug.workdir import TrainingFolder

_TIMEOUT_S = 600.0


def constants_of(data: ImageData) -> dict[str, Any]:
    """Returns what a network keeps of the data that it was trained on, JSON values."""
    return {
        "mean": list(data.mean),
        "std": list(data.std),
        "image_shape": list(data.image_shape),
        "class_names": list(data.class_names),
        "held_out_sha256": hashlib.sha256("\n".join(sorted(data.validation.ids.tolist())).encode()).hexdigest(),
        "train_sha256": _split_sha256(data.train),
    }


def _split_sha256(split: Split) -> str:
    """Returns the SHA-256 of all that is trained on."""
    digest = hashlib.sha256("\n".join(split.ids.tolist()).encode())
    for array in (split.images, split.labels, split.probs):
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def load_model(
    workdir: str | pathlib.Path, training: str = "", phase: int = -1, which: str = "last", precision: str | None = None
) -> StagedModel:
    """Returns a trained network, ready to predict.

    Args:
      workdir: the folder of a run.
      training: the name of the training; empty for the first.
      phase: the place of the phase at whose end it stands, -1 for the last.
      which: `last`, or `best` for the epoch of the phase with the highest validation accuracy; or an epoch that it
        keeps, `epoch_0009`.
      precision: `fp32` or `bf16`; None for the one it was trained in.

    Returns:
      A Keras model from images, uint8 or float [B, H, W, C] in 0..255, to float32 logits [B, K].

    Raises:
      ConfigError: if there is no such training, phase or file.

    Example:
      model = tfaug.load_model("build/demo", training="teacher")
      classes = model(images).numpy().argmax(1)
    """
    return load_trained(find_training(workdir, training), phase, which, precision)[0]


def find_training(workdir: str | pathlib.Path, training: str) -> TrainingFolder:
    """Returns the folder of a training, the first one's for an empty name.

    Raises:
      ConfigError: if the workdir holds none of that name.
    """
    root = pathlib.Path(workdir)
    if not (root / "config.json").exists():
        raise ConfigError(f"{root} holds no run (config.json)")
    names = [settings["name"] for settings in files.read_json(root / "config.json")["config"]["trainings"]]
    name = training or names[0]
    if name not in names:
        raise ConfigError(f"{root} has no training {name!r}{near_name(name, names)}; it has: {', '.join(names)}")
    return TrainingFolder(root / name)


def load_trained(
    folder: TrainingFolder, phase: int, which: str, precision: str | None = None
) -> tuple[StagedModel, dict[str, Any]]:
    """Returns a trained network, and the constants of its data (`constants_of`); see `load_model`."""
    if not folder.made.exists():
        raise ConfigError(f"{folder.path} holds no trained network; run `tfaug train` first")
    made = files.read_json(folder.made)
    settings, constants = made["settings"], made["constants"]
    phases = settings["phases"]
    if not -len(phases) <= phase < len(phases):
        raise ConfigError(f"phase is {phase}; {folder.path.name} allows {-len(phases)}..{len(phases) - 1}")
    index = phase % len(phases)
    phase_folder = folder.phase(index, phases[index]["name"])
    allowed = ("last", "best", *phase_folder.epochs())
    if which not in allowed:
        raise ConfigError(f"which is {which!r}; allowed: {', '.join(allowed)}")
    weights = phase_folder.weights(which)
    if not weights.exists():
        raise ConfigError(f"{weights} does not exist, for the training has not come so far; run `tfaug train` first")
    network = build_model(
        from_dict(settings["model"], CLASSES),
        image_shape=constants["image_shape"],
        num_classes=len(constants["class_names"]),
        mean=constants["mean"],
        std=constants["std"],
        precision=precision or settings["precision"],
        seed=settings["seed"],
    )
    fit.load_weights(network, weights)
    return network, constants


def find_teacher(teacher: Teacher, data: ImageData, strategy: tf.distribute.Strategy) -> Answers:
    """Returns what a teacher from elsewhere answers.

    Args:
      teacher: where it is.
      data: of the student.
      strategy: on whose devices it is asked.

    Raises:
      ConfigError: if it is not there, or its classes, image shape or held-out images are not those of `data`.
    """
    if isinstance(teacher, FromWorkdir):
        with strategy.scope():
            folder = find_training(teacher.path, teacher.training)
            network, constants = load_trained(folder, teacher.phase, teacher.which)
        _check_fits(repr(teacher), constants, data)
        return answers_of(network)
    if isinstance(teacher, FromSavedModel):
        try:
            with strategy.scope():
                exported = load_exported(teacher.path)
        except (ValueError, OSError) as error:
            raise ConfigError(f"{teacher!r}: {error}") from None
        _check_fits(repr(teacher), exported.info, data)
        key = exported.info["weights_sha256"] or repr(teacher)
        return Answers(lambda images: exported.logits(tf.cast(images, tf.float32)), key)
    if isinstance(teacher, FromEndpoint):
        return _ask_endpoint(teacher, data)
    raise ConfigError(f"the teacher is {teacher!r}; allowed: FromWorkdir, FromSavedModel, FromEndpoint")


def answers_of(network: StagedModel) -> Answers:
    """Returns a network in inference mode, as a teacher."""
    network.trainable = False
    return Answers(lambda images: network(images, training=False), fit.weights_sha256(network), network)


def _ask_endpoint(teacher: FromEndpoint, data: ImageData) -> Answers:
    """Returns a teacher that is asked over gRPC at each step."""
    from tfaug.serving.client import Client
    from tfaug.serving.errors import ServingError

    if compiles_on_device():
        raise ConfigError(
            f"{teacher!r} cannot be asked from a step that XLA compiles; allowed: a SavedModel or workdir"
        )
    client = Client(teacher.target, timeout_s=_TIMEOUT_S)

    def ask(images: np.ndarray) -> np.ndarray:
        signature = "plain_uint8" if images.dtype == np.uint8 else "plain"
        return client.predict(teacher.model, {"images": images}, signature=signature)["logits"].astype(np.float32)

    try:
        num_classes = ask(np.zeros((1, *data.image_shape), np.uint8)).shape[-1]
    except ServingError as error:
        raise ConfigError(f"{teacher!r} does not answer images {list(data.image_shape)}: {error}") from None
    if num_classes != data.num_classes:
        raise ConfigError(f"{teacher!r} knows {num_classes} classes; allowed: {data.num_classes}, those of the student")

    def answers(images: tf.Tensor) -> tf.Tensor:
        logits = tf.numpy_function(ask, [images], tf.float32)
        return tf.ensure_shape(logits, [images.shape[0], data.num_classes])

    return Answers(answers, repr(teacher))


def _check_fits(who: str, constants: Mapping[str, Any], data: ImageData) -> None:
    """Refuses a teacher of other classes or images, or one that was trained on what the student validates with."""
    ours = constants_of(data)
    for key, what in (("class_names", "classes"), ("image_shape", "image shape")):
        if list(constants.get(key) or ()) != ours[key]:
            raise ConfigError(f"{who} has the {what} {constants.get(key)}; allowed: {ours[key]}, as of the student")
    if constants.get("held_out_sha256") != ours["held_out_sha256"]:
        raise ConfigError(
            f"{who} was trained with other validation images held out (or does not say which), so it may have been "
            "trained on those of the student; allowed: the same data, validation_fraction and split_seed"
        )
