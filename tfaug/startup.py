"""Import TensorFlow without the start-up noise that no user can act on, and with everything else left visible."""

from __future__ import annotations

import os
import sys

from tfaug.serving import startup as serving_startup


def import_tensorflow() -> None:
    """Imports TensorFlow and silences its known start-up lines and exit-time errors; other lines are printed."""
    # Information lines are for TensorFlow's developers; warnings and errors stay.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    serving_startup.import_tensorflow()
    _silence_exit()


def use_devices(*, deterministic: bool = False, num_cpu_devices: int = 1) -> None:
    """Sets what must be set before TensorFlow meets its devices.

    Args:
      deterministic: ask for deterministic kernels.
      num_cpu_devices: logical CPU devices, 1 or more; two of them exercise the two-replica path without a GPU.
    """
    import tensorflow as tf

    if deterministic:
        tf.config.experimental.enable_op_determinism()
    for gpu in tf.config.list_physical_devices("GPU"):
        # The server that evaluates the exports is a process of its own and needs a share of the memory.
        tf.config.experimental.set_memory_growth(gpu, True)
    if num_cpu_devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_cpu_devices)


def _silence_exit() -> None:
    """Drops the errors of `AtomicFunction.__del__` at interpreter exit; every other one is shown as before."""
    shown = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if "AtomicFunction.__del__" not in getattr(unraisable.object, "__qualname__", ""):
            shown(unraisable)

    sys.unraisablehook = hook
