"""tfaug/addons.py: rotation and blur against SciPy, and what its import hides."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from tests import tiny
from tfaug import addons

with_addons = pytest.mark.skipif(
    addons.ENGINE != "tensorflow-addons", reason="tensorflow-addons is not installed: it has no wheel for this Python"
)
every_engine = pytest.mark.parametrize(
    "engine", [pytest.param("tensorflow-addons", marks=with_addons), pytest.param("tensorflow")]
)


def _smooth_images() -> np.ndarray:
    """Two different images, float32 [2, 12, 14, 2], without hard edges at their borders."""
    noise = np.random.default_rng(0).uniform(0, 255, (2, 12, 14, 2))
    return ndimage.gaussian_filter(noise, (0, 1, 1, 0)).astype(np.float32)


@every_engine
@pytest.mark.parametrize("sigma_px", [0.4, 1.0, 1.5])
def test_gaussian_blur_equals_scipy_with_mirrored_borders(sigma_px: float, engine: str) -> None:
    images = _smooth_images()
    radius = int(np.ceil(3 * sigma_px))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    weights /= weights.sum()
    wanted = images.astype(np.float64)
    for axis in (1, 2):
        wanted = ndimage.correlate1d(wanted, weights, axis=axis, mode="mirror")
    got = addons.gaussian_blur(tf.constant(images), sigma_px, engine).numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-3)


@pytest.mark.parametrize("sigma_px", [0.0, -1.0, float("nan")])
def test_gaussian_blur_refuses_a_deviation_that_is_not_positive(sigma_px: float) -> None:
    with pytest.raises(ValueError, match=r"sigma_px is .* allowed: above 0"):
        addons.gaussian_blur(tf.zeros([1, 8, 8, 1]), sigma_px)


@every_engine
def test_rotate_turns_each_image_counter_clockwise_by_its_own_angle(engine: str) -> None:
    images = _smooth_images()[:, :12, :12]
    got = addons.rotate(tf.constant(images), tf.constant([90.0, -20.0]), engine=engine).numpy()
    np.testing.assert_allclose(got[0], np.rot90(images[0]), atol=1e-2)
    wanted = ndimage.rotate(images[1], -20.0, axes=(1, 0), reshape=False, order=1, mode="constant", cval=0.0)
    inside = ndimage.rotate(np.ones_like(images[1]), -20.0, axes=(1, 0), reshape=False, order=1, cval=0.0) > 0.999
    assert inside.mean() > 0.6  # the corners that come from outside are treated differently by the two
    np.testing.assert_allclose(got[1][inside], wanted[inside], atol=0.05)


@every_engine
def test_rotate_fills_what_comes_from_outside(engine: str) -> None:
    got = addons.rotate(tf.fill([1, 20, 20, 1], 100.0), tf.constant([45.0]), 7.0, engine).numpy()[0, ..., 0]
    assert got[0, 0] == got[0, -1] == got[-1, 0] == got[-1, -1] == 7.0
    assert got[10, 10] == pytest.approx(100.0)


@with_addons
def test_the_engines_agree_to_a_thousandth_of_a_grey_level() -> None:
    images = tf.constant(np.random.default_rng(1).uniform(0, 255, (9, 13, 16, 3)), tf.float32)
    angles = tf.linspace(-200.0, 200.0, 9)
    for compute in (
        lambda engine: addons.rotate(images, angles, 31.0, engine),
        *(lambda engine, s=s: addons.gaussian_blur(images, s, engine) for s in (0.3, 1.0, 3.9)),
    ):
        both = [compute(engine).numpy() for engine in addons.ENGINES]
        np.testing.assert_allclose(*both, rtol=0, atol=1e-3)


def test_an_engine_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addons, "_addons", None)
    with pytest.raises(ValueError, match="'tensorflow-addons', which is not installed here; allowed: 'tensorflow'"):
        addons.rotate(tf.zeros([1, 8, 8, 1]), tf.zeros([1]), engine="tensorflow-addons")
    with pytest.raises(ValueError, match="engine is 'tfa'; allowed: tensorflow-addons, tensorflow"):
        addons.gaussian_blur(tf.zeros([1, 8, 8, 1]), 1.0, engine="tfa")


def _warnings_of(program: str) -> str:
    """Standard error of a fresh interpreter that runs `program` with every warning on."""
    done = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, check=True)
    return done.stderr


@with_addons
def test_the_end_of_life_banner_is_silent_and_other_warnings_are_heard() -> None:
    # The second warning begins like the banner, so a filter on its beginning alone would swallow it.
    program = """
import sys, types, warnings, importlib.abc, importlib.machinery

class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "tensorflow_addons" else None

    def create_module(self, spec):
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        from importlib import metadata
        source = metadata.distribution("tensorflow_addons").locate_file("tensorflow_addons/utils/tfa_eol_msg.py")
        exec(compile(source.read_text(), str(source), "exec"), {})  # the package's own banner
        warnings.warn("TensorFlow Addons supports other versions of TensorFlow", UserWarning)
        warnings.warn(BANNER_START + "and something new", UserWarning)

BANNER_START = (
    "\\n\\nTensorFlow Addons (TFA) has ended development and introduction of new features.\\n"
)
sys.meta_path.insert(0, Finder())
import tfaug.addons
"""
    stderr = _warnings_of(program)
    assert "planned end of life" not in stderr
    assert "TensorFlow Addons supports other versions of TensorFlow" in stderr
    assert "and something new" in stderr


def test_nothing_else_imports_tensorflow_addons() -> None:
    importing = [
        path.name
        for path in pathlib.Path(addons.__file__).parent.rglob("*.py")
        if re.search(r"import tensorflow_addons|import_module\(.tensorflow_addons", path.read_text(encoding="utf-8"))
    ]
    assert importing == ["addons.py"]


@with_addons
def test_keras_is_what_it_was_once_addons_is_there() -> None:
    code = (
        "import tensorflow as tf; before = tf.keras.layers.Dense\n"
        "import tfaug.addons\n"
        "from tensorflow.keras.layers import Dense\n"
        "assert tfaug.addons.ENGINE == 'tensorflow-addons' and Dense is before is tf.keras.layers.Dense, Dense\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tiny.ROOT)
    assert ran.returncode == 0, ran.stderr[-2000:]
