"""tfaug: image augmentation for TensorFlow and Keras that is exact, fast and honest.

Imported after TensorFlow, it imports the Keras layers too, so that Keras finds them in a `.keras` file; before it, they
wait for `import tfaug.augment.layers`, for TensorFlow takes seconds and much of tfaug does without.
"""

import importlib
import sys

__version__ = "0.1.0"

if "tensorflow" in sys.modules:
    importlib.import_module("tfaug.augment.layers")
