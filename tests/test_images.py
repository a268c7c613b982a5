"""Pixel kernels against PIL and numpy at sizes, channels and values of all kinds; test_images_exact.py has the policies'."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from tests.pil import FILL, affine, enhance, image_set, on_pil, rotate
from tfaug import images as kernels

SETS = ("photos", "oblong", "digits", "large")

Case = tuple[Callable[[tf.Tensor], tf.Tensor], Callable[[Image.Image], Image.Image]]


def rotation_case(degrees: float) -> Case:
    def ours(images: tf.Tensor) -> tf.Tensor:
        return kernels.warp(images, kernels.rotation(degrees, images.shape[1], images.shape[2]), FILL)

    return ours, functools.partial(rotate, degrees=degrees)


def affine_case(matrix: tf.Tensor, *data: float) -> Case:
    def pils(image: Image.Image) -> Image.Image:
        return affine(image, *data)

    return functools.partial(kernels.warp, matrices=matrix, fill=FILL), pils


def equal_cases() -> dict[str, Case]:
    """Returns the kernels that must equal PIL, place by place."""
    cases: dict[str, Case] = {
        "equalize": (kernels.equalize, ImageOps.equalize),
        "invert": (kernels.invert, ImageOps.invert),
    }
    for bits in (1, 4, 5, 8):
        ours, pils = functools.partial(kernels.posterize, bits=bits), functools.partial(ImageOps.posterize, bits=bits)
        cases[f"posterize({bits})"] = ours, pils
    for threshold in (0, 76, 128, 256):
        cases[f"solarize({threshold})"] = (
            functools.partial(kernels.solarize, threshold=threshold),
            functools.partial(ImageOps.solarize, threshold=threshold),
        )
    for factor in (0.0, 0.1, 0.64, 1.0, 1.36, 1.9):
        for name in ("brightness", "contrast", "color", "sharpness"):
            cases[f"{name}({factor})"] = (
                functools.partial(getattr(kernels, name), factor=kernels.factor_q20(factor)),
                functools.partial(enhance, name=name, factor=factor),
            )
    for degrees in (9.0, -9.0, 30.0, -21.7, 90.0):
        cases[f"rotate({degrees})"] = rotation_case(degrees)
    for shear in (0.09, -0.3, 0.123):
        cases[f"shear_x({shear})"] = affine_case(kernels.shear_x(shear), 1, shear, 0, 0, 1, 0)
        cases[f"shear_y({shear})"] = affine_case(kernels.shear_y(shear), 1, 0, 0, shear, 1, 0)
    for px in (3.0, -3.0, 10.0, 3.33, -3.33):
        cases[f"translate_x({px})"] = affine_case(kernels.translation(px, 0), 1, 0, px, 0, 1, 0)
        cases[f"translate_y({px})"] = affine_case(kernels.translation(0, px), 1, 0, 0, 0, 1, px)
    return cases


EQUAL = equal_cases()


@pytest.mark.parametrize("name", EQUAL)
@pytest.mark.parametrize("images", SETS)
def test_kernel_equals_pil(name: str, images: str) -> None:
    ours, pils = EQUAL[name]
    data = image_set(images)
    np.testing.assert_array_equal(ours(tf.constant(data)).numpy(), on_pil(data, pils))


@pytest.mark.parametrize("images", SETS)
def test_autocontrast_is_pil_or_at_rare_places_one_level_lighter(images: str) -> None:
    data = image_set(images)
    difference = kernels.autocontrast(tf.constant(data)).numpy().astype(int) - on_pil(data, ImageOps.autocontrast)
    assert difference.min() == 0
    assert difference.max() <= 1
    assert np.mean(difference != 0) < 0.02


def test_autocontrast_is_the_exact_quotient_rounded_down() -> None:
    low, high = np.divmod(np.arange(65536), 256)
    keep = low < high
    ramp = np.broadcast_to(np.arange(256), [keep.sum(), 256])
    low, high = low[keep, None], high[keep, None]
    values = np.clip(ramp, low, high)
    ours = kernels.autocontrast(tf.constant(values[..., None, None].astype(np.uint8))).numpy()[..., 0, 0]
    np.testing.assert_array_equal(ours, (values - low) * 255 // (high - low))


BILINEAR: dict[str, Callable[[int, int], tuple[np.ndarray, Callable[[Image.Image], Image.Image]]]] = {
    "rotate": lambda h, w: (kernels.rotation(21.7, h, w), functools.partial(rotate, degrees=21.7, bilinear=True)),
    "shear": lambda h, w: (kernels.shear_x(0.123), lambda image: affine(image, 1, 0.123, 0, 0, 1, 0, bilinear=True)),
    "translate": lambda h, w: (
        kernels.translation(-2.3, 4.71),
        lambda image: affine(image, 1, 0, -2.3, 0, 1, 4.71, bilinear=True),
    ),
}


@pytest.mark.parametrize("images", SETS)
@pytest.mark.parametrize("name", BILINEAR)
def test_bilinear_warp_is_pil_within_one_level_at_rare_places(name: str, images: str) -> None:
    data = image_set(images)
    matrix, pils = BILINEAR[name](*data.shape[1:3])
    ours = kernels.warp_bilinear(tf.constant(data), matrix, FILL).numpy().astype(int)
    difference = np.abs(ours - on_pil(data, pils))
    assert difference.max() <= 1
    assert np.mean(difference != 0) < 0.02


def test_bilinear_warp_of_the_identity_and_of_whole_pixels_moves_bytes_untouched() -> None:
    data = image_set("oblong")[:3]
    images = tf.constant(data)
    np.testing.assert_array_equal(kernels.warp_bilinear(images, kernels.rotation(0.0, 21, 38)), data)
    whole = kernels.translation(-3, 7)
    np.testing.assert_array_equal(kernels.warp_bilinear(images, whole, 9), kernels.warp(images, whole, 9))


def test_bilinear_warp_by_half_a_pixel_is_the_mean_rounded_down() -> None:
    image = tf.constant([[[[10], [21], [255]], [[30], [0], [255]]]], tf.uint8)
    half = kernels.warp_bilinear(image, kernels.translation(0.5, 0.0), 9)
    assert half[0, ..., 0].numpy().tolist() == [[15, 138, 9], [15, 127, 9]]  # The last column's source is x = 3 = W.
    both = kernels.warp_bilinear(image, kernels.translation(-0.5, -0.5), 9)
    # Row and column 0 have their sources on the border, x = 0 or y = 0: inside, with the nearest pixels there.
    assert both[0, ..., 0].numpy().tolist() == [[10, 15, 138], [20, 15, 132]]


@pytest.mark.parametrize("factor", [0.12345, 0.777, 1.5001])
@pytest.mark.parametrize("name", ["Brightness", "Contrast", "Color", "Sharpness"])
def test_blend_with_any_factor_is_pil_within_one_level_at_rare_places(name: str, factor: float) -> None:
    data = image_set("photos")
    ours = getattr(kernels, name.lower())(tf.constant(data), kernels.factor_q20(factor)).numpy().astype(int)
    difference = np.abs(ours - on_pil(data, lambda image: getattr(ImageEnhance, name)(image).enhance(factor)))
    assert difference.max() <= 1
    assert np.mean(difference != 0) < 0.002


def test_blend_factors_that_would_overflow_are_refused() -> None:
    with pytest.raises(ValueError, match=r"8.5; allowed: 0..8"):
        kernels.factor_q20(8.5)
    white = tf.constant([[[[0], [255]]]], tf.uint8)
    assert kernels.brightness(white, kernels.factor_q20(8.0)).numpy().ravel().tolist() == [0, 255]


def test_each_image_is_warped_by_its_own_matrix() -> None:
    data = image_set("oblong")[:4]
    matrices = tf.stack(
        [kernels.rotation(20, 21, 38), kernels.shear_x(0.2), kernels.shear_y(-0.2), kernels.translation(4, 1)]
    )
    expected = [
        on_pil(data[0:1], lambda image: rotate(image, 20)),
        on_pil(data[1:2], lambda image: affine(image, 1, 0.2, 0, 0, 1, 0)),
        on_pil(data[2:3], lambda image: affine(image, 1, 0, 0, -0.2, 1, 0)),
        on_pil(data[3:4], lambda image: affine(image, 1, 0, 4, 0, 1, 1)),
    ]
    np.testing.assert_array_equal(kernels.warp(tf.constant(data), matrices, FILL).numpy(), np.concatenate(expected))


def test_rotation_by_a_size_known_only_at_run_time_is_the_same() -> None:
    for degrees in (9.0, -17.3, 30.0):
        for height, width in ((1, 1), (32, 32), (21, 38), (500, 333)):
            known = kernels.rotation(degrees, height, width)
            np.testing.assert_array_equal(kernels.rotation(degrees, tf.constant(height), tf.constant(width)), known)


PER_IMAGE: dict[str, tuple[Callable[..., tf.Tensor], list[int]]] = {
    "posterize": (kernels.posterize, [0, 3, 8]),
    "solarize": (kernels.solarize, [0, 100, 256]),
    "solarize_add": (kernels.solarize_add, [0, 110, -30]),
    "add": (kernels.add, [-200, 0, 77]),
    "add_solarize": (kernels.add_solarize, [0, 300000, 2**20]),
    "brightness": (kernels.brightness, [0, 800000, 1900000]),
    "contrast_channel": (kernels.contrast_channel, [0, 800000, 1900000]),
    "contrast": (kernels.contrast, [0, 800000, 1900000]),
    "color": (kernels.color, [0, 800000, 1900000]),
    "sharpness": (kernels.sharpness, [0, 800000, 1900000]),
}


@pytest.mark.parametrize("name", PER_IMAGE)
def test_parameter_of_each_image_does_what_the_number_does(name: str) -> None:
    kernel, values = PER_IMAGE[name]
    data = tf.constant(image_set("oblong")[:3])
    together = kernel(data, tf.constant(values))
    for i, value in enumerate(values):
        np.testing.assert_array_equal(together[i], kernel(data[i : i + 1], value)[0])


def test_solarize_add_adds_below_the_threshold_and_clips() -> None:
    data = image_set("photos")
    expected = np.where(data < 128, np.clip(data.astype(int) + 110, 0, 255), data)
    np.testing.assert_array_equal(kernels.solarize_add(tf.constant(data), 110).numpy(), expected)
    expected = np.where(data < 60, np.clip(data.astype(int) - 20, 0, 255), data)
    np.testing.assert_array_equal(kernels.solarize_add(tf.constant(data), -20, threshold=60).numpy(), expected)


def test_add_solarize_adds_first_and_inverts_what_then_reaches_the_threshold() -> None:
    """By hand: at 0.2 it adds 22 and inverts from 204 on, so from 182 on; at 0.3, 33 and 178.5, so from 146 on."""
    levels = tf.reshape(tf.constant([0, 145, 146, 181, 182, 250], tf.uint8), [1, 1, 6, 1])
    for share, expected in (
        (0.0, [0, 145, 146, 181, 182, 250]),
        (0.2, [22, 167, 168, 203, 51, 0]),
        (0.3, [33, 178, 76, 41, 40, 0]),
        (1.0, [145, 0, 0, 0, 0, 0]),
    ):
        assert kernels.add_solarize(levels, kernels.factor_q20(share)).numpy().ravel().tolist() == expected


def test_contrast_channel_stretches_about_the_unrounded_mean() -> None:
    """By hand: the means are 10.5 and 100.25, so 1.5 makes 10.25 (10) of 10 + 1/3 and clips nothing."""
    first, second = [10, 11, 10, 11], [100, 100, 0, 201]
    data = tf.constant(np.stack([first, second, first], -1).reshape(1, 2, 2, 3), tf.uint8)
    for factor, expected in (
        (1.0, (first, second)),
        (0.0, ([11] * 4, [100] * 4)),
        (1.5, ([10, 11, 10, 11], [100, 100, 0, 251])),
        (2.0, ([10, 12, 10, 12], [100, 100, 0, 255])),
    ):
        ours = kernels.contrast_channel(data, kernels.factor_q20(factor)).numpy().reshape(4, 3).T.tolist()
        assert ours == [expected[0], expected[1], expected[0]], factor


def test_contrast_channel_holds_its_products_at_the_highest_factor() -> None:
    half = np.zeros([2, 2, 4, 1], np.uint8)
    half[:, 1:] = 255
    half[1, 1, 0] = 0
    np.testing.assert_array_equal(kernels.contrast_channel(tf.constant(half), kernels.factor_q20(8.0)), half)


def test_equalize_rarest_takes_its_step_from_the_rarest_value() -> None:
    """By hand: of 3 * 255 + 1 pixels one is black and the rest white: step 3, where `equalize` has 0."""
    data = np.full([1, 1, 766, 1], 9, np.uint8)
    data[0, 0, 0] = 5
    np.testing.assert_array_equal(kernels.equalize(tf.constant(data)), data)
    ours = kernels.equalize_rarest(tf.constant(data)).numpy().ravel()
    assert ours[0] == 0 and set(ours[1:]) == {(1 + 1) // 3}
    flat = np.full([1, 30, 30, 1], 7, np.uint8)
    np.testing.assert_array_equal(kernels.equalize_rarest(tf.constant(flat)), flat)


def test_cutout_fills_the_clipped_square() -> None:
    data = image_set("oblong")[:3]
    ours = kernels.cutout(
        tf.constant(data), tf.constant([0, 10, 20]), tf.constant([0, 20, 37]), tf.constant([4, 3, 0]), 9
    )
    expected = data.copy()
    expected[0, 0:4, 0:4] = 9
    expected[1, 7:13, 17:23] = 9
    np.testing.assert_array_equal(ours.numpy(), expected)


def test_histogram_counts_each_channel_of_each_image() -> None:
    data = image_set("oblong")[:5]
    counts = kernels.histogram(tf.constant(data)).numpy()
    for i in range(5):
        for channel in range(3):
            np.testing.assert_array_equal(counts[i, channel], np.bincount(data[i, ..., channel].ravel(), minlength=256))


def test_tables_are_looked_up_for_each_image_and_channel() -> None:
    data = image_set("oblong")[:2]
    tables = np.random.default_rng(1).integers(0, 256, [2, 3, 256]).astype(np.uint8)
    expected = np.stack([[tables[i, c][data[i, ..., c]] for c in range(3)] for i in range(2)])
    ours = kernels.apply_tables(tf.constant(data), tf.constant(tables)).numpy()
    np.testing.assert_array_equal(ours, np.moveaxis(expected, 1, -1))


# Sizes and contents at which the step is 0, at which it must clip, at which one level is left, and at which step times
# its float32 reciprocal is below 1.
@pytest.mark.parametrize(
    "height, width", [(1, 1), (1, 2), (3, 2), (15, 17), (16, 16), (19, 27), (31, 33), (103, 103), (119, 119)]
)
def test_equalize_equals_pil_on_small_and_lopsided_images(height: int, width: int) -> None:
    generator = np.random.default_rng(height * width)
    data = generator.integers(0, 256, [6, height, width, 3]).astype(np.uint8)
    data[1] = 200
    data[2] = np.where(data[2] < 250, 3, 4)
    data[3] = np.minimum(data[3], 9)
    data[4, :, :, 1] = 255
    np.testing.assert_array_equal(kernels.equalize(tf.constant(data)).numpy(), on_pil(data, ImageOps.equalize))


@pytest.mark.parametrize("height, width", [(1, 1), (1, 9), (2, 5), (3, 3), (4, 1)])
def test_sharpness_equals_pil_on_images_that_are_nearly_all_border(height: int, width: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, [4, height, width, 3]).astype(np.uint8)
    ours = kernels.sharpness(tf.constant(data), kernels.factor_q20(1.9)).numpy()
    np.testing.assert_array_equal(ours, on_pil(data, lambda image: ImageEnhance.Sharpness(image).enhance(1.9)))


def test_color_leaves_one_channel_alone() -> None:
    data = image_set("digits")
    np.testing.assert_array_equal(kernels.color(tf.constant(data), 0).numpy(), data)


# Under XLA with an unknown batch size, height and width: one program with all kernels in it.
def test_all_kernels_give_the_same_bits_under_xla_with_unknown_sizes() -> None:
    def all_kernels(images: tf.Tensor) -> tf.Tensor:
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        results = [
            kernels.warp(images, kernels.rotation(17.0, height, width), FILL),
            kernels.warp(images, kernels.shear_x(0.3), FILL),
            kernels.warp(images, kernels.translation(-2.5, 3), FILL),
            kernels.warp_bilinear(images, kernels.rotation(17.0, height, width), FILL),
            kernels.autocontrast(images),
            kernels.equalize(images),
            kernels.invert(images),
            kernels.posterize(images, 3),
            kernels.solarize(images, 99),
            kernels.solarize_add(images, 50),
            kernels.add(images, -50),
            kernels.add_solarize(images, kernels.factor_q20(0.3)),
            kernels.equalize_rarest(images),
            kernels.brightness(images, kernels.factor_q20(1.3)),
            kernels.contrast_channel(images, kernels.factor_q20(1.3)),
            kernels.contrast(images, kernels.factor_q20(0.3)),
            kernels.color(images, kernels.factor_q20(1.7)),
            kernels.sharpness(images, kernels.factor_q20(0.4)),
        ]
        return tf.stack(results)

    compiled = tf.function(
        all_kernels, jit_compile=True, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)]
    )
    data = tf.constant(image_set("oblong")[:7])
    np.testing.assert_array_equal(compiled(data).numpy(), all_kernels(data).numpy())


def test_to_uint8_rounds_and_clips_floats_and_passes_bytes() -> None:
    floats = tf.constant([-3.0, 0.4, 0.5, 1.5, 254.6, 300.0])
    assert kernels.to_uint8(floats).numpy().tolist() == [0, 0, 0, 2, 255, 255]
    data = tf.constant(image_set("digits"))
    assert kernels.to_uint8(data) is data
    with pytest.raises(ValueError, match="int32; allowed: uint8"):
        kernels.to_uint8(tf.constant([1]))


@pytest.mark.parametrize("kernel", [kernels.equalize, kernels.autocontrast, kernels.invert, kernels.histogram])
def test_other_dtypes_and_ranks_are_refused(kernel: Callable[[tf.Tensor], tf.Tensor]) -> None:
    with pytest.raises(ValueError, match="float32"):
        kernel(tf.zeros([1, 4, 4, 3]))
    with pytest.raises(ValueError, match=r"allowed: uint8 \[B,H,W,C\]"):
        kernel(tf.zeros([4, 4, 3], tf.uint8))


@pytest.mark.parametrize("kernel", [kernels.equalize, kernels.autocontrast, kernels.grayscale])
def test_other_numbers_of_channels_are_refused(kernel: Callable[[tf.Tensor], tf.Tensor]) -> None:
    with pytest.raises(ValueError, match="2 channels; allowed: 1 or 3"):
        kernel(tf.zeros([1, 4, 4, 2], tf.uint8))
