"""A fast network for small images: whitened patches, three groups of convolutions, one pooled vector."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug.config import ConfigError, is_number, to_python
from tfaug.models.base import Model
from tfaug.models.stages import Head, KaimingNormal, LayerMaker, Normalize

_PATCH_PX = 2
# Added to the eigenvalues, so that directions in which photographs hardly vary are not blown up (Jordan 2024).
_EPSILON = 5e-4


class IdentityFirst(tf.keras.initializers.Initializer):
    """Makes the first min(I, O) filters of a kernel [h, w, I, O] copy their channel and draws the others.

    The others are uniform within 1 / sqrt(h w I), drawn with numpy from the seed alone.

    Args:
      seed: whole numbers.
    """

    def __init__(self, seed: Sequence[int]) -> None:
        self._seed = tuple(seed)

    def __call__(self, shape: Any, dtype: Any = tf.float32, **kwargs: Any) -> tf.Tensor:
        """Returns weights of `shape`, whose height and width are odd."""
        height, width, num_inputs, num_outputs = (int(size) for size in shape)
        bound = 1 / np.sqrt(height * width * num_inputs)
        kernel = np.random.default_rng(self._seed).uniform(-bound, bound, (height, width, num_inputs, num_outputs))
        copied = np.arange(min(num_inputs, num_outputs))
        kernel[..., copied] = 0
        kernel[height // 2, width // 2, copied, copied] = 1
        return tf.constant(kernel, dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"seed": self._seed}


class Whiten(tf.keras.layers.Layer):
    """Rectified projections of the patches of 2 x 2 pixels on plus and minus their whitened principal directions.

    `adapt` computes the kernel from images; training does not change it, only the bias. Until then the kernel is drawn
    at random.

    Args:
      initializer: of the kernel, where `adapt` is not called.

    Source: Jordan 2024 (94% on CIFAR-10 in 3.29 seconds on a single GPU), section 3.2, after Page 2019.
    """

    def __init__(self, initializer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._initializer = initializer

    def build(self, input_shape: Any) -> None:
        """Makes the variables."""
        size = _PATCH_PX * _PATCH_PX * int(input_shape[-1])
        shape = (_PATCH_PX, _PATCH_PX, int(input_shape[-1]), 2 * size)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self._initializer, trainable=False)
        self.bias = self.add_weight(name="bias", shape=(2 * size,), initializer="zeros")
        super().build(input_shape)

    def adapt(self, images: np.ndarray) -> None:
        """Sets the kernel.

        Args:
          images: float [N, H, W, C], normalised.
        """
        windows: Any = np.lib.stride_tricks.sliding_window_view  # the types of NumPy 1 know a single axis
        patches = windows(images, (_PATCH_PX, _PATCH_PX), axis=(1, 2))
        patches = np.moveaxis(patches, 3, -1).reshape(-1, _PATCH_PX * _PATCH_PX * images.shape[-1]).astype(np.float64)
        values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
        # An eigenvector's sign is the linear algebra library's choice; ours is that its largest part is positive.
        vectors *= np.sign(vectors[np.abs(vectors).argmax(0), np.arange(len(values))])
        filters = (vectors / np.sqrt(values + _EPSILON))[:, ::-1].reshape(_PATCH_PX, _PATCH_PX, images.shape[-1], -1)
        self.kernel.assign(np.concatenate([filters, -filters], -1).astype(np.float32))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns [B, H - 1, W - 1, 8 C], rectified."""
        return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(inputs, self.kernel, 1, "VALID"), self.bias))


@dataclasses.dataclass(frozen=True)
class Whitened(Model):
    """Whitened patches, then per width conv - pool - norm - relu - conv - norm - relu, then the largest of each map.

    1,971,352 trainable parameters for 3 channels and 10 classes, and 236 million multiplications and additions per
    image of 32 x 32; with the widths 32, 64 and 128, a student's, 294,360 and a sixth of the work. Made to be trained
    in few epochs by `Muon`. It has rectifiers where the source has GELU, which took half of a step's time on a CPU.

    Args:
      widths: filters of each group, 1 or more; each halves the image.

    Source: after Jordan 2024 (94% on CIFAR-10 in 3.29 seconds on a single GPU), section 3, and its Muon variant.
    """

    widths: tuple[int, ...] = (64, 256, 256)

    def __post_init__(self) -> None:
        widths = to_python(self.widths)
        good = isinstance(widths, tuple) and widths and all(is_number(i, whole=True) and i >= 1 for i in widths)
        if not good:
            raise ConfigError(
                f"Whitened.widths is {self.widths!r}; allowed: whole numbers, 1 or more, as (64, 256, 256)"
            )
        object.__setattr__(self, "widths", widths)

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_in")
        stages: list[tf.keras.layers.Layer] = [
            Normalize(mean, std, name="normalize"),
            Whiten(KaimingNormal(make.next_seed(), "fan_in"), dtype=make.policy, name="whiten"),
        ]
        for index, width in enumerate(self.widths, start=1):
            layers = [
                make.conv("conv1", width, 3, initializer=IdentityFirst(make.next_seed())),
                tf.keras.layers.MaxPooling2D(dtype=make.policy, name="pool"),
                make.norm("norm1", momentum=0.6, scale=False),
                make.relu("relu1"),
                make.conv("conv2", width, 3, initializer=IdentityFirst(make.next_seed())),
                make.norm("norm2", momentum=0.6, scale=False),
                make.relu("relu2"),
            ]
            stages.append(make.chain(f"stage{index}", layers))
        # Nearly zero: the first steps move the head more than what is below it.
        small = KaimingNormal(make.next_seed(), "fan_in", scale=0.05)
        dense = tf.keras.layers.Dense(num_classes, use_bias=False, kernel_initializer=small, name="dense")
        stages.append(Head(dense, pool=tf.reduce_max, name="head"))
        return stages
