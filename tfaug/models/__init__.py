"""Models: frozen dataclasses that build sequences of ordered, named stages, which take raw images.

`MODELS` is the table of short names; `MODEL_CLASSES` has the classes of which they are.
"""

from __future__ import annotations

from tfaug.models.base import Model, build_model
from tfaug.models.classic import LeNet
from tfaug.models.resnet import ResNet
from tfaug.models.stages import StagedModel
from tfaug.models.whitened import Whitened

MODELS: dict[str, Model] = {
    "lenet": LeNet(),
    "resnet20": ResNet(20),
    "resnet32": ResNet(32),
    "whitened": Whitened(),
    "whitened_small": Whitened((32, 64, 128)),
}
MODEL_CLASSES: dict[str, type[Model]] = {type(model).__name__: type(model) for model in MODELS.values()}

__all__ = ["MODELS", "MODEL_CLASSES", "LeNet", "Model", "ResNet", "StagedModel", "Whitened", "build_model"]
