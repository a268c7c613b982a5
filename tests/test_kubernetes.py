"""The job files of docs/kubernetes ask for commands that there are."""

from __future__ import annotations

import importlib
import os
import re
import subprocess

import pytest
import yaml

from tests import tiny
from tfaug import cli, expressions
from tfaug.experiment import CLASSES, Experiment
from tfaug.study import Study, read_shard
from tfaug.train.strategy import STRATEGIES

PAGES = sorted((tiny.ROOT / "docs" / "kubernetes").iterdir())


def job_in(name: str) -> dict:
    return yaml.safe_load((tiny.ROOT / "docs" / "kubernetes" / name).read_text())


def container_of(job: dict) -> dict:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return container


def words_of(job: dict, folder, index: int) -> list[str]:
    """Runs the command of a pod with a `tfaug` that prints its arguments, and returns them."""
    printer = folder / "tfaug"
    printer.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    printer.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index)}
    command = container_of(job)["command"]
    # Kubernetes itself would replace this.
    assert not [word for word in command if re.search(r"\$\(\w+\)", word)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def check_flags(command: str, flags: list[str]) -> None:
    """Parses the flags as the command does; fails where there is no such flag or value."""
    module = importlib.import_module(cli.COMMANDS[command])
    module.FLAGS.unparse_flags()
    for name in module.FLAGS:
        module.FLAGS[name].unparse()
    assert module.FLAGS(["tfaug", *flags])[1:] == []
    assert module.FLAGS.strategy in STRATEGIES


def values_of(flags: list[str]) -> dict[str, str]:
    return dict(flag.removeprefix("--").split("=", 1) for flag in flags)


def test_there_are_two_files():
    assert [page.name for page in PAGES] == ["run.yaml", "study.yaml"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_job_keeps_what_it_makes_on_a_volume_and_goes_on(page):
    job = job_in(page.name)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["backoffLimit"] > 0
    pod, container = job["spec"]["template"]["spec"], container_of(job)
    assert pod["restartPolicy"] == "OnFailure"
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"] and volume["persistentVolumeClaim"]["claimName"]
    places = [word for word in re.findall(r"/\S+", page.read_text()) if word.startswith("/mnt/tfaug")]
    assert len(places) == 4 and all(f"{place.rstrip('}')}/".startswith(mount["mountPath"] + "/") for place in places)
    assert {each["name"] for each in container["env"]} == {"TFAUG_CACHE_DIR", "TFDS_DATA_DIR"}


def test_the_run_is_one_of_the_command_line(tmp_path):
    job = job_in("run.yaml")
    command, *flags = words_of(job, tmp_path, 0)
    assert command == "run"
    check_flags(command, flags)
    values = values_of(flags)
    assert isinstance(expressions.load(values["config"], [values["set"]], CLASSES), Experiment)
    assert (values["strategy"], container_of(job)["resources"]["limits"]["nvidia.com/gpu"]) == ("mirrored", 2)


def test_the_parts_of_the_study_are_all_of_it(tmp_path):
    job = job_in("study.yaml")
    spec, found = job["spec"], []
    assert spec["completionMode"] == "Indexed"
    for index in range(spec["completions"]):
        first, second, *flags = words_of(job, tmp_path, index)
        check_flags(f"{first} {second}", flags)
        values = values_of(flags)
        assert f"{first} {second}" == "study run" and values["workdir"].startswith("/mnt/tfaug/")
        assert isinstance(expressions.load(values["config"], [], CLASSES), Study)
        found.append(read_shard(values["shard"]))
    assert found == [(place, 4) for place in (1, 2, 3, 4)]
    assert (values["strategy"], container_of(job)["resources"]["limits"]["nvidia.com/gpu"]) == ("one", 1)
