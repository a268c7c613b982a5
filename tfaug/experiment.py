"""An experiment: every part's configuration in one tree."""

from __future__ import annotations

import dataclasses

from tfaug.config import ConfigError, check_choice, check_whole
from tfaug.data import DataConfig
from tfaug.evaluate.predict import EvaluateConfig
from tfaug.export import ExportConfig
from tfaug.models import ModelConfig
from tfaug.train.phases import PRECISIONS, Phase, Student, check_phases


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that `tfaug run` needs to know; the functions in `experiments/` return one.

    Attributes:
      name: shown in the report.
      phases: of the teacher; the end of each is kept, measured and exported.
      data: which images.
      model: the teacher's network.
      student: what is distilled from the teacher; None leaves the student out.
      export: the test-time Sum-Augmentation of the exported models.
      evaluate: attacks and sizes of the evaluation.
      seed: of everything random: initial weights, order, augmentation.
      precision: `bf16` computes in bfloat16 with float32 weights and logits; `fp32` in float32.
      deterministic: asks TensorFlow for deterministic kernels, so that the same command gives the same weights, bit
        for bit, killed in between or not.
    """

    name: str
    phases: tuple[Phase, ...]
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    student: Student | None = None
    export: ExportConfig = ExportConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    seed: int = 0
    precision: str = "bf16"
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_phases(self.phases)
        check_choice(self, "precision", PRECISIONS)
        check_whole(self, "seed", 0, 2**31 - 1)
        if self.deterministic and any(phase.engine == "keras_cv" for phase in self._all_phases()):
            raise ConfigError(
                "deterministic is true with engine='keras_cv', whose random draws take no seed; allowed: tfaug"
            )
        if any(phase.name == "student" for phase in self.phases):
            raise ConfigError("a phase is named 'student'; that name is kept for the export of the student")

    def _all_phases(self) -> tuple[Phase, ...]:
        return self.phases + (self.student.phases if self.student else ())
