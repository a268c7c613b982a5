"""The files of docs/extending.md do what the page says. Its evaluator and attack: tests/test_evaluators.py."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tfaug import expressions, rng, workdir
from tfaug.augment import parse_op
from tfaug.experiment import CLASSES
from tfaug.run import Job

FILES = ("my_op.py", "my_model.py", "my_order.py", "my_attack.py", "my_evaluator.py")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with the page's files, where the command line is given."""
    for name in FILES:
        (tmp_path / name).write_text(tiny.documented(name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def test_each_file_has_at_most_25_lines():
    for name in FILES:
        assert 5 < len(tiny.documented(name).splitlines()) <= 25, name


def test_an_op_of_ones_own(files):
    op = parse_op("Flip(0) + my_op.Posterize(bits=3, p=0.5)")
    images = np.random.default_rng(0).integers(0, 256, [64, 5, 7, 3], np.uint8)
    results = [call(images, rng.make_seed(1)).numpy() for call in (op, tf.function(op, jit_compile=True))]
    np.testing.assert_array_equal(*results)
    coarse = (results[0] == images // 32 * 32).all((1, 2, 3))
    assert 16 < coarse.sum() < 48
    np.testing.assert_array_equal(results[0][~coarse], images[~coarse])


def test_a_model_an_op_and_an_order_of_ones_own_train(files, tmp_path):
    experiment = dataclasses.replace(tiny.run(), trainings=tiny.run().trainings[:1])
    for setting in (
        'phases.1=Phase("second", 1, Constant(0.1), (my_op.Posterize(),), batch_size=40)',
        "model=my_model.Plain((4, 8))",
        "phases.0.epochs=1",
        "phases.0.order=my_order.SurestFirst()",
    ):
        experiment = expressions.override(experiment, setting, CLASSES)
    job = Job(workdir.Workdir(tmp_path / "run"), experiment)
    job.load()
    job.workdir.begin(experiment)
    job.train()
    assert job.trained("second").name == "plain"
    first = next(iter(job.plans.values()))
    other = expressions.override(experiment, "phases.0.order=my_order.SurestFirst(3)", CLASSES)
    assert first.hashes != Job(workdir.Workdir(tmp_path / "other"), other).plans["teacher"].hashes


def test_an_order_puts_the_surest_first(files):
    order = expressions.read_value("my_order.SurestFirst(1)", {})
    labels = tf.constant([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75], [0.0, 1.0]] * 5)
    rows = [order.rows(rng.make_seed(0), tf.constant(epoch), labels).numpy() for epoch in (0, 1)]
    assert [sorted(each) for each in rows] == [list(range(20))] * 2
    assert (np.diff(labels.numpy().max(1)[rows[0]]) <= 0).all() and not (
        np.diff(labels.numpy().max(1)[rows[1]]) <= 0
    ).all()
