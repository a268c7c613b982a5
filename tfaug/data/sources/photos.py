"""Eight squares cut from scikit-learn's two sample photographs, to look at."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable

import numpy as np

from tfaug.data.sources.base import Parts, Source
from tfaug.data.split import Split
from tfaug.extras import explained

with explained():
    from PIL import Image
    from sklearn import datasets

SIDE_PX = 96

# (photograph, class, top, left, side in px): squares of the photographs, each 427 px high.
_CUTS = (
    (0, "temple", 0, 0, 427),
    (1, "flower", 0, 94, 427),
    (0, "temple", 20, 85, 250),
    (1, "flower", 75, 165, 285),
    (0, "trees", 127, 340, 300),
    (1, "leaf", 60, 0, 190),
    (0, "temple", 150, 60, 220),
    (1, "flower", 277, 235, 150),
)


@dataclasses.dataclass(frozen=True)
class Photos(Source):
    """Eight photographs of 96 x 96 px and four classes: too few to train on, so a test set alone."""

    @property
    def parts(self) -> tuple[str, ...]:
        return ("test",)

    def load(self, parts: Iterable[str], cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        photographs = datasets.load_sample_images().images
        class_names = tuple(dict.fromkeys(name for _, name, *_ in _CUTS))
        images = []
        for i, _, top, left, side in _CUTS:
            cut = Image.fromarray(photographs[i][top : top + side, left : left + side])
            images.append(np.asarray(cut.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)))
        labels = np.array([class_names.index(name) for _, name, *_ in _CUTS], np.int64)
        split = Split(np.stack(images), labels, np.array([f"photos_{i}" for i in range(len(labels))]))
        return Parts({part: split for part in parts}, class_names, {"source": self.short_name})

    def first(self, num: int) -> Parts:
        loaded = self.load(("test",))  # in an order to be shown in
        return loaded._replace(splits={"test": loaded.splits["test"].take(np.arange(len(_CUTS))[:num])})

    def describe(self) -> str:
        return "photos: eight squares of scikit-learn's two sample photographs, to look at and not to measure on."
