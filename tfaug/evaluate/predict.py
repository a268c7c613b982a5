"""Ask an endpoint for predictions once per model, test set, attack and mode; every number comes from the files."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfaug import metrics
from tfaug.extras import explained
from tfaug.predictions import MODES, Predictions, array_sha256, is_of, read_predictions, write

with explained():
    import tqdm

if TYPE_CHECKING:
    from tfaug.evaluate.endpoint import Endpoint
    from tfaug.serving.client import Client, RestClient


def find_predictions(
    path: str | os.PathLike[str], key: Mapping[str, Any], labels: np.ndarray, ids: np.ndarray
) -> Predictions | None:
    """Reads predictions whose key has every entry of `key`, of these labels and ids; None where there are none."""
    try:
        held = read_predictions(path)
    except (FileNotFoundError, ValueError):
        return None
    return held if is_of(held, key, labels, ids) else None


def predict_set(
    client: Client | RestClient | Endpoint,
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
        `path` with this key (and this model, mode, number, images, labels and ids) is read instead of asking again;
        another file is replaced.
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
    labels, ids = np.asarray(labels, np.int64), np.asarray(ids, np.str_)
    if (held := find_predictions(path, full_key, labels, ids)) is not None:
        return held
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
    probs, logits = (answer[name].astype(np.float32) for name in ("probs", "logits"))
    write(path, Predictions(probs, logits, labels, ids, full_key))
    if progress:
        print(f"[tfaug] {label}: {len(images)} images answered", file=sys.stderr, flush=True)
    return read_predictions(path)
