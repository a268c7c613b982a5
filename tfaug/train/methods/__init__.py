"""Methods: what the step of a training learns from. `METHODS` is the table."""

from __future__ import annotations

from tfaug.train.methods.base import Method
from tfaug.train.methods.distill import Distill
from tfaug.train.methods.supervised import Supervised

METHODS: dict[str, type[Method]] = {"Distill": Distill, "Supervised": Supervised}

__all__ = ["METHODS", "Distill", "Method", "Supervised"]
