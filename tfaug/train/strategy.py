"""Devices: one MirroredStrategy over everything that is there."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def mirrored_strategy(devices: Sequence[str] = ()) -> tf.distribute.MirroredStrategy:
    """Returns a MirroredStrategy, with a single replica where there is a single device: training has one path.

    Args:
      devices: names such as `GPU:0`; empty takes all GPUs, or all logical CPUs where there is no GPU.
    """
    if not devices:
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        devices = [device.name for device in found]
    # NCCL is for GPUs only; on logical CPUs the reduction must be asked for by name.
    reduce = None if "GPU" in devices[0].upper() else tf.distribute.HierarchicalCopyAllReduce()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduce)


def compiles_on_device() -> bool:
    """Tells whether XLA pays for the forward and backward pass: on GPU and TPU it does, on CPU it is slower."""
    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))
