"""What a training is: a network, a method, and phases, each with its augmentation, schedule and length.

He et al. 2019 (`refine`) train with intensive augmentation and then *refine* with light augmentation at the last
learning rate; Simionescu 2020 (`sum`) cascades from sums of many images to single ones. Both are lists of phases.
"""

from __future__ import annotations

import dataclasses

import tfaug.augment as augment_ops
from tfaug import schedules
from tfaug.augment.base import images_per_row
from tfaug.augment.keras_cv import check_unscheduled
from tfaug.config import ConfigError, check_choice, check_kind, check_range, check_whole
from tfaug.losses import LOSSES
from tfaug.models import Model
from tfaug.schedules import Schedule
from tfaug.train.methods import METHODS, Method, Supervised
from tfaug.train.optimizers import OPTIMIZERS, SGD, Muon, Optimizer
from tfaug.train.order import ORDERS, Order, ScoringOrder, Shuffled
from tfaug.train.plateau import ReduceOnPlateau
from tfaug.train.stop import STOPS, Stop

AUGMENT_ON = ("host", "device")
PRECISIONS = ("bf16", "fp32")
ENGINES = ("tfaug", "keras_cv")
KEEP = ("last", "best")
BATCH_OF = ("images", "sums")


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase of training; the optimizer starts afresh in each, the weights go on.

    Attributes:
      name: what the end of the phase is called in exports, predictions and the report.
      epochs: passes over the training images, 1 or more.
      schedule: learning rate over the phase; None goes on at the last rate of the phase before.
      augment: operations, applied in order; their schedules run over the phase.
      batch_size: rows of a step over all replicas, counted as `batch_of` says.
      loss: `cross_entropy` or `binary_cross_entropy`, on soft labels.
      label_smoothing: share of each label that is spread evenly over the classes in the training loss, 0 to below 1.
      optimizer: `SGD(...)` or `Muon(...)`.
      weight_decay: L2 penalty added to every gradient (coupled, as in the papers' PyTorch code), 0 or more; 0 with
        `Muon`, which has its own.
      augment_on: `host` (in tf.data) or `device` (inside the train step): the same pixels and labels for one seed.
      engine: `tfaug`, or `keras_cv` for keras-cv's own layers in tf.data (for comparison; host only).
      mix_features: mixes features and labels inside the network, after `augment`; None leaves them.
      order: which examples make the next batch; one that asks the network chooses within the step, so the host augments
        nothing.
      stop: ends the phase before its last epoch; None runs all.
      keep: with which weights the phase ends: those of its `last` epoch, or of its `best` by validation accuracy, the
        earliest of equals.
      batch_of: what `batch_size` counts: `images` that are drawn, of which Sum-Augmentation makes batch_size / k sums;
        or `sums`, what the network learns from, for which batch_size k images are drawn. The authors of `sum` draw
        B = 100 k images, 100 sums. An epoch draws every image once, so it has k times fewer steps of as many sums.
      accumulate: parts into which each replica's share of a step is cut, one after the other through the network: their
        gradients are averaged, and it takes the memory of one. Batch statistics are those of each part.
      ema: decay, 0 to below 1, of an average of the weights and batch statistics that begins with those before the
        phase and is `ema * average + (1 - ema) * weights` after each step. Where it is not 0, it is the average that is
        validated, kept, handed on and exported; the steps go on from the weights themselves.
      plateau: cuts the learning rate where a loss has stopped falling; None follows the schedule alone.
      keep_epochs: of how many of the last epochs the weights are kept too, to be measured by `LastEpochs`; 0 or more.
      risk_batches: batches of training images on which the cross-entropy is measured after each epoch in inference
        mode, as the images are and as the phase augments and mixes them: `clean_loss` and `augmented_loss` of the
        history. Always the same images and draws, 0 or more.
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
    batch_of: str = "images"
    accumulate: int = 1
    ema: float = 0.0
    plateau: ReduceOnPlateau | None = None
    keep_epochs: int = 0
    risk_batches: int = 0

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
        if self.plateau is not None:
            check_kind(self, "plateau", ReduceOnPlateau, "None or ReduceOnPlateau(...)")
        check_choice(self, "keep", KEEP)
        check_whole(self, "epochs", 1)
        check_whole(self, "batch_size", 1)
        check_range(self, "label_smoothing", 0, 0.999)
        check_range(self, "weight_decay", 0)
        check_choice(self, "loss", LOSSES)
        check_choice(self, "augment_on", AUGMENT_ON)
        check_choice(self, "engine", ENGINES)
        check_choice(self, "batch_of", BATCH_OF)
        check_whole(self, "accumulate", 1)
        check_range(self, "ema", 0, 0.999999)
        check_whole(self, "keep_epochs", 0)
        check_whole(self, "risk_batches", 0)
        self.check_shared(1)
        for name in ("stop", "plateau"):
            rule = getattr(self, name)
            if rule is not None and rule.earliest >= self.epochs:
                raise ConfigError(
                    f"Phase.{name} is {rule!r} with epochs={self.epochs}, and acts after epoch {rule.earliest} at the "
                    f"earliest, so never; allowed: epochs={rule.earliest + 1} or more, or less patience"
                )
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
        if isinstance(self.order, ScoringOrder) and self.augment and self.augment_on == "host":
            raise ConfigError(
                f"Phase.order is {self.order!r} with augment_on 'host'; it chooses a batch within the train step, after"
                " the host's work; allowed: augment_on='device'"
            )

    @property
    def images_per_sum(self) -> int:
        """How many images of a batch `augment` makes one of: k of `SumAug(k)`."""
        return images_per_row(augment_ops.compose(self.augment))

    @property
    def num_drawn(self) -> int:
        """Images drawn per step over all replicas."""
        return self.batch_size * (self.images_per_sum if self.batch_of == "sums" else 1)

    def check_shared(self, num_replicas: int) -> None:
        """Checks that a step's images divide into the replicas, each share into sums, and these into its parts.

        Raises:
          ConfigError: if they do not.
        """
        if self.num_drawn % num_replicas:
            raise ConfigError(
                f"Phase.batch_size is {self.batch_size}, which {num_replicas} devices cannot share; "
                f"allowed: a multiple of {num_replicas}"
            )
        parts = (
            (num_replicas, "devices"),
            (self.images_per_sum, "images in a sum"),
            (self.accumulate, "parts of a step"),
        )
        whole = num_replicas * self.images_per_sum * self.accumulate
        if self.num_drawn % whole:
            counted = num_replicas * self.accumulate if self.batch_of == "sums" else whole
            what = " and ".join(f"{num} {name}" for num, name in parts if num > 1)
            raise ConfigError(
                f"Phase.batch_size is {self.batch_size} {self.batch_of}, which does not divide into {what}; "
                f"allowed: a multiple of {counted}"
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
        if phases[index - 1].plateau is not None:
            raise ConfigError(
                f"phases.{index} ({phase.name}) goes on at the last learning rate of {phases[index - 1].name}, which a "
                "plateau decides; state one: schedule=Constant(0.01)"
            )
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

    So it is where nothing else differs and neither the learning rate nor the momentum nor an op goes by the length of
    the phase.
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
    return new.mix_features is None and isinstance(new.optimizer.momentum, (int, float))


@dataclasses.dataclass(frozen=True)
class Training:
    """One network, trained through its phases.

    Attributes:
      name: the folder of its files, and what a later training calls it as its teacher.
      model: the network.
      phases: one or more; the end of each is kept, measured and exported.
      method: what its steps learn from.
      export: which phases are exported and measured: `all`, or some by their names, each under its own name; or `last`,
        under the training's.
    """

    name: str
    model: Model
    phases: tuple[Phase, ...]
    method: Method = Supervised()
    export: str | tuple[str, ...] = "all"

    def __post_init__(self) -> None:
        _check_name(self)
        check_kind(self, "model", Model, "a model, as in ResNet(20)")
        check_kind(self, "phases", Phase, "phases", several=True)
        check_kind(self, "method", Method, f"a method: {', '.join(METHODS)}")
        try:
            check_phases(self.phases)
            for index, phase in enumerate(self.phases):
                try:
                    self.method.check_phase(phase)
                except ConfigError as error:
                    raise ConfigError(f"phases.{index}.{error}") from None
            self._check_export()
        except ConfigError as error:
            raise ConfigError(f"training {self.name}: {error}") from None

    def _check_export(self) -> None:
        """Refuses an export of what is no phase; a list of them becomes a tuple."""
        if self.export in ("all", "last"):
            return
        names = [phase.name for phase in self.phases]
        asked = self.export if isinstance(self.export, (tuple, list)) else ()
        if not asked or len(set(asked)) < len(asked) or not set(asked) <= set(names):
            raise ConfigError(f"export is {self.export!r}; allowed: 'all', 'last' or some of {', '.join(names)}")
        object.__setattr__(self, "export", tuple(asked))

    def exported(self) -> dict[str, int]:
        """Returns the names under which it is exported, and the phase at whose end each is."""
        if self.export == "last":
            return {self.name: len(self.phases) - 1}
        return {
            phase.name: index
            for index, phase in enumerate(self.phases)
            if self.export == "all" or phase.name in self.export
        }
