"""The stages of a run: train, export, evaluate, report. Each one skips what is done, so a killed run goes on.

data -> train (teacher, then student) -> export -> serve and ask -> predictions on disk -> report
"""

from __future__ import annotations

import contextlib
import functools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfaug import augment, files, rng
from tfaug.config import ConfigError, to_dict
from tfaug.data import ImageData, Split, load_data, load_test_set, shifted_description, user_cache_dir
from tfaug.evaluate.predict import evaluate_models
from tfaug.experiment import Experiment
from tfaug.export import Choice, export_model, select_bank
from tfaug.models import ModelConfig, StagedModel, build_model
from tfaug.schedules import Visit
from tfaug.train import fit
from tfaug.train.phases import Phase
from tfaug.train.strategy import mirrored_strategy
from tfaug.views import choose_test_time
from tfaug.workdir import Workdir

# Each stage, and the module that it alone needs: imported with the stage, or by a longer command before it begins.
STAGES = {
    "train": "tfaug.train",
    "export": "tensorflow_serving.apis.prediction_log_pb2",
    "evaluate": "tfaug.serving.client",
    "report": "tfaug.report",
}


class Job:
    """One experiment in one workdir.

    Args:
      workdir: opened for `workdir.config`, an `Experiment`.
    """

    def __init__(self, workdir: Workdir):
        self.workdir = workdir
        self.path = workdir.path
        self.config: Experiment = workdir.config

    @functools.cached_property
    def data(self) -> ImageData:
        """The decoded images, cached as uint8 in the user's cache folder."""
        return load_data(self.config.data, cache_dir=user_cache_dir())

    @functools.cached_property
    def shifted(self) -> Split | None:
        """The shifted test set, if the experiment names one."""
        spec, folder = self.config.data.shifted, self.config.data.data_dir
        return load_test_set(spec, data_dir=folder, cache_dir=user_cache_dir(), like=self.data) if spec else None

    @functools.cached_property
    def strategy(self) -> tf.distribute.Strategy:
        """All devices."""
        return mirrored_strategy()

    def network(self, model: ModelConfig, precision: str) -> StagedModel:
        """Builds a network for the job's images, with initial weights drawn from the experiment's seed."""
        with self.strategy.scope():
            return build_model(
                model,
                image_shape=self.data.image_shape,
                num_classes=self.data.num_classes,
                mean=self.data.mean,
                std=self.data.std,
                precision=precision,
                seed=self.config.seed,
            )

    # -- train ---------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Trains the teacher through its phases and, if there is one, the student."""
        self._check_teacher()
        with self.workdir.stage("data"):
            # The test sets are only loaded here, so that a missing one is found before the training and not after it.
            _ = self.data, self.shifted
        with self.workdir.stage("train teacher") as clock:
            self._train_one("teacher", self.config.model, self.config.phases, None, clock.book)
            self._draw_augmentations()
        if self.config.student is not None:
            with self.workdir.stage("train student") as clock:
                teacher = None if (self.path / "student" / "result.json").exists() else self._teacher()
                self._train_one("student", self.config.student.model, self.config.student.phases, teacher, clock.book)

    def _train_one(
        self, who: str, model: ModelConfig, phases: tuple[Phase, ...], teacher: StagedModel | None, on_epoch
    ) -> None:
        """Trains the teacher or the student and writes its result once it is whole."""
        folder = self.path / who
        if (folder / "result.json").exists():
            return
        network = self.network(model, self.config.precision)
        network.adapt(self.data.train.images)
        seed = rng.fold_in(rng.make_seed(self.config.seed), ("teacher", "student").index(who))
        run = fit.Run(folder, self.data, self.strategy, seed, self.path / "tensorboard" / who, on_epoch=on_epoch)
        results = fit.train_phases(run, network, phases, teacher=teacher, student=self.config.student)
        files.write_json(
            folder / "result.json",
            {
                "weights_sha256": results[-1]["weights_sha256"],
                "num_parameters": sum(int(np.prod(variable.shape)) for variable in network.trainable_variables),
                "phases": results,
                "images_per_second": fit.images_per_second(folder, phases, len(self.data.train.images)),
            },
        )

    def _teacher(self) -> StagedModel:
        """Loads the teacher whom the student learns from: this run's, or that of another workdir."""
        assert self.config.student is not None
        other = self.config.student.teacher_workdir
        if not other:
            network = self.network(self.config.model, self.config.precision)
            fit.load_weights(network, self._weights("teacher", len(self.config.phases) - 1))
            return network
        folder = pathlib.Path(other)
        held = files.read_json(folder / "config.json")["config"]
        settings = {key: value for key, value in held["model"].items() if key != "class"}
        network = self.network(ModelConfig(**settings), self.config.precision)
        last = len(held["phases"]) - 1
        phase = f"{last}_{held['phases'][last]['name']}"
        fit.load_weights(network, folder / "teacher" / phase / fit.FINAL_WEIGHTS)
        return network

    def _check_teacher(self) -> None:
        """Refuses a student's teacher of another workdir that is not there or was trained on other data."""
        other = self.config.student.teacher_workdir if self.config.student else ""
        if not other:
            return
        folder = pathlib.Path(other)
        if not (folder / "teacher" / "result.json").exists():
            raise ConfigError(f"student.teacher_workdir={other} holds no trained teacher (teacher/result.json)")
        name = files.read_json(folder / "config.json")["config"]["data"]["name"]
        if name != self.config.data.name:
            raise ConfigError(
                f"student.teacher_workdir={other} was trained on {name}, this run is on {self.config.data.name}"
            )

    def _weights(self, who: str, index: int) -> pathlib.Path:
        phases = self.config.phases if who == "teacher" else self.config.student.phases  # type: ignore[union-attr]
        return fit.phase_folder(self.path / who, index, phases[index]) / fit.FINAL_WEIGHTS

    def _draw_augmentations(self) -> None:
        """Saves a few images under every operation, each of them alone and as the phases compose them.

        What is scheduled stands as in the middle of a phase. An operation that refuses images of this size is left out
        with a note; images of another size are scaled to that of the originals.
        """
        path = self.path / "figures" / "augmentations.npz"
        if path.exists():
            return
        columns = 10
        used = {type(op).__name__: op for phase in self.config.phases for op in phase.augment}
        rows = {repr(op): op for op in (used.get(name) or make() for name, make in augment.AUGMENTATIONS.items())}
        rows |= {f"phase {phase.name}": augment.compose(phase.augment) for phase in self.config.phases}
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

    def models(self) -> dict[str, tuple[str, ModelConfig, int]]:
        """Returns what is exported: name -> (teacher or student, network, index of the phase)."""
        found = {phase.name: ("teacher", self.config.model, index) for index, phase in enumerate(self.config.phases)}
        if self.config.student is not None:
            found["student"] = ("student", self.config.student.model, len(self.config.student.phases) - 1)
        return found

    def trained(self, name: str) -> StagedModel:
        """Loads an exported model's network, in the precision of the export.

        Raises:
          ConfigError: if it is not trained yet.
        """
        who, model, index = self.models()[name]
        if not self._weights(who, index).exists():
            raise ConfigError(f"{self.path} holds no trained {name}; run `tfaug train` with the same flags first")
        network = self.network(model, self.config.export.precision)
        fit.load_weights(network, self._weights(who, index))
        return network

    def export(self) -> None:
        """Exports the end of every phase, and the student, each as a versioned SavedModel of its own.

        What each answers with at test time is chosen on the validation split and written to export/NAME/test_time.json.
        """
        with self.workdir.stage("export"):
            for name in self.models():
                folder = self.path / "export" / name
                files.remove_partial(folder)
                if not (folder / "1").exists():
                    network = self.trained(name)
                    bank = select_bank(self.data.train.images, self.config.export)
                    weights_sha256 = fit.weights_sha256(network)
                    test_time = self._test_time(name, network, bank, weights_sha256)
                    export_model(
                        folder,
                        network,
                        bank_images=bank,
                        config=self.config.export,
                        choice=Choice(**test_time["choice"]),
                        warmup_images=self.data.validation.images[:1],
                        image_shape=self.data.image_shape,
                        class_names=self.data.class_names,
                        weights_sha256=weights_sha256,
                        test_time=test_time,
                    )

    def _test_time(self, name: str, network: StagedModel, bank: np.ndarray, weights_sha256: str) -> dict[str, Any]:
        """Measures a model's views on the validation split and chooses, or reads what was measured of these weights."""
        path = self.path / "export" / name / "test_time.json"
        if path.exists() and (held := files.read_json(path))["weights_sha256"] == weights_sha256:
            return held
        chosen = choose_test_time(network, bank, self.data.validation, self.config.export, name=name, progress=True)
        files.write_json(path, {"weights_sha256": weights_sha256, **chosen})
        choice = chosen["choice"]
        print(
            f"[tfaug] {name}: serves {choice['default']}; its sums have n = {choice['num_draws']}, "
            f"a = {choice['weight']:.3g} ({chosen['num_examples']} validation images)",
            file=sys.stderr,
            flush=True,
        )
        return files.read_json(path)

    # -- evaluate ------------------------------------------------------------------------------------------------

    def evaluate(self, endpoint: str = "") -> None:
        """Asks the endpoint about every test set and writes its predictions, each once.

        Args:
          endpoint: HOST:PORT of a gRPC endpoint that serves this run's exports; empty: one is started here.
        """
        shifted = self.shifted
        with self.workdir.stage("evaluate"), self._endpoint(endpoint or self.config.evaluate.endpoint) as target:
            results = {who: files.read_json(self.path / who / "result.json") for who in self._trained_runs()}
            phase_names = [phase.name for phase in self.config.phases]
            measured = evaluate_models(
                endpoint_target=target,
                models={name: self.trained(name) for name in self.models()},
                test=self.data.test,
                shifted=shifted,
                config=self.config.evaluate,
                out_dir=self.path / "predictions",
                mirror=self.config.export.mirror,
                sum_aug={
                    name: files.read_json(self.path / "export" / name / "test_time.json")["choice"]
                    for name in self.models()
                },
                weights_sha256={
                    name: results[who]["phases"][index]["weights_sha256"]
                    for name, (who, _, index) in self.models().items()
                },
                attacked=tuple(phase_names),
            )
            files.write_json(
                self.path / "predictions" / "meta.json",
                {
                    **measured,
                    "test": {"name": f"{self.config.data.name} test", **measured["test"]},
                    "shifted": shifted
                    and {
                        "name": pathlib.Path(self.config.data.shifted).stem,
                        "description": shifted_description(self.config.data.shifted),
                        **measured["shifted"],
                    },
                    "class_names": list(self.data.class_names),
                    "sum_aug": to_dict(self.config.export),
                    "endpoint": target,
                    "final_model": phase_names[-1],
                    "phase_models": phase_names,
                },
            )

    def _trained_runs(self) -> tuple[str, ...]:
        return ("teacher",) if self.config.student is None else ("teacher", "student")

    @contextlib.contextmanager
    def _endpoint(self, target: str) -> Iterator[str]:
        """Yields a gRPC endpoint: the one given, or one started on a free port for as long as it is needed."""
        if target:
            yield target
            return
        from tfaug.serving import client

        with client.start_server(self.exported()) as server:
            yield server.grpc_target

    def exported(self) -> dict[str, str]:
        """Returns the base path of every export.

        Raises:
          ConfigError: if one is missing.
        """
        paths = {name: self.path / "export" / name for name in self.models()}
        missing = [name for name, path in paths.items() if not (path / "1").exists()]
        if missing:
            raise ConfigError(f"{self.path} holds no export of {', '.join(missing)}; run `tfaug export` first")
        return {name: str(path.absolute()) for name, path in paths.items()}

    # -- report --------------------------------------------------------------------------------------------------

    def report(self) -> pathlib.Path:
        """Writes report.html and summary.json from what the other stages left on disk."""
        from tfaug.report import write_report

        with self.workdir.stage("report"):
            return write_report(self.path)
