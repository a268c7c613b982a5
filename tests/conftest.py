"""Every test sees two logical CPU devices, so that MirroredStrategy is tested with two replicas."""

from __future__ import annotations

from tfaug import startup

startup.import_tensorflow()
startup.use_devices(num_cpu_devices=2)
