"""Ask an endpoint for predictions once per model, test set, attack and mode; every number comes from the files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import sys
import zipfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfaug import metrics
from tfaug.config import ConfigError, check_whole
from tfaug.data.split import Split, stratified_subset
from tfaug.evaluate.attacks import FGSM, PGD
from tfaug.extras import explained
from tfaug.files import atomic_file
from tfaug.losses import check_logits

with explained():
    import tqdm

if TYPE_CHECKING:
    from tfaug.serving.client import Client, RestClient

# Signatures that may be asked, to which `_uint8` is added where the images are uint8.
MODES = ("plain", "mirror", "sum_aug")
# Modes in which attacked images are asked.
_ATTACKED_MODES = ("plain", "sum_aug")
# Sum-Augmentation multiplies a batch by its draws, so a batch may take long on a small machine.
_TIMEOUT_S = 600.0
# Mean total variation between an endpoint's answers and the local model's; bfloat16 stays far below.
_MAX_ENDPOINT_DISTANCE = 0.05


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Settings of the evaluation.

    Args:
      attacks: attacks on the test set, of different names.
      num_attack_examples: test images attacked, a seeded class-stratified subset; all where there are fewer.
      num_sum_aug_examples: images of each set asked in mode `sum_aug`, whose every answer costs n forward passes; a
        seeded class-stratified subset, all where there are fewer. Of attacked images those among them are asked.
      batch_size: images per request and per attack step, 1 or more.
      endpoint: gRPC HOST:PORT of a running server; empty to start one on a free port.
      seed: chooses these images.
    """

    attacks: tuple[FGSM | PGD, ...] = (FGSM(), PGD())
    num_attack_examples: int = 1000
    num_sum_aug_examples: int = 2000
    batch_size: int = 256
    endpoint: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole(self, "num_attack_examples", 1)
        check_whole(self, "num_sum_aug_examples", 1)
        check_whole(self, "batch_size", 1)
        check_whole(self, "seed", 0, 2**31 - 1)
        names = [attack.name for attack in self.attacks]
        if len(set(names)) < len(names):
            raise ConfigError(f"EvaluateConfig.attacks are {', '.join(names)}; allowed: each name once")


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a model on a set: probs, logits float32 [N,K]; labels int64 [N]; ids str [N]; what they are of."""

    probs: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    key: dict[str, Any]


def predictions_path(
    folder: str | os.PathLike[str], model_name: str, set_name: str, attack: str, mode: str
) -> pathlib.Path:
    """Returns FOLDER/MODEL/SET.ATTACK.MODE.npz, with ATTACK `clean` where there is none."""
    return pathlib.Path(folder) / model_name / f"{set_name}.{attack}.{mode}.npz"


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Reads a file written by `predict_set`.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is not such a file, or not a whole one.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("probs", "logits", "labels", "ids")}
            key = json.loads(str(file["key"]))
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is not a whole file of predictions: {error}") from error
    return Predictions(**arrays, key=key)


def is_written(path: str | os.PathLike[str], key: Mapping[str, Any]) -> bool:
    """Says whether `path` holds whole predictions whose key has every entry of `key`."""
    try:
        found = read_predictions(path).key
    except (FileNotFoundError, ValueError):
        return False
    return {name: found.get(name) for name in key} == json.loads(json.dumps(dict(key)))


def array_sha256(array: np.ndarray) -> str:
    """Returns the SHA-256 of an array's dtype, shape and bytes."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def predict_set(
    client: Client | RestClient,
    model_name: str,
    images: np.ndarray,
    labels: np.ndarray,
    ids: np.ndarray,
    *,
    mode: str,
    path: str | os.PathLike[str],
    batch_size: int = 256,
    key: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Predictions:
    """Asks the endpoint for every image and writes the answers to `path` at once, or reads them if they are there.

    Args:
      client: see `tfaug.serving.client.Client`.
      model_name: the served model.
      images: uint8 or float32 [N,H,W,C] in 0..255, N of 1 or more; uint8 images go to the `_uint8` signatures.
      labels: integers [N].
      ids: str [N].
      mode: `plain`, `mirror` for the mean with the mirror image, or `sum_aug` for test-time Sum-Augmentation.
      path: file to write, `.npz`.
      batch_size: images per request, 1 or more; the client sends fewer where a message would be too large.
      key: JSON values that identify the predictions, such as the weights' SHA-256 and the set's name. A whole file at
        `path` with this key (and this model, mode, number and images) is read instead of asking again; another file is
        replaced.
      progress: show a progress bar on a terminal.

    Raises:
      ValueError: if the mode, types or lengths are not as above, a label is none of the model's classes, or the answers
        are not one distribution per image.
      ServingError: if the endpoint refuses or does not answer.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; allowed: {', '.join(MODES)}")
    if images.dtype not in (np.uint8, np.float32) or images.ndim != 4 or not len(images):
        raise ValueError(f"images are {images.dtype} {list(images.shape)}; allowed: uint8 or float32 [N,H,W,C], N >= 1")
    if not len(images) == len(labels) == len(ids):
        raise ValueError(f"{len(images)} images, {len(labels)} labels, {len(ids)} ids; allowed: as many of each")
    full_key = {
        **(key or {}),
        "model": model_name,
        "mode": mode,
        "num_examples": len(images),
        "images_sha256": array_sha256(images),
    }
    if is_written(path, full_key):
        return read_predictions(path)
    signature = mode + ("_uint8" if images.dtype == np.uint8 else "")
    label = f"{model_name} {pathlib.Path(path).stem}"
    with tqdm.tqdm(total=len(images), desc=label, unit="image", disable=None if progress else True, leave=False) as bar:
        answer = client.predict(
            model_name, {"images": images}, signature=signature, batch_size=batch_size, progress=bar.update
        )
    if not {"probs", "logits"} <= set(answer) or answer["probs"].shape != answer["logits"].shape:
        shapes = {output: list(array.shape) for output, array in answer.items()}
        raise ValueError(f"{model_name!r} answered {shapes}; allowed: probs and logits of one shape")
    metrics.check_predictions(answer["probs"], labels)
    arrays = {
        "probs": answer["probs"].astype(np.float32),
        "logits": answer["logits"].astype(np.float32),
        "labels": np.asarray(labels, np.int64),
        "ids": np.asarray(ids, np.str_),
    }
    with atomic_file(path) as partial, open(partial, "wb") as file:
        np.savez(file, key=np.array(json.dumps(full_key)), **arrays)
    if progress:
        print(f"[tfaug] {label}: {len(images)} images answered", file=sys.stderr, flush=True)
    return read_predictions(path)


def _check_endpoint(client: Client | RestClient, name: str, model_fn: Any, images: np.ndarray) -> None:
    """Refuses an endpoint whose plain answers are not those of the local model."""
    served = client.predict(name, {"images": images}, signature="plain_uint8")["probs"]
    local = tf.nn.softmax(check_logits(model_fn(tf.cast(images, tf.float32)))).numpy()
    if served.shape != local.shape:
        raise ConfigError(
            f"the endpoint's {name!r} gives {served.shape[-1]} classes, the local model {local.shape[-1]}"
        )
    distance = float(np.abs(served - local).sum(axis=1).mean() / 2)
    if not distance <= _MAX_ENDPOINT_DISTANCE:
        raise ConfigError(
            f"the endpoint's {name!r} is not the model of this workdir: its probabilities differ by {distance:.3f} "
            f"in total variation; allowed: {_MAX_ENDPOINT_DISTANCE}"
        )


def _evaluate_model(
    client: Client,
    name: str,
    model: Any,
    key: dict[str, Any],
    mode_keys: Mapping[str, dict[str, Any]],
    sets: dict[str, Split],
    subset: Split,
    config: EvaluateConfig,
    out_dir: pathlib.Path,
    attacked: bool,
    progress: bool,
) -> None:
    """Writes one model's predictions on the clean sets and, if `attacked`, on the attacked subset.

    `mode_keys` has the modes to ask, each with what identifies its settings.
    """

    def model_fn(images: tf.Tensor) -> tf.Tensor:
        return model(images, training=False)

    # By name, so that the attacked images in mode `sum_aug` are among its clean ones.
    chosen = {
        s: split.ids[stratified_subset(split.labels, config.num_sum_aug_examples, seed=config.seed)]
        for s, split in sets.items()
    }

    def ask(split: Split, images: np.ndarray, set_name: str, attack: str, modes: Iterable[str], key: dict) -> None:
        for mode in modes:
            rows = np.isin(split.ids, chosen[set_name]) if mode == "sum_aug" else np.ones(len(split), bool)
            if not rows.any():
                continue
            predict_set(
                client,
                name,
                images[rows],
                split.labels[rows],
                split.ids[rows],
                mode=mode,
                path=predictions_path(out_dir, name, set_name, attack, mode),
                batch_size=config.batch_size,
                key={**key, **mode_keys[mode]},
                progress=progress,
            )

    _check_endpoint(client, name, model_fn, subset.images[:16])
    for set_name, split in sets.items():
        ask(split, split.images, set_name, "clean", mode_keys, {**key, "set": set_name, "attack": None})
    for attack in config.attacks if attacked else ():
        settings = {"name": attack.name, **dataclasses.asdict(attack)}
        attack_key = {**key, "set": "test", "attack": settings, "clean_images_sha256": array_sha256(subset.images)}
        # Made once for both modes, and not at all where both are written.
        if not all(
            is_written(predictions_path(out_dir, name, "test", attack.name, m), {**attack_key, **mode_keys[m]})
            for m in _ATTACKED_MODES
        ):
            adversarial = attack.attack(
                model_fn, subset.images, subset.labels, batch_size=config.batch_size, progress=progress
            )
            ask(subset, adversarial, "test", attack.name, _ATTACKED_MODES, attack_key)


def evaluate_models(
    *,
    endpoint_target: str,
    models: Mapping[str, Any],
    test: Split,
    shifted: Split | None,
    config: EvaluateConfig,
    out_dir: str | os.PathLike[str],
    weights_sha256: Mapping[str, str],
    attacked: tuple[str, ...],
    mirror: bool = False,
    sum_aug: Mapping[str, Mapping[str, Any]] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Writes the predictions of every exported model to OUT_DIR/MODEL/SET.ATTACK.MODE.npz, asking a running endpoint.

    Each model answers the clean test set and the shifted one plainly, with mirror views if asked for, and a subset of
    each with test-time Sum-Augmentation. Attacks are made on the *local, plain* model and sent to the endpoint in the
    modes `plain` and `sum_aug`. For `plain` that is a white-box attack. For `sum_aug` it is a transfer attack: the
    attacker knows neither that images will be mixed nor with what, so the accuracy under it is an upper bound and says
    nothing of robustness to an adaptive attack (one that averages gradients over draws).

    What is on disk already under the same weights, images and settings is not asked or attacked again.

    Args:
      endpoint_target: gRPC HOST:PORT, serving each of `models` by its name.
      models: by exported name, the local model, called as `model(images, training=False)`.
      test: the test set.
      shifted: the shifted test set, None for none.
      config: see `EvaluateConfig`.
      out_dir: folder of the predictions.
      weights_sha256: by exported name.
      attacked: names of the models to attack.
      mirror: ask for mirror views of the clean sets too.
      sum_aug: by exported name, JSON values that identify the setting of its sums.
      progress: show progress bars on a terminal.

    Returns:
      {"test": {"num_examples"}, "shifted": {"num_examples"} or None, "attacks": {name: {settings..., "num_examples",
      "made_on"}}}, for the predictions' meta.json.

    Raises:
      ValueError: if `attacked` or `weights_sha256` does not fit `models`, a set is empty, or the endpoint serves
        another model.
    """
    for what, names in (
        ("attacked", set(attacked) - set(models)),
        ("weights_sha256", set(models) - set(weights_sha256)),
    ):
        if names:
            raise ValueError(f"{what} does not fit models: {', '.join(sorted(names))}; models: {', '.join(models)}")
    with explained():
        from tfaug.serving.client import Client

    sets = {"test": test} if shifted is None else {"test": test, "shifted": shifted}
    for set_name, split in sets.items():
        if not len(split):
            raise ValueError(f"the {set_name} set has 0 images; allowed: 1 or more")
    subset = test.take(stratified_subset(test.labels, config.num_attack_examples, seed=config.seed))
    with Client(endpoint_target, timeout_s=_TIMEOUT_S) as client:
        for name, model in models.items():
            _evaluate_model(
                client,
                name,
                model,
                {"weights_sha256": weights_sha256[name]},
                {
                    "plain": {},
                    **({"mirror": {}} if mirror else {}),
                    "sum_aug": {"setting": sum_aug[name]} if sum_aug else {},
                },
                sets,
                subset,
                config,
                pathlib.Path(out_dir),
                name in attacked,
                progress,
            )
    return {
        "test": {"num_examples": len(test)},
        "shifted": None if shifted is None else {"num_examples": len(shifted)},
        "attacks": {
            attack.name: {
                **dataclasses.asdict(attack),
                "num_examples": len(subset),
                "made_on": "the local model without Sum-Augmentation",
            }
            for attack in config.attacks
        },
    }
