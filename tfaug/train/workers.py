"""Workers: processes, each with its own devices, that train together as the environment's TF_CONFIG says."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfaug.config import ConfigError

# What to do where TF_CONFIG does not fit.
ADVICE = (
    'allowed: as in {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}, '
    "or --strategy=one to train on this machine alone"
)


class Cluster(NamedTuple):
    """The workers of a training, and which of them this process is.

    Attributes:
      addresses: HOST:PORT of each, the chief's first.
      place: of this one.
    """

    addresses: tuple[str, ...]
    place: int

    @property
    def is_chief(self) -> bool:
        """Whether this is the one worker that writes."""
        return self.place == 0


def read_cluster() -> Cluster:
    """Reads the workers from the environment's TF_CONFIG.

    Raises:
      ConfigError: if it is not set, is no JSON, or names other tasks than workers and one chief.
    """
    text = os.environ.get("TF_CONFIG")
    if text is None:
        raise ConfigError(f"--strategy is 'multi_worker', but TF_CONFIG is not set; {ADVICE}")
    try:
        held = json.loads(text)
        tasks = {kind: [str(each) for each in addresses] for kind, addresses in held["cluster"].items()}
        kind, place = str(held["task"]["type"]), int(held["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"TF_CONFIG is {text!r}, which is no cluster and task ({error!r}); {ADVICE}") from None
    if foreign := sorted({*tasks, kind} - {"chief", "worker"}):
        raise ConfigError(f"TF_CONFIG names {', '.join(foreign)}, but takes a chief and workers alone; {ADVICE}")
    chiefs = tasks.get("chief", [])
    if len(chiefs) > 1:
        raise ConfigError(f"TF_CONFIG names {len(chiefs)} chiefs, but takes one; {ADVICE}")
    if not 0 <= place < len(tasks.get(kind, ())):
        raise ConfigError(f"TF_CONFIG says that this is {kind} {place}, which its cluster does not have; {ADVICE}")
    return Cluster((*chiefs, *tasks.get("worker", ())), place if kind == "chief" else len(chiefs) + place)


def multi_worker_strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """Returns the strategy of all GPUs, or of one CPU, of every worker that TF_CONFIG names; waits for all of them.

    To be made before anything else asks TensorFlow for its devices.
    """
    return tf.distribute.MultiWorkerMirroredStrategy()


def spans_workers(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether a strategy's replicas are in several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether this process is the one that writes; it is where it is the only one."""
    return not spans_workers(strategy) or read_cluster().is_chief


def distribute_shares(
    strategy: tf.distribute.Strategy, batches_of: Callable[[range], tf.data.Dataset]
) -> tf.distribute.DistributedDataset:
    """Returns batches of which each worker makes the shares of its own replicas alone.

    Args:
      strategy: of the workers.
      batches_of: makes batches of the shares of some replicas, one after the other in each part of the batch.
    """

    def shares(context: tf.distribute.InputContext) -> tf.data.Dataset:
        num = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * num
        batches = batches_of(range(first, first + num))
        if num == 1:
            return batches
        # One element for each replica; what augments may have made the shares smaller.
        return batches.map(
            lambda *parts: tuple(tf.reshape(each, [num, each.shape[0] // num, *each.shape[1:]]) for each in parts)
        ).unbatch()

    return strategy.distribute_datasets_from_function(shares)


def check_same(strategy: tf.distribute.MultiWorkerMirroredStrategy, cluster: Cluster, what: Mapping[str, str]) -> None:
    """Waits for all workers, and checks that they agree.

    Args:
      strategy: of the workers.
      cluster: the workers.
      what: a text for each thing that must be the same, by its name.

    Raises:
      ConfigError: on every worker, if one of them has another text, naming the worker and the thing.
    """
    own = np.stack([np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int32) for text in what.values()])

    @tf.function(autograph=False)
    def gather() -> tf.Tensor:
        shares = strategy.run(lambda: tf.distribute.get_replica_context().all_gather(tf.constant(own[None]), axis=0))
        return strategy.experimental_local_results(shares)[0]

    found = gather().numpy()
    check_alike(cluster, tuple(what), found[:: len(found) // len(cluster.addresses)])


def check_alike(cluster: Cluster, names: Sequence[str], found: np.ndarray) -> None:
    """Checks what `check_same` has gathered.

    Args:
      cluster: the workers.
      names: of the things.
      found: a digest of each worker's each thing, [workers, things, 8].

    Raises:
      ConfigError: if one of them differs from the first worker's, naming the worker and the things.
    """
    for worker, same in enumerate((found == found[0]).all(axis=2)):
        if not same.all():
            others = [name for name, equal in zip(names, same, strict=True) if not equal]
            raise ConfigError(
                f"worker {worker} ({cluster.addresses[worker]}) has other {' and '.join(others)} than worker 0 "
                f"({cluster.addresses[0]}); allowed: one command, one data set and one --workdir that all workers see"
            )
