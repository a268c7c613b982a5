"""The wheel is one package, works in a folder that holds nothing, and leaves the TensorFlow alone that it finds."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import subprocess
import sys
import sysconfig
import zipfile

import pytest
from packaging.requirements import Requirement

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
        "trainings": "Training('teacher', LeNet(), (Phase('train', 1, Constant(0.1), (SumAug(),), batch_size=50),))",
        "data.num_train_examples": 200,
        "evaluate.attacks": "FGSM()",
        "evaluate.num_attack_examples": 10,
        "evaluate.num_sum_aug_examples": 10,
        "export.draws": 2,
        "export.weights": 0.5,
        "export.num_examples": 10,
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


@pytest.fixture(scope="module")
def tensorflow_alone(tmp_path_factory) -> pathlib.Path:
    """A venv with this lane's TensorFlow, what it requires and pip; its packages are links to this environment's."""
    folder = tmp_path_factory.mktemp("venv")
    made = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this Python makes no venv with pip: {made.stdout}{made.stderr}")
    here = pathlib.Path(sysconfig.get_path("purelib"))
    there = pathlib.Path(sysconfig.get_path("purelib", vars={"base": folder, "platbase": folder}))
    waiting, names = ["tensorflow"], set()
    while waiting:
        distribution = importlib.metadata.distribution(waiting.pop())
        if distribution.name not in names:
            names.add(distribution.name)
            wanted = [Requirement(line) for line in distribution.requires or ()]
            waiting += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
            for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
                if not (there / top).exists():
                    (there / top).symlink_to(here / top)
    assert "numpy" in names and "scipy" not in names
    return folder / "bin"


def test_it_installs_beside_a_tensorflow_and_changes_nothing(wheel, tensorflow_alone):
    def pip(*arguments: str) -> str:
        # Isolated from settings that could bring an index: pip must be content with what is there.
        command = [tensorflow_alone / "python", "-m", "pip", "--isolated", "--disable-pip-version-check", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    before = pip("freeze", "--all").splitlines()
    assert any(line.startswith("tensorflow==") for line in before)
    pip("install", "--no-index", str(wheel))
    assert [line for line in pip("freeze", "--all").splitlines() if not line.startswith("tfaug")] == before

    code = """
import sys, tensorflow as tf
from tfaug.augment import RandAugment, layers
assert "site-packages" in layers.__file__
images = tf.cast(tf.random.stateless_uniform([4, 32, 32, 3], [1, 2], 0, 256, tf.int32), tf.uint8)
batch = RandAugment(2, 9)((images, tf.one_hot(tf.range(4), 4)), seed=1)
mixed = layers.MixUp(seed=1)({"images": images, "labels": tf.one_hot(tf.range(4), 4)})
assert batch.images.shape == mixed["images"].shape == images.shape
"""
    ran = subprocess.run(
        [tensorflow_alone / "python", "-c", code], cwd=tensorflow_alone, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    ran = subprocess.run([tensorflow_alone / "tfaug", "--help"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "tfaug run" in ran.stdout + ran.stderr
