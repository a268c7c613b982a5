"""Devices: one MirroredStrategy over everything that is there, or over the first device alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfaug.config import ConfigError, near_name


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


# What --strategy takes.
STRATEGIES: dict[str, Callable[[], tf.distribute.Strategy]] = {
    "auto": mirrored_strategy,
    "one": one_device,
    "mirrored": mirrored_strategy,
}
_NOT_BUILT = ("multi_worker", "tpu")


def choose_strategy(name: str, num_cpu_devices: int = 1) -> Callable[[], tf.distribute.Strategy]:
    """Returns what makes the strategy that --strategy names; meets no device, so that they may still be set up.

    `mirrored` is what `auto` is, but refused where there is nothing to mirror: a machine that lacks the GPUs which it
    should have is told, and not trained on for a day.

    Args:
      name: a name of `STRATEGIES`.
      num_cpu_devices: logical CPU devices, which count where there is no GPU.

    Raises:
      ConfigError: if there is no such strategy, or it is `mirrored` and there is a single device.
    """
    allowed = ", ".join(STRATEGIES)
    if name in _NOT_BUILT:
        raise ConfigError(f"--strategy is {name!r}, which is not built yet (docs/scale.md); allowed: {allowed}")
    if name not in STRATEGIES:
        raise ConfigError(f"--strategy is {name!r}{near_name(name, STRATEGIES)}; allowed: {allowed}")
    num_gpus = len(tf.config.list_physical_devices("GPU"))
    if name == "mirrored" and (num_gpus or num_cpu_devices) == 1:
        found = "1 GPU" if num_gpus else "no GPU and 1 CPU device"
        raise ConfigError(
            f"--strategy is 'mirrored', but there is nothing to mirror: {found}; allowed: auto or one, more GPUs, or "
            "where there is none `tfaug run --cpu_devices=2`"
        )
    return STRATEGIES[name]


def compiles_on_device() -> bool:
    """Tells whether XLA pays for the forward and backward pass: on GPU and TPU it does, on CPU it is slower."""
    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))
