"""The README's code runs as it stands."""

from __future__ import annotations

import itertools
import re

import numpy as np
import tensorflow as tf

from tests import tiny
from tfaug.experiment import plans


def test_the_five_lines_train_a_model_and_draw_anew_in_each_epoch():
    code, _ = re.findall(r"```python\n(.*?)```", (tiny.ROOT / "README.md").read_text(), re.DOTALL)
    images = np.random.default_rng(0).integers(0, 256, [200, 32, 32, 3], np.uint8)
    model, found = tiny.recorder()
    exec(code, {"dataset": tf.data.Dataset.from_tensor_slices((images, np.arange(200) % 10)), "model": model})
    assert [(part.dtype.name, part.shape) for batch in found[:2] for part in batch] == [
        ("uint8", (128, 32, 32, 3)),
        ("float32", (128, 10)),
        ("uint8", (72, 32, 32, 3)),
        ("float32", (72, 10)),
    ]
    assert len(found) == 3 * 2
    for _, labels in found:
        np.testing.assert_allclose(labels.sum(1), 1.0, atol=1e-6)
    draws = [images, *(np.concatenate([batch[0] for batch in found[i : i + 2]]) for i in range(0, 6, 2))]
    for first, second in itertools.combinations(draws, 2):
        assert (first != second).any((1, 2, 3)).mean() > 0.9
    assert len([line for line in code.splitlines() if line]) <= 5


def test_the_training_page_makes_an_experiment():
    (code,) = re.findall(r"```python\n(.*?)```", (tiny.ROOT / "docs" / "training.md").read_text(), re.DOTALL)
    held: dict = {}
    exec(code, held)
    experiment = held["cascaded"]()
    assert [phase.name for phase in experiment.training("teacher").phases] == ["sum4", "sum2", "single"]
    assert len(plans(experiment)["student"].hashes) == 1
