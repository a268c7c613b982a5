"""The Keras layers: keras-cv's arguments, calling convention and pixels; what a layer does, its op's tests test."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import pathlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfaug import augment, rng
from tfaug.augment import layers
from tfaug.augment.base import Augmentation, Batch
from tfaug.augment.warps import turns_q16
from tfaug.config import ConfigError
from tfaug.keras_versions import KERAS_3
from tfaug.schedules import Linear

with contextlib.redirect_stdout(io.StringIO()):  # it prints its backend's name
    import keras_cv

SEED = 7
RANGE = (0, 255)

# Each layer at a setting in which all its parts are at work.
LAYERS: dict[str, Callable[..., Any]] = {
    "Augment": functools.partial(layers.Augment, "PadCrop(2) + Flip() + Mixup()"),
    "AutoAugment": functools.partial(layers.AutoAugment, RANGE),
    "AutoContrast": functools.partial(layers.AutoContrast, RANGE),
    "ChannelShuffle": functools.partial(layers.ChannelShuffle, 3),
    "CutMix": functools.partial(layers.CutMix, 0.7),
    "Equalization": functools.partial(layers.Equalization, RANGE),
    "Grayscale": functools.partial(layers.Grayscale, 1),
    "MixUp": functools.partial(layers.MixUp, 0.4),
    "Posterization": functools.partial(layers.Posterization, RANGE, bits=3),
    "RandAugment": functools.partial(layers.RandAugment, RANGE, 1, magnitude=0.4),
    "RandomBrightness": functools.partial(layers.RandomBrightness, 0.3),
    "RandomColorDegeneration": functools.partial(layers.RandomColorDegeneration, (0.2, 0.9)),
    "RandomContrast": functools.partial(layers.RandomContrast, RANGE, 0.5),
    "RandomCrop": functools.partial(layers.RandomCrop, 8, 7),
    "RandomCropAndResize": functools.partial(layers.RandomCropAndResize, (8, 15), (0.3, 0.9), (0.75, 1.33)),
    "RandomCutout": functools.partial(layers.RandomCutout, 0.6, 0.4, fill_value=9.0),
    "RandomErasing": functools.partial(layers.RandomErasing, RANGE, 0.9, fill="noise"),
    "RandomFlip": functools.partial(layers.RandomFlip, "horizontal_and_vertical"),
    "RandomGaussianBlur": functools.partial(layers.RandomGaussianBlur, (3, 5), 2.0),
    "RandomRotation": functools.partial(layers.RandomRotation, 0.3),
    "RandomSharpness": functools.partial(layers.RandomSharpness, 0.9, RANGE),
    "RandomShear": functools.partial(layers.RandomShear, 0.3, 0.2),
    "RandomTranslation": functools.partial(layers.RandomTranslation, 0.4, 0.3),
    "RandomZoom": functools.partial(layers.RandomZoom, 0.4, (-0.3, 0.5)),
    "Solarization": functools.partial(layers.Solarization, RANGE, (5, 60), 200.0),
    "SumAugmentation": functools.partial(layers.SumAugmentation, 2),
}
# The op that each of them stands for.
OPS: dict[str, Augmentation] = {
    "Augment": augment.Compose((augment.PadCrop(2), augment.Flip(), augment.Mixup())),
    "AutoAugment": augment.AutoAugment(),
    "AutoContrast": augment.AutoContrast(),
    "ChannelShuffle": augment.ChannelShuffle(3),
    "CutMix": augment.CutMix(0.7),
    "Equalization": augment.Equalize(rarest=True),
    "Grayscale": augment.Grayscale(1),
    "MixUp": augment.Mixup(0.4),
    "Posterization": augment.Posterize(3),
    "RandAugment": augment.RandAugment(1, 12.0, "keras_cv"),
    "RandomBrightness": augment.Brightness((-0.3, 0.3)),
    "RandomColorDegeneration": augment.Desaturate((0.2, 0.9)),
    "RandomContrast": augment.Contrast((0.5, 1.5)),
    "RandomCrop": augment.RandomCrop((8, 7), resize=False),
    "RandomCropAndResize": augment.CropAndResize((8, 15), (0.3, 0.9), (0.75, 1.33)),
    "RandomCutout": augment.RandomCutout((0, 0.6), (0, 0.4), 9.0),
    "RandomErasing": augment.RandomErasing(0.9, fill="noise"),
    "RandomFlip": augment.Compose((augment.Flip(), augment.Flip(axis="vertical"))),
    "RandomGaussianBlur": augment.GaussianFilter((5, 3), (0.0, 2.0)),
    "RandomRotation": augment.Rotate((-108.0, 108.0)),
    "RandomSharpness": augment.Smooth((0, 0.9)),
    "RandomShear": augment.Shear((0, 0.3), (0, 0.2)),
    "RandomTranslation": augment.Translate((-0.4, 0.4), (-0.3, 0.3)),
    "RandomZoom": augment.Zoom((-0.4, 0.4), (-0.3, 0.5)),
    "Solarization": augment.Solarize((0, 200), (5, 60)),
    "SumAugmentation": augment.SumAug(2),
}
MIXING = ("CutMix", "MixUp", "SumAugmentation")
OURS = ("Augment", "AutoAugment", "RandomErasing", "SumAugmentation")
FIXED = ("AutoContrast", "Equalization", "Grayscale", "Posterization")  # they draw nothing
OWN_ARITHMETIC = ("RandomBrightness", "RandomColorDegeneration", "RandomContrast", "RandomCrop")  # beside the op's
SIZES = {"Grayscale": (23, 18, 1), "RandomCrop": (8, 7, 3), "RandomCropAndResize": (8, 15, 3)}

every_layer = pytest.mark.parametrize("name", LAYERS)
every_random_layer = pytest.mark.parametrize("name", [name for name in LAYERS if name not in FIXED])


@functools.cache
def layer(name: str) -> Any:
    return LAYERS[name](seed=1)


def make_images(num: int = 6) -> np.ndarray:
    """Returns smooth, bright and dark images of 23 x 18 px with some noise, uint8."""
    generator = np.random.default_rng(num)
    rows, columns = np.mgrid[:23, :18]
    slopes = generator.uniform(-6, 6, [num, 2, 1, 1, 3])
    smooth = 128 + slopes[:, 0] * (rows[..., None] - 11) + slopes[:, 1] * (columns[..., None] - 8)
    return np.clip(smooth + generator.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def make_inputs(num: int = 6) -> dict[str, np.ndarray]:
    return {"images": make_images(num), "labels": np.eye(num, dtype=np.float32), "id": np.arange(num)}


def for_layer(name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Returns the inputs without what the layer refuses."""
    return {key: value for key, value in inputs.items() if key != "id" or name != "SumAugmentation"}


@functools.cache
def eager(name: str) -> dict[str, tf.Tensor]:
    return layer(name)(for_layer(name, make_inputs()), seed=SEED)


def assert_same(actual: dict[str, tf.Tensor], expected: dict[str, tf.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(np.array(actual[key]), np.array(value), err_msg=key)


def test_the_table_holds_every_layer() -> None:
    assert set(layers.__all__) - {"ImageLayer"} == set(LAYERS) == set(OPS)
    registered = tf.keras.utils.get_custom_objects()
    assert {name for name in registered if name.startswith("tfaug>")} >= {f"tfaug>{name}" for name in LAYERS}


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in OURS])
def test_the_constructor_takes_kerascvs_arguments_in_their_order_with_their_defaults(name: str) -> None:
    theirs = list(inspect.signature(getattr(keras_cv.layers, name)).parameters.values())
    ours = list(inspect.signature(getattr(layers, name)).parameters.values())
    both = [[(part.name, part.kind, part.default) for part in parts] for parts in (ours, theirs)]
    assert both[0] == both[1]


@every_layer
def test_a_layer_is_its_op_on_floats_and_on_grey_levels(name: str) -> None:
    inputs, op = make_inputs(), OPS[name]
    for images, dtype in ((inputs["images"], "uint8"), (inputs["images"].astype(np.float32), "float32")):
        expected = op((images, inputs["labels"]), SEED)
        result = LAYERS[name](dtype=dtype)({"images": images, "labels": inputs["labels"]}, seed=SEED)
        assert result["images"].dtype == dtype
        np.testing.assert_array_equal(
            result["images"], np.round(expected.images) if dtype == "uint8" else expected.images
        )
        np.testing.assert_array_equal(result["labels"], expected.labels)


@every_layer
def test_a_batch_a_dict_and_a_single_image_agree(name: str) -> None:
    inputs, result = for_layer(name, make_inputs()), eager(name)
    num = 3 if name == "SumAugmentation" else 6
    assert result["images"].shape == (num, *SIZES.get(name, (23, 18, 3))) and result["images"].dtype == tf.float32
    assert not np.array_equal(result["images"], inputs["images"][:num, ...])
    assert result.keys() == inputs.keys()
    if "id" in inputs:
        np.testing.assert_array_equal(result["id"], inputs["id"])
    if name in (*MIXING, "Augment"):
        with pytest.raises(ValueError, match="mixes labels too"):
            layer(name)(inputs["images"], seed=SEED)
    else:
        np.testing.assert_array_equal(result["labels"], inputs["labels"])
        np.testing.assert_array_equal(layer(name)(inputs["images"], seed=SEED), result["images"])
    one = {key: value[0] for key, value in inputs.items()}
    if name in (*MIXING, "Augment"):
        with pytest.raises(ValueError, match="is given one image"):
            layer(name)(one)
    else:
        batch = layer(name)({key: value[:1] for key, value in inputs.items()}, seed=SEED)
        assert_same(layer(name)(one, seed=SEED), {key: value[0] for key, value in batch.items()})


ALL_TYPES = ("int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "bfloat16", "float32", "float64")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "int32") for name in LAYERS]
    + [(name, dtype) for name in ("RandomFlip", "Equalization", "CutMix") for dtype in ALL_TYPES],
)
def test_the_same_values_in_another_type_give_the_same_result(name: str, dtype: str) -> None:
    inputs = for_layer(name, make_inputs())
    inputs["images"] = tf.cast(inputs["images"], dtype)
    ranged = "value_range" in layer(name).get_config() or name == "RandomColorDegeneration"
    if tf.as_dtype(dtype).is_integer and ranged:
        with pytest.raises(ValueError, match=rf"given {dtype} images and works on values in \(0, 255\)"):
            layer(name)(inputs, seed=SEED)
        return
    assert_same(layer(name)(inputs, seed=SEED), eager(name))


@every_layer
def test_the_dtype_of_the_result_is_the_layers(name: str) -> None:
    inputs, expected = for_layer(name, make_inputs()), eager(name)["images"].numpy()
    kept = LAYERS[name](dtype="uint8")(inputs, seed=SEED)["images"]
    assert kept.dtype == tf.uint8
    np.testing.assert_array_equal(kept, np.round(expected))
    half = LAYERS[name](dtype="mixed_float16")(inputs, seed=SEED)["images"]
    assert half.dtype == tf.float16
    np.testing.assert_array_equal(half, expected.astype(np.float16))


@every_random_layer
def test_without_training_the_images_stay(name: str) -> None:
    inputs = for_layer(name, make_inputs())
    state = np.array(layer(name)._generator.state)
    result = layer(name)(inputs, training=False)
    assert result["images"].dtype == tf.float32
    np.testing.assert_array_equal(result["labels"], inputs["labels"])
    if name in SIZES:
        assert result["images"].shape[1:] == SIZES[name]
    else:
        np.testing.assert_array_equal(result["images"], inputs["images"])
    np.testing.assert_array_equal(layer(name)._generator.state, state)


@pytest.mark.parametrize("name", FIXED)
def test_a_layer_that_draws_nothing_does_its_work_without_training_too(name: str) -> None:
    assert_same(layer(name)(make_inputs(), training=False), eager(name))


def test_without_training_a_crop_is_the_middle_and_a_resized_crop_the_whole() -> None:
    images = make_images()
    np.testing.assert_array_equal(layer("RandomCrop")(images, training=False), images[:, 7:15, 5:12])
    same_size = layers.RandomCropAndResize((23, 18), (0.3, 0.9), (0.75, 1.33))
    np.testing.assert_array_equal(same_size(images, training=False), images)


def test_none_and_no_training_argument_augment() -> None:
    for arguments in ({}, {"training": None}, {"training": True}):
        assert_same(layer("RandomFlip")(make_inputs(), seed=SEED, **arguments), eager("RandomFlip"))


@pytest.mark.parametrize("name", [*SIZES, "Augment"])
def test_tf_data_with_an_unknown_batch_size_gives_the_same_bits(name: str) -> None:
    dataset = tf.data.Dataset.from_tensor_slices(for_layer(name, make_inputs())).batch(6)
    assert dataset.element_spec["images"].shape[0] is None
    mapped = dataset.map(lambda inputs: layer(name)(inputs, seed=SEED))
    assert mapped.element_spec["images"].shape[1:] == SIZES.get(name, (23, 18, 3))
    assert_same(next(iter(mapped)), eager(name))


@pytest.mark.parametrize("name", [*OWN_ARITHMETIC, "Augment"])
def test_xla_gives_the_same_bits(name: str) -> None:
    function = tf.function(lambda inputs: layer(name)(inputs, seed=SEED), jit_compile=True)
    inputs = {key: tf.constant(value) for key, value in for_layer(name, make_inputs()).items()}
    assert_same(function(inputs), eager(name))


@pytest.mark.parametrize("name", ["RandomFlip", "RandomRotation"])
def test_the_layers_seed_decides_and_calls_differ(name: str) -> None:
    inputs = for_layer(name, make_inputs())
    first, again, other = (LAYERS[name](seed=seed) for seed in (3, 3, 4))
    calls = [made(inputs)["images"].numpy() for made in (first, first, again, again, other)]
    np.testing.assert_array_equal(calls[0], calls[2])
    np.testing.assert_array_equal(calls[1], calls[3])
    assert not np.array_equal(calls[0], calls[1]) and not np.array_equal(calls[0], calls[4])


def test_layers_without_a_seed_differ() -> None:
    images = make_images(32)
    assert not np.array_equal(layers.RandomFlip()(images), layers.RandomFlip()(images))


def test_a_seed_of_two_words_is_an_integers() -> None:
    np.testing.assert_array_equal(
        layer("RandomFlip")(make_images(), seed=rng.make_seed(SEED)), eager("RandomFlip")["images"]
    )
    with pytest.raises(ValueError, match=r"seed is 0.5; allowed: a whole number"):
        layer("RandomFlip")(make_images(), seed=0.5)


@every_layer
def test_the_configuration_makes_the_same_layer(name: str) -> None:
    made = layer(name)
    config = made.get_config()
    assert config["seed"] == 1
    saved = json.dumps(tf.keras.layers.serialize(made))
    copy = tf.keras.layers.deserialize(json.loads(saved))
    assert type(copy) is type(made) and json.dumps(copy.get_config()) == json.dumps(config)
    assert_same(copy(for_layer(name, make_inputs()), seed=SEED), eager(name))


# keras-cv's own pixels, at the draws that our layer makes.


def theirs(name: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(keras_cv.layers, name)(*args, **kwargs)


def columns(*values: Any) -> list[np.ndarray]:
    return [np.array(value, np.float32)[:, None] for value in values]


def all_axes(value: Any) -> np.ndarray:
    return np.array(value, np.float32)[:, None, None, None]


def oracle(name: str, images: tf.Tensor, choice: dict[str, np.ndarray]) -> Any:
    """Returns what keras-cv's layer of the same arguments makes of the images at our choice."""
    made = LAYERS[name]
    other = theirs(name, *made.args, **made.keywords)
    if name == "RandomRotation":
        cosines, sines = turns_q16(*layer(name)._op.angle_deg)
        angles = np.arctan2(sines, cosines)[choice["angle"]]
        return other.augment_images(images, {"angles": angles.astype(np.float32)})
    if name == "RandomShear":
        return other.augment_images(
            images, dict(zip(("shear_x", "shear_y"), columns(choice["x"], choice["y"]), strict=True))
        )
    if name == "RandomTranslation":
        moved = columns(choice["down"], choice["right"])
        return other.augment_images(
            images, dict(zip(("height_translations", "width_translations"), moved, strict=True))
        )
    if name == "RandomZoom":
        zooms = columns(1 + choice["height"], 1 + choice["width"])
        return other.augment_images(images, dict(zip(("height_zooms", "width_zooms"), zooms, strict=True)))
    if name == "RandomFlip":
        flips = columns(choice["0.flip"], choice["1.flip"])
        return other.augment_images(images, dict(zip(("flip_horizontals", "flip_verticals"), flips, strict=True)))
    if name == "RandomCutout":
        (y, x), (height, width) = choice["centre_px"].T, choice["size_px"].T
        names = ("centers_y", "centers_x", "rectangles_height", "rectangles_width")
        return other.augment_images(images, dict(zip(names, (y, x, height, width), strict=True)))
    if name == "Solarization":
        names = ("additions", "thresholds")
        drawn = (all_axes(choice["addition"]), all_axes(choice["threshold"]))
        return other.augment_images(images, dict(zip(names, drawn, strict=True)))
    if name == "RandomBrightness":
        return other.augment_images(images, all_axes(choice["factor"] * 255))
    if name == "ChannelShuffle":
        return other.augment_images(images, choice["order"])
    if name == "RandomCropAndResize":
        boxes = np.concatenate([choice["offset"], choice["offset"] + choice["size"]], 1)
        return tf.stack([other._crop_and_resize(image, [box]) for image, box in zip(images, boxes, strict=True)])
    if name == "RandomGaussianBlur":
        sigmas = 2.0 * (choice["sigma"] + 0.5) / 4096
        blurred = []
        for image, sigma in zip(images, sigmas, strict=True):
            kernels = (
                tf.reshape(other.get_kernel(sigma, 5), [5, 1, 1, 1]),
                tf.reshape(other.get_kernel(sigma, 3), [1, 3, 1, 1]),
            )
            blurred.append(other.augment_image(image, kernels))
        return tf.stack(blurred)
    if name == "Posterization":
        return other.augment_image(images)
    if "factor" in choice:
        return other.augment_images(images, all_axes(choice["factor"]))
    return other.augment_images(images)


# How far a value may be from keras-cv's, in grey levels: integer and fixed-point arithmetic against float32.
TOLERANCES = {
    "AutoContrast": 1.0,
    "ChannelShuffle": 0,
    "Equalization": 0,
    "Grayscale": 1e-4,
    "Posterization": 0,
    "RandomBrightness": 1e-4,
    "RandomColorDegeneration": 1e-4,
    "RandomContrast": 2**-8,
    "RandomCropAndResize": 0.02,
    "RandomCutout": 0,
    "RandomFlip": 0,
    "RandomGaussianBlur": 1e-3,
    "RandomRotation": 0.05,
    "RandomSharpness": 1.5,
    "RandomShear": 0.02,
    "RandomTranslation": 0.02,
    "RandomZoom": 0.05,
    "Solarization": 0,
}


@pytest.mark.parametrize("name", TOLERANCES)
def test_the_pixels_are_kerascvs_at_the_same_draws(name: str) -> None:
    images = tf.constant(make_images())
    choice = layer(name).sample_choice(rng.make_seed(SEED), images.shape)
    ours = layer(name).apply_choice(Batch(images), choice).images
    expected = oracle(name, tf.cast(images, tf.float32), {key: value.numpy() for key, value in choice.items()})
    np.testing.assert_allclose(ours.numpy().astype(np.float32), expected, rtol=0, atol=TOLERANCES[name])


def test_equalization_is_kerascvs_where_the_highest_value_is_not_the_rarest() -> None:
    images = np.clip(make_images().astype(int) + 120, 0, 255).astype(np.uint8)
    assert ((images == 255).sum((1, 2)) > 414 - 255).any()  # PIL would leave such a channel as it is
    np.testing.assert_array_equal(layers.Equalization(RANGE)(images), theirs("Equalization", RANGE)(images))


def test_every_mirrored_layer_has_an_oracle_or_a_reason() -> None:
    others = {"CutMix", "MixUp", "RandAugment"}  # tested as ops; keras-cv draws and applies in one
    others |= {"RandomCrop"}  # whole pixels, see below
    assert set(TOLERANCES) | others == set(LAYERS) - set(OURS)


@pytest.mark.parametrize("fill_mode", ["reflect", "nearest", "constant"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_every_way_to_fill_and_to_interpolate_is_kerascvs(fill_mode: str, interpolation: str) -> None:
    images = tf.cast(make_images(), tf.float32)
    arguments = {"fill_mode": fill_mode, "interpolation": interpolation, "fill_value": 7.0}
    ours = layers.RandomTranslation(0.9, 0.9, **arguments)
    choice = ours.sample_choice(rng.make_seed(SEED), images.shape)
    other = keras_cv.layers.RandomTranslation(0.9, 0.9, **arguments)
    names = ("height_translations", "width_translations")
    moved = dict(zip(names, columns(choice["down"], choice["right"]), strict=True))
    expected = other.augment_images(images, moved)
    np.testing.assert_allclose(ours.apply_choice(Batch(images), choice).images, expected, rtol=0, atol=0.05)


def test_wrapping_goes_round() -> None:
    images = make_images()
    moved = layers.RandomTranslation((3 / 23, 3 / 23), (1 / 9, 1 / 9), fill_mode="wrap")(images)
    np.testing.assert_allclose(moved, np.roll(images, (3, 2), (1, 2)), rtol=0, atol=0.01)


def test_crops_are_windows_of_the_image_at_uniform_places() -> None:
    rows, columns = np.mgrid[:13, :10]
    images = np.repeat((rows * 10 + columns)[None, ..., None], 600, 0).astype(np.uint8)
    crops = layers.RandomCrop(8, 7)(images, seed=SEED).numpy()[..., 0]
    np.testing.assert_array_equal(crops - crops[:, :1, :1], np.broadcast_to((rows * 10 + columns)[:8, :7], crops.shape))
    counts = np.bincount(crops[:, 0, 0].astype(int), minlength=64)
    places = [10 * row + column for row in range(6) for column in range(4)]
    assert counts.sum() == counts[places].sum() == 600
    assert counts[places].min() >= 9 and counts[places].max() <= 45  # 25 each


def test_images_smaller_than_the_crop_are_resized() -> None:
    images = make_images()
    larger = layers.RandomCrop(36, 35)(images)
    np.testing.assert_allclose(larger, tf.image.resize(images, [36, 35]), rtol=0, atol=0.02)


# What is drawn.


def test_draws_are_uniform_over_their_range() -> None:
    for name, made, key, low, high in (
        ("RandomBrightness", layers.RandomBrightness(0.3), "factor", -0.3, 0.3),
        ("RandomContrast", layers.RandomContrast(RANGE, (0.5, 0.2)), "factor", 0.5, 1.2),
        ("RandomSharpness", layers.RandomSharpness((0.2, 0.9), RANGE), "factor", 0.2, 0.9),
        ("RandomZoom", layers.RandomZoom((-0.3, 0.1)), "height", -0.3, 0.1),
        ("Solarization", layers.Solarization(RANGE, 110.0), "addition", 0, 110),
        ("RandomRotation", layers.RandomRotation(0.25), "angle", 0, 4096),
    ):
        drawn = made.sample_choice(rng.make_seed(SEED), (4000, 8, 8, 3))[key].numpy().astype(float)
        assert low <= drawn.min() < low + 0.02 * (high - low) and high - 0.02 * (high - low) < drawn.max() <= high
        quantiles = (np.sort(drawn) - low) / (high - low)
        assert np.abs(quantiles - np.arange(4000) / 4000).max() < 0.03, name  # KS at 1e-3: 0.031


def test_shears_have_both_signs_and_flips_their_rate() -> None:
    choice = layers.RandomShear(0.3).sample_choice(rng.make_seed(SEED), (1000, 8, 8, 3))
    assert choice.keys() == {"x"} and 430 < (choice["x"].numpy() < 0).sum() < 570
    flips = layers.RandomFlip("horizontal_and_vertical", 0.2).sample_choice(rng.make_seed(SEED), (2000, 8, 8, 3))
    for flip in flips.values():
        assert 330 < flip.numpy().sum() < 470
    both = flips["0.flip"].numpy() & flips["1.flip"].numpy()
    assert 50 < both.sum() < 115  # 80


@pytest.mark.parametrize(("rate", "geometric"), [(10 / 11, True), (0.5, True), (1.0, True), (0.8, False), (0.0, True)])
def test_randaugments_rate_and_operations(rate: float, geometric: bool) -> None:
    made = layers.RandAugment(RANGE, 1, rate=rate, geometric=geometric)
    num = 4400
    choice = made.sample_choice(rng.make_seed(SEED), (num, 8, 8, 3))
    shares = np.bincount(choice["op_index"].numpy()[:, 0], minlength=11) / num
    num_ops = 10 if geometric else 6
    expected = np.array([1 - rate] + [rate / num_ops] * num_ops + [0] * (10 - num_ops))
    assert np.abs(shares - expected).max() < 4 * np.sqrt(0.25 / num)
    assert (shares[expected == 0] == 0).all()


def test_randaugment_is_the_op_with_kerascvs_preset() -> None:
    images = make_images()
    op = augment.RandAugment(n=2, m=12.0, preset="keras_cv", spread=3.0)
    made = layers.RandAugment(RANGE, 2, magnitude=0.4, magnitude_stddev=0.1)
    np.testing.assert_array_equal(made(images, seed=SEED), op(images, SEED))


@pytest.mark.parametrize(("rate", "geometric"), [(0.5, True), (1.0, True), (0.8, False)])
def test_randaugments_magnitudes_are_those_of_the_operations_drawn(rate: float, geometric: bool) -> None:
    """Contrast, addition and translations draw from 0 up to the magnitude, the others about it."""
    choice = layers.RandAugment(RANGE, 2, 0.5, 0.02, rate, geometric).sample_choice(
        rng.make_seed(SEED), (2000, 8, 8, 3)
    )
    names = np.array(augment.RandAugment(preset="keras_cv").op_names)[choice["op_index"]]
    magnitudes = choice["level"].numpy() / 64
    uniform = np.isin(names, ["contrast_channel", "add", "translate_x_fraction", "translate_y_fraction"])
    about, below = magnitudes[~uniform & (names != "identity")], magnitudes[uniform]
    assert len(about) > 500 and np.abs(about - 15).max() < 3.6 and np.abs(about.mean() - 15) < 0.1
    assert len(below) > 400 and below.max() <= 15 and below.min() < 0.3 and np.abs(below.mean() - 7.5) < 0.8


def test_randaugments_layers_are_independent_and_none_is_the_identity() -> None:
    index = layers.RandAugment(RANGE, 2, rate=0.5).sample_choice(rng.make_seed(SEED), (4000, 8, 8, 3))["op_index"]
    skipped = index.numpy() == 0
    assert np.abs([*skipped.mean(0) - 0.5, skipped.all(1).mean() - 0.25]).max() < 0.032  # 4 sigma
    for rate in (10 / 11, 0.5, 1.0):
        np.testing.assert_array_equal(layers.RandAugment(RANGE, 0, rate=rate)(make_images()), make_images())
    np.testing.assert_array_equal(layers.RandAugment(RANGE, 2, rate=0.0)(make_images()), make_images())


@pytest.mark.parametrize(("rate", "geometric"), [(0.5, True), (1.0, True), (0.8, False)])
def test_randaugment_at_another_rate_is_the_op_at_its_choice(rate: float, geometric: bool) -> None:
    images = tf.constant(make_images())
    made = layers.RandAugment(RANGE, 1, rate=rate, geometric=geometric)
    choice = made.sample_choice(rng.make_seed(SEED), images.shape)
    expected = augment.RandAugment(1, 15.0, preset="keras_cv").apply(Batch(images), choice).images
    np.testing.assert_array_equal(made(images, seed=SEED), expected)


def test_cutmix_labels_are_the_share_of_the_pixels() -> None:
    num = 64
    images = np.zeros([num, 13, 10, 3], np.float32) + np.arange(num, dtype=np.float32)[:, None, None, None] / num
    result = layers.CutMix()({"images": images, "labels": np.eye(num)}, seed=SEED)
    pixels = np.round(result["images"].numpy()[..., 0] * num).astype(int).reshape(num, -1)
    shares = np.stack([np.bincount(row, minlength=num) / 130 for row in pixels])
    np.testing.assert_allclose(result["labels"], shares, rtol=0, atol=1e-6)
    assert (np.count_nonzero(shares, axis=1) == 2).sum() > 40


def test_mixup_mixes_images_and_labels_by_one_weight() -> None:
    num = 64
    images = np.zeros([num, 4, 4, 1], np.float32) + np.arange(num, dtype=np.float32)[:, None, None, None]
    result = layers.MixUp(0.8)({"images": images, "labels": np.eye(num, dtype=np.int64)}, seed=SEED)
    np.testing.assert_allclose(result["images"][:, 0, 0, 0], result["labels"].numpy() @ np.arange(num), atol=1e-4)
    assert len(np.unique(result["labels"].numpy().max(1))) > 50


# Ranges, models, state.


@pytest.mark.parametrize(
    "make",
    [
        lambda value_range: layers.RandAugment(value_range, 1, magnitude=0.4),
        lambda value_range: layers.Equalization(value_range),
        lambda value_range: layers.RandomSharpness(0.9, value_range),
        lambda value_range: layers.RandomContrast(value_range, 0.5),
        lambda value_range: layers.RandomBrightness(0.3, value_range),
        lambda value_range: layers.Augment("RandAugment(n=1) + Flip()", value_range),
    ],
)
@pytest.mark.parametrize("value_range", [(0, 1), (-1.0, 1.0)])
def test_images_of_another_range_are_augmented_alike(
    make: Callable[..., Any], value_range: tuple[float, float]
) -> None:
    low, high = value_range
    images = make_images()
    expected = make(RANGE)(images, seed=SEED).numpy() / 255 * (high - low) + low
    result = make(value_range)((images / 255 * (high - low) + low).astype(np.float32), seed=SEED)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda value_range: layers.AutoContrast(value_range),
        lambda value_range: layers.RandAugment(value_range, 1),
        lambda value_range: layers.RandomBrightness(0.3, value_range),
        lambda value_range: layers.RandomContrast(value_range, 0.5),
        lambda value_range: layers.RandomErasing(value_range, fill=128),
        lambda value_range: layers.Augment("AutoAugment()", value_range),
    ],
)
def test_floats_of_0_to_1_that_are_said_to_be_grey_levels_are_warned_of(make: Callable[..., Any]) -> None:
    images = (make_images() / 255).astype(np.float32)
    with pytest.warns(UserWarning, match=r"floats in 0\.\.1 where grey levels .* say value_range=\(0, 1\)"):
        make(RANGE)(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make((0, 1))(images)
        make(RANGE)(make_images())


def test_images_of_any_range_pass_through_the_layers_that_have_none() -> None:
    images = make_images()
    for name in (
        "RandomFlip",
        "RandomRotation",
        "RandomShear",
        "RandomTranslation",
        "RandomZoom",
        "RandomGaussianBlur",
    ):
        expected = layer(name)(images, seed=SEED).numpy() / 255
        np.testing.assert_allclose(layer(name)((images / 255).astype(np.float32), seed=SEED), expected, atol=1e-6)


def model_of(names: tuple[str, ...]) -> tf.keras.Model:
    """Returns a model that gives what each layer makes of its input."""
    # Named, since a served model takes its inputs in the order of their names.
    images, labels = tf.keras.Input([23, 18, 3], name="images"), tf.keras.Input([6], name="labels")
    outputs = [LAYERS[name](seed=1, name=name)({"images": images, "labels": labels})["images"] for name in names]
    return tf.keras.Model([images, labels], outputs)


def test_layers_are_saved_and_loaded_in_a_model(tmp_path: pathlib.Path) -> None:
    names = ("Augment", "CutMix", "RandomFlip", "RandomCrop", "Solarization", "Equalization")
    model, inputs = model_of(names), list(make_inputs().values())[:2]
    model(inputs, training=True)
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config())
    for training in (False, True):
        outputs = [made(inputs, training=training) for made in (model, loaded)]
        for first, second in zip(*outputs, strict=True):
            np.testing.assert_array_equal(first, second)


def export_for_inference(model: tf.keras.Model, inputs: list[tf.Tensor], path: str) -> None:
    """Exports as docs/keras_cv.md says: `model.export` of Keras 3 leaves `training` to the layers, which augment then."""
    archive = tf.keras.export.ExportArchive()
    archive.track(model)
    specs = [
        tf.TensorSpec(part.shape, part.dtype, name) for part, name in zip(inputs, ("images", "labels"), strict=True)
    ]
    archive.add_endpoint("serving_default", lambda *parts: model(list(parts), training=False), specs)
    archive.write_out(path)


def test_a_saved_model_augments_in_training_and_not_when_serving(tmp_path: pathlib.Path) -> None:
    """Keras 3 loads no SavedModel as a model, so it has the serving half alone."""
    model, inputs = (
        model_of(("RandomFlip", "RandomZoom", "CutMix")),
        [tf.cast(part, tf.float32) for part in list(make_inputs().values())[:2]],
    )
    if KERAS_3:
        export_for_inference(model, inputs, str(tmp_path / "model"))
    else:
        model.save(tmp_path / "model", save_format="tf")
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    named = dict(zip(sorted(served.structured_input_signature[1]), inputs, strict=True))
    for _ in range(2):
        for output in served(**named).values():
            np.testing.assert_array_equal(output, inputs[0])
    if KERAS_3:
        return
    loaded = tf.keras.models.load_model(tmp_path / "model")
    for _ in range(2):
        for first, second in zip(model(inputs, training=True), loaded(inputs, training=True), strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_augments_and_predict_does_not(jit_compile: bool) -> None:
    images = np.repeat(make_images()[:1], 8, 0).astype(np.float32)
    seen = layers.RandomBrightness((0.1, 0.2), seed=1)
    model = tf.keras.Sequential([tf.keras.Input([23, 18, 3]), seen, tf.keras.layers.GlobalAveragePooling2D()])
    model.compile("sgd", "mse", jit_compile=jit_compile)
    target = np.repeat(images.mean((1, 2)), 1, 0)
    losses = [model.fit(images, target, batch_size=4, verbose=0).history["loss"][0] for _ in range(2)]
    assert min(losses) > 25**2 and losses[0] != losses[1]
    np.testing.assert_allclose(model.predict(images, verbose=0), target, rtol=1e-5)
    assert not model.weights


def test_parallel_calls_in_tf_data_never_share_a_draw() -> None:
    made = layers.RandomBrightness((0.0, 1.0), seed=1)
    dataset = tf.data.Dataset.range(100).map(lambda _: made(tf.zeros([1, 1, 1])), num_parallel_calls=8)
    values = {float(image[0, 0, 0]) for image in dataset}
    assert len(values) == 100
    again = layers.RandomBrightness((0.0, 1.0), seed=1)
    assert values == {float(again(tf.zeros([1, 1, 1]))[0, 0, 0]) for _ in range(100)}


def test_the_state_advances_under_xla() -> None:
    made, again = (layers.RandomBrightness((0.0, 1.0), seed=1) for _ in range(2))
    function = tf.function(made, jit_compile=True)
    images = tf.zeros([2, 1, 1, 1])
    for _ in range(3):
        np.testing.assert_array_equal(function(images), again(images))


def test_replicas_draw_differently_and_their_state_is_saved(tmp_path: pathlib.Path) -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def model() -> tf.keras.Model:
        return tf.keras.Sequential([tf.keras.Input([1, 1, 1]), layers.RandomBrightness((0.0, 1.0), seed=1)])

    with strategy.scope():
        made = model()

    @tf.function
    def step() -> Any:
        return strategy.run(lambda: made(tf.zeros([1, 1, 1, 1]), training=True))

    values = [float(value[0, 0, 0, 0]) for _ in range(2) for value in strategy.experimental_local_results(step())]
    assert len(set(values)) == 4
    made.save(tmp_path / "model.keras")
    with strategy.scope():
        loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    made = loaded
    more = [
        float(value[0, 0, 0, 0]) for value in strategy.experimental_local_results(tf.function(step.python_function)())
    ]
    assert len({*more, *values}) == 6


def test_in_a_dataset_of_a_strategys_scope_a_layer_draws_anew() -> None:
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        made = layers.RandomBrightness((0.0, 1.0), seed=1)
        dataset = tf.data.Dataset.range(4).map(lambda _: made(tf.zeros([1, 1, 1])))
        assert len({float(image[0, 0, 0]) for image in dataset}) == 4


def test_weights_of_a_model_without_our_state_can_be_loaded(tmp_path: pathlib.Path) -> None:
    def model(first: Any) -> tf.keras.Model:
        return tf.keras.Sequential([tf.keras.Input([23, 18, 3]), first, tf.keras.layers.Conv2D(2, 3)])

    before, after = model(tf.keras.layers.Rescaling(1.0)), model(layers.RandomFlip())
    for suffix in (".weights.h5",) if KERAS_3 else (".weights.h5", ".h5"):
        before.save_weights(tmp_path / f"a{suffix}")
        after.load_weights(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(after.get_weights()[0], before.get_weights()[0])


# What is refused.


@pytest.mark.parametrize("key", ["bounding_boxes", "segmentation_masks", "keypoints"])
def test_boxes_masks_and_points_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f"cannot augment '{key}'"):
        layer("RandomFlip")({"images": make_images(), key: np.zeros([6, 1])})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"pictures": np.zeros([2, 4, 4, 3])}, "needed: 'images'"),
        (np.zeros([4, 4], np.float32), r"\[H, W, C\] or \[B, H, W, C\], got the shape \(4, 4\)"),
        (np.zeros([4, 4, 3], bool), "images are numbers, got bool"),
        (tf.ragged.constant([[[[1.0]]], [[[1.0]], [[2.0]]]]), "ragged images"),
    ],
)
def test_inputs_that_are_no_images_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer("RandomFlip")(inputs)


def test_keys_that_would_not_fit_are_refused() -> None:
    for made in (layers.SumAugmentation(2), layers.Augment("SumAug(2)")):
        with pytest.raises(ValueError, match=r"changes the number of images, but not that of \['id'\]"):
            made(make_inputs())


def test_targets_are_labels_and_labels_of_other_kinds_pass() -> None:
    inputs = make_inputs()
    result = layer("CutMix")({"images": inputs["images"], "targets": inputs["labels"]}, seed=SEED)
    np.testing.assert_array_equal(result["targets"], eager("CutMix")["labels"])
    passed = layers.Augment("Flip()")({"images": inputs["images"], "labels": np.arange(6)})["labels"]
    np.testing.assert_array_equal(passed, np.arange(6))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.RandAugment(RANGE, magnitude=1.5), r"RandAugment.magnitude is 1.5; allowed: 0..1"),
        (lambda: layers.RandAugment(RANGE, -1), "augmentations_per_image is -1"),
        (lambda: layers.RandAugment((255, 0)), r"value_range is \(255, 0\)"),
        (lambda: layers.RandomFlip("sideways"), "RandomFlip.mode is 'sideways'; allowed: horizontal, vertical"),
        (lambda: layers.RandomCutout(0.5, (0.5, 0.2)), r"width_factor is \(0.5, 0.2\)"),
        (lambda: layers.RandomCutout(0.5, 0.5, "gaussian_noise"), "fill_mode is 'gaussian_noise'; allowed: constant"),
        (lambda: layers.RandomRotation(0.1, fill_mode="mirror"), "RandomRotation.fill_mode is 'mirror'"),
        (lambda: layers.RandomZoom(0.1, bounding_box_format="xyxy"), "bounding_box_format"),
        (lambda: layers.RandomShear(-0.1), "RandomShear.x_factor is -0.1"),
        (lambda: layers.Equalization(RANGE, bins=64), "Equalization.bins is 64; allowed: 256"),
        (lambda: layers.Posterization(RANGE, 0), "Posterization.bits is 0; allowed: a whole number, 1..8"),
        (lambda: layers.RandomCrop(0, 4), "RandomCrop.height is 0"),
        (lambda: layers.RandomCropAndResize(32, (0.1, 1), (1, 1)), "target_size is 32"),
        (lambda: layers.RandomCropAndResize((8, 8), (0.1, 1), (0, 1)), "aspect_ratio_factor"),
        (lambda: layers.CutMix(alpha=0.0), "CutMix.alpha"),
        (lambda: layers.Augment("Flop()"), "'Flop' is unknown"),
        (lambda: layers.Augment(augment.compose([augment.CutMix(p=Linear(0, 1))])), "CutMix.p .* a Keras layer cannot"),
        (lambda: layers.Augment("Flip(alternate=True)"), "Flip.alternate is True, which a Keras layer cannot follow"),
        (lambda: layers.Augment(3), "Augment.op is 3; allowed: an op"),
    ],
)
def test_wrong_arguments_are_refused_by_name(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((ConfigError, TypeError), match=message):
        make()


def test_the_migration_table_names_every_augmentation_of_kerascv() -> None:
    base = keras_cv.layers.BaseImageAugmentationLayer, keras_cv.layers.VectorizedBaseImageAugmentationLayer
    names = {
        name for name, value in vars(keras_cv.layers).items() if inspect.isclass(value) and issubclass(value, base)
    } - {value.__name__ for value in base}
    text = (pathlib.Path(__file__).parents[1] / "docs" / "keras_cv.md").read_text()
    rows = re.findall(r"^\| `(\w+)", text, re.MULTILINE)
    assert names <= set(rows)
    assert set(LAYERS) <= set(rows)
