"""What is written is whole or absent, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tfaug import files


def test_a_failed_write_leaves_the_old_file_and_no_leftover(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_file(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_folder_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), files.atomic_directory(tmp_path / "export" / "1") as partial:
        (partial / "graph.pb").write_text("half")
        raise RuntimeError
    assert list((tmp_path / "export").iterdir()) == []


def test_a_published_folder_is_never_overwritten(tmp_path):
    with files.atomic_directory(tmp_path / "1") as partial:
        (partial / "a").write_text("a")
    with pytest.raises(FileExistsError, match="never overwritten"), files.atomic_directory(tmp_path / "1"):
        pass
    assert (tmp_path / "1" / "a").read_text() == "a"


@pytest.mark.parametrize("kind", ["atomic_file", "atomic_directory"])
def test_a_killed_writer_leaves_nothing_that_looks_whole(tmp_path, kind):
    code = f"""
import os, signal
from tfaug import files
with files.{kind}({str(tmp_path / "out")!r}) as partial:
    (partial / "half" if partial.is_dir() else partial).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    files.remove_partial(tmp_path, "out")
    assert os.listdir(tmp_path) == []


def test_the_temporary_name_keeps_the_suffixes(tmp_path):
    with files.atomic_file(tmp_path / "final.weights.h5") as partial:
        assert partial.name.endswith("final.weights.h5")
        partial.write_text("x")
