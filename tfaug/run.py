"""The stages of a run: train, export, evaluate, report. Each one does what is missing, so a killed run goes on.

data -> trainings -> exports -> serve and ask -> predictions on disk -> report
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfaug import augment, files, rng
from tfaug.config import ConfigError, differences, fingerprint, from_dict, hash_of, identity, to_dict
from tfaug.data import ImageData, Split, load_data, load_others, load_test_set, user_cache_dir
from tfaug.evaluate.attacks import name_attacks
from tfaug.evaluate.base import measure
from tfaug.evaluate.context import Context, Served
from tfaug.experiment import CLASSES, Experiment, Plan, plans
from tfaug.export import ViewChoice, export_model, latest_info, select_bank
from tfaug.models import Model, StagedModel, build_model
from tfaug.models.cost import num_parameters
from tfaug.schedules import Visit
from tfaug.train import fit
from tfaug.train.methods.base import Answers
from tfaug.train.phase import Training, goes_on
from tfaug.train.strategy import mirrored_strategy
from tfaug.train.workers import is_chief
from tfaug.trained import answers_of, constants_of, find_teacher, load_trained
from tfaug.views import choose_test_time
from tfaug.workdir import Workdir, write_rows

if TYPE_CHECKING:
    from tfaug.serving.client import Client

# Sum-Augmentation multiplies a batch by its draws, so a batch may take long on a small machine.
_TIMEOUT_S = 600.0
# Each stage, and the module that it alone needs: imported with the stage, or by a longer command before it begins.
STAGES = {
    "train": "tfaug.train",
    "export": "tensorflow_serving.apis.prediction_log_pb2",
    "evaluate": "tfaug.serving.client",
    "report": "tfaug.report",
}


def _same_but_phase(old: dict[str, Any], new: dict[str, Any], index: int) -> bool:
    """Whether two settings of a training are the same but for a phase and what follows it."""
    return {**old, "phases": old["phases"][:index]} == {**new, "phases": new["phases"][:index]}


class Job:
    """One experiment in one workdir.

    Args:
      workdir: the folder, there or not.
      config: the experiment.
      make_strategy: makes the strategy, see `tfaug.train.strategy.STRATEGIES`; called where devices are needed first.
      data_service: address of the tf.data service that makes the batches; empty makes them here.

    Raises:
      ConfigError: if the folder holds a training of one of the names that was trained otherwise, naming the fields.
    """

    def __init__(
        self,
        workdir: Workdir,
        config: Experiment,
        make_strategy: Callable[[], tf.distribute.Strategy] = mirrored_strategy,
        data_service: str = "",
    ):
        self.workdir, self.config, self.data_service = workdir, config, data_service
        self._make_strategy = make_strategy
        self.path = workdir.path
        self.plans = plans(config)
        for name, plan in self.plans.items():
            self._check_plan(name, plan)

    def _check_plan(self, name: str, plan: Plan) -> None:
        """Refuses a training that the folder holds with other settings, unless it can go on: with more phases at its
        end, or with more epochs or other weights kept in its last one."""
        made = self.workdir.training(name).made
        if not made.exists():
            if self.workdir.training(name).holds_files():
                raise ConfigError(f"--workdir={self.path} holds {name}/ without training.json: an older tfaug made it")
            return
        held = files.read_json(made)
        common = min(len(held["hashes"]), len(plan.hashes))
        if held["hashes"][:common] == list(plan.hashes[:common]):
            return
        last = len(held["hashes"]) - 1
        if common > last and _same_but_phase(held["settings"], plan.settings, last):
            old, new = (from_dict(each["phases"][last], CLASSES) for each in (held["settings"], plan.settings))
            if goes_on(old, new):
                return
        old, new = ({**each, "phases": each["phases"][:common]} for each in (held["settings"], plan.settings))
        lines = [f"trainings.{name}.{line}" for line in differences(old, new)]
        if old["teacher"] != new["teacher"] and isinstance(asked := self.config.training(name).method.asks, str):
            lines.append(
                f"its teacher {asked!r} is another one now; {asked.partition('/')[0]}/PHASE names an earlier one"
            )
        lines = lines or [f"trainings.{name}: the source of a class of your own, or a default of tfaug, has changed"]
        raise ConfigError(
            f"--workdir={self.path} holds {name} trained with other settings; choose another folder, give the same "
            "settings, or add a phase at the end (more epochs go on where neither the rate nor an op goes by the length"
            " of the phase). They differ in\n  " + "\n  ".join(lines[:20])
        )

    @functools.cached_property
    def data(self) -> ImageData:
        """The decoded images, cached as uint8 in the user's cache folder."""
        return load_data(self.config.data, cache_dir=user_cache_dir())

    @functools.cached_property
    def sets(self) -> dict[str, Split]:
        """All test sets by their names, the data's own first."""
        others = {
            each.name: load_test_set(each.source, cache_dir=user_cache_dir(), like=self.data)
            for each in self.config.test_sets
        }
        return {"test": self.data.test, **others}

    @functools.cached_property
    def _constants(self) -> dict[str, Any]:
        """What networks keep of the data."""
        return constants_of(self.data)

    @functools.cached_property
    def _data_of(self) -> dict[str, tuple[ImageData, dict[str, Any]]]:
        """The data of each training, with images of its method's own to learn from if there are some; its constants."""
        found = {}
        for training in self.config.trainings:
            data, constants = self.data, self._constants
            if training.method.data is not None:
                train = load_others(training.method.data, cache_dir=user_cache_dir(), like=data)
                data = dataclasses.replace(data, train=train)
                constants = constants_of(data)
            found[training.name] = data, constants
        return found

    @functools.cached_property
    def strategy(self) -> tf.distribute.Strategy:
        """The devices."""
        return self._make_strategy()

    # -- train ---------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Finds the data, the test sets and the teachers from elsewhere, before anything is written.

        Raises:
          ConfigError: if one of them is not there, a training was trained on other images than its data has now, or a
            batch or an order fits neither the devices nor the data.
        """
        _ = self.data, self.sets
        for training in self.config.trainings:
            made, (data, constants) = self.workdir.training(training.name).made, self._data_of[training.name]
            if made.exists() and files.read_json(made)["constants"]["train_sha256"] != constants["train_sha256"]:
                source = training.method.data or self.config.data.source
                raise ConfigError(
                    f"--workdir={self.path} holds {training.name}, trained on other images or labels than "
                    f"{source!r} has now; choose another folder, or put the data back"
                )
            if self._is_trained(training):
                continue
            fit.check_fits(training.phases, data, self.strategy, self.data_service)
            if training.method.asks is not None:
                teacher = self._answers(training.method.asks, check=True)
                if training.method.stage_pairs:
                    self._check_networks(training, teacher)

    def shared(self) -> dict[str, str]:
        """Returns what must be the same for all workers of a training before they begin, a text each by its name."""
        names = [training.name for training in self.config.trainings]
        return {
            "settings": fingerprint(self.config),
            "images": json.dumps([constants for _, constants in self._data_of.values()]),
            "files in --workdir": self.workdir.trainings_sha256(names),
        }

    def train(self) -> None:
        """Trains all trainings, one after the other, through their phases."""
        for place, training in enumerate(self.config.trainings):
            identity = self.plans[training.name].hashes[-1]
            with (
                self.workdir.stage(f"train {training.name}") as clock,
                self.workdir.hold_training(training.name, identity),
            ):
                if not self._is_trained(training):
                    self._train_one(place, training, clock.book)
                if place == 0 and is_chief(self.strategy):
                    self._draw_augmentations()

    def _is_trained(self, training: Training) -> bool:
        """Whether the end of the last phase is there."""
        folder, hashes = self.workdir.training(training.name), self.plans[training.name].hashes
        if not folder.made.exists() or not folder.result.exists():
            return False
        return files.read_json(folder.result).get("hash") == hashes[-1]

    def _train_one(self, place: int, training: Training, on_epoch: Any) -> None:
        """Trains one network and writes its result once it is whole."""
        folder, plan = self.workdir.training(training.name), self.plans[training.name]
        data, constants = self._data_of[training.name]
        held = files.read_json(folder.made)["hashes"] if folder.made.exists() else []
        if held[: len(plan.hashes)] != list(plan.hashes):  # or phases that are there and not asked for stay known
            files.write_json(folder.made, {"settings": plan.settings, "hashes": plan.hashes, "constants": constants})
        network = self._build(training.model)
        network.adapt(self.data.train.images)
        teacher = training.method.asks
        run = fit.TrainingRun(
            folder,
            data,
            self.strategy,
            rng.fold_in(rng.make_seed(self.config.seed), place),
            self.workdir.tensorboard(training.name),
            method=training.method,
            teacher=None if teacher is None else self._answers(teacher),
            hashes=plan.hashes,
            on_epoch=on_epoch,
            on_pace=functools.partial(self._write_pace, training.name),
            data_service=self.data_service,
        )
        results = fit.train_phases(run, network, training.phases)
        files.write_json(
            folder.result,
            {
                "hash": plan.hashes[-1],
                "weights_sha256": results[-1]["weights_sha256"],
                "num_parameters": num_parameters(network),
                "phases": results,
                "images_per_second": fit.images_per_second(folder, training.phases, len(data.train.images)),
            },
        )

    def _build(self, model: Model) -> StagedModel:
        """Returns a network with its first weights."""
        with self.strategy.scope():
            return build_model(
                model,
                image_shape=self.data.image_shape,
                num_classes=self.data.num_classes,
                mean=self.data.mean,
                std=self.data.std,
                precision=self.config.precision,
                seed=self.config.seed,
            )

    def _check_networks(self, training: Training, found: Answers | None) -> None:
        """Refuses a method that compares stages which the network or its teacher does not have."""
        asked = training.method.asks
        teacher = found.network if found else None
        if isinstance(asked, str):
            teacher = self._build(self.config.asked(asked)[0].model)
        assert teacher is not None
        try:
            training.method.check_networks(self._build(training.model), teacher, self.data.image_shape)
        except ConfigError as error:
            raise ConfigError(f"training {training.name}: {error}") from None

    def _write_pace(self, training: str, phase: str, seconds: float) -> None:
        """Writes the seconds of a step, from which a study estimates its time."""
        files.write_json(self.workdir.pace, {"training": training, "phase": phase, "step_seconds": seconds})

    def _answers(self, teacher: Any, check: bool = False) -> Answers | None:
        """Returns what a teacher answers; with `check`, only sees to it that one from elsewhere is there and fits."""
        if not isinstance(teacher, str):
            return find_teacher(teacher, self.data, self.strategy)
        if check:
            return None
        asked, index = self.config.asked(teacher)
        with self.strategy.scope():
            network, _ = load_trained(self.workdir.training(asked.name), index, asked.phases[index].keep)
        return answers_of(network)

    def _draw_augmentations(self) -> None:
        """Saves a few images under every operation, each of them alone and as the phases compose them; of a run that
        shares its trainings, as those of a study do, under those of its phases alone, for all of them take long.

        What is scheduled stands as in the middle of a phase. An operation that refuses images of this size is left out
        with a note; images of another size are scaled to that of the originals.
        """
        path = self.workdir.augmentations
        if path.exists():
            return
        columns = 10
        phases = self.config.trainings[0].phases
        used = {type(op).__name__: op for phase in phases for op in phase.augment}
        every = augment.AUGMENTATIONS if self.workdir.trainings is None else {}
        rows = {repr(op): op for op in {**{name: make() for name, make in every.items()}, **used}.values()}
        rows |= {f"phase {phase.name}": augment.compose(phase.augment) for phase in phases}
        split = self.data.train
        labels = split.label_rows(self.data.num_classes)
        names, images = ["original"], [split.images[:columns]]
        height, width, channels = self.data.image_shape
        for index, (name, op) in enumerate(rows.items()):
            count, seed = columns, rng.fold_in(rng.make_seed(self.config.seed), index)
            try:
                while op.output_shape((count, height, width, channels))[0] < columns:
                    count += columns
                batch = augment.Batch(tf.constant(split.images[:count]), tf.constant(labels[:count]))
                drawn = op(batch, seed, Visit(1, 2, seed, 1, tf.range(count))).images[:columns]
            except ValueError as error:
                print(f"[tfaug] figures/augmentations.npz leaves out {name}: {error}", file=sys.stderr)
                continue
            if drawn.shape[1:3] != (height, width):
                drawn = tf.image.resize(drawn, (height, width), method="nearest")
            names.append(name)
            images.append(np.clip(np.round(drawn.numpy().astype(np.float32)), 0, 255).astype(np.uint8))
        with files.atomic_file(path) as partial:
            np.savez_compressed(partial, names=np.array(names), images=np.stack(images))

    # -- export --------------------------------------------------------------------------------------------------

    def trained(self, name: str) -> StagedModel:
        """Loads an exported model's network, in the precision of the export.

        Raises:
          ConfigError: if it is not trained yet.
        """
        training, index = self.config.exported()[name]
        folder = self.workdir.training(training.name)
        with self.strategy.scope():
            return load_trained(folder, index, training.phases[index].keep, self.config.export.precision)[0]

    def export(self) -> None:
        """Exports the end of every phase, or of a training, each as a versioned SavedModel of its own.

        What each answers with at test time is chosen on the validation split and written to export/NAME/test_time.json.
        Where the weights or the settings are no longer those of the newest version, there is one version more.
        """
        with self.workdir.stage("export"):
            for name in self.config.exported():
                folder = self.workdir.export(name)
                files.remove_partial(folder)
                key = self._export_key(name)
                if latest_info(folder).get("key") == key:
                    continue
                network = self.trained(name)
                bank = select_bank(self.data.train.images, self.config.export)
                test_time = self._test_time(name, network, bank, key)
                export_model(
                    folder,
                    network,
                    bank_images=bank,
                    config=self.config.export,
                    choice=ViewChoice(**test_time["choice"]),
                    warmup_images=self.data.validation.images[:1],
                    image_shape=self.data.image_shape,
                    class_names=self.data.class_names,
                    weights_sha256=key["weights_sha256"],
                    test_time=test_time,
                    beside={"key": key, "held_out_sha256": self._constants["held_out_sha256"]},
                )

    def _export_key(self, name: str) -> dict[str, str]:
        """Returns what an export is of: the weights, and the settings that the test-time views have.

        Raises:
          ConfigError: if it is not trained yet.
        """
        training, index = self.config.exported()[name]
        result = self.workdir.training(training.name).phase(index, training.phases[index].name).result
        held = files.read_json(result) if result.exists() else {}
        if held.get("hash") != self.plans[training.name].hashes[index]:
            raise ConfigError(f"{self.path} holds no trained {name}; run `tfaug train` with the same flags first")
        return {"weights_sha256": held["weights_sha256"], "settings": hash_of(identity(self.config.export))}

    def _test_time(self, name: str, network: StagedModel, bank: np.ndarray, key: dict[str, str]) -> dict[str, Any]:
        """Measures a model's views on the validation split and chooses, or reads what was measured of these weights."""
        path = self.workdir.test_time(name)
        if path.exists() and (held := files.read_json(path)).get("key") == key:
            return held
        chosen = choose_test_time(network, bank, self.data.validation, self.config.export, name=name, progress=True)
        files.write_json(path, {"key": key, "weights_sha256": key["weights_sha256"], **chosen})
        choice = chosen["choice"]
        print(
            f"[tfaug] {name}: serves {choice['default']}; its sums have n = {choice['num_draws']}, "
            f"a = {choice['weight']:.3g} ({chosen['num_examples']} validation images)",
            file=sys.stderr,
            flush=True,
        )
        return files.read_json(path)

    def exported(self) -> dict[str, str]:
        """Returns the base path of every export.

        Raises:
          ConfigError: if one is missing, or was made of other weights or settings.
        """
        paths = {name: self.workdir.export(name) for name in self.config.exported()}
        missing = [name for name, path in paths.items() if latest_info(path).get("key") != self._export_key(name)]
        if missing:
            raise ConfigError(f"{self.path} holds no export of {', '.join(missing)}; run `tfaug export` first")
        return {name: str(path.absolute()) for name, path in paths.items()}

    # -- evaluate ------------------------------------------------------------------------------------------------

    def evaluate(self, endpoint: str = "") -> None:
        """Measures the exported models and writes the rows; what is not on disk yet is asked of an endpoint.

        Args:
          endpoint: HOST:PORT of a gRPC endpoint that serves this run's exports; empty: one is started here.

        Raises:
          ConfigError: if an export is missing, or the endpoint serves other models.
        """
        exports, target = self.exported(), endpoint or self.config.evaluate.endpoint
        with self.workdir.stage("evaluate"), contextlib.ExitStack() as stack:
            served = {
                name: Served(
                    self._export_key(name)["weights_sha256"],
                    functools.partial(self.trained, name),
                    self.config.export.precision,
                    files.read_json(self.workdir.test_time(name))["choice"],
                    self._epochs(name),
                )
                for name in exports
            }
            context = Context(
                self.workdir,
                self.config.evaluate,
                served,
                self.sets,
                lambda: stack.enter_context(_client(target, exports)),
                attacked=self.config.attacked(),
                mirror=self.config.export.mirror,
            )
            if target:
                context.client.check(context.models)
            rows = measure(self.config.evaluate.evaluators, context)
            # Rows never stand beside the meanings of others.
            self.workdir.rows.unlink(missing_ok=True)
            files.write_json(self.workdir.meanings, self._meanings(context))
            write_rows(self.workdir.rows, rows)

    def _epochs(self, name: str) -> dict[str, pathlib.Path]:
        """Returns the weights of the epochs of a model's phase, for `Served`."""
        training, index = self.config.exported()[name]
        folder = self.workdir.training(training.name).phase(index, training.phases[index].name)
        return {which: folder.weights(which) for which in ("last", "best", *folder.epochs())}

    def _meanings(self, context: Context) -> dict[str, Any]:
        """Returns what the names in the rows stand for, JSON values."""
        sets = {"test": (f"{self.config.data.source.short_name} test", "")} | {
            each.name: (each.source.short_name, each.source.describe()) for each in self.config.test_sets
        }
        num_attacked = min(self.config.evaluate.num_attack_examples, len(self.data.test))
        settings = to_dict(self.config)
        return {
            "settings": {key: settings[key] for key in ("evaluate", "test_sets")},
            "models": {
                name: {
                    "training": training.name,
                    "phase": index,
                    "weights_sha256": self._export_key(name)["weights_sha256"],
                }
                for name, (training, index) in self.config.exported().items()
            },
            "sets": {
                name: {"title": title, "description": description, "num_examples": len(context.split(name))}
                for name, (title, description) in sets.items()
            },
            "attacks": {
                name: {
                    "title": title,
                    "settings": to_dict(attack),
                    "num_examples": num_attacked,
                    "made_on": "the local model without Sum-Augmentation",
                }
                for name, (title, attack) in name_attacks(self.config.evaluate.attacks).items()
            },
        }

    # -- report --------------------------------------------------------------------------------------------------

    def report(self) -> pathlib.Path:
        """Writes report.html and summary.json from what the other stages left on disk."""
        from tfaug.report import write_report

        with self.workdir.stage("report"):
            return write_report(self.path)


@contextlib.contextmanager
def _client(target: str, exports: Mapping[str, str]) -> Iterator[Client]:
    """Yields a client of the endpoint given, or of one started on a free port for as long as it is needed."""
    from tfaug.serving import client

    with contextlib.ExitStack() as stack:
        target = target or stack.enter_context(client.start_server(dict(exports))).grpc_target
        yield stack.enter_context(client.Client(target, timeout_s=_TIMEOUT_S))
