"""Workers in processes of their own train what one process trains."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.train import by_hand
from tests.train.by_hand import NUM_CLASSES
from tfaug import rng
from tfaug.augment import Flip
from tfaug.augment.base import Batch
from tfaug.config import ConfigError
from tfaug.data import DataConfig
from tfaug.data.pipeline import training_batches
from tfaug.experiment import Experiment
from tfaug.models import LeNet
from tfaug.run import Job
from tfaug.schedules import Linear, Visit
from tfaug.train.phase import Phase, Training
from tfaug.train.strategy import choose_strategy, mirrored_strategy
from tfaug.train.workers import Cluster, check_alike, distribute_shares, multi_worker_strategy, read_cluster
from tfaug.workdir import PhaseFolder, Workdir

DATA = by_hand.make_data()
TWO = {"worker": ["a:1", "b:1"]}


def set_cluster(monkeypatch, cluster, kind="worker", index=0) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))


# -- which ---------------------------------------------------------------------------------------------------------


def test_auto_is_of_several_workers_where_there_are_such(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert choose_strategy("auto", across_workers=True) is mirrored_strategy
    set_cluster(monkeypatch, {"chief": ["a:1"]}, "chief")
    assert choose_strategy("auto", across_workers=True) is mirrored_strategy
    set_cluster(monkeypatch, TWO)
    assert choose_strategy("auto") is mirrored_strategy
    for name in ("auto", "multi_worker"):
        assert choose_strategy(name, across_workers=True) is multi_worker_strategy


def test_what_is_not_there_is_refused(monkeypatch):
    for name in ("TF_CONFIG", "TPU_NAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="TF_CONFIG is not set; allowed: as in .* or --strategy=one"):
        choose_strategy("multi_worker", across_workers=True)
    with pytest.raises(ConfigError, match="of `tfaug train` alone.*; allowed here: auto, one, mirrored, tpu"):
        choose_strategy("multi_worker")
    with pytest.raises(ConfigError, match="no TPU here and TPU_NAME is not set; allowed: auto, one, mirrored"):
        choose_strategy("tpu")()


def test_the_chief_is_the_first_worker_or_the_one_so_called(monkeypatch):
    set_cluster(monkeypatch, TWO, index=1)
    assert read_cluster() == Cluster(("a:1", "b:1"), 1)
    set_cluster(monkeypatch, {"chief": ["c:1"], **TWO}, index=1)
    assert read_cluster() == Cluster(("c:1", "a:1", "b:1"), 2)
    set_cluster(monkeypatch, {"chief": ["c:1"], **TWO}, "chief")
    assert read_cluster().is_chief


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "no cluster and task"),
        ("[]", "no cluster and task"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "no cluster and task"),
        (json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 2}}), "worker 2, which its cluster"),
        (json.dumps({"cluster": TWO, "task": {"type": "ps", "index": 0}}), "names ps"),
        (json.dumps({"cluster": {"chief": ["a", "b"]}, "task": {"type": "chief", "index": 0}}), "2 chiefs"),
        (json.dumps({"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}), "names 1 worker"),
    ],
)
def test_a_cluster_is_refused_that_is_none(monkeypatch, text, named):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match=f"{named}.*--strategy=one"):
        choose_strategy("multi_worker", across_workers=True)


def test_a_worker_that_differs_is_named():
    cluster, same = Cluster(("a:1", "b:1", "c:1"), 0), np.arange(24).reshape(1, 3, 8).repeat(3, axis=0)
    check_alike(cluster, ("settings", "images", "files"), same)
    same[2, 1, 7] += 1
    same[2, 2, 0] += 1
    with pytest.raises(ConfigError, match=r"worker 2 \(c:1\) has other images and files than worker 0 \(a:1\)"):
        check_alike(cluster, ("settings", "images", "files"), same)


def test_workers_compare_the_images_of_every_training(tmp_path):
    """Also those that a method brings of its own."""
    job, told = Job(Workdir(tmp_path), two_workers()), []
    job.__dict__["_constants"] = {"held_out_sha256": "a"}
    for own in ("b", "c"):
        job.__dict__["_data_of"] = {
            "teacher": (DATA, {"held_out_sha256": "a"}),
            "student": (DATA, {"train_sha256": own}),
        }
        told.append(job.shared())
    assert told[0]["images"] != told[1]["images"] and told[0]["settings"] == told[1]["settings"]


# -- whose share ---------------------------------------------------------------------------------------------------


def batches(replicas: range | None = None, num_replicas: int = 2) -> tf.data.Dataset:
    """Batches with noise of the seed, the step and the example, and half as many images as were drawn."""

    def augment(batch: Batch, seed: tf.Tensor, visit: Visit) -> Batch:
        noise = rng.uniform(seed, [int(batch.images.shape[0]), 1, 1, 1]) + tf.cast(visit.step, tf.float32)
        noise += tf.cast(visit.examples, tf.float32)[:, None, None, None]
        return Batch((tf.cast(batch.images, tf.float32) + noise)[::2], batch.labels[1::2])

    return training_batches(
        DATA.train,
        num_classes=NUM_CLASSES,
        batch_size=16,
        seed=rng.make_seed(3),
        first_epoch=0,
        num_epochs=1,
        augment=augment,
        num_replicas=num_replicas,
        replicas=replicas,
    )


def test_the_shares_of_the_workers_are_those_of_the_whole_batch():
    for whole, *shares in zip(batches(None, 4), batches(range(1), 4), batches(range(1, 4), 4), strict=True):
        for part, *own in zip(whole, *shares, strict=True):
            assert [len(each) for each in own] == [2, 6]
            np.testing.assert_array_equal(part, np.concatenate(own))


def test_each_device_of_a_worker_has_its_share():
    strategy = mirrored_strategy(["CPU:0", "CPU:1"])
    own = distribute_shares(strategy, lambda replicas: batches(replicas))
    steps = list(zip(own, strategy.experimental_distribute_dataset(batches()), strict=True))
    assert len(steps) == 52 // 16
    for parts in steps:
        for one, other in zip(*parts, strict=True):
            found, expected = (strategy.experimental_local_results(each) for each in (one, other))
            np.testing.assert_array_equal(found, expected)


# -- processes -----------------------------------------------------------------------------------------------------


def two_workers() -> Experiment:
    """What two processes train in a few seconds: 200 digits."""
    phase = Phase("train", 4, Linear(0.05, 0.01), (Flip(),), batch_size=20, ema=0.8)
    return Experiment(
        name="two workers",
        data=DataConfig(num_train_examples=200),
        trainings=(Training("teacher", LeNet(), (phase,)),),
        precision="fp32",
    )


def free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, other)]


def start(workdir: pathlib.Path, *flags: str) -> list[subprocess.Popen[str]]:
    """Starts the two workers; what they say goes to files beside the workdir."""
    command = tiny.command("train", workdir, *flags, config="tests.train.test_workers:two_workers")
    addresses = [f"127.0.0.1:{port}" for port in free_ports()]
    workers = []
    for index in range(2):
        scratch = workdir.parent / f"scratch{index}"
        scratch.mkdir(exist_ok=True)
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        with open(said(workdir, index), "w", encoding="utf-8") as output:
            environment = {**os.environ, "TF_CONFIG": json.dumps(task), "TMPDIR": str(scratch)}
            workers.append(subprocess.Popen(command, cwd=tiny.ROOT, env=environment, stdout=output, stderr=output))
    return workers


def said(workdir: pathlib.Path, index: int) -> pathlib.Path:
    return workdir.parent / f"{workdir.name}.worker{index}.txt"


def wait(workers: list[subprocess.Popen[str]]) -> list[int]:
    try:
        return [worker.wait(240) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()


def history(workdir: pathlib.Path) -> list[list[float]]:
    fields = ("epoch", "step", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "weight_norm")
    rows = PhaseFolder(workdir / "teacher" / "0_train").read_history()
    return [[float(row[field]) for field in fields] for row in rows]


def test_two_processes_train_what_one_trains_and_go_on_after_one_was_killed(tmp_path, monkeypatch):
    workdir = tmp_path / "two"
    workers = start(workdir)
    first = PhaseFolder(workdir / "teacher" / "0_train").checkpoint(1)
    while not first.exists():
        assert [worker.poll() for worker in workers] == [None, None], said(workdir, 0).read_text()[-3000:]
        time.sleep(0.02)
    workers[1].send_signal(signal.SIGKILL)
    assert wait(workers) == [1, -signal.SIGKILL], said(workdir, 0).read_text()[-3000:]
    assert "start all of them again with the same command" in said(workdir, 0).read_text()
    killed = len(history(workdir))
    assert killed < 4

    assert wait(start(workdir, "--strategy=multi_worker")) == [0, 0], said(workdir, 1).read_text()[-3000:]
    for index in range(2):
        assert "going on after epoch" in said(workdir, index).read_text()

    # One process with the same replicas; nobody looks at its pictures.
    monkeypatch.setattr(Job, "_draw_augmentations", lambda job: None)
    one = Workdir(tmp_path / "one")
    job = Job(one, two_workers())
    assert job.strategy.num_replicas_in_sync == 2
    job.load()
    one.begin(job.config)
    job.train()
    np.testing.assert_allclose(history(workdir), history(one.path), rtol=1e-4)

    # The chief alone has written, and the other one has left nothing.
    assert set(tiny.files_below(one.path / "teacher")) <= set(tiny.files_below(workdir / "teacher"))
    assert json.loads((workdir / "timings.json").read_text())["train teacher"] > 0
    assert len(list((tmp_path / "scratch1").glob("tfaug-worker-*"))) == 1  # of the one that was killed
    assert not list((tmp_path / "scratch0").glob("tfaug-worker-*"))
