"""AutoAugment: its tables, its draws, its pixels against PIL, and its fast path against the plain definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from tests.test_augment_policies import affine, photos
from tfaug import rng
from tfaug.augment import AutoAugment, Batch, autoaugment, operations
from tfaug.config import ConfigError
from tfaug.schedules import Linear, Progress

FILL = (55, 55, 55)  # as in `affine`


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "num", "probability", "level"),
    [("cifar10", 25, 26.5, 267), ("cifar10_full", 95, 90.2, 890), ("imagenet", 25, 31.0, 287)],
)
def test_the_tables_are_whole(policy: str, num: int, probability: float, level: int) -> None:
    """The sums over all operations were taken from the published files."""
    steps = [step for sub_policy in AutoAugment(policy).sub_policies for step in sub_policy]
    assert len(steps) == 2 * num
    assert sum(step[1] for step in steps) == pytest.approx(probability)
    assert sum(step[2] for step in steps) == level
    assert {step[0] for step in steps} <= set(autoaugment.STRENGTHS[policy])
    assert all(0 <= step[1] <= 1 and step[2] in range(10) for step in steps)


def test_the_full_policy_holds_four_of_the_five_groups_of_the_papers_table() -> None:
    paper, full = AutoAugment("cifar10").sub_policies, AutoAugment("cifar10_full").sub_policies
    assert (paper[:5], paper[5:10], paper[10:15], paper[20:]) == (full[:5], full[20:25], full[55:60], full[5:10])
    assert paper[16] == (("equalize", 0.2, 8), ("equalize", 0.6, 4))
    assert [name for name in ("cutout", "shear_x") if name not in {s[0] for pair in paper for s in pair}] == [
        "cutout",
        "shear_x",
    ]


@pytest.mark.parametrize(
    ("policy", "name", "values"),
    [
        ("cifar10_full", "posterize", {0: 4, 2: 4, 3: 3, 5: 2, 7: 2, 8: 1, 9: 1}),
        ("cifar10_full", "solarize", {0: 256, 1: 231, 2: 205, 3: 180, 5: 128, 8: 52}),
        ("cifar10_full", "rotate", {0: 0, 2: 6, 7: 21, 9: 27}),
        ("cifar10_full", "translate_y", {0: 0, 3: 3, 9: 9}),
        ("cifar10_full", "shear_y", {2: 0.06, 8: 0.24}),
        ("cifar10_full", "cutout", {3: 3, 4: 4}),
        ("cifar10_full", "color", {0: 0.1, 5: 1.0, 9: 1.72}),
        ("imagenet", "posterize", {5: 2, 6: 2, 7: 2, 8: 3}),
        ("imagenet", "solarize", {3: 76, 4: 102, 5: 128, 7: 179, 8: 204}),
        ("imagenet", "rotate", {3: 9, 8: 24, 9: 27}),
        ("imagenet", "contrast", {8: 1.54}),
    ],
)
def test_levels_have_the_published_values(policy: str, name: str, values: dict[int, float]) -> None:
    strength = autoaugment.STRENGTHS[policy][name]
    assert {level: strength.value(level, 10) for level in values} == pytest.approx(values)
    if strength.signed:
        assert strength.mirrored(9, 10) == -strength.value(9, 10)


@pytest.mark.parametrize("policy", autoaugment.POLICIES)
def test_each_step_finds_its_operation_and_value(policy: str) -> None:
    plan = autoaugment._plan(policy)
    assert plan.operations[0].name == "identity"
    for pair, ops, values in zip(AutoAugment(policy).sub_policies, plan.op_index, plan.value_index, strict=True):
        for (name, _, level), op, value in zip(pair, ops, values, strict=True):
            operation, strength = plan.operations[op], autoaugment.STRENGTHS[policy][name]
            assert operation.name == name and plan.signed[op] == strength.signed
            if strength.unit:
                assert operation.values[value] == strength.value(level, 10)
            if strength.signed:
                assert operation.values[value + 1] == strength.mirrored(level, 10)


# --- pixels ----------------------------------------------------------------------------------------------------------

# The operations of the published CIFAR code on PIL images, by level.
ON_PIL: dict[str, Callable[[Image.Image, int, int], Image.Image]] = {
    "autocontrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, level, sign: ImageOps.equalize(image),
    "invert": lambda image, level, sign: ImageOps.invert(image),
    "posterize": lambda image, level, sign: ImageOps.posterize(image, 4 - int(level * 4 / 10)),
    "solarize": lambda image, level, sign: ImageOps.solarize(image, 256 - int(level * 256 / 10)),
    "color": lambda image, level, sign: ImageEnhance.Color(image).enhance(level * 1.8 / 10 + 0.1),
    "contrast": lambda image, level, sign: ImageEnhance.Contrast(image).enhance(level * 1.8 / 10 + 0.1),
    "brightness": lambda image, level, sign: ImageEnhance.Brightness(image).enhance(level * 1.8 / 10 + 0.1),
    "sharpness": lambda image, level, sign: ImageEnhance.Sharpness(image).enhance(level * 1.8 / 10 + 0.1),
    "rotate": lambda image, level, sign: image.rotate(sign * int(level * 30 / 10), fillcolor=FILL),
    "shear_x": lambda image, level, sign: affine(image, 1, sign * level * 0.3 / 10, 0, 0, 1, 0),
    "shear_y": lambda image, level, sign: affine(image, 1, 0, 0, sign * level * 0.3 / 10, 1, 0),
    "translate_x": lambda image, level, sign: affine(image, 1, 0, sign * int(level * 10 / 10), 0, 1, 0),
    "translate_y": lambda image, level, sign: affine(image, 1, 0, 0, 0, 1, sign * int(level * 10 / 10)),
}


def choice_of(sub_policy: np.ndarray, applied: Any, negative: Any) -> dict[str, tf.Tensor]:
    size = (len(sub_policy), 2)
    return {
        "sub_policy": tf.constant(sub_policy, tf.int32),
        "applied": tf.constant(np.broadcast_to(applied, size)),
        "negative": tf.constant(np.broadcast_to(negative, size)),
        "centre_px": tf.zeros([*size, 2], tf.int32),
    }


@pytest.mark.parametrize("applied", [(True, True), (True, False), (False, True), (False, False)])
def test_each_sub_policy_of_the_paper_gives_pils_pixels(applied: tuple[bool, bool]) -> None:
    op = AutoAugment("cifar10", fill=55)
    images, signs = photos(25), np.arange(50).reshape(25, 2) % 3 == 0
    ours = op.apply(Batch(tf.constant(images)), choice_of(np.arange(25), applied, signs)).images.numpy()
    for i, pair in enumerate(op.sub_policies):
        image = Image.fromarray(images[i])
        for (name, _, level), used, negative in zip(pair, applied, signs[i], strict=True):
            if used:
                image = ON_PIL[name](image, level, -1 if negative else 1)
        # Where PIL's floating-point product falls just below a whole number it is one grey level darker; the second
        # operation may widen that.
        difference = np.abs(ours[i].astype(int) - np.asarray(image))
        assert np.mean(difference > 0) < 0.03 and np.mean(difference > 2) < 0.001, pair


def test_the_cutout_is_a_square_of_twice_the_level() -> None:
    op = AutoAugment("cifar10_full", fill=9)
    index = [i for i, pair in enumerate(op.sub_policies) if "cutout" in (pair[0][0], pair[1][0])]
    assert [op.sub_policies[i][pair][2] for i, pair in zip(index, (0, 1, 1), strict=True)] == [4, 3, 3]
    images = photos(3)
    choice = choice_of(np.array(index), [[True, False], [False, True], [False, True]], False)
    choice["centre_px"] = tf.constant([[[10, 12], [0, 0]], [[0, 0], [10, 12]], [[0, 0], [0, 23]]])
    ours = op.apply(Batch(tf.constant(images)), choice).images.numpy()
    images[0, 6:14, 8:16], images[1, 7:13, 9:15], images[2, :3, 20:] = 9, 9, 9
    np.testing.assert_array_equal(ours, images)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("policy", autoaugment.POLICIES)
def test_slices_equal_the_plain_definition(policy: str, balanced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    op = AutoAugment(policy, fill=31, balanced=balanced)
    images, seed = tf.constant(photos(60)), rng.make_seed(4)
    fast = op(images, seed)

    def densely(*args: Any, weights: Any, **named: Any) -> tf.Tensor:
        return operations.apply_densely(*args, **named)

    monkeypatch.setattr(autoaugment, "apply_operations", densely)
    np.testing.assert_array_equal(fast, op(images, seed))


def test_xla_with_unknown_sizes_gives_the_eager_bits() -> None:
    op = AutoAugment("cifar10_full", p=Linear(0.0, 1.0))
    signature = [
        tf.TensorSpec([None, None, None, 3], tf.uint8),
        tf.TensorSpec([2], tf.int32),
        Progress(tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32)),
    ]
    compiled = tf.function(op, jit_compile=True, input_signature=signature)
    progress = Progress(tf.constant(9), tf.constant(10))
    images, seed = tf.constant(photos(50)), rng.make_seed(8)
    np.testing.assert_array_equal(compiled(images, seed, progress), op(images, seed, progress))


def test_one_channel_and_float_images() -> None:
    images = photos(30)[..., :1]
    shifted = images.astype(np.float32) + np.where(images % 2, 0.3, -0.3).astype(np.float32)
    augmented = AutoAugment()(images, 3)
    assert augmented.dtype == tf.uint8 and augmented.shape == images.shape
    np.testing.assert_array_equal(AutoAugment()(shifted, 3), augmented)


# --- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", autoaugment.POLICIES)
def test_sub_policies_are_drawn_equally_often_and_steps_by_their_probability(policy: str) -> None:
    op, seeds = AutoAugment(policy), 400
    num = len(op.sub_policies)

    @tf.function
    def draws() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def draw(i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            choice = op.sample(tf.stack([i, 0]), (num + 7, 32, 32, 3))
            return choice["sub_policy"], choice["applied"], choice["negative"]

        return tf.map_fn(draw, tf.range(seeds), fn_output_signature=(tf.int32, tf.bool, tf.bool))

    sub_policy, applied, negative = (part.numpy() for part in draws())
    assert max(np.bincount(row).max() for row in sub_policy) == 2
    assert scipy.stats.chisquare(np.bincount(sub_policy.ravel(), minlength=num)).pvalue > 0.001
    for place in (0, num + 6):
        assert scipy.stats.chisquare(np.bincount(sub_policy[:, place], minlength=num)).pvalue > 0.001
    assert scipy.stats.binomtest(int(negative.sum()), negative.size, 0.5).pvalue > 0.001
    observed, expected, variance = 0, 0.0, 0.0
    for index, pair in enumerate(op.sub_policies):
        for layer, (_, probability, _) in enumerate(pair):
            mine = applied[sub_policy == index][:, layer]
            assert scipy.stats.binomtest(int(mine.sum()), mine.size, probability).pvalue > 1e-5
            observed += mine.sum()
            expected += mine.size * probability
            variance += mine.size * probability * (1 - probability)
    assert abs(observed - expected) < 4 * variance**0.5


def test_the_two_steps_of_a_sub_policy_are_drawn_independently() -> None:
    choice = AutoAugment("cifar10").sample(rng.make_seed(0), (25_000, 32, 32, 3))
    applied = choice["applied"].numpy()[choice["sub_policy"].numpy() == 9]  # both 0.6
    table = [[np.sum((applied == (a, b)).all(1)) for b in (False, True)] for a in (False, True)]
    assert len(applied) == 1000 and scipy.stats.chi2_contingency(table).pvalue > 0.001


def test_p_leaves_whole_images_alone() -> None:
    images = photos(40)
    np.testing.assert_array_equal(AutoAugment(p=0.0)(images, 1), images)
    choice = AutoAugment("cifar10_full", p=Linear(0.0, 1.0)).sample(
        rng.make_seed(5), (9500, 8, 8, 3), Progress(tf.constant(1), tf.constant(4))
    )
    kept = AutoAugment("cifar10_full").sample(rng.make_seed(5), (9500, 8, 8, 3))
    both = kept["applied"].numpy().all(1)
    used = choice["applied"].numpy()[both]
    assert (used[:, 0] == used[:, 1]).all()
    assert scipy.stats.binomtest(int(used[:, 0].sum()), len(used), 0.25).pvalue > 0.001


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "cifar"}, r"AutoAugment.policy is 'cifar'.*did you mean 'cifar10'.*allowed: cifar10, cifar10_full"),
        ({"p": 1.5}, r"AutoAugment.p is 1.5; allowed: 0..1"),
        ({"p": Linear(0.0, 2.0)}, r"AutoAugment.p is Linear.*allowed: 0..1"),
        ({"fill": -1}, r"AutoAugment.fill is -1; allowed: a whole number, 0..255"),
        ({"interpolation": "cubic"}, r"AutoAugment.interpolation is 'cubic'; allowed: nearest, bilinear"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AutoAugment(**arguments)


def test_images_that_a_translation_would_push_out_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'cifar10' translates by 9 px, but the images' height is 9 px"):
        AutoAugment()(photos(2, 9, 18), 0)
    with pytest.raises(ValueError, match=r"'cifar10_full' translates by 9 px, but the images' width is 8 px"):
        AutoAugment("cifar10_full")(photos(2, 12, 8), 0)
    AutoAugment()(photos(2, 10, 10), 0)
    AutoAugment("imagenet")(photos(2, 8, 8), 0)


@pytest.mark.parametrize("interpolation", autoaugment.INTERPOLATIONS)
def test_fill_and_interpolation_reach_the_engine(interpolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    got: dict[str, Any] = {}
    monkeypatch.setattr(autoaugment, "apply_operations", lambda images, *args, **named: got.update(named) or images)
    AutoAugment(fill=3, interpolation=interpolation)(photos(2), 0)
    weights = got.pop("weights")
    assert got == {"fill": 3, "interpolation": interpolation}
    assert len(weights) == 14 and min(weights) >= 1
