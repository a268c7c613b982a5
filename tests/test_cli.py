"""What the command line says when it is asked, and when it is asked wrongly."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import tfaug
from tests import tiny


@pytest.fixture
def fail(capsys):
    """Runs the CLI in this process; it must end with status 2 before anything is made."""
    from tfaug import cli

    def run(*arguments: str) -> str:
        for module in {importlib.import_module(name) for name in cli.COMMANDS.values()}:
            module.FLAGS.unparse_flags()
            for name in module.FLAGS:
                module.FLAGS[name].unparse()
        assert cli.main(arguments) == 2
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["rum"], ["'rum'", "did you mean 'run'", "evaluate"]),
        (["run"], ["--config is missing"]),
        (["run", "--config=tests.tiny:run"], ["--workdir is missing"]),
        (["run", "--confg=x"], ["confg", "config"]),
        (["run", "--config=tests.tiny:runn", "--workdir=W"], ["'runn'", "did you mean 'run'"]),
        (
            ["run", "--config=tests.tiny:run", "--workdir=W", "--set", "phases.0.epoch=3"],
            ["phases.0.epoch", "'epochs'"],
        ),
        (["run", "--config=tests.tiny:run", "--workdir=W", "--set", "phases.0.epochs=x"], ["whole number", "'x'"]),
        (
            ["run", "--config=tests.tiny:run", "--workdir=W", "--set", "phases.0.epochs=0"],
            ["Phase.epochs", "1 or more"],
        ),
        (["run", "--config=tests.tiny:run", "--workdir=W", "--set", "phases.7.epochs=1"], ["phases.7", "0..1"]),
        (["run", "--config=tests.tiny:run", "--workdir=W", "--set", "precision=fp16"], ["fp16", "bf16, fp32"]),
        (
            ["run", "--config=tests.tiny:run", "--workdir=W", "--set", "model=Lenet()"],
            ["Lenet", "did you mean 'LeNet'"],
        ),
        (
            ["run", "--config=tests.tiny:run", "--workdir=W", "--set", "trainings.student.method.alpha=2"],
            ["Distill.alpha", "0..1"],
        ),
        (["run", "--config=tests.tiny:run", "--workdir=W", "--set", "phases.0.augment.1.k=0"], ["SumAug.k", "0"]),
        (["serve", "--config=tests.tiny:run", "--workdir=W", "--port=99999"], ["port", "65535"]),
        (["run", "--config=tests.tiny:study", "--workdir=W"], ["makes no Experiment but a Study", "FUNCTION.ARM"]),
        (["run", "--config=tests.tiny:study.alne", "--workdir=W"], ["'alne'", "did you mean 'alone'", "taught"]),
        (["run", "--config=tests.tiny:run.a", "--workdir=W"], ["run makes no study"]),
        (["study", "run", "--config=tests.tiny:run", "--workdir=W"], ["makes no Study but a Experiment"]),
        (["study", "run", "--config=tests.tiny:study"], ["--workdir is missing"]),
        (["study", "run", "--config=tests.tiny:study", "--workdir=W", "--arms=a"], ["--arms", "'a'", "alone, taught"]),
        (["study", "run", "--config=tests.tiny:study", "--workdir=W", "--seeds=4..0"], ["--seeds is '4..0'", "0..4"]),
        (["study", "run", "--config=tests.tiny:study", "--workdir=W", "--shard=0/2"], ["--shard is '0/2'", "1..n"]),
        (["study", "run", "--config=tests.tiny:study", "--workdir=W", "--grid=a=1"], ["--grid is a flag of sweep"]),
        (["train", "--config=tests.tiny:run", "--workdir=W", "--strategy=mirored"], ["did you mean 'mirrored'", "one"]),
        (
            ["study", "run", "--config=tests.tiny:study", "--workdir=W", "--strategy=tp"],
            ["'tp'", "mirrored, multi_worker"],
        ),
        (
            ["study", "run", "--config=experiments.ordering:perfect", "--workdir=W", "--strategy=one"],
            ["--strategy is a flag of a study of several runs"],
        ),
        (["study", "report", "--config=tests.tiny:study", "--workdir=W"], ["no finished run"]),
        (["sweep", "--config=tests.tiny:run", "--workdir=W"], ["--grid is missing"]),
        (["sweep", "--config=tests.tiny:run", "--workdir=W", "--grid=seed"], ["'seed'", "KEY=VALUE | VALUE"]),
        (["sweep", "--config=tests.tiny:run", "--workdir=W", "--grid=sed=0..4"], ["'sed'", "did you mean 'seed'"]),
    ],
)
def test_a_wrong_command_line_names_what_is_allowed_and_makes_nothing(fail, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tiny.ROOT))
    said = fail(*arguments)
    for part in named:
        assert part in said
    assert list(tmp_path.iterdir()) == []


def test_help_lists_every_command_and_flag(capsys):
    from tfaug import cli

    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    names = [f"--{name}" for module in cli.COMMANDS.values() for name in importlib.import_module(module).FLAGS]
    for word in (*cli.COMMANDS, *names):
        assert word in said


def test_help_has_one_line_a_command_and_flag_with_its_text_in_one_column(capsys):
    from tfaug import cli

    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for module in map(importlib.import_module, dict.fromkeys(cli.COMMANDS.values())):
        texts = {name: what.split()[0] for name, what in module.COMMANDS.items()}
        flags = {f"--{name}": module.FLAGS[name].help.split()[0] for name in module.FLAGS}
        start = next(i for i, line in enumerate(lines) if module.USAGE in line) + 1
        block = lines[start : start + len(texts) + 1 + len(flags)]
        for indent, wanted, shown in ((4, texts, block[: len(texts)]), (6, flags, block[len(texts) + 1 :])):
            column = indent + max(map(len, wanted)) + 2
            for (name, word), line in zip(wanted.items(), shown, strict=True):
                assert line[indent:column].rstrip() == name and line[column:].startswith(word)


def test_version(capsys):
    from tfaug import cli

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"tfaug {tfaug.__version__}"


def test_start_up_is_quiet_and_hides_nothing_else():
    code = (
        "import os, sys; os.environ.pop('TF_CPP_MIN_LOG_LEVEL', None)\n"
        "from tfaug import startup; startup.import_tensorflow()\n"
        "import tfaug.addons, warnings, tensorflow as tf\n"
        "warnings.warn('a warning for the user')\n"
        "tf.get_logger().warning('another one')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tiny.ROOT)
    assert "a warning for the user" in ran.stderr
    assert "another one" in ran.stderr
    assert not any(word in ran.stderr for word in ("cuDNN", "TensorRT", "TensorFlow Addons", "cuda drivers"))
