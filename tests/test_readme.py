"""The README's code runs as it stands."""

from __future__ import annotations

import re

import numpy as np
import tensorflow as tf

from tests import tiny


def test_the_five_lines_work_in_anyones_pipeline():
    (code,) = re.findall(r"```python\n(.*?)```", (tiny.ROOT / "README.md").read_text(), re.DOTALL)
    images = np.random.default_rng(0).integers(0, 256, [256, 32, 32, 3], np.uint8)
    labels = np.eye(10, dtype=np.float32)[np.arange(256) % 10]
    names = {"dataset": tf.data.Dataset.from_tensor_slices((images, labels))}
    exec(code, names)
    found = list(names["batches"])
    assert [batch.images.shape.as_list() for batch in found] == [[128, 32, 32, 3]] * 2
    for batch in found:
        np.testing.assert_allclose(batch.labels.numpy().sum(1), 1.0, atol=1e-6)
    assert not np.array_equal(found[0].images, images[:128])
    assert len([line for line in code.splitlines() if line]) <= 5
