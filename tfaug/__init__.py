"""tfaug: image augmentation for TensorFlow and Keras that is exact, fast and honest.

TensorFlow takes seconds and much of tfaug does without, so `import tfaug` leaves it alone. But where TensorFlow is
imported, before tfaug or after, the Keras layers are imported too, so that Keras finds them in a `.keras` file.
"""

import importlib
import sys
import types

import wrapt

__version__ = "0.1.0"

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
