"""Devices: what --strategy names. Workers in processes of their own are in `tfaug.train.workers`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfaug.config import ConfigError, near_name
from tfaug.train.workers import ADVICE, multi_worker_strategy, read_cluster


def _all_devices() -> list[str]:
    """All GPUs, or all logical CPUs where there is no GPU."""
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]


def mirrored_strategy(devices: Sequence[str] = ()) -> tf.distribute.MirroredStrategy:
    """Returns a MirroredStrategy, with a single replica where there is a single device: training has one path.

    Args:
      devices: names such as `GPU:0`; empty takes all GPUs, or all logical CPUs where there is no GPU.
    """
    devices = devices or _all_devices()
    # NCCL is for GPUs only; on logical CPUs the reduction must be asked for by name.
    reduce = None if "GPU" in devices[0].upper() else tf.distribute.HierarchicalCopyAllReduce()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduce)


def one_device() -> tf.distribute.MirroredStrategy:
    """Returns the strategy of the first device alone."""
    return mirrored_strategy(_all_devices()[:1])


def tpu_strategy() -> tf.distribute.TPUStrategy:
    """Returns the strategy of the TPU that the environment's TPU_NAME names, or of this machine's.

    Raises:
      ConfigError: if there is none.
    """
    name = os.environ.get("TPU_NAME", "")
    if not name and not tf.config.list_physical_devices("TPU"):
        raise ConfigError(
            "--strategy is 'tpu', but TensorFlow finds no TPU here and TPU_NAME is not set; "
            "allowed: auto, one, mirrored"
        )
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name or "local")
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)


# What --strategy takes.
STRATEGIES: dict[str, Callable[[], tf.distribute.Strategy]] = {
    "auto": mirrored_strategy,
    "one": one_device,
    "mirrored": mirrored_strategy,
    "multi_worker": multi_worker_strategy,
    "tpu": tpu_strategy,
}


def choose_strategy(
    name: str, num_cpu_devices: int = 1, across_workers: bool = False
) -> Callable[[], tf.distribute.Strategy]:
    """Returns what makes the strategy that --strategy names; meets no device, so that they may still be set up.

    `auto` is `multi_worker` where that may be and TF_CONFIG names several workers. `mirrored` is what `auto` is on one
    machine, but refused where there is nothing to mirror: a machine that lacks the GPUs which it should have is told,
    and not trained on for a day.

    Args:
      name: a name of `STRATEGIES`.
      num_cpu_devices: logical CPU devices, which count where there is no GPU.
      across_workers: whether this is a command that several workers may run together.

    Raises:
      ConfigError: if there is no such strategy, it is `mirrored` and there is a single device, or it is `multi_worker`
        and this is another command or TF_CONFIG names no workers.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"--strategy is {name!r}{near_name(name, STRATEGIES)}; allowed: {', '.join(STRATEGIES)}")
    num_gpus = len(tf.config.list_physical_devices("GPU"))
    if name == "mirrored" and (num_gpus or num_cpu_devices) == 1:
        found = "1 GPU" if num_gpus else "no GPU and 1 CPU device"
        raise ConfigError(
            f"--strategy is 'mirrored', but there is nothing to mirror: {found}; allowed: auto or one, more GPUs, or "
            "where there is none `tfaug run --cpu_devices=2`"
        )
    if name == "multi_worker" and not across_workers:
        raise ConfigError(
            "--strategy is 'multi_worker', which is of `tfaug train` alone: train so on every worker, then the other "
            "commands run on one machine; allowed here: auto, one, mirrored, tpu"
        )
    if name == "multi_worker" and len(read_cluster().addresses) < 2:
        raise ConfigError(f"--strategy is 'multi_worker', but TF_CONFIG names 1 worker; {ADVICE}")
    if name == "auto" and across_workers and "TF_CONFIG" in os.environ and len(read_cluster().addresses) > 1:
        return multi_worker_strategy
    return STRATEGIES[name]


def compiles_on_device() -> bool:
    """Tells whether XLA pays for the forward and backward pass: on GPU and TPU it does, on CPU it is slower."""
    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))
