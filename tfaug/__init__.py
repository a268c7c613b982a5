"""tfaug: image augmentation for TensorFlow and Keras that is exact, fast and honest.

What an experiment is written with is here by its name: `from tfaug import Experiment, Phase, ResNet, Flip`. Each
name is looked up when it is asked for, and brings TensorFlow then.

TensorFlow takes seconds and much of tfaug does without, so `import tfaug` leaves it alone. But where TensorFlow is
imported, before tfaug or after, the Keras layers are imported too, so that Keras finds them in a `.keras` file.
"""

import importlib
import sys
import types
from typing import Any

import wrapt

__version__ = "0.1.0"

# Name -> the module that has it.
_MODULES: dict[str, str] = {
    **dict.fromkeys(
        (
            "Augmentation",
            "AutoAugment",
            "AutoContrast",
            "Brightness",
            "ChannelShuffle",
            "Compose",
            "Contrast",
            "CropAndResize",
            "CutMix",
            "Cutout",
            "Desaturate",
            "ElasticDistortion",
            "Equalize",
            "Flip",
            "GaussianBlur",
            "GaussianFilter",
            "GradualSumAug",
            "Grayscale",
            "ManifoldMixup",
            "Mixup",
            "OneOf",
            "PadCrop",
            "Posterize",
            "RandAugment",
            "RandomCrop",
            "RandomCutout",
            "RandomErasing",
            "RandomResizedCrop",
            "RandomScale",
            "Rotate",
            "SamplePairing",
            "Shear",
            "Smooth",
            "Solarize",
            "SumAug",
            "Translate",
            "Zoom",
            "augment_dataset",
            "augment_training",
        ),
        "tfaug.augment",
    ),
    **dict.fromkeys(
        ("Augmented", "CorruptedDigits", "DataConfig", "Digits", "Folder", "Npz", "Photos", "Source", "Tfds"),
        "tfaug.data",
    ),
    **dict.fromkeys(
        (
            "FGSM",
            "PGD",
            "Attack",
            "Classification",
            "EvaluateConfig",
            "Evaluator",
            "Gain",
            "LastEpochs",
            "Shift",
            "UnderAttack",
            "WriteFeatures",
        ),
        "tfaug.evaluate",
    ),
    **dict.fromkeys(("Experiment", "TestSet"), "tfaug.experiment"),
    "ExportConfig": "tfaug.export",
    **dict.fromkeys(
        (
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
            "Whitened",
            "WideResNet",
        ),
        "tfaug.models",
    ),
    **dict.fromkeys(("Constant", "Cosine", "Intermittent", "Linear", "OneCycle", "Step", "Valley"), "tfaug.schedules"),
    **dict.fromkeys(("AttentionTransfer", "Distill", "Method", "RelationalKD", "Supervised"), "tfaug.train.methods"),
    **dict.fromkeys(("SGD", "Muon"), "tfaug.train.optimizers"),
    **dict.fromkeys(("LossOrder", "MaxLossDelta", "Order", "ScoringOrder", "Shuffled"), "tfaug.train.order"),
    **dict.fromkeys(("Phase", "Training"), "tfaug.train.phase"),
    "ReduceOnPlateau": "tfaug.train.plateau",
    **dict.fromkeys(("EarlyStop", "Plateau", "Stop"), "tfaug.train.stop"),
    **dict.fromkeys(("FromEndpoint", "FromSavedModel", "FromWorkdir"), "tfaug.train.teachers"),
    "PerfectOrdering": "tfaug.perfect_ordering",
    "load_model": "tfaug.trained",
    "Row": "tfaug.workdir",
}

# What must not be half imported when the layers are: TensorFlow and Keras, each of which may be importing the other,
# and the parts of tfaug that the layers are made of, any of which may be importing TensorFlow.
_AWAITED = (
    "tensorflow",
    "keras",
    "tf_keras",
    "tfaug.augment",
    "tfaug.images",
    "tfaug.rng",
    "tfaug.schedules",
    "tfaug.shapes",
)
_still_awaited = set(_AWAITED)


def _import_layers(imported: types.ModuleType) -> None:
    """Imports the layers if TensorFlow has found its Keras and nothing that they need is still being imported."""
    _still_awaited.discard(imported.__name__)
    loaded = sys.modules.keys()
    if "tensorflow" in loaded and {"keras", "tf_keras"} & loaded and not _still_awaited & loaded:
        importlib.import_module("tfaug.augment.layers")


for _name in _AWAITED:
    wrapt.register_post_import_hook(_import_layers, _name)


def __getattr__(name: str) -> Any:
    """Imports the module that has `name`."""
    if name not in _MODULES:
        raise AttributeError(f"module 'tfaug' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
