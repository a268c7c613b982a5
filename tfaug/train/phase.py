"""What a training is: a network, a method, and phases, each with its augmentation, schedule and length.

He et al. 2019 (`refine`) train with intensive augmentation and then *refine* with light augmentation at the last
learning rate; Simionescu 2020 (`sum`) cascades from sums of many images to single ones. Both are lists of phases.
"""

from __future__ import annotations

import dataclasses

import tfaug.augment as augment_ops
from tfaug import schedules
from tfaug.augment.keras_cv import check_unscheduled
from tfaug.config import ConfigError, check_choice, check_kind, check_range, check_whole
from tfaug.losses import LOSSES
from tfaug.models import Model
from tfaug.schedules import Schedule
from tfaug.train.methods import METHODS, Method, Supervised
from tfaug.train.optimizers import OPTIMIZERS, SGD, Muon, Optimizer
from tfaug.train.order import ORDERS, Order, Shuffled
from tfaug.train.stop import STOPS, Stop

AUGMENT_ON = ("host", "device")
PRECISIONS = ("bf16", "fp32")
ENGINES = ("tfaug", "keras_cv")
KEEP = ("last", "best")


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase of training; the optimizer starts afresh in each, the weights go on.

    Attributes:
      name: what the end of the phase is called in exports, predictions and the report.
      epochs: passes over the training images, 1 or more.
      schedule: learning rate over the phase; None goes on at the last rate of the phase before.
      augment: operations, applied in order; their schedules run over the phase.
      batch_size: images drawn per step over all replicas, before Sum-Augmentation divides them by k.
      loss: `cross_entropy` or `binary_cross_entropy`, on soft labels.
      label_smoothing: share of each label that is spread evenly over the classes in the training loss, 0 to below 1.
      optimizer: `SGD(...)` or `Muon(...)`.
      weight_decay: L2 penalty added to every gradient (coupled, as in the papers' PyTorch code), 0 or more; 0 with
        `Muon`, which has its own.
      augment_on: `host` (in tf.data) or `device` (inside the train step): the same pixels and labels for one seed.
      engine: `tfaug`, or `keras_cv` for keras-cv's own layers in tf.data (for comparison; host only).
      mix_features: mixes features and labels inside the network, after `augment`; None leaves them.
      order: which examples make the next batch.
      stop: ends the phase before its last epoch; None runs all.
      keep: with which weights the phase ends: those of its `last` epoch, or of its `best` by validation accuracy, the
        earliest of equals.
    """

    name: str
    epochs: int
    schedule: Schedule | None
    augment: tuple[augment_ops.Augmentation, ...] = ()
    batch_size: int = 128
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    optimizer: Optimizer = SGD()
    weight_decay: float = 1e-4
    augment_on: str = "host"
    engine: str = "tfaug"
    mix_features: augment_ops.ManifoldMixup | None = None
    order: Order = Shuffled()
    stop: Stop | None = None
    keep: str = "last"

    def __post_init__(self) -> None:
        _check_name(self)
        if self.schedule is not None:
            check_kind(self, "schedule", tuple(schedules.SCHEDULES.values()), "OneCycle(0.1) or the like, or None")
        check_kind(self, "augment", augment_ops.Augmentation, "ops", several=True)
        check_kind(self, "optimizer", tuple(OPTIMIZERS.values()), f"an optimizer: {', '.join(OPTIMIZERS)}")
        check_kind(self, "order", Order, f"an order: {', '.join(ORDERS)}")
        if self.stop is not None:
            check_kind(self, "stop", Stop, f"None or one of {', '.join(STOPS)}")
        if self.mix_features is not None:
            check_kind(self, "mix_features", augment_ops.ManifoldMixup, "None or ManifoldMixup(...)")
        check_choice(self, "keep", KEEP)
        check_whole(self, "epochs", 1)
        check_whole(self, "batch_size", 1)
        check_range(self, "label_smoothing", 0, 0.999)
        check_range(self, "weight_decay", 0)
        check_choice(self, "loss", LOSSES)
        check_choice(self, "augment_on", AUGMENT_ON)
        check_choice(self, "engine", ENGINES)
        if isinstance(self.optimizer, Muon) and self.weight_decay:
            raise ConfigError(
                f"Phase.weight_decay is {self.weight_decay!r} with {self.optimizer!r}, which has a decay of its own; "
                "allowed: weight_decay=0"
            )
        if self.engine == "keras_cv" and self.augment_on == "device":
            raise ConfigError(
                "Phase.engine is 'keras_cv' with augment_on 'device'; keras-cv's layers do not compile under XLA: "
                "allowed: augment_on='host'"
            )


def _check_name(owner: Phase | Training) -> None:
    """Raises a ConfigError if a name cannot be that of a folder."""
    if not isinstance(owner.name, str) or not owner.name.replace("_", "").isalnum():
        raise ConfigError(f"{type(owner).__name__}.name is {owner.name!r}; allowed: letters, digits and underscores")


def check_phases(phases: tuple[Phase, ...]) -> None:
    """Checks what only the list shows: unique names, and a usable rate where a phase goes on at the last one.

    Raises:
      ConfigError: naming the phase.
    """
    if not phases:
        raise ConfigError("phases is empty; allowed: one phase or more")
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise ConfigError(f"phases have the names {', '.join(names)}; each name may be used once")
    resolve_schedules(phases)


def resolve_schedules(phases: tuple[Phase, ...]) -> list[Schedule]:
    """Returns each phase's schedule, with the last rate of the phase before where a phase has none.

    Source: He et al. 2019, section 4: refinement runs at the last learning rate of the first phase; after a cosine,
      whose last rate is about zero, at a small one that must be stated.

    Raises:
      ConfigError: if the first phase has no schedule, or the rate to go on at is less than a ten-thousandth of the
        highest of its phase, or would be another one if the phase had more steps (as at the end of a fall to zero).
    """
    resolved: list[Schedule] = []
    for index, phase in enumerate(phases):
        if phase.schedule is not None:
            resolved.append(phase.schedule)
            continue
        if not resolved:
            raise ConfigError(f"phases.0 ({phase.name}) has no schedule, and there is no phase before it to go on from")
        total_steps = 1_000
        last = float(resolved[-1].last(total_steps))
        highest = max(float(resolved[-1].value(step, total_steps)) for step in range(total_steps))
        if last < 1e-4 * highest or float(resolved[-1].last(10 * total_steps)) < 0.9 * last:
            raise ConfigError(
                f"phases.{index} ({phase.name}) goes on at the last learning rate of {phases[index - 1].name}, "
                f"which is {last:g}; state a small one: schedule=Constant(0.01)"
            )
        resolved.append(schedules.Constant(last))
    return resolved


def goes_on(old: Phase, new: Phase) -> bool:
    """Tells whether a phase trained as `old` becomes `new` by going on, with more epochs or other weights kept.

    So it is where nothing else differs and neither the learning rate nor an op goes by the length of the phase.
    """
    if dataclasses.replace(new, epochs=old.epochs, keep=old.keep) != old or new.epochs < old.epochs:
        return False
    if new.epochs == old.epochs:
        return True
    steps, more = 100 * old.epochs, 100 * new.epochs
    if new.schedule and any(new.schedule.value(step, steps) != new.schedule.value(step, more) for step in range(steps)):
        return False
    try:
        check_unscheduled(augment_ops.compose(new.augment), "a phase with more epochs")
    except ConfigError:
        return False
    return new.mix_features is None


@dataclasses.dataclass(frozen=True)
class Training:
    """One network, trained through its phases.

    Attributes:
      name: the folder of its files, and what a later training calls it as its teacher.
      model: the network.
      phases: one or more; the end of each is kept, measured and exported.
      method: what its steps learn from.
      export: which phases are exported and measured: `all`, each under its own name, or `last`, under the training's.
    """

    name: str
    model: Model
    phases: tuple[Phase, ...]
    method: Method = Supervised()
    export: str = "all"

    def __post_init__(self) -> None:
        _check_name(self)
        check_kind(self, "model", Model, "a model, as in ResNet(20)")
        check_kind(self, "phases", Phase, "phases", several=True)
        check_kind(self, "method", Method, f"a method: {', '.join(METHODS)}")
        check_choice(self, "export", ("all", "last"))
        try:
            check_phases(self.phases)
            for index, phase in enumerate(self.phases):
                try:
                    self.method.check_phase(phase)
                except ConfigError as error:
                    raise ConfigError(f"phases.{index}.{error}") from None
        except ConfigError as error:
            raise ConfigError(f"training {self.name}: {error}") from None

    def exported(self) -> dict[str, int]:
        """Returns the names under which it is exported, and the phase at whose end each is."""
        if self.export == "last":
            return {self.name: len(self.phases) - 1}
        return {phase.name: index for index, phase in enumerate(self.phases)}
