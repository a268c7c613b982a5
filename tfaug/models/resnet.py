"""Residual networks, and the blocks that others are made of too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfaug.config import ConfigError, check_choice, check_whole
from tfaug.models.base import Model
from tfaug.models.stages import Head, LayerMaker, Normalize

# Depth -> blocks of each of the four stages of 64, 128, 256 and 512 filters, and whether they are bottlenecks.
FOUR_STAGES: dict[int, tuple[tuple[int, ...], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
STEMS = ("cifar", "imagenet")
# Filters that a bottleneck gives for each of its narrow ones.
EXPANSION = 4


class BasicBlock(tf.keras.layers.Layer):
    """Adds two 3x3 convolutions to a shortcut: relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)).

    The shortcut is the identity, or a strided 1x1 convolution with normalisation where the shape changes (option B).

    Source: He et al. 2016 (Deep residual learning), figure 2 and section 4.2.
    """

    def __init__(self, make: LayerMaker, filters: int, stride: int, project: bool, name: str, **settings: Any) -> None:
        super().__init__(name=name, dtype=make.policy)
        self.body = make.chain("body", self.layers(make, filters, stride, **settings))
        self.shortcut = None
        if project:
            outputs = self.outputs(filters)
            self.shortcut = make.chain("shortcut", [make.conv("conv", outputs, 1, stride), make.norm("norm")])
        self.relu = make.relu("relu2")

    def outputs(self, filters: int) -> int:
        """Returns the filters of the block's output."""
        return filters

    def layers(self, make: LayerMaker, filters: int, stride: int, **settings: Any) -> list[tf.keras.layers.Layer]:
        """Makes what is added to the shortcut."""
        return [
            make.conv("conv1", filters, 3, stride),
            make.norm("norm1"),
            make.relu("relu1"),
            make.conv("conv2", filters, 3),
            make.norm("norm2"),
        ]

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns [B, H / stride, W / stride, filters]."""
        shortcut = inputs if self.shortcut is None else self.shortcut(inputs, training=training)
        return self.relu(self.body(inputs, training=training) + shortcut)


class Bottleneck(BasicBlock):
    """Adds 1x1, 3x3 and 1x1 convolutions to a shortcut; it gives `EXPANSION` times `filters`.

    The stride is that of the 3x3 convolution, as in torchvision and its successors; He et al. had it in the first.

    Source: He et al. 2016 (Deep residual learning), figure 5.
    """

    def outputs(self, filters: int) -> int:
        return EXPANSION * filters

    def layers(self, make: LayerMaker, filters: int, stride: int, **settings: Any) -> list[tf.keras.layers.Layer]:
        return [
            make.conv("conv1", filters, 1),
            make.norm("norm1"),
            make.relu("relu1"),
            make.conv("conv2", filters, 3, stride),
            make.norm("norm2"),
            make.relu("relu_inside"),
            make.conv("conv3", self.outputs(filters), 1),
            make.norm("norm3"),
        ]


def stem_of(make: LayerMaker, stem: str, filters: int, norm: bool = True) -> tf.keras.layers.Layer:
    """Makes the first stage.

    Args:
      make: the maker of layers.
      stem: `cifar` is a 3x3 convolution; `imagenet` is one of 7x7 and stride 2, and a maximum over 3x3 of stride 2.
      filters: of the convolution.
      norm: whether normalisation and a rectifier follow the convolution, which `imagenet` has always.
    """
    finish = [make.norm("norm"), make.relu("relu")]
    if stem == "cifar":
        return make.chain("stem", [make.conv("conv", filters, 3), *(finish if norm else [])])
    pad = tf.keras.layers.ZeroPadding2D(1, dtype=make.policy, name="pad")  # 0 is the lowest that a rectifier gives
    pool = tf.keras.layers.MaxPooling2D(3, 2, dtype=make.policy, name="pool")
    return make.chain("stem", [make.conv("conv", filters, 7, 2), *finish, pad, pool])


def stages_of(
    make: LayerMaker,
    block_class: Callable[..., tf.keras.layers.Layer],
    *,
    widths: Sequence[int],
    num_blocks: Sequence[int],
    project_first: bool,
    finish: Sequence[tf.keras.layers.Layer] = (),
    **settings: Any,
) -> list[tf.keras.layers.Layer]:
    """Makes stages of residual blocks: all but the first stage halve the image, in their first block.

    Args:
      make: the maker of layers.
      block_class: called as `block_class(make, filters, stride, project, name=..., **settings)`.
      widths: filters of each stage.
      num_blocks: of each stage.
      project_first: whether the first stage's first block changes the number of maps too.
      finish: layers at the end of the last stage.
      **settings: of every block.
    """
    stages = []
    for stage, (filters, count) in enumerate(zip(widths, num_blocks, strict=True), start=1):
        blocks = []
        for block in range(count):
            stride = 2 if block == 0 and stage > 1 else 1
            project = block == 0 and (stage > 1 or project_first)
            blocks.append(block_class(make, filters, stride, project, name=f"block{block + 1}", **settings))
        last = list(finish) if stage == len(widths) else []
        stages.append(make.chain(f"stage{stage}", [*blocks, *last]))
    return stages


def widths_and_blocks(depth: int) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """Returns the filters and the number of blocks of each stage, and whether these are bottlenecks."""
    if depth in FOUR_STAGES:
        return (64, 128, 256, 512), *FOUR_STAGES[depth]
    return (16, 32, 64), ((depth - 2) // 6,) * 3, False


def check_residual(model: Any) -> None:
    """Checks the depth and the stem of a dataclass that has both.

    Raises:
      ConfigError: if they are not allowed, or not together.
    """
    check_whole(model, "depth", 8)
    check_choice(model, "stem", STEMS)
    owner = type(model).__name__
    if model.depth not in FOUR_STAGES and model.depth % 6 != 2:
        four = ", ".join(map(str, FOUR_STAGES))
        raise ConfigError(f"{owner}.depth is {model.depth}; allowed: 6 n + 2, as 20, 32, 44, 56 or 110; {four}")
    if model.depth not in FOUR_STAGES and model.stem != "cifar":
        raise ConfigError(f"{owner}({model.depth}).stem is {model.stem!r}; allowed: 'cifar'")


@dataclasses.dataclass(frozen=True)
class ResNet(Model):
    """A residual network: of 6 n + 2 layers for images of about 32 pixels, or one of the five for ImageNet.

    Of 6 n + 2 layers, it has three stages of 16, 32 and 64 filters, as `gap` ran it (its resnet_basic_32): projection
    shortcuts (1x1 convolution and normalisation, option B), kaiming fan_out weights, zero bias. For 3 channels and 10
    classes the trainable parameters are

        20: 272,474    32: 466,906    44: 661,338    56: 855,770    110: 1,730,714

    He et al. used option A on CIFAR, without the 2,752 numbers of the two projections: 0.27M, 0.46M, 0.66M, 0.85M, 1.7M
    (table 6).

    18, 34, 50, 101 and 152 have four stages of 64 to 512 filters, from 50 on of bottlenecks (so 50 and 152 are not of
    the first kind). With the stem `imagenet`, 3 channels and 1,000 classes they have what torchvision states:

        18: 11,689,512    34: 21,797,672    50: 25,557,032    101: 44,549,160    152: 60,192,808

    With `cifar`, a 3x3 convolution and no pooling, and 10 classes: 11,173,962 (18), 23,520,842 (50), 42,512,970 (101).

    Args:
      depth: 8, 14, 20, 26, 32, ... or 18, 34, 50, 101, 152.
      stem: `cifar`, or `imagenet` for the latter five, which halves the image twice.

    Source: He et al. 2016, sections 3 and 4.2, tables 1 and 6; `gap`, published configurations.
    """

    depth: int = 20
    stem: str = "cifar"

    def __post_init__(self) -> None:
        check_residual(self)

    @property
    def name(self) -> str:
        return f"resnet{self.depth}" + ("" if self.stem == "cifar" else f"_{self.stem}")

    def stages(
        self, *, image_shape: Sequence[int], num_classes: int, mean: Any, std: Any, precision: str, seed: int
    ) -> list[tf.keras.layers.Layer]:
        """Returns the stages; see `Model.stages`."""
        make = LayerMaker(precision, seed, "fan_out")
        widths, num_blocks, narrow = widths_and_blocks(self.depth)
        block_class = Bottleneck if narrow else BasicBlock
        return [
            Normalize(mean, std, name="normalize"),
            stem_of(make, self.stem, widths[0]),
            *stages_of(make, block_class, widths=widths, num_blocks=num_blocks, project_first=narrow),
            Head(make.dense("dense", num_classes, policy="float32"), name="head"),
        ]
