"""Flip and PadCrop against numpy; their draws against the stated distributions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfaug import rng
from tfaug.augment import Batch, Flip, PadCrop
from tfaug.config import ConfigError


def random_images(shape: list[int], dtype: str = "uint8") -> np.ndarray:
    generator = np.random.default_rng(0)
    return (generator.random(shape) * 255).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_flip_mirrors_the_chosen_images_and_keeps_the_dtype(dtype: str) -> None:
    images = random_images([4, 5, 7, 3], dtype)
    flipped = Flip().apply(Batch(tf.constant(images)), {"flip": tf.constant([True, False, False, True])}).images
    assert flipped.dtype == dtype
    np.testing.assert_array_equal(flipped, np.stack([images[0, :, ::-1], images[1], images[2], images[3, :, ::-1]]))


def test_flip_draws_each_image_with_its_probability() -> None:
    flips = Flip(p=0.3).sample(rng.make_seed(5), (20000, 1, 1, 1))["flip"].numpy()
    assert scipy.stats.binomtest(int(flips.sum()), flips.size, 0.3).pvalue > 0.01
    assert not Flip(p=0.0).sample(rng.make_seed(5), (1000, 1, 1, 1))["flip"].numpy().any()
    assert Flip(p=1.0).sample(rng.make_seed(5), (1000, 1, 1, 1))["flip"].numpy().all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("pad_px", [1, 4])
def test_pad_crop_cuts_the_drawn_window_of_the_padded_image(pad_px: int, dtype: str) -> None:
    images = random_images([40, 6, 9, 3], dtype)
    op = PadCrop(pad_px)
    choice = op.sample(rng.make_seed(1), images.shape)
    cropped = op.apply(Batch(tf.constant(images)), choice).images
    padded = np.pad(images, [[0, 0], [pad_px, pad_px], [pad_px, pad_px], [0, 0]])
    expected = [
        padded[i, top : top + 6, left : left + 9]
        for i, (top, left) in enumerate(zip(choice["top"].numpy(), choice["left"].numpy(), strict=True))
    ]
    assert cropped.dtype == dtype
    np.testing.assert_array_equal(cropped, np.stack(expected))


def test_pad_crop_draws_all_windows_equally_often() -> None:
    choice = PadCrop(2).sample(rng.make_seed(3), (25000, 1, 1, 1))
    counts = np.bincount(choice["top"].numpy() * 5 + choice["left"].numpy(), minlength=25)
    assert counts.size == 25
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_padding_wider_than_the_image_may_cut_a_window_without_pixels() -> None:
    images = tf.constant(random_images([1, 2, 2, 1]))
    cropped = PadCrop(5).apply(Batch(images), {"top": tf.constant([0]), "left": tf.constant([10])}).images
    assert not cropped.numpy().any()


def test_pad_crop_by_nothing_is_the_identity() -> None:
    images = random_images([3, 4, 4, 1], "float32")
    np.testing.assert_array_equal(PadCrop(0)(images, seed=2), images)


@pytest.mark.parametrize("op", [Flip(), PadCrop(2)], ids=str)
def test_unknown_sizes_and_labels_pass_through_tf_data(op: Flip | PadCrop) -> None:
    images = random_images([7, 6, 9, 3])
    labels = np.eye(7, dtype=np.float32)
    seed = rng.make_seed(4)
    signature = tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None, 7], tf.float32)
    data = tf.data.Dataset.from_generator(lambda: iter([(images, labels)]), output_signature=signature)
    got = next(iter(data.map(lambda images, labels: op((images, labels), seed))))
    np.testing.assert_array_equal(got[0], op(images, seed))
    np.testing.assert_array_equal(got[1], labels)


@pytest.mark.parametrize("p", [-0.1, 1.5])
def test_flip_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ConfigError, match=r"Flip.p is .* allowed: 0..1"):
        Flip(p=p)


def test_pad_crop_refuses_negative_padding() -> None:
    with pytest.raises(ConfigError, match=r"PadCrop.pad_px is -1; allowed: 0 or more"):
        PadCrop(pad_px=-1)
