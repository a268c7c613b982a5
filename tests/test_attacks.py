"""FGSM and PGD against closed forms on a linear model, their bounds, and a small trained network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tfaug.config import ConfigError
from tfaug.evaluate import EvaluateConfig
from tfaug.evaluate.attacks import ATTACKS, FGSM, PGD, Attack, name_attacks

SHAPE = (3, 4, 2)
EPSILON = 8 / 255
ALL: list[FGSM | PGD] = [FGSM(), PGD(), PGD(random_start=True)]


def make_images(num: int, low: int = 0, high: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (num, *SHAPE)).astype(np.uint8)


def linear_model(num_classes: int, scale: float = 0.01):
    weights = np.random.default_rng(5).normal(0, scale, (24, num_classes)).astype(np.float32)
    return weights, lambda images: tf.reshape(images, [-1, 24]) @ weights


def losses(model, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    log_probs = scipy.special.log_softmax(model(tf.constant(images, tf.float32)).numpy().astype(np.float64), axis=1)
    return -log_probs[np.arange(len(labels)), labels]


class Blobs:
    """Noisy images of four classes, each with a bright patch of its own, and a small trained convolutional network."""

    def __init__(self) -> None:
        generator = np.random.default_rng(2)
        self.labels = np.arange(160) % 4
        images = generator.normal(110, 18, (160, 8, 8, 1))
        for i, label in enumerate(self.labels):
            row, column = 4 * (label // 2), 4 * (label % 2)
            images[i, row : row + 4, column : column + 4] += 14
        self.images = np.clip(np.rint(images), 0, 255).astype(np.uint8)
        tf.keras.utils.set_random_seed(0)
        self.model = tf.keras.Sequential(
            [
                tf.keras.layers.Rescaling(1 / 20, offset=-5.5, input_shape=(8, 8, 1)),
                tf.keras.layers.Conv2D(8, 3, padding="same"),
                tf.keras.layers.BatchNormalization(momentum=0.8),
                tf.keras.layers.ReLU(),
                tf.keras.layers.AveragePooling2D(4),
                tf.keras.layers.Flatten(),
                tf.keras.layers.Dense(4),
            ]
        )
        self.model.compile(tf.keras.optimizers.Adam(0.03), tf.keras.losses.SparseCategoricalCrossentropy(True))
        self.model.fit(self.images.astype(np.float32), self.labels, batch_size=40, epochs=15, verbose=0)

    def model_fn(self, images: tf.Tensor) -> tf.Tensor:
        return self.model(images, training=False)

    def accuracy(self, images: np.ndarray) -> float:
        return float((self.model_fn(tf.constant(images, tf.float32)).numpy().argmax(1) == self.labels).mean())


@pytest.fixture(scope="module")
def blobs() -> Blobs:
    return Blobs()


def test_table_of_attacks_is_complete():
    assert ATTACKS == {"FGSM": FGSM, "PGD": PGD}
    assert set(ATTACKS.values()) == {type(attack) for attack in ALL}


def test_fgsm_on_a_two_class_linear_model_is_its_closed_form():
    weights, model = linear_model(2)
    images, labels = make_images(20), np.arange(20) % 2
    # d CE / dx is a positive number times (w_other - w_own), whatever the image.
    direction = np.sign(weights[:, 1 - labels] - weights[:, labels]).T.reshape(-1, *SHAPE)
    expected = np.clip(images + 8 * direction, 0, 255)
    adversarial = FGSM(epsilon=EPSILON).attack(model, images, labels)
    assert adversarial.dtype == np.float32
    np.testing.assert_array_equal(adversarial, expected)


def test_fgsm_on_a_many_class_linear_model_takes_the_sign_of_softmax_minus_label():
    weights, model = linear_model(6)
    images, labels = make_images(30), np.arange(30) % 6
    probs = scipy.special.softmax(images.reshape(30, -1).astype(np.float64) @ weights, axis=1)
    gradient = (probs - np.eye(6)[labels]) @ weights.T.astype(np.float64)
    expected = np.clip(images + 3 * np.sign(gradient).reshape(images.shape), 0, 255)
    np.testing.assert_array_equal(FGSM(epsilon=3 / 255).attack(model, images, labels), expected)


def test_pgd_on_a_two_class_linear_model_reaches_the_corner_of_the_ball():
    _, model = linear_model(2)
    images, labels = make_images(20), np.arange(20) % 2
    corner = FGSM(epsilon=EPSILON).attack(model, images, labels)
    # 10 steps of 2/255 exceed the budget of 8/255 and are projected back; 3 steps make 6/255.
    np.testing.assert_array_equal(PGD().attack(model, images, labels), corner)
    np.testing.assert_array_equal(
        PGD(num_steps=3).attack(model, images, labels), FGSM(epsilon=6 / 255).attack(model, images, labels)
    )


def test_one_pgd_step_of_the_whole_budget_is_fgsm(blobs):
    one = PGD(step_size=EPSILON, num_steps=1).attack(blobs.model_fn, blobs.images, blobs.labels)
    np.testing.assert_array_equal(one, FGSM().attack(blobs.model_fn, blobs.images, blobs.labels))


def test_steps_are_not_stopped_by_a_sure_model():
    # With logits this far apart softmax is exactly one-hot in float32, and so the cross-entropy's gradient zero.
    weights, model = linear_model(3, scale=10.0)
    images = make_images(12)
    labels = (images.reshape(12, -1).astype(np.float32) @ weights).argmax(axis=1)
    assert losses(model, images, labels).max() < 1e-30
    adversarial = FGSM().attack(model, images, labels)
    inner = (images > 8) & (images < 247)
    np.testing.assert_array_equal(np.abs(adversarial - images)[inner], 8)
    ranked = np.argsort(images.reshape(12, -1).astype(np.float64) @ weights, axis=1)
    direction = np.sign(weights[:, ranked[:, -2]] - weights[:, labels]).T.reshape(images.shape)
    np.testing.assert_array_equal(adversarial, np.clip(images + 8 * direction, 0, 255))


@pytest.mark.parametrize("attack", ALL, ids=repr)
@pytest.mark.parametrize("epsilon", [0.0, 0.5 / 255, 8 / 255, 0.5])
def test_result_stays_in_the_ball_and_in_the_pixel_range(attack, epsilon, blobs):
    images = np.concatenate([blobs.images[:20], np.zeros_like(blobs.images[:2]), np.full_like(blobs.images[:2], 255)])
    labels = np.arange(24) % 4
    adversarial = dataclasses.replace(attack, epsilon=epsilon).attack(blobs.model_fn, images, labels)
    assert np.abs(adversarial - images.astype(np.float64)).max() <= epsilon * 255 + 2e-5
    assert adversarial.min() >= 0 and adversarial.max() <= 255
    if epsilon == 0.0:
        np.testing.assert_array_equal(adversarial, images)


@pytest.mark.parametrize("attack", ALL, ids=repr)
def test_loss_rises_and_an_accurate_model_loses_accuracy(attack, blobs):
    assert blobs.accuracy(blobs.images) >= 0.95
    adversarial = attack.attack(blobs.model_fn, blobs.images, blobs.labels)
    before = losses(blobs.model_fn, blobs.images, blobs.labels)
    after = losses(blobs.model_fn, adversarial, blobs.labels)
    assert (after >= before).mean() >= 0.99
    assert blobs.accuracy(adversarial) <= 0.6


def test_loss_never_falls_on_a_linear_model():
    # The loss is convex in the image, so a signed step of any length cannot lower it.
    _, model = linear_model(6, scale=0.05)
    images, labels = make_images(60), np.arange(60) % 6
    for attack in (FGSM(), FGSM(epsilon=0.3)):
        adversarial = attack.attack(model, images, labels)
        assert (losses(model, adversarial, labels) >= losses(model, images, labels)).all()


def test_more_steps_do_more_harm_than_one_on_a_network(blobs):
    one = losses(blobs.model_fn, FGSM().attack(blobs.model_fn, blobs.images, blobs.labels), blobs.labels)
    ten = losses(blobs.model_fn, PGD().attack(blobs.model_fn, blobs.images, blobs.labels), blobs.labels)
    assert ten.mean() > one.mean()


@pytest.mark.parametrize("attack", ALL, ids=repr)
def test_result_does_not_depend_on_the_batch(attack):
    # A linear model's gradient has no sum whose order depends on the batch.
    _, model = linear_model(2)
    images, labels = make_images(23), np.arange(23) % 2
    whole = attack.attack(model, images, labels, batch_size=23)
    np.testing.assert_array_equal(attack.attack(model, images, labels, batch_size=5), whole)
    np.testing.assert_array_equal(attack.attack(model, images[:1], labels[:1]), whole[:1])


def test_batch_statistics_of_a_network_play_no_part(blobs):
    alone = FGSM().attack(blobs.model_fn, blobs.images[:8], blobs.labels[:8], batch_size=1)
    together = FGSM().attack(blobs.model_fn, blobs.images, blobs.labels)[:8]
    # Another order of summation may turn the sign of a gradient that is zero but for rounding.
    assert (alone != together).mean() < 0.01


def test_random_start_is_uniform_in_the_ball_and_follows_its_seed():
    flat = PGD(step_size=0.0, num_steps=1, random_start=True)
    _, model = linear_model(2)
    images, labels = np.full((400, *SHAPE), 128, np.uint8), np.zeros(400, np.int64)
    noise = flat.attack(model, images, labels) - 128.0
    assert np.abs(noise).max() <= 8 and abs(noise.mean()) < 0.2
    # The variance of U(-8, 8) is 64/3; the standard error over 9,600 values is 0.2.
    assert noise.var() == pytest.approx(64 / 3, abs=0.8)
    assert len(np.unique(noise[:, 0, 0, 0])) > 390
    again = flat.attack(model, images[:7], labels[:7])
    np.testing.assert_array_equal(again - 128.0, noise[:7])
    other = dataclasses.replace(flat, seed=1).attack(model, images[:7], labels[:7])
    assert (other - 128.0 != noise[:7]).all()


def test_without_random_start_a_zero_step_changes_nothing():
    _, model = linear_model(2)
    images = make_images(5)
    np.testing.assert_array_equal(PGD(step_size=0.0).attack(model, images, np.zeros(5, np.int64)), images)


def test_float_images_are_not_rounded_and_the_input_is_not_changed():
    _, model = linear_model(2)
    images = make_images(4).astype(np.float32) * 0.9 + 3.25
    before = images.copy()
    adversarial = FGSM(epsilon=1 / 255).attack(model, images, np.zeros(4, np.int64))
    np.testing.assert_array_equal(images, before)
    np.testing.assert_allclose(np.abs(adversarial - images), 1.0, atol=2e-5)


def test_no_images_give_no_images():
    _, model = linear_model(2)
    for attack in ALL:
        assert attack.attack(model, make_images(0), np.zeros(0, np.int64)).shape == (0, *SHAPE)


@pytest.mark.parametrize("attack", [FGSM(), PGD()], ids=repr)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": make_images(4).astype(np.float64)},
            r"images are float64 \[4, 3, 4, 2\]; allowed: uint8 or float32",
        ),
        ({"images": make_images(4)[0]}, r"images are uint8 \[3, 4, 2\]"),
        ({"images": np.full((4, *SHAPE), 256.0, np.float32)}, r"images lie in 256\.\.256; allowed: 0\.\.255"),
        ({"images": np.full((4, *SHAPE), np.nan, np.float32)}, "images lie in nan"),
        ({"labels": np.zeros(3, np.int64)}, r"labels are int64 \[3\]; allowed: integers \[4\]"),
        ({"labels": np.zeros(4)}, "labels are float64"),
        ({"labels": np.array([0, 1, 2, 0])}, r"labels go from 0 to 2; allowed: 0\.\.1"),
        ({"labels": np.array([0, 1, -1, 0])}, r"labels go from -1 to 1; allowed: 0\.\.1"),
        ({"batch_size": 0}, "batch_size is 0; allowed: 1 or more"),
    ],
)
def test_wrong_input_is_refused(attack, changes, message):
    _, model = linear_model(2)
    arguments = {"images": make_images(4), "labels": np.zeros(4, np.int64), **changes}
    with pytest.raises(ValueError, match=message):
        attack.attack(model, **arguments)


@pytest.mark.parametrize("attack", ALL, ids=repr)
@pytest.mark.parametrize(
    ("last", "message"),
    [
        (tf.nn.softmax, "so probabilities; allowed: logits, as before a softmax"),
        (
            lambda logits: tf.sigmoid(logits[:, :1]),
            r"the model gives \[4, 1\]; allowed: logits \[B, K\], K of 2 or more",
        ),
        (lambda logits: logits[:, 0], r"the model gives \[4\]; allowed"),
    ],
)
def test_model_that_gives_no_logits_is_refused(attack, last, message):
    """Where the softmax is sure its gradient is 0, and the images would stay as they are."""
    _, model = linear_model(2, scale=10.0)
    with pytest.raises(ValueError, match=message):
        attack.attack(lambda images: last(model(images)), make_images(4), np.zeros(4, np.int64))


def test_model_without_a_finite_gradient_is_not_believed():
    def broken(images: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(images, [-1, 24])[:, :2]
        return tf.sqrt(flat - flat)

    with pytest.raises(FloatingPointError, match="gradient is not finite"):
        PGD().attack(broken, make_images(3), np.zeros(3, np.int64))


def test_model_that_gives_no_gradient_is_refused():
    with pytest.raises(ValueError, match="not differentiable"):
        FGSM().attack(
            lambda images: tf.round(tf.stop_gradient(tf.reshape(images, [-1, 24])[:, :2])),
            make_images(3),
            np.zeros(3, np.int64),
        )


@pytest.mark.parametrize(
    ("attack", "changes"),
    [
        (FGSM, {"epsilon": -0.1}),
        (FGSM, {"epsilon": 8.0}),
        (PGD, {"epsilon": float("nan")}),
        (PGD, {"step_size": 2.0}),
        (PGD, {"num_steps": 0}),
        (PGD, {"seed": -1}),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(attack, changes):
    with pytest.raises(ConfigError, match=rf"{attack.__name__}\.{next(iter(changes))} is .*allowed: "):
        attack(**changes)


def test_numbers_are_keyword_only():
    with pytest.raises(TypeError):
        FGSM(0.1)  # type: ignore[misc]


def titles(*attacks: Attack) -> dict[str, str]:
    return {name: title for name, (title, _) in name_attacks(attacks).items()}


@dataclasses.dataclass(frozen=True)
class Blur(Attack):
    sigma_px: float = 0.5
    kind: str = "box"


def test_an_attack_that_is_alone_of_its_class_keeps_its_name():
    assert titles(FGSM(), PGD(epsilon=4 / 255), Blur()) == {"fgsm": "FGSM", "pgd": "PGD", "blur": "Blur"}
    assert titles() == {}


def test_several_of_a_class_are_named_by_what_they_differ_in():
    assert titles(PGD(epsilon=4 / 255), FGSM(), PGD()) == {
        **{"pgd_4_255": "PGD 4/255", "fgsm": "FGSM"},
        **{"pgd_8_255": "PGD 8/255"},
    }
    assert titles(PGD(num_steps=3), PGD(random_start=True)) == {
        "pgd_num_steps_3_random_start_no": "PGD num steps 3, random start no",
        "pgd_num_steps_10_random_start_yes": "PGD num steps 10, random start yes",
    }
    assert list(titles(Blur(0.5), Blur(1.5, "a/b"))) == ["blur_sigma_px_0_5_kind_box", "blur_sigma_px_1_5_kind_a_b"]


@dataclasses.dataclass(frozen=True)
class Misnamed(Attack):
    name = "../x"


@dataclasses.dataclass(frozen=True)
class Clean(Attack):
    pass


@pytest.mark.parametrize(
    ("attacks", "message"),
    [
        ((FGSM(), FGSM()), r"two attacks are named fgsm: FGSM\(.*; allowed: each once"),
        ((Blur(kind="a b"), Blur(kind="a/b")), "two attacks are named blur_kind_a_b"),
        ((Misnamed(),), r"Misnamed.name is '\.\./x'; allowed: letters, digits and underscores"),
        ((Clean(),), "Clean.name is 'clean'; allowed: .* but 'clean'"),
        ((FGSM,), r"EvaluateConfig.attacks\[0\] is .*FGSM'>: it is a class; write FGSM\(\)"),
    ],
)
def test_attacks_that_cannot_be_named_are_refused(attacks, message):
    with pytest.raises(ConfigError, match=message):
        EvaluateConfig(attacks=attacks)
