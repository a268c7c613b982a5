"""A tiny SavedModel with one signature for each thing the protocol can carry, and one running server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfaug.serving.client import RunningServer, start_server

MESSAGE_MB = 4


class TinyModel(tf.Module):
    """Linear logits of 2x2x3 images, and a few signatures for other types and shapes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.kernel = tf.Variable(np.random.default_rng(seed).normal(size=(12, 3)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 2, 2, 3], tf.float32, name="images")])
    def default(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = tf.reshape(images, [-1, 12]) @ self.kernel
        return {"logits": logits, "probs": tf.nn.softmax(logits)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2, 2, 3], tf.uint8, name="images")])
    def default_uint8(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.default(tf.cast(images, tf.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32), tf.TensorSpec([None], tf.int64)])
    def pair(self, x: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": tf.reduce_sum(x, axis=1) + tf.cast(seed, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def echo(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"text": text, "raw_bytes": text}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def whole(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"total": tf.reduce_sum(x), "x": x}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="steps")])
    def slow(self, steps: tf.Tensor) -> dict[str, tf.Tensor]:
        count, value = tf.constant(0), tf.ones([16, 16])
        count, value = tf.while_loop(
            lambda count, value: count < steps, lambda count, value: (count + 1, value @ value / 16.0), (count, value)
        )
        return {"value": value}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="index")])
    def fails(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_less(index, 10, message="index must be below 10")]):
            return {"index": tf.identity(index)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="size")])
    def large(self, size: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"zeros": tf.zeros([size], tf.uint8)}


def save_tiny(path: Path, seed: int) -> TinyModel:
    """Write a version folder and return the model in it."""
    model = TinyModel(seed)
    names = ("pair", "echo", "whole", "slow", "fails", "large", "default_uint8")
    signatures = {"serving_default": model.default} | {name: getattr(model, name) for name in names}
    tf.saved_model.save(model, str(path), signatures=signatures)
    return model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, TinyModel]]:
    """A base path with the versions 1 and 10, and a folder that is no version."""
    base = tmp_path_factory.mktemp("models") / "tiny"
    models = {version: save_tiny(base / str(version), seed=version) for version in (1, 10)}
    (base / "tmp-11").mkdir()
    return base, models


@pytest.fixture(scope="session")
def max_message_mb() -> int:
    """The running server's message limit."""
    return MESSAGE_MB


@pytest.fixture(scope="session")
def server(tiny: tuple[Path, dict[int, TinyModel]]) -> Iterator[RunningServer]:
    """A real server on real ports."""
    with start_server({"tiny": tiny[0]}, max_message_mb=MESSAGE_MB) as running:
        yield running


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Five float images, 0..255."""
    return np.random.default_rng(0).uniform(0, 255, (5, 2, 2, 3)).astype(np.float32)
