"""An experiment: every part's configuration in one tree, and what of it makes two trainings the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tfaug.augment import AUGMENTATIONS, Compose, ManifoldMixup, OneOf
from tfaug.config import ConfigError, check_choice, check_kind, check_whole, hash_of, identity, near_name, to_dict
from tfaug.data import SOURCES, DataConfig, Source
from tfaug.evaluate import ATTACKS, EVALUATORS, EvaluateConfig
from tfaug.export import ExportConfig
from tfaug.models import MODEL_CLASSES, Model
from tfaug.schedules import SCHEDULES
from tfaug.train.methods import METHODS, Supervised
from tfaug.train.optimizers import OPTIMIZERS
from tfaug.train.order import ORDERS
from tfaug.train.phase import PRECISIONS, Phase, Training
from tfaug.train.plateau import ReduceOnPlateau
from tfaug.train.stop import STOPS
from tfaug.train.teachers import TEACHERS
from tfaug.workdir import RESERVED


@dataclasses.dataclass(frozen=True)
class TestSet:
    """A test set beside the data's own, which is called `test`.

    Attributes:
      name: of its files and in the report.
      source: where its images come from; the set is its part `test`, or all of it where it is one part.
    """

    name: str
    source: Source

    __test__: ClassVar[bool] = False  # not for pytest

    def __post_init__(self) -> None:
        taken = ("test", "validation")
        if not isinstance(self.name, str) or not self.name.replace("_", "").isalnum() or self.name in taken:
            allowed = f"letters, digits and underscores, but not {' or '.join(map(repr, taken))}"
            raise ConfigError(f"TestSet.name is {self.name!r}; allowed: {allowed}")
        check_kind(self, "source", Source, "a source, as in Tfds('cifar10_1')")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that `tfaug run` needs to know; the functions in `experiments/` return one.

    `Experiment(name, model=ResNet(20), phases=(...))` is the short form of one training, which is called `model`.

    Attributes:
      name: shown in the report.
      trainings: one or more, in their order; a later one may ask an earlier one.
      data: which images.
      test_sets: beside the data's own.
      export: the test-time Sum-Augmentation of the exported models.
      evaluate: what is measured; it never trains anything again.
      seed: of everything random: initial weights, order, augmentation.
      precision: `bf16` computes in bfloat16 with float32 weights and logits; `fp32` in float32.
      deterministic: asks TensorFlow for deterministic kernels, so that the same command gives the same weights, bit
        for bit, killed in between or not.
      model, phases: of the only training; no fields, but `--set model=...` and `--set phases.0...` are those of the
        first training.
    """

    name: str
    trainings: tuple[Training, ...] = ()
    data: DataConfig = DataConfig()
    test_sets: tuple[TestSet, ...] = ()
    export: ExportConfig = ExportConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    seed: int = 0
    precision: str = "bf16"
    deterministic: bool = False
    model: dataclasses.InitVar[Model | None] = None
    phases: dataclasses.InitVar[tuple[Phase, ...]] = ()

    ALIASES: ClassVar[Mapping[str, str]] = {"model": "trainings.0.model", "phases": "trainings.0.phases"}

    def __post_init__(self, model: Model | None, phases: tuple[Phase, ...]) -> None:
        if model is not None or phases:
            if self.trainings or model is None or not phases:
                raise ConfigError("Experiment is given a model or phases; allowed: both, or trainings instead")
            object.__setattr__(self, "trainings", (Training("model", model, phases),))
        check_kind(self, "trainings", Training, "trainings", several=True)
        check_kind(self, "test_sets", TestSet, "test sets", several=True)
        check_kind(self, "data", DataConfig, "DataConfig(...)")
        check_kind(self, "evaluate", EvaluateConfig, "EvaluateConfig(...)")
        check_choice(self, "precision", PRECISIONS)
        check_whole(self, "seed", 0, 2**31 - 1)
        if not self.trainings:
            raise ConfigError("Experiment.trainings is (); allowed: one training or more")
        if self.deterministic and any(phase.engine == "keras_cv" for each in self.trainings for phase in each.phases):
            raise ConfigError(
                "deterministic is true with engine='keras_cv', whose random draws take no seed; allowed: tfaug"
            )
        self._check_names()

    def _check_names(self) -> None:
        """Refuses names that are used twice, and teachers that are not trained before their students."""
        names = [training.name for training in self.trainings]
        for what, used in (
            ("trainings", names),
            ("exported models", [name for training in self.trainings for name in training.exported()]),
            ("test sets", [each.name for each in self.test_sets]),
        ):
            if twice := sorted({name for name in used if used.count(name) > 1}):
                raise ConfigError(f"the {what} are named {', '.join(used)}; {twice[0]} is used twice: allowed: once")
        for name in self.evaluate.attacked:
            if name not in self.exported():
                raise ConfigError(
                    f"EvaluateConfig.attacked names {name!r}{near_name(name, self.exported())}; allowed: exported "
                    f"models, {', '.join(self.exported())}"
                )
        for index, training in enumerate(self.trainings):
            if training.name in RESERVED:
                raise ConfigError(f"a training is named {training.name!r}; allowed: another name than {RESERVED}")
            teacher = training.method.asks
            if isinstance(teacher, str):
                name, _, phase = teacher.partition("/")
                if name not in names[:index]:
                    raise ConfigError(
                        f"training {training.name} asks the teacher {teacher!r}; allowed: FromWorkdir(PATH), or one of "
                        f"the trainings before it: {', '.join(names[:index]) or 'there is none'}"
                    )
                phases = [each.name for each in self.training(name).phases]
                if phase and phase not in phases:
                    raise ConfigError(
                        f"training {training.name} asks {teacher!r}; {name} has the phases {', '.join(phases)}"
                    )

    def training(self, name: str) -> Training:
        """Returns the training of that name."""
        return next(training for training in self.trainings if training.name == name)

    def attacked(self) -> tuple[str, ...]:
        """Returns the names of the models to attack."""
        return self.evaluate.attacked or tuple(self.trainings[0].exported())

    def asked(self, teacher: str) -> tuple[Training, int]:
        """Returns the training that `TRAINING` or `TRAINING/PHASE` means, and the place of the phase at whose end."""
        name, _, phase = teacher.partition("/")
        training = self.training(name)
        names = [each.name for each in training.phases]
        return training, names.index(phase) if phase else len(names) - 1

    def exported(self) -> dict[str, tuple[Training, int]]:
        """Returns what is exported: by its name the training and the place of the phase."""
        return {name: (each, index) for each in self.trainings for name, index in each.exported().items()}


# What a name stands for in `--set` and in a configuration that is read back.
CLASSES: dict[str, type] = {
    **AUGMENTATIONS,
    **ATTACKS,
    **EVALUATORS,
    **METHODS,
    **MODEL_CLASSES,
    **OPTIMIZERS,
    **ORDERS,
    **SCHEDULES,
    **SOURCES,
    **STOPS,
    **TEACHERS,
    **{
        cls.__name__: cls
        for cls in (
            Compose,
            DataConfig,
            EvaluateConfig,
            Experiment,
            ExportConfig,
            ManifoldMixup,
            OneOf,
            Phase,
            ReduceOnPlateau,
            TestSet,
            Training,
        )
    },
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training is, for comparing it with what a workdir holds.

    Attributes:
      settings: JSON values, all that it depends on, to name what differs.
      hashes: of everything up to the end of each phase, fields at their defaults left out.
    """

    settings: dict[str, Any]
    hashes: tuple[str, ...]


_DEFAULTS: dict[str, Any] = {
    **{field.name: field.default for field in dataclasses.fields(Experiment)},
    "place": 0,
    "method": Supervised(),
}


def plans(experiment: Experiment) -> dict[str, Plan]:
    """Returns the plan of each training: its data, network, method with its teacher, phases, seed and precision."""
    found: dict[str, Plan] = {}
    for place, training in enumerate(experiment.trainings):
        teacher = training.method.asks
        shared = {
            "data": experiment.data,
            "seed": experiment.seed,
            "precision": experiment.precision,
            "deterministic": experiment.deterministic,
            "place": place,
            "model": training.model,
            "method": training.method,
        }
        base = {name: identity(value) for name, value in shared.items() if value != _DEFAULTS.get(name)}
        if isinstance(teacher, str):
            # By what it has learned, not by its name.
            base["method"] = {key: value for key, value in base["method"].items() if value != teacher}
            asked, index = experiment.asked(teacher)
            base["teacher"] = found[asked.name].hashes[index]
        phases = [identity(phase) for phase in training.phases]
        hashes = tuple(hash_of({**base, "phases": phases[: i + 1]}) for i in range(len(phases)))
        settings = {name: to_dict(value) for name, value in shared.items()}
        settings["teacher"] = base.get("teacher")
        found[training.name] = Plan({**settings, "phases": to_dict(training.phases)}, hashes)
    return found
