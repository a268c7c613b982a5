"""Large images and values that are not finite, for every op and every layer: what whole numbers and floats can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest
import tensorflow as tf

from tests.test_augment_conformance import COMPILED, OPS, PROGRESS, SEED, SHAPES, make_batch
from tests.test_augment_layers import LAYERS, OWN_ARITHMETIC
from tfaug import augment, images, rng
from tfaug.augment import layers
from tfaug.augment.base import Batch
from tfaug.augment.warps import turns_q16
from tfaug.images.base import MAX_SIDE_PX, floor_sqrt
from tfaug.images.resample import window_places
from tfaug.images.tables import _equalize

SIDE = MAX_SIDE_PX


def ramp(num: int, axis: int) -> np.ndarray:
    """Returns a float image of `num` x 3 px, or 3 x `num`, whose values are the numbers of its rows, or columns."""
    values = np.repeat(np.arange(num, dtype=np.float32)[:, None], 3, axis=1)
    return (values if axis == 1 else values.T)[None, :, :, None]


def turned(layer: Any, choice: Any, rows: np.ndarray) -> np.ndarray:
    """The middle column of three, about the centre."""
    cos = turns_q16(*layer._op.angle_deg)[0][int(choice["angle"][0])] / 65536
    return cos * (rows - (SIDE - 1) / 2) + (SIDE - 1) / 2


# Layers, the side of the image, and from which row each row of the middle column comes.
PLACES: dict[str, tuple[Any, int, Callable[[Any, Any, np.ndarray], np.ndarray]]] = {
    "RandomCrop, resized": (
        lambda: layers.RandomCrop(SIDE, 4),
        SIDE - 384,
        lambda layer, choice, rows: (rows + 0.5) * (SIDE - 384) / SIDE - 0.5,
    ),
    "RandomCrop, resized as in 200 x 300": (
        lambda: layers.RandomCrop(224, 224),
        200,
        lambda layer, choice, rows: (rows + 0.5) * 200 / 224 - 0.5,
    ),
    "RandomCropAndResize": (
        lambda: layers.RandomCropAndResize((SIDE, 3), (1.0, 1.0), (1.0, 1.0)),
        SIDE,
        lambda layer, choice, rows: rows,
    ),
    "RandomRotation by half a turn": (lambda: layers.RandomRotation((0.5, 0.5), "nearest"), SIDE, turned),
    "RandomRotation by a third": (lambda: layers.RandomRotation((0.33, 0.34), "nearest"), SIDE, turned),
    "RandomTranslation": (
        lambda: layers.RandomTranslation((-1.0, 1.0), 0.0, "nearest"),
        SIDE,
        lambda layer, choice, rows: rows - float(choice["down"][0]) * SIDE,
    ),
    "RandomZoom out": (
        lambda: layers.RandomZoom((0.9, 1.0), (0.0, 0.0), "nearest"),
        SIDE,
        lambda layer, choice, rows: rows + float(choice["height"][0]) * (rows - (SIDE - 1) / 2),
    ),
    "RandomZoom in": (
        lambda: layers.RandomZoom((-0.9, -0.8), (0.0, 0.0), "nearest"),
        SIDE,
        lambda layer, choice, rows: rows + float(choice["height"][0]) * (rows - (SIDE - 1) / 2),
    ),
}


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("name", PLACES)
def test_a_layer_reads_large_images_at_the_right_places(name: str, axis: int) -> None:
    """A float image of row numbers comes out as the places that were read; axis 2 is the transposed task."""
    make, side, expected = PLACES[name]
    layer, image = make(), tf.constant(ramp(side, 1))
    choice = layer.sample_choice(rng.make_seed(SEED), tuple(image.shape))
    if axis == 2:
        layer, image, choice = transposed(layer), tf.transpose(image, [0, 2, 1, 3]), swapped(choice)
    result = layer.apply_choice(Batch(image), choice).images.numpy()[0, :, :, 0]
    result = result if axis == 1 else result.T
    places = expected(layer, choice if axis == 1 else swapped(choice), np.arange(len(result)))
    np.testing.assert_allclose(result[:, result.shape[1] // 2], np.clip(places, 0, side - 1), rtol=0, atol=0.6)


def test_a_turn_of_the_largest_image_keeps_its_offsets() -> None:
    """Both sides count in them: at 135 degrees 2.4 times 2**30, in 2**-16 px."""
    [(cos, _, across, sin, _, down)] = augment.Rotate((-360.0, 360.0))._matrices({"angle": tf.range(4096)}, SIDE, SIDE)
    cos, sin, last = cos.numpy().astype(np.int64), sin.numpy().astype(np.int64), SIDE - 1
    np.testing.assert_array_equal(across, ((65536 - cos) * last + sin * last) >> 1)
    np.testing.assert_array_equal(down, ((65536 - cos) * last - sin * last) >> 1)


def transposed(layer: Any) -> Any:
    """Returns the layer that does along columns what `layer` does along rows."""
    config = layer.get_config()
    for one, other in (("height", "width"), ("height_factor", "width_factor")):
        if one in config:
            config[one], config[other] = config[other], config[one]
    if "target_size" in config:
        config["target_size"] = config["target_size"][::-1]
    return type(layer)(**config)


def swapped(choice: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns a choice with rows and columns exchanged."""
    names = {"top": "left", "left": "top", "down": "right", "right": "down", "height": "width", "width": "height"}
    return {names.get(name, name): value if value.shape.rank == 1 else value[:, ::-1] for name, value in choice.items()}


@pytest.mark.parametrize("axis", [1, 2])
def test_a_shear_moves_the_last_rows_of_a_large_image(axis: int) -> None:
    """A long image, three px wide, sheared across: the last row comes from 14,745 px beyond it."""
    image = np.zeros([1, SIDE, 3, 1], np.float32) + np.arange(3, dtype=np.float32)[:, None]
    image = image if axis == 1 else np.swapaxes(image, 1, 2)
    layer = layers.RandomShear(0.9, 0.9, fill_mode="nearest")
    result = layer.apply_choice(Batch(tf.constant(image)), {"xy"[axis - 1]: tf.constant([0.9])}).images.numpy()
    rows = result[0, :, :, 0] if axis == 1 else result[0, :, :, 0].T
    np.testing.assert_array_equal(rows[-1], 2)
    np.testing.assert_array_equal(rows[0], [0, 1, 2])


def read_by(op: augment.Augmentation, choice: dict[str, Any], rows: int = SIDE) -> np.ndarray:
    """Returns the grey levels of the middle column that an op makes of a ramp of 256 levels, 64 rows each."""
    image = tf.cast(ramp(rows, 1) // 64, tf.uint8)
    return op.apply(Batch(image), choice).images.numpy()[0, :, 1, 0].astype(float)


def level(places: np.ndarray) -> np.ndarray:
    return np.clip(places, 0, SIDE - 1) // 64


def test_ops_read_large_images_at_the_right_places() -> None:
    rows = np.arange(SIDE)
    for inverse in (65536 // 10, 65536 * 2, 65536 * 10):
        out = read_by(augment.RandomScale(scale=(0.1, 10.0), fill=77), {"inverse_q16": tf.constant([inverse])})
        places = (rows - (SIDE - 1) / 2) * inverse / 65536 + (SIDE - 1) / 2
        inside = (places > -0.4) & (places < SIDE - 0.6)
        outside = (places < -0.6) | (places > SIDE - 0.4)
        assert np.abs(out - level(places))[inside].max() <= 1 and set(out[outside]) <= {77.0}
    corner = {"top": tf.constant([300]), "left": tf.constant([0])}
    out = read_by(augment.RandomCrop((SIDE - 384, 3)), corner)
    assert np.abs(out - level(300 + (rows + 0.5) * (SIDE - 384) / SIDE - 0.5)).max() <= 1
    window = {"box_px": tf.constant([[100, 0, SIDE - 50, 3]])}
    out = read_by(augment.RandomResizedCrop(), window)
    assert np.abs(out - level(100 + (rows + 0.5) * (SIDE - 150) / SIDE - 0.5)).max() <= 1
    out = read_by(augment.PadCrop(4), {"top": tf.constant([8]), "left": tf.constant([4])})
    np.testing.assert_array_equal(out[:-4], level(rows[:-4] + 4))


@pytest.mark.parametrize("degrees", [30.0, 90.0, 180.0])
def test_a_warp_reads_large_images_at_the_right_places(degrees: float) -> None:
    image = tf.cast(ramp(SIDE, 1) // 64, tf.uint8)
    for warp in (images.warp, images.warp_bilinear):
        out = warp(image, images.rotation(degrees, SIDE, 3), fill=77).numpy()[0, :, 1, 0].astype(float)
        places = np.cos(np.radians(degrees)) * (np.arange(SIDE) - (SIDE - 1) / 2) + (SIDE - 1) / 2
        across = np.sin(np.radians(degrees)) * np.abs(np.arange(SIDE) - (SIDE - 1) / 2)
        assert np.abs(out - level(places))[across < 1].max() <= 1 and set(out[across > 2]) <= {77.0}


# Of 3,000 x 4,000 px, as photographs have them: the sum of the grey levels passes 31 bits.
PHOTOGRAPH = np.full([3000, 4000], 200, np.uint8)
PHOTOGRAPH[:1500] = 250
SUMS: dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], Callable[[PIL.Image.Image], PIL.Image.Image]]] = {
    "contrast": (
        lambda batch: images.contrast(batch, images.factor_q20(0.5)),
        lambda image: PIL.ImageEnhance.Contrast(image).enhance(0.5),
    ),
    "contrast_channel": (
        lambda batch: images.contrast_channel(batch, images.factor_q20(0.5)),
        lambda image: image.point(lambda value: 225 + (value - 225) // 2 + 1),  # 212.5 and 237.5, rounded half up
    ),
    "equalize": (images.equalize, PIL.ImageOps.equalize),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_over_a_photograph_are_those_of_pil(name: str) -> None:
    ours, pils = SUMS[name]
    result = ours(tf.constant(PHOTOGRAPH[None, :, :, None])).numpy()[0, :, :, 0]
    expected = np.asarray(pils(PIL.Image.fromarray(PHOTOGRAPH)))
    for row in (0, -1):
        np.testing.assert_array_equal(result[row], expected[row])


def test_equalize_divides_exactly_in_images_of_any_size() -> None:
    """Counts up to 2**28 px: the quotient of two floats is one off where the whole numbers say otherwise."""
    generator = np.random.default_rng(0)
    steps = np.concatenate([generator.integers(1, 2**28 // 255, 2000), [1, 2, 2**28 // 255]])
    below = np.minimum(steps * generator.integers(0, 256, len(steps)) + generator.integers(-2, 3, len(steps)), 2**28)
    below = np.repeat(np.maximum(below, 0)[:, None, None], 256, axis=2)
    picture = np.zeros([len(steps), 1, 1, 1], np.uint8)
    result = _equalize(tf.constant(picture), tf.constant(below, tf.int32), tf.constant(steps[:, None, None], tf.int32))
    expected = np.minimum((below[:, 0, 0] + steps // 2) // steps, 255)
    np.testing.assert_array_equal(result.numpy()[:, 0, 0, 0], expected)


def test_whole_numbers_hold_the_largest_image() -> None:
    area = SIDE * SIDE
    squares = np.array([area * 4**8, area * 4**8 - 1, 2**44 - 1, (2**22 - 1) ** 2, (2**22 - 1) ** 2 - 1], np.int64)
    roots = [int(np.floor(np.sqrt(np.longdouble(square)))) for square in squares]
    np.testing.assert_array_equal(floor_sqrt(tf.constant(squares)), roots)
    places = window_places(tf.constant([0]), tf.constant([SIDE]), SIDE).numpy()
    np.testing.assert_array_equal(places[0], np.arange(SIDE) * 65536)
    box = augment.CutMix(p=1.0).sample(rng.make_seed(1), (64, SIDE, SIDE, 3))["box_px"].numpy()
    assert box.min() >= 0 and box.max() <= SIDE and (box[:, 2:] - box[:, :2]).max() > SIDE // 2


@pytest.mark.parametrize("name", [*OPS, "RandomFlip"])
def test_sides_that_whole_numbers_do_not_hold_are_refused(name: str) -> None:
    batch = tf.zeros([6, SIDE + 1, 2, 3], tf.uint8), tf.eye(6)
    with pytest.raises(ValueError, match=f"images are {SIDE + 1} x 2 px; allowed: sides of up to 16,384 px"):
        if name in OPS:
            OPS[name](batch, SEED, PROGRESS)
        else:
            LAYERS[name](seed=1)({"images": batch[0], "labels": batch[1]})


def test_a_batch_of_too_many_pixels_is_refused() -> None:
    op = tf.function(images.invert, autograph=False)
    with pytest.raises(
        ValueError, match=r"a batch \(9, 16384, 16384, 1\) has 2,415,919,104 px; allowed: 2,147,483,647"
    ):
        op.get_concrete_function(tf.TensorSpec([9, SIDE, SIDE, 1], tf.uint8))


NOT_FINITE = (np.nan, np.inf, -np.inf)


def with_gaps(values: np.ndarray) -> np.ndarray:
    """Returns float images with NaN and both infinities at three places of each."""
    values = values.astype(np.float32)
    for i, number in enumerate(NOT_FINITE):
        values[:, 1 + i, 2] = number
    return values


@pytest.mark.parametrize("name", COMPILED)
def test_values_that_are_not_finite_give_the_same_bits_in_an_op_and_under_xla(name: str) -> None:
    clean = make_batch(SHAPES["odd"], "float32")
    batch = Batch(tf.constant(with_gaps(clean.images.numpy())), clean.labels)
    expected = OPS[name](batch, SEED, PROGRESS)
    result = tf.function(OPS[name], jit_compile=True)(batch, rng.make_seed(SEED), PROGRESS)
    np.testing.assert_array_equal(result.images, expected.images)


@pytest.mark.parametrize("name", OWN_ARITHMETIC)
def test_values_that_are_not_finite_give_the_same_bits_in_a_layer_and_under_xla(name: str) -> None:
    batch = {"images": tf.constant(with_gaps(make_batch((6, 12, 13, 3)).images.numpy())), "labels": tf.eye(6)}
    layer = LAYERS[name](seed=1)
    expected = layer(batch, seed=SEED)["images"]
    result = tf.function(lambda batch: layer(batch, seed=SEED), autograph=False, jit_compile=True)(batch)["images"]
    np.testing.assert_array_equal(result, expected)


def test_nan_is_black_where_values_become_grey_levels_and_stays_where_they_do_not() -> None:
    row = tf.constant([[[[np.nan], [np.inf], [-np.inf], [7.4]]]])
    np.testing.assert_array_equal(images.to_uint8(row)[0, 0, :, 0], [0, 255, 0, 7])
    layer = layers.RandomBrightness((0.2, 0.2))
    np.testing.assert_allclose(layer(row)[0, 0, :, 0], [np.nan, 255, 0, 58.4], rtol=1e-6)
    np.testing.assert_array_equal(layers.RandomBrightness((0.2, 0.2), dtype="uint8")(row)[0, 0, :, 0], [0, 255, 0, 58])


@pytest.mark.parametrize("op", [augment.Mixup(p=0.0), augment.SamplePairing(p=0.0), augment.SamplePairing(weight=1.0)])
def test_a_weight_of_zero_takes_nothing_of_a_value_that_is_not_finite(op: augment.Augmentation) -> None:
    image = tf.constant([np.inf, 1.0, np.nan, 2.0])[:, None, None, None]
    result = op((image, tf.eye(4)), seed=1)
    np.testing.assert_array_equal(result.images, image)


def test_a_contrast_of_zero_leaves_the_mean_of_an_infinite_pixel_too() -> None:
    row = tf.constant([[[[np.inf], [1.0]]]])
    np.testing.assert_array_equal(layers.RandomContrast((0, 255), (1.0, -1.0))(row), np.full([1, 1, 2, 1], 128.0))


@pytest.mark.parametrize("op", [augment.SumAug(3), augment.GradualSumAug(3)])
def test_a_mean_of_floats_lies_within_its_members_whatever_their_range(op: augment.Augmentation) -> None:
    """Values far outside 0..255, of which a bound at 255 took the upper ones and none the lower ones."""
    for low, high in ((-1.0, 1.0), (-900.0, 900.0)):
        batch = tf.random.stateless_uniform([9, 4, 4, 1], [1, 2], low, high)
        members = op.sample(rng.make_seed(SEED), (9, 4, 4, 1), PROGRESS)["members"]
        result = op((batch, tf.eye(9)), SEED, PROGRESS)
        parts = tf.gather(batch, members).numpy()
        assert (result.images.numpy() <= parts.max(1)).all() and (result.images.numpy() >= parts.min(1)).all()
        assert np.abs(result.images).max() > high / 4
        constant = op((tf.fill([9, 2, 2, 1], low / 3), tf.eye(9)), SEED, PROGRESS)
        np.testing.assert_array_equal(constant.images, np.float32(low / 3))
