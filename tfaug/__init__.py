"""tfaug: image augmentation for TensorFlow and Keras that is exact, fast and honest."""

__version__ = "0.1.0"
