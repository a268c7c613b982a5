"""What a reader needs to judge the numbers: the machine, the versions and the settings."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

# Settings of the memory allocator and of thread pools, which change speeds and are not seen in any version.
_ENVIRONMENT = (
    "LD_PRELOAD",
    "GLIBC_TUNABLES",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
    "OMP_NUM_THREADS",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)
_PACKAGES = ("tfaug", "tensorflow", "keras", "numpy")


def limit_cores(num_cores: int) -> None:
    """Keeps this process, and the threads and processes that it starts from now on, on its first `num_cores` cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:num_cores])


def describe(peers: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the header.

    Args:
      peers: by peer its version, or why it is missing.
      settings: of the command.
    """
    versions = {"python": platform.python_version()}
    versions |= {package: importlib.metadata.version(package) for package in _PACKAGES}
    package = tf.keras.Model.__module__.partition(".")[0]  # Where TensorFlow takes Keras from: keras or tf_keras.
    versions["tf.keras"] = f"{package} {importlib.metadata.version(package)}"
    return {
        "hardware": {
            "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
            "cache": _cpuinfo("cache size"),
            "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "devices": [
                tf.config.experimental.get_device_details(device).get("device_name", device.name)
                for device in tf.config.list_physical_devices()
            ],
        },
        "versions": versions,
        "peers": dict(peers),
        "threads": {
            "intra_op": tf.config.threading.get_intra_op_parallelism_threads() or "as many as cores",
            "inter_op": tf.config.threading.get_inter_op_parallelism_threads() or "as many as cores",
        },
        "malloc": " ".join(platform.libc_ver()) or "unknown",
        "environment": {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        "settings": dict(settings),
    }


def _cpuinfo(field: str) -> str:
    """Returns a field of the first processor in /proc/cpuinfo, or nothing where there is none."""
    path = pathlib.Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith(field):
            return line.partition(":")[2].strip()
    return ""
