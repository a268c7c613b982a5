"""The keras-cv engine: keras-cv's own layers behind our ops' settings."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfaug import augment
from tfaug.augment.keras_cv import keras_cv_pipeline
from tfaug.config import ConfigError
from tfaug.schedules import Linear


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


@pytest.mark.parametrize(("low", "side"), [(None, 4), (2, 5)])
def test_cutout_covers_squares_of_whole_px(low: int | None, side: int) -> None:
    images = np.full([200, 16, 12, 1], 255, np.uint8)
    pipeline = keras_cv_pipeline(augment.Cutout(size_px=side, min_size_px=low, fill=7))
    [(result, _)] = list(tf.data.Dataset.from_tensors(images).map(pipeline))
    covered = result.numpy()[..., 0] == 7
    heights, widths = covered.any(2).sum(1), covered.any(1).sum(1)
    np.testing.assert_array_equal(covered.sum((1, 2)), heights * widths)
    assert (np.unique(heights).max(), np.unique(widths).max()) == (side, side)
    assert (heights == side).mean() > (0.6 if low is None else 0.1)
    if low is None:
        assert set(heights) <= {2, 3, 4}  # clipped at the border


def test_cutout_makes_as_many_holes_as_asked_and_none_of_no_size() -> None:
    images = np.full([64, 16, 12, 1], 255, np.float32)
    covered = [(keras_cv_pipeline(augment.Cutout(4, num_holes=num))(images)[0].numpy() == 0).sum() for num in (0, 1, 2)]
    assert covered[0] == 0 and 1.5 * covered[1] < covered[2] < 2 * covered[1] + 64
    assert (keras_cv_pipeline(augment.Cutout(0))(images)[0].numpy() == 255).all()


def test_blur_resized_crop_and_scale_are_kerascvs() -> None:
    images = next(iter(batches()))[0]
    blurred = keras_cv_pipeline(augment.GaussianBlur(1.0))(images)[0].numpy()
    np.testing.assert_allclose(blurred[:, 12, 6, 0], 10 * np.arange(1, 9), rtol=1e-3)
    assert (blurred[:, 5, 1] < 120).all() and (blurred[:, 6, 1] > 11 * np.arange(1, 9)[:, None]).all()
    cropped = keras_cv_pipeline(augment.RandomResizedCrop((9, 7), scale=(1, 1), ratio=(1, 1)))(images)[0]
    np.testing.assert_allclose(cropped, tf.image.crop_and_resize(images, [[0, 0, 1, 1]] * 8, range(8), [9, 7]))
    shrunk = keras_cv_pipeline(augment.RandomScale((0.5, 0.5), fill=3))(images)[0].numpy()
    assert (shrunk[:, 0] == 3).all() and (shrunk[0, 8, 6] == 10).all()


@pytest.mark.parametrize(
    "op", [augment.CutMix(p=0.5), augment.Mixup(p=0.0), augment.Cutout(p=0.5), augment.RandomResizedCrop(p=0.5)]
)
def test_a_setting_that_kerascv_lacks_is_refused(op: augment.Augmentation) -> None:
    with pytest.raises(ConfigError, match="keras-cv augments every image"):
        keras_cv_pipeline(op)


def test_a_scale_that_kerascv_lacks_and_images_of_unknown_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="0.5 or more"):
        keras_cv_pipeline(augment.RandomScale((0.4, 1.0)))
    function = tf.function(keras_cv_pipeline(augment.Cutout(4)), input_signature=[tf.TensorSpec([None, None, None, 3])])
    with pytest.raises(ValueError, match="Cutout needs images of a known size"):
        function(tf.zeros([1, 8, 8, 3]))


@pytest.mark.parametrize(
    "op", [augment.CutMix(p=Linear(0, 1)), augment.RandAugment(m=Linear(0, 9)), augment.Flip(p=Linear(0, 1))]
)
def test_a_schedule_is_refused(op: augment.Augmentation) -> None:
    with pytest.raises(ConfigError, match=r"is Linear\(.*, which keras-cv cannot follow; allowed: a number"):
        keras_cv_pipeline(augment.compose([op]))


def test_flips_that_alternate_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Flip.alternate is True, which keras-cv cannot follow; allowed: False"):
        keras_cv_pipeline(augment.compose([augment.Flip(alternate=True)]))


@pytest.mark.parametrize("name", sorted(augment.AUGMENTATIONS))
def test_every_op_has_a_counterpart_or_is_refused_by_name(name: str) -> None:
    op = augment.AUGMENTATIONS[name]()
    ours = {"AutoAugment", "ElasticDistortion", "GradualSumAug", "RandomCrop", "RandomErasing", "SamplePairing"}
    if name in ours:
        with pytest.raises(
            ConfigError, match=f"no counterpart of {name}|{name} changes from step to step, which keras-cv cannot"
        ):
            keras_cv_pipeline(op)
    else:
        images, labels = keras_cv_pipeline(op)(*next(iter(batches())))
        assert images.shape[1:] == (16, 12, 3) and labels.shape[1] == 8


@pytest.mark.parametrize(
    "op",
    [
        augment.AutoContrast(),
        augment.Brightness((0.2, 0.2)),
        augment.Contrast((0.3, 0.3)),
        augment.CropAndResize((9, 7), (1, 1), (1, 1)),
        augment.Desaturate((0.4, 0.4)),
        augment.GaussianFilter((3, 5), (1.2, 1.2)),
        augment.Grayscale(),
        augment.Posterize(3),
        augment.Rotate((40, 40), fill_mode="constant", fill=7),
        augment.Smooth((0.7, 0.7)),
        augment.Solarize((90, 90), (20, 20)),
        augment.Translate((0.2, 0.2), (-0.1, -0.1), "nearest"),
        augment.Zoom((0.3, 0.3), (-0.2, -0.2), fill_mode="wrap"),
    ],
    ids=lambda op: type(op).__name__,
)
def test_an_op_that_is_a_layer_of_kerascv_makes_of_a_constant_strength_the_same(op: augment.Augmentation) -> None:
    generator = np.random.default_rng(0)
    images = np.repeat(np.repeat(generator.integers(0, 256, [4, 4, 3, 3], np.uint8), 4, axis=1), 4, axis=2)
    theirs = keras_cv_pipeline(op)(tf.constant(images))[0].numpy()
    difference = np.abs(op(tf.constant(images), seed=1).numpy() - theirs)
    assert np.median(difference) <= 1 and (difference <= 2).mean() > 0.9


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
