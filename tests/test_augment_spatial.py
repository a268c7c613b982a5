"""Flips, crops and zooms against numpy, SciPy and PIL; their draws against the stated distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from tfaug import rng
from tfaug.augment import (
    Augmentation,
    Batch,
    Compose,
    Flip,
    PadCrop,
    RandomCrop,
    RandomResizedCrop,
    RandomScale,
    SumAug,
)
from tfaug.config import ConfigError
from tfaug.images import resample
from tfaug.schedules import Linear, Progress, Visit

PIL_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}


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


def test_flips_may_be_vertical_and_their_probability_a_schedule() -> None:
    images = random_images([4, 5, 7, 3])
    flipped = Flip(axis="vertical").apply(Batch(tf.constant(images)), {"flip": tf.constant([True, False, False, True])})
    expected = np.stack([images[0, ::-1], images[1], images[2], images[3, ::-1]])
    np.testing.assert_array_equal(flipped.images, expected)
    op = Flip(p=Linear(0, 0.6))
    for step, p in ((0, 0.0), (1, 0.3)):
        flips = op.sample(rng.make_seed(5), (20000, 1, 1, 1), Progress(step, 2))["flip"].numpy()
        assert scipy.stats.binomtest(int(flips.sum()), flips.size, p).pvalue > 0.01


def visit_at(epoch: int, num: int = 1000, seed: int = 7) -> Visit:
    """The visit of a batch that holds the examples 0 .. num - 1."""
    return Visit(epoch, 10, rng.make_seed(seed), epoch, tf.range(num))


def flips_of(op: Flip, visit: Visit, seed: int = 1) -> np.ndarray:
    num = visit.examples.shape[0]
    return op.sample(rng.make_seed(seed), (num, 4, 4, 1), visit)["flip"].numpy()


def test_alternating_flips_show_each_side_once_in_two_epochs():
    op = Flip(alternate=True)
    epochs = [flips_of(op, visit_at(epoch), seed=epoch) for epoch in range(4)]
    np.testing.assert_array_equal(epochs[0], ~epochs[1])  # whatever the step's own seed is
    np.testing.assert_array_equal(epochs[0], epochs[2])
    np.testing.assert_array_equal(epochs[1], epochs[3])
    assert 0.45 < epochs[0].mean() < 0.55  # 3.2 standard deviations around a half
    other = flips_of(op, visit_at(0, seed=8))
    assert 0.45 < (other == epochs[0]).mean() < 0.55
    vertical = flips_of(Flip(axis="vertical", alternate=True), visit_at(0))
    assert 0.45 < (vertical == epochs[0]).mean() < 0.55


def test_alternating_flips_go_by_the_example_and_not_by_its_place():
    op, order = Flip(alternate=True), np.random.default_rng(0).permutation(1000)
    shuffled = visit_at(1)._replace(examples=tf.constant(order))
    np.testing.assert_array_equal(flips_of(op, shuffled), flips_of(op, visit_at(1))[order])


def test_alternating_flips_give_the_same_bits_compiled():
    op = Flip(alternate=True)

    @tf.function(jit_compile=True)
    def compiled(epoch, examples):
        return op.sample(rng.make_seed(1), (1000, 4, 4, 1), Visit(epoch, 10, rng.make_seed(7), epoch, examples))["flip"]

    for epoch in (0, 3):
        flips = compiled(tf.constant(epoch), tf.range(1000)).numpy()
        np.testing.assert_array_equal(flips, flips_of(op, visit_at(epoch)))


def test_alternating_flips_say_what_they_miss():
    images = np.zeros((6, 4, 4, 1), np.uint8)
    with pytest.raises(ValueError, match=r"goes by the epoch and the examples"):
        Flip(alternate=True)(images, seed=1)
    with pytest.raises(ValueError, match=r"goes by the epoch and the examples"):
        Flip(alternate=True)(images, 1, Progress(0, 10))
    with pytest.raises(ValueError, match=r"3 images and the numbers of \(6,\) examples"):
        Compose((SumAug(2), Flip(alternate=True)))((images, np.eye(6, dtype=np.float32)), 1, visit_at(0, 6))
    with pytest.raises(ConfigError, match=r"alternate is True with p=0.3; allowed: p=0.5"):
        Flip(p=0.3, alternate=True)


@pytest.mark.parametrize("pad_px", [1, 2, 6])
def test_reflected_padding_is_numpys(pad_px):
    images = np.random.default_rng(3).integers(0, 256, (40, 7, 9, 3), np.uint8)
    op = PadCrop(pad_px, padding="reflect")
    choice = op.sample(rng.make_seed(3), images.shape)
    padded = np.pad(images, ((0, 0), (pad_px, pad_px), (pad_px, pad_px), (0, 0)), mode="reflect")
    places = zip(choice["top"].numpy(), choice["left"].numpy(), padded, strict=True)
    expected = np.stack([image[top : top + 7, left : left + 9] for top, left, image in places])
    np.testing.assert_array_equal(op(images, rng.make_seed(3)), expected)
    np.testing.assert_array_equal(tf.function(op, jit_compile=True)(images, rng.make_seed(3)), expected)


def test_padding_cannot_reflect_more_than_there_is():
    with pytest.raises(ValueError, match=r"pad_px is 7, but the images are 7 x 9 px; allowed: less than"):
        PadCrop(7, padding="reflect")(np.zeros((2, 7, 9, 3), np.uint8), seed=1)


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


# -------------------------------------------------------------------------------------------------- reading between


@pytest.mark.parametrize("shape", [(3, 9, 13, 3), (2, 1, 6, 1), (2, 8, 1, 3)])
def test_bilinear_reading_equals_scipy_within_one_grey_level(shape: tuple[int, int, int, int]) -> None:
    images = random_images(list(shape))
    generator = np.random.default_rng(1)
    places = [generator.integers(-3 * 65536, (size + 2) * 65536, (shape[0], 10, 11), np.int32) for size in shape[1:3]]
    got = resample.resample(tf.constant(images), *places).numpy().astype(int)
    for i, channel in np.ndindex(shape[0], shape[3]):
        where = np.stack([place[i] / 65536 for place in places])
        exact = ndimage.map_coordinates(images[i, ..., channel].astype(float), where, order=1, mode="nearest")
        assert np.abs(got[i, ..., channel] - exact).max() < 0.5 + 255 * 2**-10


def test_reading_at_pixel_centres_is_the_identity_and_a_fill_surrounds_it() -> None:
    images = tf.constant(random_images([2, 5, 7, 3]))
    y, x = (tf.range(size)[tf.newaxis] * 65536 + tf.zeros([2, 1], tf.int32) for size in (5, 7))
    np.testing.assert_array_equal(resample.resample_grid(images, y, x, fill=9), images)
    np.testing.assert_array_equal(
        resample.resample(images, y[:, :, None] + 0 * x[:, None], x[:, None] + 0 * y[:, :, None]), images
    )
    # A place is inside up to the edge of the outermost pixel, half a pixel from its centre.
    for shift, row in ((-32768, images[:, 0]), (-32769, tf.fill([2, 7, 3], tf.constant(9, tf.uint8)))):
        np.testing.assert_array_equal(resample.resample_grid(images, y + shift, x, fill=9)[:, 0], row)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_the_grid_reads_what_single_places_read_under_xla_with_unknown_sizes(interpolation: str) -> None:
    images = random_images([3, 9, 13, 3])
    generator = np.random.default_rng(2)
    y, x = (generator.integers(-65536, (size + 1) * 65536, (3, num), np.int32) for size, num in ((9, 7), (13, 16)))
    specs = [tf.TensorSpec([None, None, None, 3], tf.uint8), *[tf.TensorSpec([None, None], tf.int32)] * 2]

    @tf.function(input_signature=specs, jit_compile=True)
    def read(images: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return resample.resample_grid(images, y, x, interpolation)

    if interpolation == "nearest":
        rows, columns = (np.clip(p + 32768 >> 16, 0, size - 1) for p, size in ((y, 9), (x, 13)))
        expected = np.stack([images[i][rows[i]][:, columns[i]] for i in range(3)])
    else:
        places = np.broadcast_to(y[:, :, None], (3, 7, 16)), np.broadcast_to(x[:, None], (3, 7, 16))
        expected = resample.resample(tf.constant(images), *places)
    np.testing.assert_array_equal(read(images, y, x), expected)


def test_an_unknown_interpolation_is_refused() -> None:
    with pytest.raises(ValueError, match="interpolation is 'cubic'; allowed: nearest, bilinear"):
        resample.resample_grid(tf.zeros([1, 2, 2, 1], tf.uint8), [[0]], [[0]], "cubic")


def extent(image: np.ndarray, box: Any, size: tuple[int, int], interpolation: str = "bilinear") -> np.ndarray:
    """PIL's resampling of a window (top, left, bottom, right) to (height, width), without smoothing."""
    # A millionth of a pixel on: where a place lies between two pixels, PIL's own rounding errors would decide.
    top, left, bottom, right = (int(side) + (1e-6 if interpolation == "nearest" else 0) for side in box)
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    method = PIL_FILTERS[interpolation]
    out = picture.transform(size[::-1], Image.Transform.EXTENT, (left, top, right, bottom), method)
    return np.asarray(out).reshape(*size, -1)


# -------------------------------------------------------------------------------------------------- RandomResizedCrop


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size_px", [None, 32, (5, 21)])
def test_resized_crops_equal_pil_within_one_grey_level(size_px: Any, channels: int) -> None:
    images = random_images([40, 19, 27, channels])
    op = RandomResizedCrop(size_px)
    choice = op.sample(rng.make_seed(1), images.shape)
    size = {None: (19, 27), 32: (32, 32), (5, 21): (5, 21)}[size_px]
    got = op.apply(Batch(tf.constant(images)), choice).images
    assert got.shape == op.output_shape(images.shape) == (40, *size, channels)
    expected = [extent(image, box, size) for image, box in zip(images, choice["box_px"].numpy(), strict=True)]
    apart = got.numpy().astype(int) - np.stack(expected)
    # PIL cuts the fraction off where it is rounded here, so a difference is one level up.
    assert set(np.unique(apart)) <= {0, 1}


def test_nearest_resized_crops_equal_pil() -> None:
    images = random_images([40, 19, 27, 3])
    op = RandomResizedCrop((23, 31), interpolation="nearest")
    choice = op.sample(rng.make_seed(1), images.shape)
    boxes = choice["box_px"].numpy()
    expected = [extent(image, box, (23, 31), "nearest") for image, box in zip(images, boxes, strict=True)]
    np.testing.assert_array_equal(op.apply(Batch(tf.constant(images)), choice).images, np.stack(expected))


def test_windows_have_uniform_areas_and_ratios_uniform_in_the_logarithm() -> None:
    op = RandomResizedCrop(scale=(0.1, 0.5))
    top, left, bottom, right = op.sample(rng.make_seed(1), (20000, 900, 900, 3))["box_px"].numpy().T
    height, width = bottom - top, right - left
    assert scipy.stats.kstest(height * width / 810000, scipy.stats.uniform(0.1, 0.4).cdf).statistic < 0.015
    ratio = scipy.stats.uniform(np.log(3 / 4), np.log(16 / 9)).cdf
    assert scipy.stats.kstest(np.log(width / height), ratio).statistic < 0.02
    assert scipy.stats.kstest((top + 0.5) / (901 - height), scipy.stats.uniform.cdf).statistic < 0.015
    assert scipy.stats.kstest((left + 0.5) / (901 - width), scipy.stats.uniform.cdf).statistic < 0.015


@pytest.mark.parametrize("size", [(24, 24), (40, 25)])
def test_windows_are_those_that_endless_tries_would_give(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    area = generator.uniform(0.08, 1.0, 60000) * size[0] * size[1]
    ratio = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3), 60000))
    tried = np.stack([np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))], 1)
    tried = tried[(tried <= size).all(1)][:20000]
    assert len(tried) == 20000
    box = RandomResizedCrop().sample(rng.make_seed(1), (20000, *size, 3))["box_px"].numpy()
    assert box.min() >= 0 and (box[:, 2:] <= size).all()
    sides = box[:, 2:] - box[:, :2]
    for mine, theirs in ((sides[:, 0], tried[:, 0]), (sides[:, 1], tried[:, 1]), (sides.prod(1), tried.prod(1))):
        assert scipy.stats.ks_2samp(mine, theirs).statistic < 0.02


def test_a_window_has_at_least_one_pixel_and_the_whole_image_is_the_identity() -> None:
    images = random_images([20, 8, 8, 3])
    box = RandomResizedCrop(scale=(0, 0)).sample(rng.make_seed(1), images.shape)["box_px"].numpy()
    assert set((box[:, 2:] - box[:, :2]).ravel()) == {1}
    np.testing.assert_array_equal(RandomResizedCrop(scale=(1, 1), ratio=(1, 1))(images, seed=1), images)
    # Half the size: each result is the mean of four pixels, rounded half up.
    quarters = images.astype(int).reshape(20, 4, 2, 4, 2, 3).sum((2, 4))
    np.testing.assert_array_equal(RandomResizedCrop(4, p=0.0)(images, seed=1), (quarters + 2) // 4)


# --------------------------------------------------------------------------------------------------------- RandomCrop


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_crop_is_the_drawn_window(dtype: str) -> None:
    images = random_images([30, 9, 13, 3], dtype)
    op = RandomCrop((4, 7), resize=False)
    choice = op.sample(rng.make_seed(1), images.shape)
    got = op.apply(Batch(tf.constant(images)), choice).images
    assert got.dtype == dtype and got.shape == op.output_shape(images.shape)
    corners = zip(choice["top"].numpy(), choice["left"].numpy(), strict=True)
    expected = [image[y : y + 4, x : x + 7] for image, (y, x) in zip(images, corners, strict=True)]
    np.testing.assert_array_equal(got, np.stack(expected))
    counts = np.bincount(op.sample(rng.make_seed(2), (21000, 9, 13, 3))["top"].numpy() * 7, minlength=36)[::7]
    assert counts.size == 6 and scipy.stats.chisquare(counts).pvalue > 0.01


def test_a_crop_is_brought_to_the_images_size() -> None:
    images = random_images([30, 9, 13, 3])
    op = RandomCrop(6)
    choice = op.sample(rng.make_seed(1), images.shape)
    corners = np.stack([choice["top"], choice["left"]], 1)
    boxes = np.concatenate([corners, corners + 6], 1)
    expected = np.stack([extent(image, box, (9, 13)) for image, box in zip(images, boxes, strict=True)])
    apart = op.apply(Batch(tf.constant(images)), choice).images.numpy().astype(int) - expected
    assert set(np.unique(apart)) <= {0, 1}


@pytest.mark.parametrize(("size", "side"), [(256, 224), (32, 28), (8, 7), (1, 1), (28, 25)])
def test_the_default_crop_is_seven_eighths(size: int, side: int) -> None:
    assert RandomCrop(resize=False).output_shape((1, size, 2 * size, 3))[1] == side


def test_a_crop_larger_than_the_image_is_refused() -> None:
    images = tf.zeros([2, 8, 9, 3], tf.uint8)
    np.testing.assert_array_equal(RandomCrop((8, 9))(images, seed=1), images)
    for size_px in (9, (8, 10)):
        with pytest.raises(ValueError, match=r"RandomCrop.size_px is .* images are 8 x 9 px; allowed"):
            RandomCrop(size_px)(images, seed=1)


# -------------------------------------------------------------------------------------------------------- RandomScale


@pytest.mark.parametrize("channels", [1, 3])
def test_zooms_equal_pil_within_one_grey_level(channels: int) -> None:
    images = random_images([60, 19, 26, channels])
    op = RandomScale(scale=(0.6, 1.7), fill=77)
    choice = op.sample(rng.make_seed(1), images.shape)
    got = op.apply(Batch(tf.constant(images)), choice).images.numpy().astype(int)
    for i, inverse in enumerate(choice["inverse_q16"].numpy() / 65536):
        matrix = (inverse, 0, 13 * (1 - inverse), 0, inverse, 9.5 * (1 - inverse))
        picture = Image.fromarray(images[i, ..., 0] if channels == 1 else images[i])
        fill = 77 if channels == 1 else (77, 77, 77)
        zoomed = picture.transform((26, 19), Image.Transform.AFFINE, matrix, PIL_FILTERS["bilinear"], fillcolor=fill)
        apart = got[i] - np.asarray(zoomed).reshape(19, 26, channels)
        assert set(np.unique(apart)) <= {0, 1}


def test_factors_are_uniform_and_drawn_with_their_probability() -> None:
    inverse = RandomScale(scale=(0.5, 2.0), p=0.6).sample(rng.make_seed(1), (20000, 8, 8, 1))["inverse_q16"].numpy()
    factors = 65536 / inverse[inverse != 65536]
    assert scipy.stats.kstest(factors, scipy.stats.uniform(0.5, 1.5).cdf).statistic < 0.015
    assert scipy.stats.binomtest(len(factors), 20000, 0.6).pvalue > 0.01


def test_no_zoom_is_the_identity() -> None:
    images = random_images([3, 9, 11, 3])
    np.testing.assert_array_equal(RandomScale((1, 1))(images, seed=1), images)
    np.testing.assert_array_equal(RandomScale(p=Linear(0, 1))(images, 1, Progress(0, 5)), images)


# -------------------------------------------------------------------------------------------------------------- shared


@pytest.mark.parametrize(
    "op",
    [Flip(axis="vertical"), PadCrop(2), RandomCrop(5, resize=False), RandomResizedCrop((5, 11)), RandomScale()],
    ids=str,
)
def test_unknown_sizes_and_labels_pass_through_tf_data(op: Augmentation) -> None:
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
    with pytest.raises(ConfigError, match=r"PadCrop.pad_px is -1; allowed: a whole number, 0..16384"):
        PadCrop(pad_px=-1)


@pytest.mark.parametrize(
    ("op", "fields", "message"),
    [
        (Flip, {"axis": "both"}, "Flip.axis is 'both'.* allowed: horizontal, vertical"),
        (RandomCrop, {"size_px": 0}, "RandomCrop.size_px is 0; allowed: None, a side in whole px, 1..16384"),
        (RandomCrop, {"size_px": (8, 8, 3)}, "RandomCrop.size_px is"),
        (RandomCrop, {"resize": "yes"}, "RandomCrop.resize is 'yes'"),
        (RandomResizedCrop, {"size_px": (8.0, 8)}, "RandomResizedCrop.size_px is"),
        (RandomResizedCrop, {"scale": (0.5, 1.1)}, r"RandomResizedCrop.scale is .* a pair of numbers in 0..1"),
        (RandomResizedCrop, {"ratio": (0.5,)}, "RandomResizedCrop.ratio is .* a pair of numbers in 0.01..100"),
        (
            RandomResizedCrop,
            {"interpolation": "cubic"},
            "RandomResizedCrop.interpolation is 'cubic'.* bilinear, nearest",
        ),
        (RandomResizedCrop, {"p": Linear(0, 3)}, r"RandomResizedCrop.p is Linear.* allowed: 0..1"),
        (RandomScale, {"scale": (0, 1)}, "RandomScale.scale is .* a pair of numbers in 0.1..10"),
        (RandomScale, {"fill": 300}, "RandomScale.fill is 300"),
    ],
)
def test_a_wrong_field_is_refused_by_name(op: type[Augmentation], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        op(**fields)
