"""RandAugment: its table, its draws, its pixels against PIL, and its fast path against the plain definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.datasets
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from tfaug import rng
from tfaug.augment import Batch, RandAugment, operations, policies
from tfaug.config import ConfigError

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
    signs = tf.cast(choice["negative"], tf.int32)
    return operations.apply_densely(images, op._operations(), choice["op_index"], signs, fill=op.fill)


def photos(num: int, height: int = 18, width: int = 24) -> np.ndarray:
    """Cuts windows out of a photograph, uint8 [num,height,width,3]."""
    photo = np.asarray(Image.fromarray(sklearn.datasets.load_sample_images().images[0]).resize((160, 107)))
    generator = np.random.default_rng(num)
    tops, lefts = generator.integers(0, 107 - height, num), generator.integers(0, 160 - width, num)
    return np.stack([photo[y : y + height, x : x + width] for y, x in zip(tops, lefts, strict=True)])


def choice_of(op_index: np.ndarray, negative: np.ndarray) -> dict[str, tf.Tensor]:
    return {"op_index": tf.constant(op_index, tf.int32), "negative": tf.constant(negative, tf.bool)}


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


@pytest.mark.parametrize("num", [1, 5, 14, 23])
def test_every_image_draws_every_operation_equally_often(num: int) -> None:
    op_index, negative = draws(RandAugment(n=2), num, 2800)
    for image in {0, num // 2, num - 1}:
        for layer in range(2):
            counts = np.bincount(op_index[:, image, layer], minlength=14)
            assert counts.size == 14
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


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"n": -1}, r"RandAugment.n is -1; allowed: 0 or more"),
        ({"m": 30.5}, r"RandAugment.m is 30.5; allowed: 0..30"),
        ({"m": -1.0}, r"RandAugment.m is -1.0; allowed: 0..30"),
        ({"m": float("nan")}, r"RandAugment.m is nan; allowed: 0..30"),
        ({"fill": 256}, r"RandAugment.fill is 256; allowed: 0..255"),
        ({"preset": "paper_cifer"}, r"did you mean 'paper_cifar'"),
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
