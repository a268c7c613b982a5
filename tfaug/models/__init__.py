"""Models: frozen dataclasses that build sequences of ordered, named stages, which take raw images.

`MODELS` is the table of short names; `MODEL_CLASSES` has the classes of which they are, and those that have none.
"""

from __future__ import annotations

from tfaug.models.base import Model, build_model
from tfaug.models.classic import AlexNet, BasicConv, LeNet, SaliencyCNN
from tfaug.models.densenet import DenseNet
from tfaug.models.keras_model import KerasModel
from tfaug.models.preact import PreActResNet
from tfaug.models.resnet import ResNet
from tfaug.models.resnext import ResNeXt
from tfaug.models.shake import ShakeShake
from tfaug.models.stages import StagedModel, drawing
from tfaug.models.whitened import Whitened
from tfaug.models.wide_resnet import WideResNet

MODELS: dict[str, Model] = {
    "alexnet": AlexNet(),
    "basic_conv": BasicConv(),
    "densenet_bc_100_12": DenseNet(100, 12),
    "lenet": LeNet(),
    "preact18": PreActResNet(18),
    "preact56": PreActResNet(56),
    "preact101": PreActResNet(101),
    "resnet18": ResNet(18),
    "resnet18_imagenet": ResNet(18, "imagenet"),
    "resnet20": ResNet(20),
    "resnet32": ResNet(32),
    "resnet44": ResNet(44),
    "resnet50": ResNet(50),
    "resnet50_imagenet": ResNet(50, "imagenet"),
    "resnet56": ResNet(56),
    "resnet101": ResNet(101),
    "resnet101_imagenet": ResNet(101, "imagenet"),
    "resnet110": ResNet(110),
    "resnext_29_4x64d": ResNeXt(29, 4, 64),
    "saliency_cnn": SaliencyCNN(),
    "shake_26_2x32d": ShakeShake(26, 32),
    "shake_26_2x96d": ShakeShake(26, 96),
    "whitened": Whitened(),
    "whitened_small": Whitened((32, 64, 128)),
    "wrn_16_4": WideResNet(16, 4),
    "wrn_28_10": WideResNet(28, 10),
    "wrn_40_4": WideResNet(40, 4),
}
MODEL_CLASSES: dict[str, type[Model]] = {
    **{type(model).__name__: type(model) for model in MODELS.values()},
    "KerasModel": KerasModel,
}

__all__ = [
    "MODELS",
    "MODEL_CLASSES",
    "AlexNet",
    "BasicConv",
    "DenseNet",
    "KerasModel",
    "LeNet",
    "Model",
    "PreActResNet",
    "ResNeXt",
    "ResNet",
    "SaliencyCNN",
    "ShakeShake",
    "StagedModel",
    "Whitened",
    "WideResNet",
    "build_model",
    "drawing",
]
