"""The wheel is one package, and works in a folder that holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from tests import tiny


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Builds the wheel from a copy of what git tracks, so that build leftovers of the checkout do not travel."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=tiny.ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        if (tiny.ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((tiny.ROOT / name).read_bytes())
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_one_top_level_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tfaug"}
    for inside in ("experiments/quickstart.py", "serving/__main__.py", "report/page.html.j2", "fingerprints.txt"):
        assert f"tfaug/{inside}" in names
    assert not any("test" in name.split("/")[-1] or "/tests/" in name for name in names)


def test_the_wheel_runs_the_quickstart_in_an_empty_folder(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    # Its dependencies are this environment's; the checkout itself must not be importable.
    code = (
        f"import sys; sys.path[:0] = [{str(site)!r}]; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)];"
        f"import tfaug; assert tfaug.__file__.startswith({str(site)!r}), tfaug.__file__;"
        "from tfaug.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    small = {
        "phases.0.epochs": 1,
        "phases.1.epochs": 1,
        "student.phases.0.epochs": 1,
        "model.name": "lenet",
        "data.num_train_examples": 200,
        "evaluate.num_attack_examples": 10,
        "export.num_draws": 2,
    }
    flags = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), sysconfig.get_path("purelib")])}
    ran = subprocess.run(
        [sys.executable, "-c", code, "run", "--config=experiments.quickstart:digits", "--workdir=out", *flags],
        cwd=empty,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert (empty / "out" / "summary.json").exists()
    assert sorted(path.name for path in empty.iterdir()) == ["out"]
