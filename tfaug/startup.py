"""Import TensorFlow without the start-up noise that no user can act on, and with everything else left visible."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

# Registration lines of a CPU-only start, and what the interpreter's exit prints in TensorFlow 2.15.
_NOISE = (
    "Unable to register cuDNN factory",
    "Unable to register cuFFT factory",
    "Unable to register cuBLAS factory",
    "Could not find cuda drivers on your machine",
    "TF-TRT Warning: Could not find TensorRT",
    "oneDNN custom operations are on",
    "This TensorFlow binary is optimized to use available CPU instructions",
    "To enable the following instructions:",
)


def import_tensorflow() -> None:
    """Imports TensorFlow and silences its known start-up lines and exit-time errors; other lines are printed."""
    if "tensorflow" not in sys.modules:
        # Information lines are for TensorFlow's developers; warnings and errors stay.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
        with _without_noise():
            import tensorflow  # noqa: F401  (the import is the point)
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
    if num_cpu_devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_cpu_devices)


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Holds back what is written to file descriptor 2 and afterwards prints all but the known lines."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines(keepends=True):
                if not any(known in line for known in _NOISE):
                    sys.stderr.write(line)


def _silence_exit() -> None:
    """Drops the errors of `AtomicFunction.__del__` at interpreter exit; every other one is shown as before."""
    shown = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if "AtomicFunction.__del__" not in getattr(unraisable.object, "__qualname__", ""):
            shown(unraisable)

    sys.unraisablehook = hook
