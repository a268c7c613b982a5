"""The workdir that the report's tests read."""

from __future__ import annotations

import pathlib

import pytest
import toy_run


@pytest.fixture
def workdir(tmp_path: pathlib.Path) -> pathlib.Path:
    """A finished toy run, to be changed at will."""
    toy_run.write_run(tmp_path / "run")
    return tmp_path / "run"
