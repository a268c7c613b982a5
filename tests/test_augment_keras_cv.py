"""The keras-cv engine: keras-cv's own layers behind our ops' settings."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfaug import augment
from tfaug.augment.keras_cv import keras_cv_pipeline
from tfaug.config import ConfigError


def batches(num: int = 8, channels: int = 3) -> tf.data.Dataset:
    """Returns a dataset of one batch; image i is of grey level 10 (i + 1) but for one white pixel on its left side."""
    images = (
        np.zeros([num, 16, 12, channels], np.uint8) + 10 * np.arange(1, num + 1, dtype=np.uint8)[:, None, None, None]
    )
    images[:, 5, 1] = 255
    return tf.data.Dataset.from_tensors((images, np.eye(num, dtype=np.float32)))


def test_every_op_runs_in_tf_data_in_one_pipeline() -> None:
    ops = (
        augment.PadCrop(2),
        augment.compose([augment.Flip(), augment.RandAugment(2, 9.0)]),
        augment.CutMix(),
        augment.Mixup(0.4),
        augment.SumAug(2),
    )
    [(images, labels)] = list(batches().map(keras_cv_pipeline(ops)))
    assert images.dtype == labels.dtype == tf.float32
    assert images.shape == (4, 16, 12, 3) and labels.shape == (4, 8)
    assert images.numpy().min() >= 0 and images.numpy().max() <= 255
    np.testing.assert_allclose(labels.numpy().sum(1), 1, atol=1e-5)


def test_each_batch_is_augmented_anew() -> None:
    first, second = (images.numpy() for images, _ in batches().repeat(2).map(keras_cv_pipeline([augment.PadCrop(4)])))
    assert not np.array_equal(first, second)


def test_flip_is_kerascvs_flip_with_our_probability() -> None:
    for p, column in ((0.0, 1), (1.0, 10)):
        [(images, _)] = list(batches().map(keras_cv_pipeline(augment.Flip(p))))
        np.testing.assert_array_equal(np.argmax(images.numpy()[:, 5, :, 0], axis=1), [column] * 8)


@pytest.mark.parametrize("op", [augment.CutMix(), augment.Mixup()])
def test_mixing_gives_two_classes_an_image(op: augment.Augmentation) -> None:
    [(_, labels)] = list(batches(32).map(keras_cv_pipeline(op)))
    num_classes = (labels.numpy() > 1e-6).sum(1)
    assert num_classes.max() == 2 and (num_classes == 2).sum() > 16


def test_randaugment_without_operations_is_the_identity() -> None:
    [(images, _)] = list(batches().map(keras_cv_pipeline(augment.RandAugment(n=0))))
    np.testing.assert_array_equal(images, next(iter(batches()))[0])


@pytest.mark.parametrize("op", [augment.CutMix(p=0.5), augment.Mixup(p=0.0)])
def test_a_setting_that_kerascv_lacks_is_refused(op: augment.Augmentation) -> None:
    with pytest.raises(ConfigError, match="keras-cv mixes every image"):
        keras_cv_pipeline(op)


def test_an_op_that_kerascv_lacks_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Unknown(augment.Augmentation):
        pass

    with pytest.raises(ConfigError, match="no counterpart of Unknown"):
        keras_cv_pipeline(Unknown())


def test_wrong_images_and_missing_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="3 channels, got 1"):
        batches(channels=1).map(keras_cv_pipeline(augment.RandAugment()))
    with pytest.raises(ValueError, match="mixes labels too"):
        keras_cv_pipeline(augment.CutMix())(tf.zeros([4, 8, 8, 3], tf.uint8), None)
