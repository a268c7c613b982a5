"""CutMix, Mixup and Sum-Augmentation against numpy oracles, their distributions, and their messages."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfaug import rng
from tfaug.augment import Batch, CutMix, Mixup, SumAug
from tfaug.config import ConfigError


def constant_colours(num: int, height: int, width: int, channels: int = 3) -> Batch:
    """Returns images of one grey level each, image i having level i, with a class of its own."""
    levels = np.arange(num, dtype=np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (num, height, width, channels))
    return Batch(tf.constant(images), tf.eye(num))


def random_batch(num: int, height: int = 6, width: int = 5, num_classes: int = 4) -> Batch:
    generator = np.random.default_rng(num)
    images = generator.integers(0, 256, (num, height, width, 3)).astype(np.uint8)
    return Batch(tf.constant(images), tf.one_hot(generator.integers(0, num_classes, num), num_classes))


# --- CutMix ---


@pytest.mark.parametrize(("height", "width"), [(32, 32), (9, 14), (4, 50)])
def test_cutmix_labels_are_the_shares_of_the_pixels(height: int, width: int) -> None:
    """The share is counted in the result; float32's nearest multiple of 2**-24 is all that a label may be off."""
    num = 64
    batch = constant_colours(num, height, width)
    op = CutMix()
    choice = op.sample(rng.make_seed(3), (num, height, width, 3))
    images, labels = (part.numpy() for part in op.apply(batch, choice))
    partner = choice["partner"].numpy()
    shares = []
    for i in range(num):
        own = images[i] == i
        assert np.array_equal(images[i][~own], np.full((~own).sum(), partner[i], np.float32))
        share = own[..., 0].mean(dtype=np.float64)
        shares.append(share)
        expected = np.zeros(num)
        expected[i] += share
        expected[partner[i]] += 1 - share
        np.testing.assert_allclose(labels[i], expected, rtol=0, atol=2**-25)
        assert labels[i].sum() == 1
    assert len(set(shares)) > 10  # The shares differ between the images of one batch.


def test_cutmix_label_is_exact_where_the_box_is_clipped() -> None:
    """Hand-derived: a box that leaves a 4 x 5 image at a corner covers 2 x 3 pixels, so 14/20 are kept."""
    batch = constant_colours(2, 4, 5, 1)
    choice = {"partner": tf.constant([1, 0]), "box_px": tf.constant([[2, 0, 4, 3], [0, 0, 0, 0]])}
    images, labels = CutMix().apply(batch, choice)
    expected = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    np.testing.assert_array_equal(images[0, :, :, 0], expected)
    np.testing.assert_array_equal(images[1], np.ones([4, 5, 1]))
    np.testing.assert_array_equal(labels, np.array([[0.7, 0.3], [0, 1]], np.float32))


def cutmix_boxes_oracle(num: int, height: int, width: int, alpha: float) -> np.ndarray:
    """Draws boxes [num, 4] as the paper's algorithm does, by numpy in float64."""
    generator = np.random.default_rng(99)
    ratio = np.sqrt(1 - generator.beta(alpha, alpha, num))
    ends = []
    for size in (height, width):
        half = np.floor(size * ratio).astype(int) // 2
        centre = generator.integers(0, size, num)
        ends.append((np.clip(centre - half, 0, size), np.clip(centre + half, 0, size)))
    return np.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], axis=1)


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_cutmix_boxes_are_distributed_as_in_the_paper(alpha: float) -> None:
    """Two-sample Kolmogorov-Smirnov against the numpy oracle: edges, heights and covered areas."""
    num, height, width = 20_000, 32, 48
    drawn = CutMix(alpha).sample(rng.make_seed(11), (num, height, width, 3))["box_px"].numpy()
    expected = cutmix_boxes_oracle(num, height, width, alpha)

    def features(box: np.ndarray) -> list[np.ndarray]:
        sides = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
        return [*box.T, *sides, sides[0] * sides[1]]

    for ours, theirs in zip(features(drawn), features(expected), strict=True):
        assert scipy.stats.ks_2samp(ours, theirs).pvalue > 0.01


def test_cutmix_keeps_the_share_that_the_papers_box_keeps() -> None:
    """Mean weight .701 at 32 x 32 and alpha 1, by simulation of the authors' procedure; unclipped it would be .52."""
    box = CutMix().sample(rng.make_seed(0), (40_000, 32, 32, 3))["box_px"].numpy()
    kept = 1 - (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / 1024
    assert abs(kept.mean() - 0.701) < 0.006


def test_cutmix_and_mixup_leave_images_alone_with_probability_1_minus_p() -> None:
    num, p = 20_000, 0.3
    boxes = CutMix(p=p).sample(rng.make_seed(5), (num, 64, 64, 3))["box_px"].numpy()
    drawn = CutMix(p=1.0).sample(rng.make_seed(5), (num, 64, 64, 3))["box_px"].numpy()
    applied = boxes.any(axis=1)
    np.testing.assert_array_equal(boxes[applied], drawn[applied])
    nonempty = drawn.any(axis=1)
    assert scipy.stats.binomtest(int(applied.sum()), int(nonempty.sum()), p).pvalue > 0.01
    weights = Mixup(p=p).sample(rng.make_seed(5), (num, 8, 8, 3))["weight"].numpy()
    assert scipy.stats.binomtest(int((weights != 1).sum()), num, p).pvalue > 0.01


# --- Mixup ---


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_mixup_is_the_weighted_mean_of_two_images(dtype: str) -> None:
    """Exact for uint8: float64 arithmetic gives the same numbers; float images within float32's rounding."""
    batch = random_batch(16)
    images = batch.images.numpy().astype(dtype)
    if dtype == "float32":
        images = images * np.float32(0.99) + np.float32(0.37)
    choice = Mixup(0.5).sample(rng.make_seed(2), images.shape)
    weight, partner = choice["weight"].numpy().astype(np.float64), choice["partner"].numpy()
    mixed = Mixup(0.5).apply(Batch(tf.constant(images), batch.labels), choice)
    for values, result in ((images, mixed.images), (batch.labels.numpy(), mixed.labels)):
        w = weight.reshape([-1] + [1] * (values.ndim - 1))
        expected = w * values + (1 - w) * values[partner]
        tolerance = 0 if dtype == "uint8" or values.ndim == 2 else 2**-16
        np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_mixup_weights_follow_beta(alpha: float) -> None:
    """Kolmogorov-Smirnov at 1 %, plus what the rounding to 2**-16 moves: the mass within half a step of an end."""
    num = 40_000
    weights = Mixup(alpha).sample(rng.make_seed(8), (num, 8, 8, 3))["weight"].numpy()
    cdf = scipy.stats.beta(alpha, alpha).cdf
    assert scipy.stats.kstest(weights, cdf).statistic < 1.63 / np.sqrt(num) + max(cdf(2**-17), 2**-16)
    np.testing.assert_array_equal(weights * 2**16, np.round(weights * 2**16))


@pytest.mark.parametrize("op", [CutMix(), Mixup()])
def test_partners_are_a_permutation_that_another_seed_changes(op: CutMix | Mixup) -> None:
    first = op.sample(rng.make_seed(1), (50, 8, 8, 3))["partner"].numpy()
    second = op.sample(rng.make_seed(2), (50, 8, 8, 3))["partner"].numpy()
    assert sorted(first) == sorted(second) == list(range(50))
    assert not np.array_equal(first, second) and not np.array_equal(first, np.arange(50))


@pytest.mark.parametrize("op", [CutMix(), Mixup()])
def test_images_with_their_partners_give_the_same_pixels_in_a_smaller_batch(op: CutMix | Mixup) -> None:
    """The choice decides alone: two images and their partners, renumbered, mix as they do in the whole batch."""
    batch = random_batch(12)
    choice = op.sample(rng.make_seed(4), batch.images.shape)
    whole = op.apply(batch, choice)
    rows = [7, 2]
    members = [*rows, *choice["partner"].numpy()[rows]]
    part = {key: tf.gather(value, members) for key, value in choice.items()}
    part["partner"] = tf.constant([2, 3, 0, 1])
    result = op.apply(Batch(tf.gather(batch.images, members), tf.gather(batch.labels, members)), part)
    np.testing.assert_array_equal(result.images[:2], whole.images.numpy()[rows])
    np.testing.assert_array_equal(result.labels[:2], whole.labels.numpy()[rows])


@pytest.mark.parametrize("op", [CutMix, Mixup])
@pytest.mark.parametrize("alpha", [1e-4, 0.05, 500.0])
def test_extreme_parameters_stay_finite(op: type[CutMix] | type[Mixup], alpha: float) -> None:
    images, labels = op(alpha=alpha)(random_batch(64), seed=1)
    assert np.isfinite(images.numpy()).all() and images.numpy().min() >= 0 and images.numpy().max() <= 255
    np.testing.assert_allclose(labels.numpy().sum(1), 1, rtol=0, atol=2**-23)


# --- Sum-Augmentation ---


@pytest.mark.parametrize(("num", "k"), [(12, 2), (12, 3), (13, 4), (8, 8), (5, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_sumaug_averages_the_groups(num: int, k: int, dtype: str) -> None:
    """Oracle: the groups of the definition, summed in float64; labels are c/k."""
    batch = random_batch(num)
    images = batch.images.numpy().astype(dtype)
    op, seed = SumAug(k), rng.make_seed(6)
    order, num_sums = rng.permutation(seed, num).numpy(), num // k
    groups = [order[g * num_sums : (g + 1) * num_sums] for g in range(k)]
    result = op(Batch(tf.constant(images), batch.labels), seed)
    expected = sum(images[group].astype(np.float64) for group in groups) / k
    np.testing.assert_allclose(result.images.numpy(), expected, rtol=2**-23, atol=0)
    classes = batch.labels.numpy().argmax(1)
    counts = np.stack([np.bincount(classes[[group[i] for group in groups]], minlength=4) for i in range(num_sums)])
    np.testing.assert_allclose(result.labels.numpy(), counts / k, rtol=2**-23, atol=0)
    assert result.images.shape[0] == op.output_shape((num, 4, 4, 3))[0] == num_sums


def test_sumaug_uses_each_image_once_and_drops_the_rest_at_random() -> None:
    """Sums of distinct powers of two tell which images went in."""
    num, k = 8, 3
    batch = Batch(tf.zeros([num, 2, 2, 1]), tf.eye(num))
    dropped = set()
    for seed in range(12):
        labels = SumAug(k)(batch, seed).labels.numpy()
        assert set(np.unique(labels)) == {0, np.float32(1 / 3)}
        used = (labels > 0).sum(0)
        assert used.max() == 1 and used.sum() == 6
        dropped |= set(np.flatnonzero(used == 0))
    assert len(dropped) > 4


def test_sumaug_refuses_a_batch_that_is_too_small() -> None:
    batch = random_batch(2)
    with pytest.raises(ValueError, match=r"SumAug\(k=3\) needs a batch of at least 3 images, got 2"):
        SumAug(3)(batch, 1)
    with pytest.raises(ValueError, match="at least 3 images, got 2"):
        tf.function(SumAug(3), jit_compile=True)(batch, rng.make_seed(1))
    unknown = tf.data.Dataset.from_tensor_slices(tuple(batch)).batch(8)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"SumAug\(k=3\) needs a batch of at least 3 images"):
        next(iter(unknown.map(lambda images, labels: SumAug(3)((images, labels), 1))))


# --- messages ---


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CutMix(alpha=0.0), r"CutMix\.alpha is 0\.0; allowed: a finite number above 0"),
        (lambda: Mixup(alpha=float("inf")), r"Mixup\.alpha is inf"),
        (lambda: Mixup(alpha=-1.0), r"Mixup\.alpha is -1\.0"),
        (lambda: CutMix(p=1.5), r"CutMix\.p is 1\.5; allowed: 0\.\.1"),
        (lambda: Mixup(p=-0.1), r"Mixup\.p is -0\.1; allowed: 0\.\.1"),
        (lambda: SumAug(k=0), r"SumAug\.k is 0; allowed: 1 or more"),
        (lambda: SumAug(k=2.5), r"SumAug\.k is 2\.5; allowed: a whole number"),  # type: ignore[arg-type]
    ],
)
def test_a_field_out_of_range_is_refused_by_name(build: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()  # type: ignore[operator]
