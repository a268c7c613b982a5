"""`tfaug run|train|export|serve|evaluate|report --config=MODULE:FUNCTION --workdir=DIR`: an experiment's stages."""

from __future__ import annotations

import contextlib
import importlib
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from tfaug import expressions, files, startup
from tfaug.config import ConfigError
from tfaug.extras import explained

if TYPE_CHECKING:
    from tfaug.experiment import Experiment
    from tfaug.run import Job
    from tfaug.workdir import Workdir

COMMANDS = {
    "run": "everything below in order: train, export, evaluate through a served endpoint, report",
    "train": "train the teacher through its phases, then the student",
    "export": "write the end of each phase as a versioned SavedModel with test-time Sum-Augmentation",
    "serve": "serve the exports over gRPC and REST, as TensorFlow Serving does, until stopped",
    "evaluate": "measure the exports through an endpoint: write the predictions and rows.csv",
    "report": "make report.html and summary.json of the rows",
}

USAGE = "tfaug COMMAND --config=MODULE:FUNCTION --workdir=DIR [--set KEY=VALUE ...]"
EXAMPLE = "tfaug run --config=experiments.quickstart:digits --workdir=build/demo --set phases.0.epochs=3 --set seed=1"

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "config", None, "the experiment, MODULE:FUNCTION, as in experiments.quickstart:digits", flag_values=FLAGS
)
flags.DEFINE_string("workdir", None, "the folder of the run; made if it is not there", flag_values=FLAGS)
flags.DEFINE_multi_string("set", [], "replace one setting, as in phases.0.epochs=3; may be repeated", flag_values=FLAGS)
flags.DEFINE_string(
    "trainings",
    None,
    "a folder that keeps each training once; the workdirs of several runs link to it",
    flag_values=FLAGS,
)
flags.DEFINE_string("endpoint", "", "evaluate: HOST:PORT of a gRPC endpoint that serves the exports", flag_values=FLAGS)
flags.DEFINE_string("host", "127.0.0.1", "serve: the address to bind to", flag_values=FLAGS)
flags.DEFINE_integer("port", 8500, "serve: the gRPC port, 0 for a free one", 0, 65535, flag_values=FLAGS)
flags.DEFINE_integer("rest_port", 8501, "serve: the REST port, 0 for a free one", 0, 65535, flag_values=FLAGS)
flags.DEFINE_integer(
    "cpu_devices",
    1,
    "logical CPU devices that MirroredStrategy trains on where there is no GPU",
    1,
    64,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "strategy",
    "auto",
    "the devices: auto takes all GPUs, or all CPU devices where there is none; one, the first alone; mirrored, all of "
    "several; multi_worker, those of all workers that TF_CONFIG names, for train alone and also auto then; "
    "tpu",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "data_service",
    "",
    "run, train: grpc://HOST:PORT of a tf.data service whose workers load and augment the batches",
    flag_values=FLAGS,
)


def main(command: str, arguments: Sequence[str]) -> int:
    """Checks the flags, opens the workdir and runs the command's stages.

    Args:
      command: one of `COMMANDS`.
      arguments: what follows it on the command line.

    Returns:
      The exit status: 0 done, 1 training or serving failed.

    Raises:
      ConfigError, absl.flags.Error: if the flags or the configuration are wrong.
    """
    started = time.perf_counter()
    rest = FLAGS(["tfaug", *arguments], known_only=False)[1:]
    if rest:
        raise ConfigError(f"tfaug {command} takes flags alone; got {' '.join(rest)!r}")
    if not FLAGS.config or not FLAGS.workdir:
        missing = "--config" if not FLAGS.config else "--workdir"
        raise ConfigError(
            f"{missing} is missing; as in: tfaug {command} --config=experiments.quickstart:digits --workdir=DIR"
        )
    startup.import_tensorflow()

    from tfaug.experiment import CLASSES, Experiment

    config = expressions.load(FLAGS.config, FLAGS.set, CLASSES)
    if not isinstance(config, Experiment):
        arms = (
            "; its arms are MODULE:FUNCTION.ARM, and `tfaug study run` runs them all" if hasattr(config, "arm") else ""
        )
        raise ConfigError(
            f"--config is {FLAGS.config!r}, which makes no Experiment but a {type(config).__name__}{arms}"
        )
    startup.use_devices(deterministic=config.deterministic, num_cpu_devices=FLAGS.cpu_devices)

    from tfaug.data.service import check_service
    from tfaug.run import STAGES, Job
    from tfaug.train.strategy import choose_strategy
    from tfaug.train.workers import multi_worker_strategy
    from tfaug.workdir import Workdir

    make_strategy = choose_strategy(FLAGS.strategy, FLAGS.cpu_devices, across_workers=command == "train")
    if FLAGS.data_service:
        check_service(FLAGS.data_service)
    stages = tuple(STAGES) if command == "run" else (command,)
    with explained():
        for module in (STAGES[stage] for stage in stages if stage in STAGES):
            importlib.import_module(module)

    workdir = Workdir(FLAGS.workdir, FLAGS.trainings)
    if make_strategy is multi_worker_strategy:
        return _train_as_worker(workdir, config)
    job = Job(workdir, config, make_strategy, FLAGS.data_service)
    if command == "serve":
        return _serve(job.exported())
    if command != "report":
        print("[tfaug] data", file=sys.stderr, flush=True)
        job.load()  # before anything is written
    workdir.begin(config)
    with workdir.lock():
        workdir.add_seconds("start-up", time.perf_counter() - started)
        if not _made(job, stages):
            return 1
    if command in ("run", "report"):
        from tfaug.report import short_table

        print(short_table(files.read_json(workdir.summary)))
        print(f"\nreport: {workdir.page}")
    return 0


def _made(job: Job, stages: Sequence[str]) -> bool:
    """Makes the stages, and tells whether that went well; where not, it has said why."""
    import tensorflow as tf

    from tfaug.serving.errors import ServingError
    from tfaug.train.callbacks import NonFiniteLoss

    try:
        for stage in stages:
            if stage == "evaluate":
                job.evaluate(FLAGS.endpoint)
            else:
                getattr(job, stage)()
    except (NonFiniteLoss, ServingError) as error:
        print(f"tfaug: {error}", file=sys.stderr)
        return False
    except tf.errors.UnknownError as error:
        if not FLAGS.data_service or "tf.data service" not in error.message:
            raise
        print(f"tfaug: {error.message.splitlines()[0]}; the same command goes on from the last epoch", file=sys.stderr)
        return False
    return True


def _train_as_worker(shared: Workdir, config: Experiment) -> int:
    """Trains as one of several workers.

    All of them take part in all that reads a variable, and so in all that is written: the chief works in the run's
    folder and each other worker in a copy of it that it drops, so that nobody but the chief writes there.
    """
    import tensorflow as tf

    from tfaug.run import Job
    from tfaug.train.callbacks import NonFiniteLoss
    from tfaug.train.workers import check_same, multi_worker_strategy, read_cluster
    from tfaug.workdir import Workdir

    if FLAGS.trainings or FLAGS.cpu_devices > 1:
        flag = "--trainings" if FLAGS.trainings else "--cpu_devices"
        raise ConfigError(f"{flag} does not go with several workers, which TF_CONFIG names; allowed: leave it out")
    cluster = read_cluster()
    place = f"worker {cluster.place} of {len(cluster.addresses)}"
    print(f"[tfaug] {place}: waits for the others", file=sys.stderr, flush=True)
    strategy = multi_worker_strategy()
    with contextlib.ExitStack() as stack:
        workdir = shared
        if not cluster.is_chief:
            workdir = Workdir(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfaug-worker-")))
            workdir.copy_trainings([training.name for training in config.trainings], shared)
        job = Job(workdir, config, lambda: strategy, FLAGS.data_service)
        print("[tfaug] data", file=sys.stderr, flush=True)
        job.load()
        workdir.begin(config)
        stack.enter_context(workdir.lock())
        try:
            check_same(strategy, cluster, job.shared())
            job.train()
            check_same(strategy, cluster, {"weights": ""})  # the chief leaves no worker before it has written all
        except NonFiniteLoss as error:
            print(f"tfaug: {error}", file=sys.stderr)
            return 1
        except tf.errors.OpError as error:
            print(
                f"tfaug: {place}: {files.one_line(error)[:300]}; where another worker has ended, start all of them "
                "again with the same command: the training goes on from its last epoch",
                file=sys.stderr,
            )
            return 1
    return 0


def _serve(exports: dict[str, str]) -> int:
    """Serves the exports in a process of its own until it is stopped."""
    from tfaug.serving.client import config_text

    with tempfile.TemporaryDirectory() as folder:
        models = pathlib.Path(folder) / "models.config"
        models.write_text(config_text(exports), encoding="utf-8")
        command = [sys.executable, "-m", "tfaug.serving", f"--model_config_file={models}", f"--host={FLAGS.host}"]
        server = subprocess.Popen([*command, f"--port={FLAGS.port}", f"--rest_api_port={FLAGS.rest_port}"])
        return _wait(server)


def _wait(server: subprocess.Popen[bytes]) -> int:
    """Waits for the server and passes a stop on to it."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.send_signal(signal.SIGTERM))
    return server.wait()
