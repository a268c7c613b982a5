"""Models: sequences of ordered, named stages that take raw images."""

from __future__ import annotations

from tfaug.models.stages import StagedModel
from tfaug.models.zoo import MODELS, ModelConfig, build_model

__all__ = ["MODELS", "ModelConfig", "StagedModel", "build_model"]
