"""Batches that a tf.data service makes are those made here, in the same order."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import tensorflow as tf

from tests.train import by_hand
from tests.train.by_hand import NUM_CLASSES, Normed
from tfaug import rng
from tfaug.augment import Flip, Mixup
from tfaug.config import ConfigError
from tfaug.data import pipeline
from tfaug.data.pipeline import training_batches
from tfaug.data.service import check_service, in_order
from tfaug.schedules import Constant, Linear
from tfaug.train import fit
from tfaug.train.order import LossOrder
from tfaug.train.phase import Phase
from tfaug.train.strategy import mirrored_strategy
from tfaug.workdir import TrainingFolder

DATA = by_hand.make_data()
SERVICE = tf.data.experimental.service


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a dispatcher with two workers."""
    dispatcher = SERVICE.DispatchServer()
    target = dispatcher.target.partition("://")[2]
    workers = [SERVICE.WorkerServer(SERVICE.WorkerConfig(dispatcher_address=target)) for _ in range(2)]
    yield dispatcher.target
    del workers


def test_two_workers_make_the_batches_of_this_process_in_its_order(address):
    phase = Phase("train", 3, Constant(0.1), (Flip(), Mixup(0.4, p=Linear(0.2, 1.0))), 8)

    def batches(service: str) -> list[tuple[np.ndarray, ...]]:
        found = training_batches(
            DATA.train,
            num_classes=NUM_CLASSES,
            batch_size=8,
            seed=rng.make_seed(3),
            first_epoch=1,
            num_epochs=3,
            augment=fit.batch_function(phase),
            num_replicas=2,
            with_examples=True,
            service=service,
        )
        return [tuple(part.numpy() for part in batch) for batch in found]

    served, own = batches(address), batches("")
    assert len(own) == 2 * (52 // 8)
    for parts in zip(served, own, strict=True):
        for one, other in zip(*parts, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_training_takes_its_batches_from_the_service(address, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(pipeline, "in_order", lambda *arguments: asked.append(arguments[-1]) or in_order(*arguments))

    def trained(folder, service: str) -> list[np.ndarray]:
        strategy = mirrored_strategy(["CPU:0"])
        with strategy.scope():
            network = by_hand.build(Normed(), DATA)
        run = fit.TrainingRun(
            TrainingFolder(folder), DATA, strategy, rng.make_seed(0), folder / "tb", data_service=service
        )
        fit.train_phases(run, network, (Phase("train", 1, Constant(0.1), (), 24),))
        return network.get_weights()

    for one, other in zip(trained(tmp_path / "own", ""), trained(tmp_path / "served", address), strict=True):
        np.testing.assert_array_equal(one, other)
    assert asked == [address]


def squares(first: int, stop: int) -> list[int]:
    return [int(value) for (value,) in in_order(first, stop, lambda step: (step * step,), "grpc://nowhere:1")]


def arriving(monkeypatch, steps: Iterable[int]) -> list[int]:
    """Has a service give these steps, in this order; returns the list of those that were taken."""
    taken: list[int] = []

    def take() -> Iterator[int]:
        for step in steps:
            taken.append(step)
            yield step

    def distribute(policy, address):
        given = tf.data.Dataset.from_generator(take, output_signature=tf.TensorSpec([], tf.int64))
        return lambda numbered: given.map(lambda step: (step, step * step))

    monkeypatch.setattr(SERVICE, "distribute", distribute)
    return taken


def test_what_comes_early_waits(monkeypatch):
    arriving(monkeypatch, [5, 3, 4, 8, 7, 6])
    assert squares(3, 9) == [9, 16, 25, 36, 49, 64]


def test_a_step_that_is_lost_is_an_error(monkeypatch):
    arriving(monkeypatch, [0, 1, 3])
    with pytest.raises(tf.errors.UnknownError, match="tf.data service at .* has lost the batch of step 2:"):
        squares(0, 4)


def test_it_is_an_error_too_where_many_wait_for_it(monkeypatch):
    taken = arriving(monkeypatch, [0, *range(2, 400)])
    with pytest.raises(tf.errors.UnknownError, match="has lost the batch of step 1:"):
        squares(0, 400)
    assert 2 + 256 <= taken[-1] < 350  # tf.data itself takes some ahead


@pytest.mark.parametrize(
    "given", ["localhost:5050", "http://a:1", "grpc://a", "grpc://a:0", "grpc://a:70000", "grpc://"]
)
def test_an_address_is_refused_that_is_none(given):
    with pytest.raises(ConfigError, match="allowed: grpc://HOST:PORT"):
        check_service(given)


def test_a_service_is_refused_that_is_not_there(address):
    check_service(address)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"grpc://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"{nowhere}, where nothing answers"):
            check_service(nowhere)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"order": LossOrder(k=2)}, "order is LossOrder"),
        ({"augment": (), "engine": "keras_cv"}, "engine is 'keras_cv'"),
        ({}, "7,488 bytes and labels|8,112 bytes"),
    ],
    ids=["an order that asks the network", "generators", "too many images"],
)
def test_a_phase_is_refused_that_a_service_cannot_feed(monkeypatch, settings, named):
    monkeypatch.setattr(fit, "MAX_BYTES", 8_000)
    phase = dataclasses.replace(Phase("train", 1, Constant(0.1), (), 8), **settings)
    strategy = mirrored_strategy(["CPU:0"])
    fit.check_fits((phase,), DATA, strategy)
    with pytest.raises(ConfigError, match=f"phase train: .*({named}).*no --data_service"):
        fit.check_fits((phase,), DATA, strategy, "grpc://a:1")
