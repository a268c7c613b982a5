"""RandAugment: its presets, its draws, its pixels against PIL, and its fast path against the plain definition."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.datasets
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from tfaug import rng
from tfaug.augment import AutoAugment, Batch, RandAugment, operations, policies
from tfaug.config import ConfigError
from tfaug.schedules import Cosine, Linear, Progress

PAPER_OPS = {
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
}


def densely(op: RandAugment, images: tf.Tensor, choice: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns what the plain definition makes of the images."""
    values = op._value_index(choice)
    centres = choice.get("centre_px")
    return operations.apply_densely(images, op._operations(), choice["op_index"], values, centres, fill=op.fill)


def photos(num: int, height: int = 18, width: int = 24) -> np.ndarray:
    """Cuts windows out of a photograph, uint8 [num,height,width,3]."""
    photo = np.asarray(Image.fromarray(sklearn.datasets.load_sample_images().images[0]).resize((160, 107)))
    generator = np.random.default_rng(num)
    tops, lefts = generator.integers(0, 107 - height, num), generator.integers(0, 160 - width, num)
    return np.stack([photo[y : y + height, x : x + width] for y, x in zip(tops, lefts, strict=True)])


def choice_of(op_index: np.ndarray, negative: np.ndarray) -> dict[str, tf.Tensor]:
    """Returns the choice of these operations and signs, for a constant magnitude."""
    return {
        "op_index": tf.constant(op_index, tf.int32),
        "negative": tf.constant(negative, tf.bool),
        "level": tf.zeros(op_index.shape, tf.int32),
    }


def random_choice(num: int, n: int) -> dict[str, tf.Tensor]:
    """Draws operations image by image, unbalanced."""
    generator = np.random.default_rng(num)
    return choice_of(generator.integers(0, 14, [num, n]), generator.random([num, n]) < 0.5)


def test_the_paper_preset_holds_the_papers_operations_and_published_ranges() -> None:
    table = policies.PRESETS["paper_cifar"]
    assert set(table) == PAPER_OPS
    assert len(table) == 14
    assert {name for name, strength in table.items() if strength.signed} == {
        "rotate",
        "shear_x",
        "shear_y",
        "translate_x",
        "translate_y",
    }
    ranges = {name: strength[:2] for name, strength in table.items() if strength.unit}
    assert ranges == {
        "rotate": (0, 30),
        "shear_x": (0, 0.3),
        "shear_y": (0, 0.3),
        "translate_x": (0, 10),
        "translate_y": (0, 10),
        "solarize": (0, 256),
        "posterize": (4, 8),
        "color": (0.1, 1.9),
        "contrast": (0.1, 1.9),
        "brightness": (0.1, 1.9),
        "sharpness": (0.1, 1.9),
    }


def test_every_operation_of_every_preset_has_one_kernel() -> None:
    assert {name: len(table) for name, table in policies.PRESETS.items()} == {
        "paper_cifar": 14,
        "efficientnet_tpu": 16,
        "torchvision": 14,
        "keras_cv": 11,
    }
    for table in policies.PRESETS.values():
        for name in table:
            assert name in operations.OPERATIONS


@pytest.mark.parametrize(
    "m, expected",
    [
        (0.0, {"rotate": 0, "shear_x": 0, "translate_y": 0, "color": 0.1, "posterize": 4, "solarize": 0}),
        (9.0, {"rotate": 9, "shear_x": 0.09, "translate_y": 3, "color": 0.64, "posterize": 5.2, "solarize": 76.8}),
        (30.0, {"rotate": 30, "shear_x": 0.3, "translate_y": 10, "color": 1.9, "posterize": 8, "solarize": 256}),
    ],
)
def test_values_grow_linearly_over_thirty_magnitudes(m: float, expected: dict[str, float]) -> None:
    op = RandAugment(m=m)
    assert {name: op.value(name) for name in expected} == pytest.approx(expected)


# The published numbers: preset -> m -> operation -> (value, mirrored value).
PUBLISHED = {
    "efficientnet_tpu": {
        0.0: {"posterize": 0, "solarize": 0, "color": 0.1, "cutout": 0, "rotate": (0, 0), "solarize_add": 0},
        5.0: {
            "rotate": (15, -15),
            "shear_x": (0.15, -0.15),
            "translate_y": (50, -50),
            "posterize": 2,
            "solarize": 128,
            "sharpness": 1.0,
            "solarize_add": 55,
            "cutout": 20,
        },
        9.0: {"posterize": 3, "solarize": 230, "contrast": 1.72, "solarize_add": 99, "cutout": 36},
        20.0: {
            "rotate": (60, -60),
            "shear_y": (0.6, -0.6),
            "translate_x": (200, -200),
            "posterize": 8,
            "solarize": 0,
            "brightness": 3.7,
            "solarize_add": 220,
            "cutout": 80,
        },
        30.0: {"posterize": 8, "solarize": 0, "color": 5.5, "solarize_add": 255, "cutout": 120, "rotate": (90, -90)},
    },
    "torchvision": {
        0.0: {"posterize": 8, "solarize": 255, "color": (1, 1), "translate_x_fraction": (0, 0)},
        4.0: {"posterize": 7, "solarize": 221, "color": (1.12, 0.88)},
        9.0: {
            "rotate": (9, -9),
            "shear_x": (0.09, -0.09),
            "posterize": 7,
            "solarize": 179,
            "brightness": (1.27, 0.73),
            "translate_y_fraction": (45 / 331, -45 / 331),
        },
        30.0: {"posterize": 4, "solarize": 0, "sharpness": (1.9, 0.1), "translate_x_fraction": (150 / 331, -150 / 331)},
    },
    "keras_cv": {
        0.0: {"add_solarize": 0, "color": 1, "contrast_channel": (1, 1), "shear_x": (0, 0)},
        9.0: {"add_solarize": 0.3, "color": 0.7, "add": (76.5, -76.5), "shear_y": (0.3, -0.3)},
        30.0: {"add_solarize": 1, "color": 0, "contrast_channel": (2, 0), "translate_x_fraction": (1, -1)},
    },
}


@pytest.mark.parametrize(("preset", "m"), [(preset, m) for preset, table in PUBLISHED.items() for m in table])
def test_presets_hold_the_published_numbers(preset: str, m: float) -> None:
    op = RandAugment(m=m, preset=preset, spread=0.0)
    for name, expected in PUBLISHED[preset][m].items():
        strength = policies.PRESETS[preset][name]
        assert strength.signed == isinstance(expected, tuple), name
        mirrored = (op.value(name), strength.mirrored(m))
        assert (mirrored if strength.signed else mirrored[0]) == pytest.approx(expected, abs=1e-12), name
        assert op.value(name) == RandAugment(m=Linear(0, 30), preset=preset).value(name, m)


# --- pixels ----------------------------------------------------------------------------------------------------------


def affine(image: Image.Image, *data: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.NEAREST, fillcolor=(55,) * 3)


# The operations as the published code has them on PIL, with the values at m = 9 written out.
PIL_AT_9: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "identity": lambda image, sign: image,
    "autocontrast": lambda image, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, sign: ImageOps.equalize(image),
    "solarize": lambda image, sign: ImageOps.solarize(image, 76),
    "color": lambda image, sign: ImageEnhance.Color(image).enhance(0.64),
    "posterize": lambda image, sign: ImageOps.posterize(image, 5),
    "contrast": lambda image, sign: ImageEnhance.Contrast(image).enhance(0.64),
    "brightness": lambda image, sign: ImageEnhance.Brightness(image).enhance(0.64),
    "sharpness": lambda image, sign: ImageEnhance.Sharpness(image).enhance(0.64),
    "rotate": lambda image, sign: image.rotate(9 * sign, fillcolor=(55,) * 3),
    "shear_x": lambda image, sign: affine(image, 1, 0.09 * sign, 0, 0, 1, 0),
    "shear_y": lambda image, sign: affine(image, 1, 0, 0, 0.09 * sign, 1, 0),
    "translate_x": lambda image, sign: affine(image, 1, 0, 3 * sign, 0, 1, 0),
    "translate_y": lambda image, sign: affine(image, 1, 0, 0, 0, 1, 3 * sign),
}


def test_each_operation_and_sign_gives_pils_pixels() -> None:
    op = RandAugment(n=1, m=9.0, fill=55)
    images = photos(28)
    index, negative = np.repeat(np.arange(14), 2)[:, None], np.tile([False, True], 14)[:, None]
    ours = op.apply(Batch(tf.constant(images)), choice_of(index, negative)).images.numpy().astype(int)
    for i in range(28):
        name = op.op_names[index[i, 0]]
        pils = np.asarray(PIL_AT_9[name](Image.fromarray(images[i]), -1 if negative[i, 0] else 1))
        difference = np.abs(ours[i] - pils)
        assert difference.max() <= (1 if name == "autocontrast" else 0), name
        assert np.mean(difference > 0) < 0.02, name


def test_layers_follow_one_another() -> None:
    images = photos(3)
    op = RandAugment(n=3, m=9.0, fill=55)
    layers = [
        ["rotate", "equalize", "color"],
        ["translate_x", "posterize", "shear_y"],
        ["solarize", "contrast", "rotate"],
    ]
    index = np.array([[op.op_names.index(name) for name in names] for names in layers])
    ours = op.apply(Batch(tf.constant(images)), choice_of(index, np.zeros([3, 3], bool))).images.numpy()
    for i, names in enumerate(layers):
        image = Image.fromarray(images[i])
        for name in names:
            image = PIL_AT_9[name](image, 1)
        np.testing.assert_array_equal(ours[i], np.asarray(image))


@pytest.mark.parametrize("num", [1, 2, 13, 14, 15, 31])
def test_slices_equal_the_plain_definition_for_drawn_choices(num: int) -> None:
    op = RandAugment(n=2, m=22.0)
    images = tf.constant(photos(num))
    choice = op.sample(rng.make_seed(num), (num, 18, 24, 3))
    np.testing.assert_array_equal(op.apply(Batch(images), choice).images, densely(op, images, choice))


# The operations that paper_cifar lacks or has in another way, as their authors' code has them.
OTHERS: dict[tuple[str, float, str], Callable[[Image.Image, int], Image.Image]] = {
    ("efficientnet_tpu", 5.0, "invert"): lambda image, sign: ImageOps.invert(image),
    ("efficientnet_tpu", 5.0, "posterize"): lambda image, sign: ImageOps.posterize(image, 2),
    ("efficientnet_tpu", 20.0, "posterize"): lambda image, sign: image,
    ("efficientnet_tpu", 5.0, "solarize"): lambda image, sign: ImageOps.solarize(image, 128),
    ("efficientnet_tpu", 20.0, "solarize"): lambda image, sign: ImageOps.invert(image),
    ("efficientnet_tpu", 5.0, "brightness"): lambda image, sign: image,
    ("efficientnet_tpu", 20.0, "rotate"): lambda image, sign: image.rotate(60 * sign, fillcolor=(55,) * 3),
    ("efficientnet_tpu", 20.0, "translate_x"): lambda image, sign: Image.new("RGB", image.size, (55,) * 3),
    ("efficientnet_tpu", 5.0, "solarize_add"): lambda image, sign: image.point(lambda x: x + 55 if x < 128 else x),
    ("efficientnet_tpu", 20.0, "solarize_add"): lambda image, sign: image.point(
        lambda x: min(x + 220, 255) if x < 128 else x
    ),
    ("torchvision", 9.0, "solarize"): lambda image, sign: ImageOps.solarize(image, 178.5),
    ("torchvision", 9.0, "color"): lambda image, sign: ImageEnhance.Color(image).enhance(1 + 0.27 * sign),
    ("torchvision", 9.0, "contrast"): lambda image, sign: ImageEnhance.Contrast(image).enhance(1 + 0.27 * sign),
    ("torchvision", 9.0, "translate_x_fraction"): lambda image, sign: affine(image, 1, 0, 3 * sign, 0, 1, 0),
    ("torchvision", 9.0, "translate_y_fraction"): lambda image, sign: affine(image, 1, 0, 0, 0, 1, 2 * sign),
    ("torchvision", 0.0, "rotate"): lambda image, sign: image,
}


@pytest.mark.parametrize(("preset", "m", "name"), OTHERS)
@pytest.mark.filterwarnings("ignore:RandAugment's preset 'efficientnet_tpu'")
def test_operations_of_other_presets_give_their_authors_pixels(preset: str, m: float, name: str) -> None:
    op = RandAugment(n=1, m=m, preset=preset, fill=55)
    images = photos(4)
    choice = choice_of(np.full([4, 1], op.op_names.index(name)), np.array([[False], [True]] * 2))
    choice["centre_px"] = tf.zeros([4, 1, 2], tf.int32)
    ours = op.apply(Batch(tf.constant(images)), choice).images.numpy()
    pils = [
        np.asarray(OTHERS[preset, m, name](Image.fromarray(image), 1 - 2 * (i % 2))) for i, image in enumerate(images)
    ]
    assert np.mean(ours != np.stack(pils)) < 0.002
    assert np.abs(ours.astype(int) - np.stack(pils)).max() <= 1


def kerascvs(name: str, images: tf.Tensor, share: float, sign: int) -> np.ndarray:
    """Returns what keras-cv's layer makes of the images at magnitude `share` 0..1 without a spread, in fractions."""
    from keras_cv import layers
    from keras_cv.src.layers.preprocessing.rand_augment import create_rand_augment_policy

    policy, byte_range, value = create_rand_augment_policy(share, 0.0), (0, 255), sign * share
    if name == "identity":
        return images.numpy()
    if name.startswith("shear"):
        # Of an image with each row (column) twice, sheared by half the factor, each second one is sheared about the
        # corner: its places are y + 1/2.
        axis = 1 if name == "shear_x" else 2
        twice = tf.repeat(images, 2, axis)
        factors = {"shear_x": None, "shear_y": None, name: tf.fill([len(images), 1], value / 2)}
        return (
            layers.RandomShear(0.0, 0.0)
            .augment_images(twice, factors)
            .numpy()[(slice(None),) * axis + (slice(1, None, 2),)]
        )
    # In the layers a move is to the right and down, in the kernels where the pixels come from.
    moves = {"fill_mode": "constant", "fill_value": 55.0}
    make = {
        "autocontrast": lambda: layers.AutoContrast(byte_range),
        "equalize_rarest": lambda: layers.Equalization(byte_range),
        "add_solarize": lambda: layers.Solarization(byte_range, **policy["solarize"]),
        "color": lambda: layers.RandomColorDegeneration(**policy["color"]),
        "contrast_channel": lambda: layers.RandomContrast(byte_range, (-value, value)),
        "add": lambda: layers.RandomBrightness((value, value)),
        "translate_x_fraction": lambda: layers.RandomTranslation(0.0, (-value, -value), **moves),
        "translate_y_fraction": lambda: layers.RandomTranslation((-value, -value), 0.0, **moves),
    }
    return make[name]()(images).numpy()


# How far in grey levels our bytes may be from keras-cv's fractions: half a level where ours are rounded to the nearest,
# one where rounded down; color's grey is rounded too.
FROM_KERASCV = {
    "identity": 0.0,
    "autocontrast": 1.0,
    "equalize_rarest": 0.0,
    "add_solarize": 0.5,
    "color": 1.5,
    "contrast_channel": 0.5,
    "add": 0.5,
    "shear_x": 1.0,
    "shear_y": 1.0,
    "translate_x_fraction": 0.0,
    "translate_y_fraction": 0.0,
}


@pytest.mark.parametrize("name", policies.PRESETS["keras_cv"])
def test_keras_cv_operations_give_kerascvs_pixels(name: str) -> None:
    """Translations by whole px; shears where the source lies between pixels: keras-cv fills in another way."""
    # At 30 a translation is refused; the levels of the choice alone decide.
    op = RandAugment(n=1, m=29.0, preset="keras_cv", spread=0.0, fill=55, interpolation="bilinear")
    # A few more pixels than 9 * 255: equalize_rarest is not equalize. Whole sixths of both sides, for the translations.
    images = photos(3, 24, 96)
    y, x = np.mgrid[0.5:24, 0.5:96]
    for m in (5, 9, 15, 20, 30) if op._operations()[op.op_names.index(name)].values[1:] else (9,):
        if name.startswith("translate") and m in (9, 30):
            continue
        for sign in (1, -1) if policies.PRESETS["keras_cv"][name].signed else (1,):
            choice = choice_of(np.full([3, 1], op.op_names.index(name)), np.full([3, 1], sign < 0))
            choice["level"] = tf.fill([3, 1], 64 * m)
            ours = op.apply(Batch(tf.constant(images)), choice).images.numpy()
            difference = np.abs(ours - kerascvs(name, tf.constant(images, tf.float32), m / 30, sign))
            if name == "shear_x":
                difference = difference[:, (x + sign * m / 30 * y >= 0.5) & (x + sign * m / 30 * y <= 95.5)]
            if name == "shear_y":
                difference = difference[:, (y + sign * m / 30 * x >= 0.5) & (y + sign * m / 30 * x <= 23.5)]
            assert difference.size > 800 and difference.max() <= FROM_KERASCV[name] + 0.01, m


@pytest.mark.filterwarnings("ignore:RandAugment's preset 'efficientnet_tpu'")
def test_the_cutout_covers_a_square_about_its_pixel() -> None:
    op = RandAugment(n=1, m=1.0, preset="efficientnet_tpu", fill=7)  # 4 px to each side
    images = photos(2)
    choice = choice_of(np.full([2, 1], op.op_names.index("cutout")), np.zeros([2, 1], bool))
    choice["centre_px"] = tf.constant([[[10, 12]], [[1, 23]]])
    ours = op.apply(Batch(tf.constant(images)), choice).images.numpy()
    images[0, 6:14, 8:16], images[1, :5, 19:] = 7, 7
    np.testing.assert_array_equal(ours, images)


PRESET_OPS = {
    "efficientnet_tpu": RandAugment(n=2, m=5.0, preset="efficientnet_tpu"),
    "torchvision": RandAugment(n=2, m=13.0, preset="torchvision"),
    "keras_cv": RandAugment(n=2, m=13.0, preset="keras_cv"),
    "spread": RandAugment(n=2, m=9.0, spread=3.0),
    "schedule": RandAugment(n=2, m=Linear(0.0, 30.0)),
    "independent": RandAugment(n=2, balanced=False),
}


@pytest.mark.parametrize("name", PRESET_OPS)
@pytest.mark.filterwarnings("ignore:RandAugment's preset 'efficientnet_tpu'")
def test_presets_and_drawn_magnitudes_equal_the_plain_definition_also_under_xla(name: str) -> None:
    op, images, progress = PRESET_OPS[name], tf.constant(photos(33)), Progress(tf.constant(4), tf.constant(7))
    seed = rng.make_seed(12)
    choice = op.sample(seed, (33, 18, 24, 3), progress)
    eager = op.apply(Batch(images), choice).images
    np.testing.assert_array_equal(eager, densely(op, images, choice))
    if name in ("efficientnet_tpu", "keras_cv", "schedule", "independent"):
        np.testing.assert_array_equal(tf.function(op, jit_compile=True)(images, seed, progress), eager)


def test_slices_equal_the_plain_definition_for_unbalanced_choices() -> None:
    op = RandAugment(n=3, m=4.0)
    images = tf.constant(photos(29))
    mixed = random_choice(29, 3)
    np.testing.assert_array_equal(op.apply(Batch(images), mixed).images, densely(op, images, mixed))
    for index in (0, op.op_names.index("rotate"), 13):
        same = choice_of(np.full([29, 3], index), mixed["negative"].numpy())
        np.testing.assert_array_equal(op.apply(Batch(images), same).images, densely(op, images, same))


def test_a_part_of_the_batch_with_its_part_of_the_choice_gives_the_same_pixels() -> None:
    op = RandAugment()
    images = tf.constant(photos(20))
    choice = op.sample(rng.make_seed(8), (20, 18, 24, 3))
    whole = op.apply(Batch(images), choice).images
    some = [17, 3, 4]
    part = op.apply(Batch(tf.gather(images, some)), {name: tf.gather(value, some) for name, value in choice.items()})
    np.testing.assert_array_equal(part.images, tf.gather(whole, some))


@pytest.fixture(scope="module")
def compiled() -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """RandAugment under XLA for images of unknown number, height and width."""
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([2], tf.int32)]
    return tf.function(RandAugment(n=2, m=9.0), jit_compile=True, input_signature=signature)


@pytest.mark.parametrize("num", [1, 30])
def test_xla_with_unknown_sizes_gives_the_eager_bits(compiled: Callable[..., tf.Tensor], num: int) -> None:
    images = tf.constant(photos(num))
    for seed in range(3):
        np.testing.assert_array_equal(compiled(images, rng.make_seed(seed)), RandAugment()(images, seed))


def test_tf_data_with_a_short_last_batch_gives_the_eager_bits(compiled: Callable[..., tf.Tensor]) -> None:
    images = photos(31)
    seed = rng.make_seed(6)
    batches = tf.data.Dataset.from_tensor_slices(images).batch(30)
    in_graph = list(batches.map(lambda images: RandAugment()(images, seed)))
    in_xla = list(batches.map(lambda images: compiled(images, seed)))
    for batch, graph, xla in zip((images[:30], images[30:]), in_graph, in_xla, strict=True):
        eager = RandAugment()(batch, seed)
        np.testing.assert_array_equal(graph, eager)
        np.testing.assert_array_equal(xla, eager)


def test_one_channel_is_augmented_and_color_leaves_it_alone() -> None:
    images = photos(28)[..., :1]
    op = RandAugment(n=1)
    index = np.repeat(np.arange(14), 2)[:, None]
    choice = choice_of(index, np.zeros_like(index, bool))
    ours = op.apply(Batch(tf.constant(images)), choice).images.numpy()
    np.testing.assert_array_equal(ours, densely(op, tf.constant(images), choice))
    unchanged = {op.op_names[i] for i in range(14) if (ours[2 * i] == images[2 * i]).all()}
    assert unchanged == {"identity", "color"}


def test_float_images_are_rounded_first() -> None:
    images = photos(5)
    shifted = images.astype(np.float32) + np.where(images % 2, 0.3, -0.3).astype(np.float32)
    augmented = RandAugment()(shifted, 3)
    assert augmented.dtype == tf.uint8
    np.testing.assert_array_equal(augmented, RandAugment()(images, 3))


def test_no_layers_are_the_identity_and_labels_pass() -> None:
    images, labels = photos(4), np.eye(4, dtype=np.float32)
    for n in (0, 2):
        batch = RandAugment(n=n)((images, labels), 1)
        np.testing.assert_array_equal(batch.labels, labels)
        assert (batch.images.numpy() == images).all() == (n == 0)


# --- draws -----------------------------------------------------------------------------------------------------------


def draws(op: RandAugment, num: int, num_seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the operations and signs of `num` images under seeds 0.., [num_seeds,num,n] each."""

    @tf.function
    def all_draws() -> tuple[tf.Tensor, tf.Tensor]:
        def draw(i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            choice = op.sample(tf.stack([i, 0]), (num, 8, 8, 3))
            return choice["op_index"], choice["negative"]

        return tf.map_fn(draw, tf.range(num_seeds), fn_output_signature=(tf.int32, tf.bool))

    op_index, negative = all_draws()
    return op_index.numpy(), negative.numpy()


@pytest.mark.parametrize(
    ("preset", "num"),
    [*(("paper_cifar", num) for num in (1, 5, 14, 23)), ("efficientnet_tpu", 9), ("torchvision", 9), ("keras_cv", 9)],
)
def test_every_image_draws_every_operation_equally_often(preset: str, num: int) -> None:
    num_ops = len(policies.PRESETS[preset])
    op_index, negative = draws(RandAugment(n=2, preset=preset), num, 2800)
    for image in {0, num // 2, num - 1}:
        for layer in range(2):
            counts = np.bincount(op_index[:, image, layer], minlength=num_ops)
            assert counts.size == num_ops
            assert scipy.stats.chisquare(counts).pvalue > 0.001
    assert scipy.stats.binomtest(int(negative.sum()), negative.size, 0.5).pvalue > 0.001


def test_layers_and_signs_are_drawn_independently() -> None:
    op_index, negative = draws(RandAugment(n=2), 14, 600)
    first, second = op_index[..., 0].ravel(), op_index[..., 1].ravel()
    pairs = np.bincount(first * 14 + second, minlength=196).reshape(14, 14)
    assert scipy.stats.chi2_contingency(pairs).pvalue > 0.001
    with_sign = np.bincount(first * 2 + negative[..., 0].ravel(), minlength=28).reshape(14, 2)
    assert scipy.stats.chi2_contingency(with_sign).pvalue > 0.001


@pytest.mark.parametrize("num", [1, 14, 33, 100])
def test_a_batch_draws_balanced_operations(num: int) -> None:
    op_index, _ = draws(RandAugment(n=1), num, 20)
    most = max(np.bincount(row).max() for row in op_index[..., 0])
    assert most <= -(-num // 14)
    if num >= 14:
        assert (op_index[0, :, 0] != op_index[1, :, 0]).any()


# --- magnitudes ------------------------------------------------------------------------------------------------------


def magnitudes(op: RandAugment, num: int = 20_000, progress: Progress | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the drawn magnitudes and operations of `num` images."""
    choice = op.sample(rng.make_seed(3), (num, 8, 8, 3), progress)
    return choice["level"].numpy()[:, 0] / 64, choice["op_index"].numpy()[:, 0]


@pytest.mark.parametrize(("m", "spread"), [(15.0, 2.0), (9.5, 0.5)])
def test_a_spread_draws_normal_magnitudes(m: float, spread: float) -> None:
    drawn, _ = magnitudes(RandAugment(n=1, m=m, spread=spread))
    assert scipy.stats.kstest(drawn, scipy.stats.norm(m, spread).cdf).pvalue > 0.01
    assert abs(drawn.mean() - m) < 4 * spread / 20_000**0.5 and abs(drawn.std() / spread - 1) < 0.02


def test_a_spread_is_held_to_the_range_of_magnitudes() -> None:
    drawn, _ = magnitudes(RandAugment(n=1, m=28.0, spread=10.0))
    assert drawn.max() == 30 and drawn.min() == 0
    for edge, share in (
        (0, scipy.stats.norm.cdf((1 / 128 - 28) / 10)),
        (30, scipy.stats.norm.sf((30 - 1 / 128 - 28) / 10)),
    ):
        assert scipy.stats.binomtest(int((drawn == edge).sum()), drawn.size, share).pvalue > 0.001


def test_layers_and_images_draw_their_own_magnitudes() -> None:
    level = RandAugment(n=2, spread=4.0).sample(rng.make_seed(0), (5000, 8, 8, 3))["level"].numpy()
    assert len(np.unique(level)) > 500
    assert abs(np.corrcoef(level.T)[0, 1]) < 5 / 5000**0.5


def test_keras_cv_draws_normal_and_uniform_magnitudes_by_operation() -> None:
    op = RandAugment(n=1, m=12.0, preset="keras_cv")
    drawn, index = magnitudes(op, 22_000)
    for i, name in enumerate(op.op_names):
        uniform = name in ("contrast_channel", "add", "translate_x_fraction", "translate_y_fraction")
        expected = scipy.stats.uniform(0, 12) if uniform else scipy.stats.norm(12, 4.5)
        ours = drawn[index == i]
        assert ours.size == 2000
        assert (
            scipy.stats.kstest(ours[ours > 0], lambda x, law=expected: (law.cdf(x) - law.cdf(0)) / law.sf(0)).pvalue
            > 0.001
        )
    constant, _ = magnitudes(RandAugment(n=1, m=12.0, preset="keras_cv", spread=0.0), 1100)
    assert (constant == 12).sum() == 700


@pytest.mark.parametrize("preset", policies.PRESETS)
@pytest.mark.filterwarnings("ignore:RandAugment's preset 'efficientnet_tpu'")
def test_a_schedule_gives_at_each_step_what_the_constant_gives(preset: str) -> None:
    scheduled = RandAugment(n=2, m=Linear(0.0, 20.0), preset=preset, spread=0.0)
    images, seed, shape = tf.constant(photos(30, 32, 32)), rng.make_seed(1), (30, 32, 32, 3)
    for progress, m in ((Progress(3, 10), 6.0), (Progress(tf.constant(7), tf.constant(10)), 14.0)):
        constant = RandAugment(n=2, m=m, preset=preset, spread=0.0)
        choice = scheduled.sample(seed, shape, progress)
        np.testing.assert_array_equal(
            scheduled.apply(Batch(images), choice).images,
            constant.apply(Batch(images), constant.sample(seed, shape)).images,
        )


def test_a_scheduled_magnitude_is_rounded_to_its_grid() -> None:
    drawn, _ = magnitudes(RandAugment(n=1, m=Linear(0.0, 10.0)), 50, Progress(1, 3))
    assert (drawn == round(64 * 10 / 3) / 64).all()
    drawn, _ = magnitudes(RandAugment(n=1, m=Linear(0.0, 10.0), spread=1.0), 5000, Progress(1, 3))
    assert abs(drawn.mean() - 10 / 3) < 0.06 and abs(drawn.std() - 1) < 0.04


def test_a_constant_magnitude_keeps_its_single_values() -> None:
    """XLA folds them: this is what makes the constant case fast. It is not rounded either."""
    values = {operation.name: operation.values for operation in RandAugment(m=9.001)._operations()}
    assert values["rotate"] == (9.001, -9.001) and values["solarize"] == (256 * 9.001 / 30,)
    assert max(len(numbers) for numbers in values.values()) == 2
    drawn = {operation.name: operation.values for operation in RandAugment(spread=1.0)._operations()}
    assert len(drawn["rotate"]) == 2 * 1921 and len(drawn["color"]) == 1921 and len(drawn["equalize"]) == 1
    assert drawn["rotate"][64 * 9] == 9 and drawn["rotate"][1921 + 64 * 9] == -9


@pytest.mark.parametrize("interpolation", policies.INTERPOLATIONS)
def test_fill_and_interpolation_reach_the_engine(interpolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    got: dict[str, Any] = {}
    monkeypatch.setattr(policies, "apply_operations", lambda images, *args, **named: got.update(named) or images)
    RandAugment(fill=3, interpolation=interpolation)(photos(2), 0)
    assert got == {"fill": 3, "interpolation": interpolation}


# --- efficientnet_tpu on small images --------------------------------------------------------------------------------


@functools.cache
def cifar10() -> np.ndarray:
    """Returns 20,000 images of CIFAR-10."""
    if "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("needs TFDS_DATA_DIR with cifar10")
    import tensorflow_datasets as tfds

    folder = os.environ["TFDS_DATA_DIR"]
    data = tfds.load("cifar10", split="train[:20000]", data_dir=folder, download=False, batch_size=-1)
    return data["image"].numpy()


@pytest.mark.filterwarnings("ignore:RandAugment's preset 'efficientnet_tpu'")
def test_efficientnet_tpu_greys_the_published_shares_of_cifar10(capsys: pytest.CaptureFixture[str]) -> None:
    """Shares by hand: of 16 operations two translations and the cutout clear the image at m = 20, 2 + (9/32)^2 at 5.

    One program applies a layer at the magnitude in the choice; images count as grey where they have one level, give or
    take 1: solarize of the grey 128 is 127, and a later rotation brings 128 back. Brightness 3.7 twice, one pair of
    layers in 256, whitens nearly all images too.
    """
    op = RandAugment(n=1, m=Linear(0.0, 30.0), preset="efficientnet_tpu")
    layer = tf.function(lambda images, choice: op.apply(Batch(images), choice).images, jit_compile=True)
    shares = {}
    for m, expected in ((20, (18.75, 33.98, 46.36)), (5, (12.99, 24.30))):
        grey = np.zeros(len(expected))
        for batch, start in enumerate(range(0, 20_000, 1000)):
            images = tf.constant(cifar10()[start : start + 1000])
            for number in range(len(expected)):
                seed = rng.fold_in(rng.make_seed(100 * m + batch), number)
                images = layer(images, op.sample(seed, (1000, 32, 32, 3), Progress(m, 30)))
                flat = images.numpy().reshape(1000, -1).astype(int)
                grey[number] += np.mean(flat.max(1) - flat.min(1) <= 1) * 5
        shares |= {f"RA({number + 1},{m})": (grey[number], share) for number, share in enumerate(expected)}
    with capsys.disabled():
        print("\nwholly grey, % (published):", {name: f"{got:.2f} ({want})" for name, (got, want) in shares.items()})
    for name, (got, want) in shares.items():
        assert abs(got - want) < 1, name


@pytest.fixture
def _fresh_warnings() -> Iterator[None]:
    policies._warn_once.cache_clear()
    yield
    policies._warn_once.cache_clear()


@pytest.mark.usefixtures("_fresh_warnings")
def test_efficientnet_tpu_warns_once_of_each_size_and_magnitude() -> None:
    small, large = photos(2, 32, 32), np.zeros([2, 224, 224, 3], np.uint8)
    op = RandAugment(n=1, m=20.0, preset="efficientnet_tpu")
    with pytest.warns(UserWarning, match=r"'efficientnet_tpu' at m=20 .* 32 x 32 px .* 18.8% of them wholly grey"):
        op(small, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        op(small, 1)
        RandAugment(n=2, m=5.0, preset="efficientnet_tpu")(large, 0)
    with pytest.warns(UserWarning, match=r"m=5 .* 32 x 32 px .* 13.0% of them"):
        RandAugment(n=1, m=Linear(5.0, 0.0), preset="efficientnet_tpu")(small, 0, Progress(0, 2))
    with pytest.warns(UserWarning, match=r"m=5 .* 18 x 24 px .*"):
        RandAugment(n=1, m=5.0, preset="efficientnet_tpu")(photos(2), 0)


@pytest.mark.parametrize(
    ("op", "name", "num"),
    [(RandAugment(n=1), "op_index", 14), (AutoAugment(), "sub_policy", 25)],
    ids=["RandAugment", "AutoAugment"],
)
def test_images_share_an_operation_by_chance_alone_where_draws_are_not_balanced(op: Any, name: str, num: int) -> None:
    def draw(batch: int, seed: int, **changes: bool) -> np.ndarray:
        shape = (batch, 32, 32, 3)
        return dataclasses.replace(op, **changes).sample(rng.make_seed(seed), shape)[name].numpy().ravel()

    def pairs(**changes: bool) -> int:
        counts = [np.bincount(draw(num, seed, **changes)) for seed in range(60)]
        return sum(int((count * (count - 1) // 2).sum()) for count in counts)

    assert pairs() == pairs(balanced=True) == 0
    expected = 60 * num * (num - 1) / 2 / num
    assert abs(pairs(balanced=False) - expected) < 4 * (expected * (1 - 1 / num)) ** 0.5
    counts = np.bincount(draw(500 * num, 1, balanced=False), minlength=num)
    assert set(counts) != {500} and scipy.stats.chisquare(counts).pvalue > 0.001


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"n": -1}, r"RandAugment.n is -1; allowed: a whole number, 0 or more"),
        ({"m": 30.5}, r"RandAugment.m is 30.5; allowed: 0..30"),
        ({"m": -1.0}, r"RandAugment.m is -1.0; allowed: 0..30"),
        ({"m": float("nan")}, r"RandAugment.m is nan; allowed: 0..30"),
        ({"fill": 256}, r"RandAugment.fill is 256; allowed: a whole number, 0..255"),
        ({"preset": "paper_cifer"}, r"did you mean 'paper_cifar'"),
        ({"m": Linear(0.0, 31.0)}, r"RandAugment.m is Linear.*goes through 0..31;.*allowed: 0..30"),
        ({"m": Cosine(35.0)}, r"allowed: 0..30"),
        ({"spread": -0.5}, r"RandAugment.spread is -0.5; allowed: 0 or more"),
        ({"interpolation": "cubic"}, r"RandAugment.interpolation is 'cubic'; allowed: nearest, bilinear"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RandAugment(**arguments)


def test_a_translation_as_wide_as_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"translates by 10 px, but the images' width is 9 px"):
        RandAugment(m=30.0)(photos(2, 18, 9), 0)
    with pytest.raises(ValueError, match=r"the images' height is 10 px"):
        RandAugment(m=30.0)(photos(2, 10, 18), 0)
    RandAugment(m=9.0)(photos(2, 10, 9), 0)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (RandAugment(m=Linear(0.0, 30.0)), r"'paper_cifar' at m=30 translates by 10 px, .* height is 9 px"),
        (RandAugment(m=20.0, spread=3.0), r"'paper_cifar' at m=30 translates by 10 px, .* height is 9 px"),
        (RandAugment(m=30.0, preset="keras_cv"), r"'keras_cv' at m=30 translates by 18 px, .* width is 18 px"),
    ],
)
def test_the_highest_magnitude_decides_what_is_refused(op: RandAugment, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        op(photos(2, 9, 18), 0, Progress(0, 1000))


def test_what_stays_within_the_image_is_not_refused() -> None:
    for op in (
        RandAugment(m=20.0, spread=1.0),
        RandAugment(m=29.0, preset="keras_cv"),
        RandAugment(m=30.0, preset="torchvision"),
    ):
        op(photos(2, 9, 18), 0)


def test_a_schedule_asks_for_progress_and_for_a_magnitude() -> None:
    op = RandAugment(m=Linear(0.0, 9.0))
    with pytest.raises(ValueError, match=r"RandAugment.m is a schedule.*progress"):
        op(photos(2), 0)
    with pytest.raises(ValueError, match=r"RandAugment.m is a schedule.*magnitude"):
        op.value("rotate")
    assert op.value("rotate", 9.0) == 9


@pytest.mark.parametrize("weights", [[1, 0], [1], [2, -1]])
def test_an_operation_without_slots_is_refused(weights: list[int]) -> None:
    """It would never be done."""
    chosen = [operations.Operation("identity", (0.0,)), operations.Operation("invert", (0.0,))]
    index = tf.zeros([2, 1], tf.int32)
    with pytest.raises(ValueError, match="allowed: 2 whole numbers of 1 or more"):
        operations.apply_operations(tf.zeros([2, 8, 8, 3], tf.uint8), chosen, index, index, weights=weights)
