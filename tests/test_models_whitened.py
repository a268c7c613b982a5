"""The whitened network: its patches against numpy, and how it starts."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfaug.models import MODELS, StagedModel, build_model
from tfaug.models.whitened import IdentityFirst

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


def build(name: str = "whitened_small", seed: int = 0) -> StagedModel:
    settings = dict(image_shape=(32, 32, 3), num_classes=10, mean=MEAN, std=STD, precision="fp32", seed=seed)
    return build_model(MODELS[name], **settings)


def smooth_images(num: int) -> np.ndarray:
    """Images whose neighbouring pixels resemble each other, as in photographs; uint8 [num, 32, 32, 3]."""
    noise = np.random.default_rng(0).standard_normal((num, 33, 33, 3))
    mixed = noise[:, 1:, 1:] + noise[:, :-1, 1:] + noise[:, 1:, :-1] + noise[:, :-1, :-1]
    return np.clip(128 + 30 * mixed, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def adapted() -> tuple[StagedModel, np.ndarray]:
    model, images = build(), smooth_images(200)
    model.adapt(images)
    return model, images


def projections(model: StagedModel, images: np.ndarray) -> np.ndarray:
    """The whitened patches before bias and rectifier, float32 [N, 31, 31, 24]."""
    whiten = model.stages[1]
    return tf.nn.conv2d(model.forward(images, stop="whiten"), whiten.kernel, 1, "VALID").numpy()


def test_patches_become_uncorrelated_and_of_unit_power(adapted) -> None:
    flat = projections(*adapted).reshape(-1, 24).astype(np.float64)
    second_moments = flat[:, :12].T @ flat[:, :12] / len(flat)
    # 5e-4 is added to the eigenvalues, the smallest of which is 0.01 of a patch here.
    np.testing.assert_allclose(second_moments, np.eye(12), atol=0.06)
    np.testing.assert_allclose(flat[:, 12:], -flat[:, :12], atol=1e-5)


def test_the_first_filter_is_the_strongest_direction_with_its_sign_fixed(adapted) -> None:
    model, images = adapted
    normalised = model.forward(images, stop="whiten").numpy().astype(np.float64)
    patches = np.stack(
        [normalised[:, y : 31 + y, x : 31 + x, c].ravel() for y in range(2) for x in range(2) for c in range(3)], 1
    )
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    first = model.stages[1].kernel.numpy()[..., 0].ravel()
    strongest = vectors[:, -1] / np.sqrt(values[-1] + 5e-4)
    np.testing.assert_allclose(first, strongest * np.sign(strongest @ first), rtol=1e-3, atol=1e-5)
    assert first[np.abs(first).argmax()] > 0


def test_training_leaves_the_patches_kernel_and_learns_its_bias(adapted) -> None:
    model, _ = adapted
    names = [variable.name.split(":")[0].split("/")[-1] for variable in model.stages[1].trainable_variables]
    assert names == ["bias"]
    assert any(variable is model.stages[1].kernel for variable in model.stages[1].non_trainable_variables)


def test_a_model_that_is_not_adapted_differs_and_loads_the_weights_of_one_that_is(adapted, tmp_path) -> None:
    model, images = adapted
    model.save_weights(tmp_path / "all.weights.h5")
    other = build(seed=1)
    assert np.abs(other(images[:4]) - model(images[:4])).max() > 1e-4
    other.load_weights(tmp_path / "all.weights.h5")
    np.testing.assert_array_equal(other(images[:4]), model(images[:4]))


def test_stages_halve_the_image(adapted) -> None:
    model, images = adapted
    sizes = [model.forward(images[:2], stop=stop).shape[1:] for stop in ("stage1", "stage2", "stage3", "head")]
    assert model.stage_names == ("normalize", "whiten", "stage1", "stage2", "stage3", "head")
    assert sizes == [(31, 31, 24), (15, 15, 32), (7, 7, 64), (3, 3, 128)]


@pytest.mark.parametrize("num_inputs, num_outputs", [(3, 5), (5, 5), (5, 3)])
def test_the_first_filters_copy_their_channel(num_inputs, num_outputs) -> None:
    kernel = IdentityFirst((0, 1))((3, 3, num_inputs, num_outputs))
    images = np.random.default_rng(0).standard_normal((2, 6, 6, num_inputs)).astype(np.float32)
    copied = min(num_inputs, num_outputs)
    result = tf.nn.conv2d(images, kernel, 1, "SAME").numpy()
    np.testing.assert_array_equal(result[..., :copied], images[..., :copied])
    others = kernel.numpy()[..., copied:]
    assert np.abs(others).max(initial=0) <= 1 / np.sqrt(9 * num_inputs)
    if others.size:
        assert others.std() == pytest.approx(1 / np.sqrt(27 * num_inputs), rel=0.1)
        assert not np.array_equal(others, IdentityFirst((1, 1))((3, 3, num_inputs, num_outputs)).numpy()[..., copied:])
