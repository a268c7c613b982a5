"""Methods: what the step of a training learns from. `METHODS` is the table."""

from __future__ import annotations

from tfaug.train.methods.attention import AttentionTransfer
from tfaug.train.methods.base import Lesson, Method
from tfaug.train.methods.distill import Distill
from tfaug.train.methods.relational import RelationalKD
from tfaug.train.methods.supervised import Supervised

METHODS: dict[str, type[Method]] = {
    "AttentionTransfer": AttentionTransfer,
    "Distill": Distill,
    "RelationalKD": RelationalKD,
    "Supervised": Supervised,
}

__all__ = ["METHODS", "AttentionTransfer", "Distill", "Lesson", "Method", "RelationalKD", "Supervised"]
