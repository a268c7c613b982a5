"""The command line: `tfaug run|train|export|serve|evaluate|report --config=MODULE:FUNCTION --workdir=DIR`."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from absl import flags

import tfaug
from tfaug import config as configs
from tfaug import startup
from tfaug.config import ConfigError, near_name

COMMANDS = {
    "run": "everything below in order: train, export, evaluate through a served endpoint, report",
    "train": "train the teacher through its phases, then the student",
    "export": "write the end of each phase as a versioned SavedModel with test-time Sum-Augmentation",
    "serve": "serve the exports over gRPC and REST, as TensorFlow Serving does, until stopped",
    "evaluate": "ask an endpoint about the test sets and attacks; write the predictions",
    "report": "compute every number from the predictions; write report.html and summary.json",
}

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "config", None, "the experiment, MODULE:FUNCTION, as in experiments.quickstart:digits", flag_values=FLAGS
)
flags.DEFINE_string("workdir", None, "the folder of the run; made if it is not there", flag_values=FLAGS)
flags.DEFINE_multi_string("set", [], "replace one setting, as in phases.0.epochs=3; may be repeated", flag_values=FLAGS)
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


def usage() -> str:
    """Returns the text of `tfaug --help`."""
    lines = [
        f"tfaug {tfaug.__version__}: image augmentation for TensorFlow and Keras that is exact, fast and honest.",
        "",
        "usage: tfaug COMMAND --config=MODULE:FUNCTION --workdir=DIR [--set KEY=VALUE ...]",
        "",
        "commands:",
        *(f"  {name:<9} {what}" for name, what in COMMANDS.items()),
        "",
        "flags:",
    ]
    for name in FLAGS:
        flag = FLAGS[name]
        default = "" if flag.default in (None, [], "") else f" (default {flag.default})"
        lines.append(f"  --{name:<12} {flag.help}{default}")
    lines += [
        "  --help         this text",
        "  --version      the version",
        "",
        "example:",
        "  tfaug run --config=experiments.quickstart:digits --workdir=build/demo --set phases.0.epochs=3 --set seed=1",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the console script `tfaug`.

    Args:
      arguments: without the program's name; None takes the process's.

    Returns:
      The exit status: 0 done, 1 training or serving failed, 2 the command line or the configuration is wrong.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or {"--help", "-h", "help"} & set(arguments):
        print(usage())
        return 0
    if "--version" in arguments:
        print(f"tfaug {tfaug.__version__}")
        return 0
    try:
        rest = FLAGS(["tfaug", *arguments], known_only=False)[1:]
        return _run(rest)
    except (ConfigError, flags.Error) as error:
        print(f"tfaug: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntfaug: stopped; the same command goes on from the last finished epoch or stage", file=sys.stderr)
        return 130


def _run(positional: Sequence[str]) -> int:
    """Checks the command line, opens the workdir and runs the command's stages."""
    started = time.perf_counter()
    if len(positional) != 1 or positional[0] not in COMMANDS:
        got = " ".join(positional) or "nothing"
        raise ConfigError(f"the command is {got!r}{near_name(got, COMMANDS)}; allowed: {', '.join(COMMANDS)}")
    command = positional[0]
    if not FLAGS.config or not FLAGS.workdir:
        missing = "--config" if not FLAGS.config else "--workdir"
        raise ConfigError(
            f"{missing} is missing; as in: tfaug {command} --config=experiments.quickstart:digits --workdir=DIR"
        )
    startup.import_tensorflow()
    config = configs.load(FLAGS.config, FLAGS.set)
    startup.use_devices(deterministic=config.deterministic, num_cpu_devices=FLAGS.cpu_devices)

    from tfaug.report import short_table
    from tfaug.run import STAGES, Job
    from tfaug.serving.errors import ServingError
    from tfaug.train.callbacks import NonFiniteLoss
    from tfaug.workdir import Workdir

    workdir = Workdir(FLAGS.workdir, config)
    job = Job(workdir)
    if command == "serve":
        return _serve(job.exported())
    with workdir.lock():
        workdir.add_seconds("start-up", time.perf_counter() - started)
        try:
            for stage in STAGES if command == "run" else (command,):
                if stage == "evaluate":
                    job.evaluate(FLAGS.endpoint)
                else:
                    getattr(job, stage)()
        except (NonFiniteLoss, ServingError, FileNotFoundError) as error:
            print(f"tfaug: {error}", file=sys.stderr)
            return 1
    if command in ("run", "report"):
        from tfaug import files

        print(short_table(files.read_json(workdir.path / "summary.json")))
        print(f"\nreport: {workdir.path / 'report.html'}")
    return 0


def _serve(exports: dict[str, str]) -> int:
    """Serves the exports in a process of its own until it is stopped."""
    with tempfile.TemporaryDirectory() as folder:
        models = pathlib.Path(folder) / "models.config"
        entries = "".join(
            f'  config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}\n'
            for name, path in exports.items()
        )
        models.write_text(f"model_config_list {{\n{entries}}}\n", encoding="utf-8")
        command = [sys.executable, "-m", "tfaug.serving", f"--model_config_file={models}", f"--host={FLAGS.host}"]
        server = subprocess.Popen([*command, f"--port={FLAGS.port}", f"--rest_api_port={FLAGS.rest_port}"])
        return _wait(server)


def _wait(server: subprocess.Popen[bytes]) -> int:
    """Waits for the server and passes a stop on to it."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.send_signal(signal.SIGTERM))
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
