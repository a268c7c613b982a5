"""Adversarial attacks: what one is, how several are named, and FGSM and PGD, which move pixels within a norm ball.

Both go up the sign of the cross-entropy's gradient. In float32 that gradient vanishes where the model is sure, and an
attack on it then fails for no good reason. With the margin m = log sum_{c != y} exp(z_c) - z_y of logits z and label
y, the cross-entropy is log(1 + exp(m)), which grows with m, so the gradients of both have the same signs; that of m
does not vanish, and is used.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfaug.config import ConfigError, check_range, check_whole, setting_text
from tfaug.extras import explained
from tfaug.losses import NUM_CHECKED, check_logits
from tfaug.predictions import CLEAN

with explained():
    import tqdm

ModelFn = Callable[[tf.Tensor], tf.Tensor]


class Attack:
    """Gives an attack its contract. The attack itself is a frozen dataclass, and its fields are its settings.

    Attributes:
      name: of its files and rows, letters, digits and underscores; "" is the class's own in small letters.
    """

    name: ClassVar[str] = ""

    def attack(
        self,
        model_fn: ModelFn,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int = 128,
        progress: bool = False,
    ) -> np.ndarray:
        """Returns adversarial images made on a model.

        Args:
          model_fn: float32 [B,H,W,C] in 0..255 -> logits [B,K], in inference mode, differentiable; K of 2 or more.
          images: uint8 or float32 [N,H,W,C] in 0..255.
          labels: integers [N], the true classes 0..K-1.
          batch_size: images that are attacked at once.
          progress: show a progress bar on a terminal.

        Returns:
          float32 [N,H,W,C] in 0..255, finite, not rounded, in the order of `images`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no attack(model_fn, images, labels, *, ...)")


def name_attacks(attacks: Sequence[Attack]) -> dict[str, tuple[str, Attack]]:
    """Returns attacks by their names in files and rows, each with its title on the page.

    One that is alone of its name keeps it. Of several each adds the fields in which they differ, `epsilon` without its
    own name.

    Raises:
      ConfigError: if a name is none of a file, or two attacks cannot be told apart.

    Example:
      >>> {name: title for name, (title, _) in name_attacks([FGSM(), PGD(epsilon=4/255), PGD(epsilon=8/255)]).items()}
      {'fgsm': 'FGSM', 'pgd_4_255': 'PGD 4/255', 'pgd_8_255': 'PGD 8/255'}
    """
    named: dict[str, tuple[str, Attack]] = {}
    for attack in attacks:
        base = _base_name(attack)
        if not re.fullmatch(r"\w+", base, re.ASCII) or base == CLEAN:
            raise ConfigError(
                f"{type(attack).__name__}.name is {base!r}; allowed: letters, digits and underscores, but {CLEAN!r}"
            )
        alike = [each for each in attacks if _base_name(each) == base]
        told = [
            setting_text(value) if field == "epsilon" else f"{field.replace('_', ' ')} {setting_text(value)}"
            for field, value in _settings(attack).items()
            if any(_settings(each).get(field) != value for each in alike)
        ]
        name = re.sub(r"\W+", "_", " ".join([base, *told]), flags=re.ASCII)
        if name in named:
            raise ConfigError(f"two attacks are named {name}: {named[name][1]!r} and {attack!r}; allowed: each once")
        named[name] = (" ".join([type(attack).__name__, ", ".join(told)]).strip(), attack)
    return named


def _base_name(attack: Attack) -> str:
    """Returns the name of an attack that is alone of its name."""
    return attack.name or type(attack).__name__.lower()


def _settings(attack: Attack) -> dict[str, Any]:
    """Returns an attack's fields."""
    return {field.name: getattr(attack, field.name) for field in dataclasses.fields(attack)}  # type: ignore[arg-type]


def _margin(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """log sum_{c != y} exp(z_c) - z_y for each row: the logarithm of the odds against the label."""
    own = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
    others = tf.where(own, -np.inf, logits)
    return tf.reduce_logsumexp(others, axis=1) - tf.gather(logits, labels, axis=1, batch_dims=1)


def _ascend(
    model_fn: ModelFn,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    name: str,
    epsilon: float,
    step_size: float,
    num_steps: int,
    noise: Callable[[int], np.ndarray] | None = None,
    batch_size: int,
    progress: bool,
) -> np.ndarray:
    """Takes signed steps, clipping to the ball around `images`; `noise(i)` in -1..1 moves the start of image i."""
    images, labels = _check_inputs(images, labels, batch_size)
    if not len(images):
        return images
    num_classes = check_logits(model_fn(tf.constant(images[:NUM_CHECKED]))).shape[1]
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels go from {labels.min()} to {labels.max()}; allowed: 0..{num_classes - 1}")
    radius, length = 255.0 * epsilon, 255.0 * step_size
    spec = tf.TensorSpec([None, *images.shape[1:]], tf.float32)

    @tf.function(input_signature=[spec, spec, spec, tf.TensorSpec([None], tf.int64)], autograph=False)
    def attack_batch(current: tf.Tensor, low: tf.Tensor, high: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        def step(i: tf.Tensor, current: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(current)
                # Each row's margin depends on its own image only (inference mode), so the sum's gradient is per image.
                logits = tf.cast(model_fn(current), tf.float32)
                total = tf.reduce_sum(_margin(logits, labels))
            gradient = tape.gradient(total, current)
            if gradient is None:
                raise ValueError("the model is not differentiable: its logits do not depend on the images by gradients")
            return i + 1, tf.clip_by_value(current + length * tf.sign(gradient), low, high)

        return tf.while_loop(lambda i, _: i < num_steps, step, (0, current), parallel_iterations=1)[1]

    low = np.maximum(images - np.float32(radius), np.float32(0))
    high = np.minimum(images + np.float32(radius), np.float32(255))
    start = images
    if noise is not None:
        start = np.clip(images + np.float32(radius) * np.stack([noise(i) for i in range(len(images))]), low, high)
    adversarial = np.empty_like(images)
    with tqdm.tqdm(total=len(images), desc=name, unit="image", disable=None if progress else True, leave=False) as bar:
        for first in range(0, len(images), batch_size):
            rows = slice(first, first + batch_size)
            adversarial[rows] = attack_batch(start[rows], low[rows], high[rows], labels[rows]).numpy()
            bar.update(len(labels[rows]))
    _check_within(adversarial, images, radius)
    return adversarial


def _check_inputs(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns float32 images and int64 labels, or refuses them."""
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or images.dtype not in (np.uint8, np.float32):
        raise ValueError(f"images are {images.dtype} {list(images.shape)}; allowed: uint8 or float32 [N,H,W,C]")
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype} {list(labels.shape)}; allowed: integers [{len(images)}]")
    if images.size and not (images.min() >= 0 and images.max() <= 255):
        raise ValueError(f"images lie in {images.min():g}..{images.max():g}; allowed: 0..255")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; allowed: 1 or more")
    return images.astype(np.float32), labels.astype(np.int64)


def _check_within(adversarial: np.ndarray, images: np.ndarray, radius: float) -> None:
    """Refuses a result outside the ball or outside 0..255: no attack's own clipping is trusted."""
    if not np.isfinite(adversarial).all():
        raise FloatingPointError("the attack gave NaN or infinite pixels: the model's gradient is not finite")
    distance = float(np.abs(adversarial - images).max(initial=0.0))
    # One unit in the last place of a pixel value near 255 is 1.5e-5.
    if distance > radius + 2e-5 or adversarial.min(initial=0.0) < 0 or adversarial.max(initial=255.0) > 255:
        raise AssertionError(
            f"adversarial images lie up to {distance:g} from their originals, in {adversarial.min():g}.."
            f"{adversarial.max():g}; allowed: {radius:g}, in 0..255"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """The fast gradient sign method: one step of the whole budget.

        x' = clip(x + epsilon sign(grad_x CE(f(x), y)), 0, 1)        in units where pixels lie in 0..1

    Args:
      epsilon: budget in the maximum norm, in units where pixels lie in 0..1; 0..1.

    Source: definition and epsilon = 8/255 as used by sum, section 3.7 (Goodfellow et al. 2015).

    Example:
      >>> import numpy as np, tensorflow as tf
      >>> weights = tf.constant([[1.0, -1.0], [1.0, -1.0]])
      >>> model = lambda images: tf.reshape(images, [-1, 2]) @ weights
      >>> images = np.full((1, 1, 2, 1), 100, np.uint8)
      >>> FGSM(epsilon=8 / 255).attack(model, images, np.array([0])).ravel().tolist()
      [92.0, 92.0]
    """

    name: ClassVar[str] = "fgsm"
    epsilon: float = 8 / 255

    def __post_init__(self) -> None:
        check_range(self, "epsilon", 0.0, 1.0)

    def attack(
        self,
        model_fn: ModelFn,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int = 128,
        progress: bool = False,
    ) -> np.ndarray:
        """Returns adversarial images, each within 255 epsilon of its original in every pixel; see `PGD.attack`."""
        return _ascend(
            model_fn,
            images,
            labels,
            name=self.name,
            epsilon=self.epsilon,
            step_size=self.epsilon,
            num_steps=1,
            batch_size=batch_size,
            progress=progress,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Projected gradient descent: small signed steps, each projected back to the ball and to the pixel range.

        x_0     = x, or x + u with u uniform in the ball (random_start)
        x_{t+1} = clip(x_t + step_size sign(grad CE(f(x_t), y)), max(x - epsilon, 0), min(x + epsilon, 1))

    The last x_t is returned, as the thesis does, not the one of highest loss. Noise of a random start follows from
    `seed` and the image's place in `images` alone.

    Args:
      epsilon: budget in the maximum norm, in units where pixels lie in 0..1; 0..1.
      step_size: in the same units; 0..1.
      num_steps: 1 or more.
      random_start: start at a uniform point of the ball; off in the thesis.
      seed: of the random start.

    Source: settings of sum, section 3.7, as its code has them (Madry et al. 2018, with a random start).
    """

    name: ClassVar[str] = "pgd"
    epsilon: float = 8 / 255
    step_size: float = 2 / 255
    num_steps: int = 10
    random_start: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(self, "epsilon", 0.0, 1.0)
        check_range(self, "step_size", 0.0, 1.0)
        check_whole(self, "num_steps", 1)
        check_whole(self, "seed", 0, 2**31 - 1)

    def attack(
        self,
        model_fn: ModelFn,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int = 128,
        progress: bool = False,
    ) -> np.ndarray:
        """Returns adversarial images made on a model, each within 255 epsilon of its original in every pixel (checked).

        Args and Returns: see `Attack.attack`; the result depends on the batch size by float rounding alone.

        Raises:
          ValueError: if types, shapes or ranges are not as there, or the model gives probabilities: where it is sure,
            their gradient is 0, and the attack would leave its images as they are.
          FloatingPointError: if the result is not finite.
        """

        def noise(index: int) -> np.ndarray:
            generator = np.random.Generator(np.random.Philox(key=[self.seed, index]))
            return generator.uniform(-1.0, 1.0, images.shape[1:]).astype(np.float32)

        return _ascend(
            model_fn,
            images,
            labels,
            name=self.name,
            epsilon=self.epsilon,
            step_size=self.step_size,
            num_steps=self.num_steps,
            noise=noise if self.random_start else None,
            batch_size=batch_size,
            progress=progress,
        )


ATTACKS: dict[str, type[Attack]] = {"FGSM": FGSM, "PGD": PGD}
