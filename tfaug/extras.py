"""Which extra of tfaug brings which module, and the error that says so.

`tfaug.augment` alone needs TensorFlow and NumPy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# Top-level module -> an extra of setup.cfg that brings it.
EXTRAS = {
    "PIL": "train",
    "aiohttp": "serve",
    "apache_beam": "beam",
    "jinja2": "report",
    "keras_cv": "keras-cv",
    "markupsafe": "report",
    "matplotlib": "report",
    "scipy": "report",
    "sklearn": "train",
    "tensorboard": "train",
    "tensorflow_addons": "addons",
    "tensorflow_datasets": "train",
    "tensorflow_serving": "serve",
    "tqdm": "train",
}


class MissingExtra(ModuleNotFoundError):
    """A module is not installed that an extra brings."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Names the extra where an import in the block finds no module of `EXTRAS`; other errors pass as they are.

    Raises:
      MissingExtra: in place of such a ModuleNotFoundError.

    Example:
      >>> with explained():
      ...     import tqdm
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None or isinstance(error, MissingExtra):
            raise
        advice = f"pip install 'tfaug[{extra}]' brings it, 'tfaug[all]' all parts of tfaug"
        raise MissingExtra(f"{error}; {advice}", name=error.name) from error
