"""The library alone needs TensorFlow and NumPy; whatever else is missing is named with the extra that brings it."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests import tiny
from tfaug import extras

# What every TensorFlow brings, and the distributions that it comes in.
WITH_TENSORFLOW = {
    "absl": "absl-py",
    "google": "protobuf",
    "grpc": "grpcio",
    "ml_dtypes": "ml-dtypes",
    "wrapt": "wrapt",
}
# TensorFlow 2.15 cannot be imported without tensorboard, which it brings.
BLOCKED = sorted(set(extras.EXTRAS) - {"tensorboard"})
BLOCK = """
import importlib.abc, importlib, json, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements_of(extra: str) -> set[str]:
    """The names that an extra of setup.cfg asks for, those of the extras that it names included."""
    config = configparser.ConfigParser()
    config.read(tiny.ROOT / "setup.cfg", encoding="utf-8")
    names = set()
    for line in config["options.extras_require"][extra].split("\n"):
        if line and not line.startswith("#"):
            name, others = re.match(r"([\w.-]+)(?:\[(.*?)\])?", line).groups()
            names |= set().union(*map(requirements_of, others.split(","))) if name == "tfaug" else {normalized(name)}
    return names


def run_blocked(code: str, *arguments: str, blocked: Sequence[str] = BLOCKED) -> subprocess.CompletedProcess[str]:
    """Runs code in a process in which no module of the table, or none of `blocked`, can be imported."""
    command = [sys.executable, "-c", f"BLOCKED = {blocked!r}\n{BLOCK}{code}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tiny.ROOT)


@pytest.mark.parametrize("module", sorted(extras.EXTRAS))
def test_the_extra_of_the_table_brings_the_module(module: str) -> None:
    distributions = importlib.metadata.packages_distributions().get(module, [module])
    assert requirements_of(extras.EXTRAS[module]) & set(map(normalized, distributions))


def test_all_is_the_extras_that_commands_use() -> None:
    used = set(extras.EXTRAS.values()) - {"beam"}
    assert requirements_of("all") == set().union(*map(requirements_of, used))


def test_the_docs_list_every_extra() -> None:
    config = configparser.ConfigParser()
    config.read(tiny.ROOT / "setup.cfg", encoding="utf-8")
    text = (tiny.ROOT / "docs" / "stack.md").read_text(encoding="utf-8")
    assert [name for name in config["options.extras_require"] if f"| `{name}` |" not in text] == []


def test_every_import_is_tensorflows_or_in_the_table() -> None:
    known = set(sys.stdlib_module_names) | {"tfaug", "tensorflow", "numpy", *WITH_TENSORFLOW, *extras.EXTRAS}
    found = {}
    for folder in ("tfaug", "serving", "experiments"):
        for path in (tiny.ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                else:
                    continue
                found.update({name: path.name for name in names if name.split(".")[0] not in known})
    assert found == {}


def test_tensorflow_brings_what_the_base_takes_for_granted() -> None:
    brought = {normalized(re.match(r"[\w.-]+", line)[0]) for line in importlib.metadata.requires("tensorflow")}
    assert set(WITH_TENSORFLOW.values()) <= brought


def test_the_library_imports_tensorflow_numpy_and_itself() -> None:
    code = """
import tensorflow as tf
tf.keras.layers.Layer  # Keras loads when it is first asked for
before = set(sys.modules)
from tfaug.augment import RandAugment, layers
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    ran = run_blocked(code)
    assert ran.returncode == 0, ran.stderr
    loaded = json.loads(ran.stdout.splitlines()[-1])
    others = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert others <= {"tfaug", "tensorflow", "numpy"}
    upper = re.compile(r"tfaug\.(cli|data|evaluate|experiment|export|metrics|models|report|run|serving|train)\b")
    assert not [name for name in loaded if upper.match(name)]


def test_every_other_module_names_the_extra_that_it_misses() -> None:
    names = sorted(
        ".".join(path.relative_to(tiny.ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (tiny.ROOT / "tfaug").rglob("*.py")
        if path.stem != "__main__"
    )
    code = """
from tfaug.extras import MissingExtra
answers = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        answers[name] = ""
    except MissingExtra as error:
        answers[name] = str(error)
print(json.dumps(answers))
"""
    ran = run_blocked(code, *names)
    assert ran.returncode == 0, ran.stderr
    answers = json.loads(ran.stdout.splitlines()[-1])
    assert not [name for name, said in answers.items() if said and name.startswith(("tfaug.augment", "tfaug.cli"))]
    for name, extra in {"tfaug.data": "train", "tfaug.report": "report"}.items():
        assert f"pip install 'tfaug[{extra}]'" in answers[name]


def test_training_needs_its_extra_alone_and_a_run_says_before_it_begins_what_the_last_stages_need(tmp_path) -> None:
    others = ("aiohttp", "jinja2", "markupsafe", "matplotlib", "tensorflow_serving")
    ran = run_blocked("import tfaug.run, tfaug.train.fit, tfaug.evaluate, tfaug.views", blocked=others)
    assert ran.returncode == 0, ran.stderr
    code = "from tfaug.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = ["run", "--config=tests.tiny:run", f"--workdir={tmp_path / 'run'}"]
    ran = run_blocked(code, *command, blocked=others)
    assert ran.returncode == 2 and "pip install 'tfaug[serve]'" in ran.stderr, ran.stderr
    assert not list(tmp_path.iterdir())


def test_a_command_names_the_extra_that_it_misses(tmp_path) -> None:
    code = "from tfaug.cli import main\nsys.exit(main(sys.argv[1:]))"
    ran = run_blocked(code, "run", "--config=experiments.quickstart:digits", f"--workdir={tmp_path / 'run'}")
    assert ran.returncode == 2
    assert "No module named" in ran.stderr and "pip install 'tfaug[" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_server_names_the_extra_that_it_misses(tmp_path) -> None:
    code = "import runpy\nsys.argv = ['serving', '--model_base_path=x']\nrunpy.run_module('tfaug.serving', run_name='__main__')"
    ran = run_blocked(code)
    assert ran.returncode == 1
    assert "pip install 'tfaug[serve]'" in ran.stderr


def test_an_unknown_module_and_other_errors_pass_as_they_are() -> None:
    for error in (ModuleNotFoundError("x", name="no_extra_brings_it"), ImportError("y", name="scipy"), ValueError()):
        with pytest.raises(type(error)) as caught, extras.explained():
            raise error
        assert caught.value is error
