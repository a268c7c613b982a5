"""Every test sees two logical CPU devices, so that MirroredStrategy is tested with two replicas."""

from __future__ import annotations

import pytest

from tfaug import startup

startup.import_tensorflow()
startup.use_devices(num_cpu_devices=2)

_LONGEST = ("test_fit.py", "test_run.py", "test_bench.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that take longest, so that processes side by side end at about the same time."""
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))
