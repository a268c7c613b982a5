"""Batches that a tf.data service makes: workers on other machines load and augment, and the order stays ours."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator

import tensorflow as tf

from tfaug.config import ConfigError

MAX_BYTES = 2**31 - 2**20  # of one message of protobuf, in which a service takes a data set with its images
_TIMEOUT_S = 10.0
_MAX_EARLY = 256  # batches that may wait for one that is due


def check_service(address: str) -> None:
    """Checks that a tf.data service is there.

    Args:
      address: of its dispatcher, grpc://HOST:PORT.

    Raises:
      ConfigError: if it is no such address, or nothing answers there.
    """
    found = re.fullmatch(r"grpc://(\[[^\]]+\]|[^:/\s]+):(\d{1,5})", address)
    if not found or not 0 < int(found[2]) < 65536:
        raise ConfigError(f"--data_service is {address!r}; allowed: grpc://HOST:PORT, as in grpc://10.0.0.7:5050")
    try:
        socket.create_connection((found[1].strip("[]"), int(found[2])), timeout=_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(
            f"--data_service is {address}, where nothing answers ({error}); start a dispatcher and its workers there "
            "first, or leave the flag out"
        ) from None


def in_order(
    first: int, stop: int, load: Callable[[tf.Tensor], tuple[tf.Tensor, ...]], address: str
) -> tf.data.Dataset:
    """Returns `load(step)` of the steps first..stop - 1, in that order, each made by one of a service's workers.

    The service gives each step to the worker that asks next, and the batches come as they are done; what comes early
    waits here. A batch is a function of its step, so that it does not matter which worker makes it, nor how many there
    are.

    Args:
      first: a step.
      stop: the step at which to stop.
      load: makes the batch of a step, an int64 scalar; a graph of its own.
      address: of the dispatcher, grpc://HOST:PORT.

    Returns:
      A data set. A worker that ends takes steps with it, and the service gives none twice: reading fails once 256 later
      ones have come, or where there are fewer, waits. The training, started again, goes on from its last epoch.
    """
    numbered = tf.data.Dataset.range(first, stop).map(lambda step: (step, *load(step)), num_parallel_calls=2)
    policy = tf.data.experimental.service.ShardingPolicy.DYNAMIC
    made = numbered.apply(tf.data.experimental.service.distribute(policy, address))

    def ordered() -> Iterator[tuple[tf.Tensor, ...]]:
        early: dict[int, tuple[tf.Tensor, ...]] = {}
        due = first
        for step, *batch in made:
            early[int(step)] = tuple(batch)
            while due in early:
                yield early.pop(due)
                due += 1
            if len(early) > _MAX_EARLY:
                break
        if due < stop:
            raise RuntimeError(f"the tf.data service at {address} has lost the batch of step {due}: a worker has ended")

    return tf.data.Dataset.from_generator(ordered, output_signature=numbered.element_spec[1:])
