"""Starting and stopping: exit codes, ports, signals, and what the command line says."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfaug.serving.client import Client, RunningServer, ServingError, start_server
from tfaug.serving.health import HealthCheckRequest, HealthCheckResponse
from tfaug.serving.models import ModelSource
from tfaug.serving.server import ServerOptions, run_server

STOP_S = 60.0


def serve(*flags: str, timeout_s: float = STOP_S) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "tfaug.serving", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def watch_until_the_end(server: RunningServer, states: list[str]) -> threading.Thread:
    """Collect what the health watch says, in a thread."""
    import grpc

    opened = threading.Event()

    def watch() -> None:
        with grpc.insecure_channel(server.grpc_target) as channel:
            stream = channel.unary_stream(
                "/grpc.health.v1.Health/Watch",
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )(HealthCheckRequest())
            for answer in stream:
                states.append(HealthCheckResponse.ServingStatus.Name(answer.status))
                opened.set()

    thread = threading.Thread(target=watch)
    thread.start()
    assert opened.wait(STOP_S)
    return thread


def test_sigterm_lets_running_calls_finish_and_exits_with_zero(tiny: tuple[Path, Any], tmp_path: Path) -> None:
    log = tmp_path / "log"
    states: list[str] = []
    answers: list[Any] = []
    with start_server({"tiny": tiny[0]}, grace_s=STOP_S, log_path=log) as server, Client(server.grpc_target) as client:
        watcher = watch_until_the_end(server, states)
        idle = http.client.HTTPConnection(server.rest_url.removeprefix("http://"))
        idle.request("GET", "/v1/models/tiny")
        idle.getresponse().read()  # kept alive: an idle connection must not hold the server up for the whole grace

        def run(steps: int) -> Any:
            return client.predict("tiny", {"steps": np.array(steps, np.int32)}, signature="slow")["value"]

        steps, start = 1000, time.monotonic()
        while run(steps) is not None and time.monotonic() - start < 0.2:
            steps, start = steps * 2, time.monotonic()
        running = threading.Thread(target=lambda: answers.append(run(steps * 15)))  # about three seconds
        running.start()
        time.sleep(1.0)
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(STOP_S)
        running.join(STOP_S)
        watcher.join(STOP_S)
        idle.close()
        with pytest.raises(ServingError, match="UNAVAILABLE"):
            run(1)
    assert code == 0
    assert len(answers) == 1 and answers[0].shape == (16, 16)
    assert states == ["SERVING", "NOT_SERVING"]
    lines = log.read_text().splitlines()
    assert lines[0].startswith("loaded tiny version 10 in ")
    assert lines[1] == f"gRPC on {server.grpc_target}, REST on {server.rest_url}"
    assert lines[2] == "SIGTERM: stopping"
    assert lines[3].startswith("stopped in ") and len(lines) == 4


def test_call_longer_than_the_grace_is_abandoned_and_the_death_of_the_parent_stops_the_server(
    tiny: tuple[Path, Any], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with start_server({"tiny": tiny[0]}, grace_s=0.5, log_path=log) as server, Client(server.grpc_target) as client:
        outcome: list[Any] = []

        def run_forever() -> None:
            try:
                client.predict("tiny", {"steps": np.array(2**31 - 1, np.int32)}, signature="slow")
            except ServingError as error:
                outcome.append(error)

        thread = threading.Thread(target=run_forever)
        thread.start()
        time.sleep(1.0)
        assert server.process.stdin is not None
        server.process.stdin.close()  # what the kernel does when this process is killed
        assert server.process.wait(STOP_S) == 0
        thread.join(STOP_S)
    assert len(outcome) == 1
    assert "1 calls still ran after 0.5 s and were abandoned" in log.read_text()


def test_port_file_is_complete_and_ctrl_c_removes_it(tiny: tuple[Path, Any], tmp_path: Path) -> None:
    port_file = tmp_path / "ports.json"
    flags = [f"--model_base_path={tiny[0]}", "--model_name=tiny", "--port=0", "--rest_api_port=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tfaug.serving", *flags, f"--port_file={port_file}"], stderr=subprocess.PIPE, text=True
    )
    try:
        end = time.monotonic() + STOP_S
        while not port_file.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        ports = json.loads(port_file.read_text())
        assert set(ports) == {"grpc", "rest", "pid"} and ports["pid"] == process.pid
        with Client(f"127.0.0.1:{ports['grpc']}") as client:
            assert client.status("tiny") == {10: "AVAILABLE"}
        # A second server on the same port says so at once, before it loads anything.
        lines: list[str] = []
        options = ServerOptions(port=ports["grpc"], rest_api_port=0)
        assert run_server([ModelSource("tiny", tiny[0])], options, lines.append) == 1
        assert lines == [f"error: cannot listen on 127.0.0.1:{ports['grpc']}: Address already in use"]
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=STOP_S)
    assert process.returncode == 0, errors
    assert list(tmp_path.iterdir()) == []


def test_corrupt_model_and_bad_host_are_one_line_and_status_one(tmp_path: Path, tiny: tuple[Path, Any]) -> None:
    (tmp_path / "3").mkdir()
    options = ServerOptions(port=0, rest_api_port=0)
    lines: list[str] = []
    assert run_server([ModelSource("m", tmp_path)], options, lines.append) == 1
    (line,) = lines
    assert line.startswith(f"error: model 'm': cannot load {tmp_path / '3'}: ") and "\n" not in line
    lines.clear()
    options = ServerOptions(host="256.0.0.1", port=0, rest_api_port=0)
    assert run_server([ModelSource("tiny", tiny[0])], options, lines.append) == 1
    (line,) = lines
    assert line.startswith("error: cannot listen on 256.0.0.1:0: ")


def test_server_listens_on_loopback_only(server: RunningServer) -> None:
    port = int(server.grpc_target.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; only asks which address would be used
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = probe.getsockname()[0]
    for other in (port, int(server.rest_url.rpartition(":")[2])):
        with pytest.raises(OSError), socket.create_connection((address, other), timeout=5):
            pass


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "give either --model_base_path or --model_config_file"),
        (("--model_base_path=/a", "--model_config_file=/b"), "give either --model_base_path or --model_config_file"),
        (("--model_name=a", "--model_config_file=/b"), "names its models itself"),
        (("--model_base_path=/a", "--port=70000"), "70000 is not an integer in the range [0, 65535]"),
        (("--model_bas_path=/a",), "Did you mean: model_base_path"),
        (("--model_base_path=/a", "stray"), "unexpected arguments: stray"),
    ],
)
def test_mistyped_command_lines_are_explained(flags: tuple[str, ...], says: str) -> None:
    done = serve(*flags)
    assert done.returncode != 0
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_help_names_every_flag_and_is_quick_to_read() -> None:
    done = serve("--help")
    text = done.stdout + done.stderr
    for flag in ("model_name", "model_base_path", "model_config_file", "host", "port", "rest_api_port", "port_file"):
        assert f"--{flag}" in text or f"--[no]{flag}" in text
    assert "python -m tfaug.serving --model_name=NAME --model_base_path=DIR" in text
    assert "tensorflow." not in text.lower()
