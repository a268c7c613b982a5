"""Serve SavedModels over gRPC and REST, by TensorFlow Serving's protocol.

One model:      python -m tfaug.serving --model_name=NAME --model_base_path=DIR
Several models: python -m tfaug.serving --model_config_file=models.config

DIR holds integer-named version folders (DIR/1/saved_model.pb); the highest is served.
The server listens on this machine only, unless --host says otherwise.
A model is a program: serve only those you trust.
SIGTERM or Ctrl-C stops it cleanly.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from absl import app, flags

_MODEL_NAME = flags.DEFINE_string("model_name", "default", "Name that clients ask for.")
_MODEL_BASE_PATH = flags.DEFINE_string("model_base_path", None, "Folder of the model's version folders.")
_MODEL_CONFIG_FILE = flags.DEFINE_string(
    "model_config_file", None, "Text proto with a model_config_list, instead of --model_name and --model_base_path."
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
_PORT = flags.DEFINE_integer("port", 8500, "gRPC port; 0 takes a free one.", 0, 65535)
_REST_API_PORT = flags.DEFINE_integer("rest_api_port", 8501, "REST port; 0 takes a free one.", 0, 65535)
_PORT_FILE = flags.DEFINE_string(
    "port_file", None, 'File to write {"grpc": PORT, "rest": PORT, "pid": PID} to once every model is available.'
)
_MAX_MESSAGE_MB = flags.DEFINE_integer("max_message_mb", 64, "Largest request and answer, MiB.", 1, 2047)
_NUM_THREADS = flags.DEFINE_integer(
    "num_threads", 0, "Requests that run at once; 0 means two per processor, at least four.", 0, 1024
)
_GRACE_S = flags.DEFINE_float("grace_s", 10.0, "Seconds that running calls get to finish after SIGTERM.", 0.0)
_REST_TIMEOUT_MS = flags.DEFINE_integer("rest_api_timeout_in_ms", 30000, "Time limit of a REST request, ms.", 1)
_STOP_WHEN_STDIN_CLOSES = flags.DEFINE_boolean(
    "stop_when_stdin_closes", False, "Also stop when standard input ends, as it does when a parent process dies."
)


def main(argv: list[str]) -> int:
    """Serve until told to stop."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if (_MODEL_BASE_PATH.value is None) == (_MODEL_CONFIG_FILE.value is None):
        raise app.UsageError("give either --model_base_path or --model_config_file")
    if _MODEL_CONFIG_FILE.value is not None and flags.FLAGS["model_name"].present:
        raise app.UsageError("--model_name goes with --model_base_path; --model_config_file names its models itself")
    # Here, so that --help and a mistyped flag do not wait for TensorFlow.
    try:
        from .models import ModelLoadError, ModelSource, read_config_file
        from .server import ServerOptions, log_line, run_server
    except ModuleNotFoundError as error:
        print(f"{error}; pip install 'tfaug[serve]' brings what the server needs", file=sys.stderr)
        return 1

    try:
        if _MODEL_CONFIG_FILE.value is not None:
            sources = read_config_file(Path(_MODEL_CONFIG_FILE.value))
        else:
            sources = [ModelSource(_MODEL_NAME.value, Path(_MODEL_BASE_PATH.value or ""))]
    except ModelLoadError as error:
        log_line(f"error: {error}")
        return 1
    options = ServerOptions(
        host=_HOST.value,
        port=_PORT.value,
        rest_api_port=_REST_API_PORT.value,
        port_file=Path(_PORT_FILE.value) if _PORT_FILE.value else None,
        max_message_mb=_MAX_MESSAGE_MB.value,
        num_threads=_NUM_THREADS.value or ServerOptions.num_threads,
        grace_s=_GRACE_S.value,
        rest_timeout_s=_REST_TIMEOUT_MS.value / 1000,
        stop_when_stdin_closes=_STOP_WHEN_STDIN_CLOSES.value,
    )
    return run_server(sources, options)


def run() -> None:
    """Run the command; that nobody reads its output any more, as after `--help | head`, is no error to speak of."""
    try:
        try:
            app.run(main)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    run()
