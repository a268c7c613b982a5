"""Cutout and RandomErasing against numpy; their draws against the stated distributions and the papers' own loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfaug import rng
from tfaug.augment import Augmentation, Batch, Cutout, RandomErasing
from tfaug.config import ConfigError
from tfaug.schedules import Linear, Progress


def random_images(shape: tuple[int, int, int, int], dtype: str = "uint8") -> np.ndarray:
    """Returns images without zeros, so that what is covered by zeros shows."""
    return np.random.default_rng(0).integers(1, 256, shape).astype(dtype)


# ------------------------------------------------------------------------------------------------------------- Cutout


def paper_cutout(image: np.ndarray, centres: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The paper's code: from centre - length // 2 to centre + length // 2, clipped; right for even sides."""
    mask = np.ones(image.shape[:2], int)
    for (row, column), side in zip(centres, sides, strict=True):
        top, bottom = (np.clip(row + sign * (side // 2), 0, image.shape[0]) for sign in (-1, 1))
        left, right = (np.clip(column + sign * (side // 2), 0, image.shape[1]) for sign in (-1, 1))
        mask[top:bottom, left:right] = 0
    return (image * mask[..., np.newaxis]).astype(image.dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("size_px", "num_holes"), [(4, 1), (6, 3)])
def test_even_holes_are_those_of_the_paper(size_px: int, num_holes: int, dtype: str) -> None:
    images = random_images((50, 9, 13, 3), dtype)
    op = Cutout(size_px, num_holes)
    choice = op.sample(rng.make_seed(1), images.shape)
    cut = op.apply(Batch(tf.constant(images)), choice).images
    assert cut.dtype == dtype and set(choice["side_px"].numpy().ravel()) == {size_px}
    expected = [
        paper_cutout(image, *parts)
        for image, *parts in zip(images, choice["centre_px"].numpy(), choice["side_px"].numpy(), strict=True)
    ]
    np.testing.assert_array_equal(cut, np.stack(expected))


def test_a_hole_of_odd_side_is_as_wide_as_it_says_and_is_filled() -> None:
    choice = {"centre_px": tf.constant([[[3, 2]]]), "side_px": tf.constant([[5]])}
    cut = Cutout(fill=7).apply(Batch(tf.ones([1, 8, 9, 1], tf.uint8)), choice).images.numpy()[0, :, :, 0]
    expected = np.ones([8, 9], int)
    expected[1:6, 0:5] = 7
    np.testing.assert_array_equal(cut, expected)


def test_centres_are_uniform_over_all_pixels_and_independent() -> None:
    centres = Cutout(size_px=4, num_holes=2).sample(rng.make_seed(2), (15000, 5, 7, 1))["centre_px"].numpy()
    for hole in range(2):
        counts = np.bincount(centres[:, hole, 0] * 7 + centres[:, hole, 1], minlength=35)
        assert counts.size == 35 and scipy.stats.chisquare(counts).pvalue > 0.01
    assert abs(np.corrcoef(centres[:, 0, 0], centres[:, 1, 0])[0, 1]) < 0.03


def test_sixteen_holes_of_random_size_are_uniform_whole_numbers() -> None:
    sides = Cutout(size_px=8, num_holes=16, min_size_px=3).sample(rng.make_seed(3), (2000, 32, 32, 3))["side_px"]
    counts = np.bincount(sides.numpy().ravel(), minlength=9)
    assert counts[:3].sum() == 0 and counts.size == 9
    assert scipy.stats.chisquare(counts[3:]).pvalue > 0.01
    assert len(np.unique(sides.numpy()[0])) > 2


def test_cutout_is_drawn_per_image_with_its_probability() -> None:
    sides = Cutout(p=0.3, num_holes=3).sample(rng.make_seed(5), (20000, 8, 8, 1))["side_px"].numpy()
    assert set(map(tuple, sides)) == {(0, 0, 0), (8, 8, 8)}
    assert scipy.stats.binomtest(int((sides[:, 0] > 0).sum()), len(sides), 0.3).pvalue > 0.01


@pytest.mark.parametrize("op", [Cutout(size_px=0), Cutout(num_holes=0), Cutout(p=0.0)], ids=str)
def test_no_hole_is_the_identity(op: Cutout) -> None:
    images = random_images((4, 9, 11, 3), "float32")
    np.testing.assert_array_equal(op(images, seed=1), images)


def test_the_side_of_a_hole_may_be_a_schedule() -> None:
    op, images = Cutout(size_px=Linear(0, 8)), random_images((3, 8, 8, 1))
    for step in range(4):
        assert set(op.sample(rng.make_seed(1), images.shape, Progress(step, 4))["side_px"].numpy().ravel()) == {
            2 * step
        }
    np.testing.assert_array_equal(op(images, 1, Progress(0, 4)), images)


@pytest.mark.parametrize("size", [(8, 15), (15, 8)])
def test_a_hole_larger_than_the_image_is_refused(size: tuple[int, int]) -> None:
    images = tf.zeros([2, *size, 3], tf.uint8)
    Cutout(size_px=8)(images, seed=1)
    for op in (Cutout(size_px=9), Cutout(size_px=Linear(0, 16))):
        with pytest.raises(ValueError, match=rf"Cutout.size_px is .* images are {size[0]} x {size[1]} px; allowed"):
            op(images, seed=1, progress=Progress(0, 10))


# ------------------------------------------------------------------------------------------------------ RandomErasing


def paper_rectangles(scale: tuple[float, float], ratio: tuple[float, float], height: int, width: int) -> np.ndarray:
    """Draws sides as the paper does, again and again until they fit, 20,000 times."""
    generator = np.random.default_rng(0)
    area = generator.uniform(*scale, 60000) * height * width
    shape = generator.uniform(*ratio, 60000)
    sides = np.stack([np.rint(np.sqrt(area * shape)), np.rint(np.sqrt(area / shape))], 1)
    sides = sides[(sides <= [height, width]).all(1)]
    assert len(sides) >= 20000
    return sides[:20000]


def boxes(op: RandomErasing, height: int, width: int, num: int = 20000) -> np.ndarray:
    return op.sample(rng.make_seed(1), (num, height, width, 3))["box_px"].numpy()


@pytest.mark.parametrize("size", [(32, 32), (64, 20), (25, 90)])
def test_rectangles_are_those_that_the_paper_gets_by_trying_until_one_fits(size: tuple[int, int]) -> None:
    """In narrow images half of the paper's tries fail, so the share of those that fit is tested too."""
    op = RandomErasing(p=1.0)
    found = boxes(op, *size)
    assert found[:, :2].min() == 0 and (found[:, 2:] <= size).all()
    sides = found[:, 2:] - found[:, :2]
    theirs = paper_rectangles(op.scale, op.ratio, *size)
    # Two samples of 20,000: 0.02 is what the 1 % quantile of chance (0.016) and the steps of the table allow.
    for axis in (0, 1):
        assert scipy.stats.ks_2samp(sides[:, axis], theirs[:, axis]).statistic < 0.02
    assert scipy.stats.ks_2samp(sides.prod(1), theirs.prod(1)).statistic < 0.02


def test_area_and_ratio_are_uniform_where_everything_fits() -> None:
    found = boxes(RandomErasing(p=1.0, scale=(0.02, 0.2), ratio=(0.5, 2.0)), 800, 800)
    height, width = (found[:, 2 + i] - found[:, i] for i in range(2))
    assert scipy.stats.kstest(height * width / 640000, scipy.stats.uniform(0.02, 0.18).cdf).statistic < 0.015
    assert scipy.stats.kstest(height / width, scipy.stats.uniform(0.5, 1.5).cdf).statistic < 0.02


def test_all_places_inside_are_equally_likely() -> None:
    found = boxes(RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1, 1)), 8, 12)
    assert set(found[:, 2] - found[:, 0]) == set(found[:, 3] - found[:, 1]) == {5}  # sqrt(24) is 4.9
    counts = np.bincount(found[:, 0] * 8 + found[:, 1], minlength=32)
    assert counts.size == 32 and scipy.stats.chisquare(counts).pvalue > 0.01


def test_rectangles_that_never_fit_are_cut_to_the_image() -> None:
    found = boxes(RandomErasing(p=1.0, scale=(0.9, 1.0), ratio=(1, 1)), 4, 60, num=50)
    np.testing.assert_array_equal(found[:, [0, 2]], [[0, 4]] * 50)
    assert set(found[:, 3] - found[:, 1]) == {15}  # sqrt(0.9 .. 1.0 * 240)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("fill", [0, 99, "noise"])
def test_the_drawn_rectangle_and_nothing_else_is_covered(fill: int | str, dtype: str) -> None:
    images = random_images((30, 9, 13, 3), dtype)
    op = RandomErasing(p=0.7, fill=fill)
    choice = op.sample(rng.make_seed(4), images.shape)
    expected, noise = images.copy(), choice.get("noise")
    for i, (top, left, bottom, right) in enumerate(choice["box_px"].numpy()):
        expected[i, top:bottom, left:right] = fill if noise is None else noise.numpy()[i, top:bottom, left:right]
    erased = op.apply(Batch(tf.constant(images)), choice).images
    assert erased.dtype == dtype
    np.testing.assert_array_equal(erased, expected)
    share = (choice["box_px"].numpy().sum(1) > 0).mean()
    assert 0.5 < share < 0.9


def test_noise_is_uniform_over_the_grey_levels() -> None:
    noise = RandomErasing(fill="noise").sample(rng.make_seed(1), (20, 16, 16, 3))["noise"].numpy()
    assert scipy.stats.chisquare(np.bincount(noise.ravel(), minlength=256)).pvalue > 0.01
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.05


def test_erasing_happens_with_its_probability_also_by_a_schedule() -> None:
    op = RandomErasing(p=Linear(0.0, 0.8))
    for step, p in ((0, 0.0), (1, 0.4)):
        found = op.sample(rng.make_seed(6), (20000, 32, 32, 1), Progress(step, 2))["box_px"].numpy()
        assert scipy.stats.binomtest(int((found.sum(1) > 0).sum()), 20000, p).pvalue > 0.01


@pytest.mark.parametrize("op", [RandomErasing(p=0.0), RandomErasing(p=1.0, scale=(0, 0))], ids=str)
def test_no_area_is_the_identity(op: RandomErasing) -> None:
    images = random_images((4, 9, 11, 3))
    np.testing.assert_array_equal(op(images, seed=1), images)


@pytest.mark.parametrize(
    ("op", "fields", "message"),
    [
        (Cutout, {"size_px": -1}, "Cutout.size_px is -1"),
        (Cutout, {"num_holes": 1.5}, "Cutout.num_holes is 1.5; allowed: a whole number"),
        (Cutout, {"min_size_px": 9}, r"Cutout.min_size_px is 9; allowed: a whole number, 0..8"),
        (Cutout, {"p": 1.5}, r"Cutout.p is 1.5; allowed: 0..1"),
        (Cutout, {"fill": 256}, r"Cutout.fill is 256; allowed: a whole number, 0..255"),
        (RandomErasing, {"p": Linear(0, 2)}, r"RandomErasing.p is Linear.* allowed: 0..1"),
        (RandomErasing, {"scale": (0.3, 0.2)}, r"RandomErasing.scale is \(0.3, 0.2\); allowed: a pair .* 0..1"),
        (RandomErasing, {"scale": 0.2}, "RandomErasing.scale is 0.2; allowed: a pair"),
        (RandomErasing, {"ratio": (0, 1)}, r"RandomErasing.ratio is \(0, 1\); allowed: a pair .* 0.01..100"),
        (RandomErasing, {"fill": "grey"}, "RandomErasing.fill is 'grey'; allowed: a whole number, 0..255, or 'noise'"),
        (RandomErasing, {"fill": -1}, "RandomErasing.fill is -1"),
    ],
)
def test_a_wrong_field_is_refused_by_name(op: type[Augmentation], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        op(**fields)
