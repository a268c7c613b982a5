"""One process that serves models over gRPC and REST until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web

from . import rest
from .grpc_service import SERVICES, Handlers, ModelService, PredictionService
from .health import Health
from .models import ModelLoadError, ModelSource, ModelTable, load_models
from .stubs import model_service_pb2_grpc, prediction_service_pb2_grpc


@dataclass(frozen=True)
class ServerOptions:
    """How to serve.

    Attributes:
        host: Address to listen on. A model is a program: think twice before leaving loopback.
        port: gRPC port; 0 takes a free one.
        rest_api_port: REST port; 0 takes a free one.
        port_file: Where to write the ports as JSON once every model is available; None for nowhere.
        max_message_mb: Largest request and answer, MiB.
        num_threads: Requests that run at once.
        grace_s: Seconds that running calls get after SIGTERM.
        rest_timeout_s: Seconds a REST request may take (a gRPC request brings its own deadline).
        stop_when_stdin_closes: Also stop when standard input ends, as it does when the parent dies.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    rest_api_port: int = 8501
    port_file: Path | None = None
    max_message_mb: int = 64
    num_threads: int = max(4, 2 * (os.cpu_count() or 1))
    grace_s: float = 10.0
    rest_timeout_s: float = 30.0
    stop_when_stdin_closes: bool = False


def log_line(text: str) -> None:
    """Write one line to standard error, or nowhere once nobody reads it: the server goes on."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def run_server(sources: Sequence[ModelSource], options: ServerOptions, log: Callable[[str], None] = log_line) -> int:
    """Load the models and serve them until SIGTERM or SIGINT. Call it from the main thread.

    Args:
        sources: What to serve.
        options: How to serve.
        log: Takes progress, one line at a time.

    Returns:
        The exit status: 0 after a clean stop, 1 where a model or a port was not to be had, or the port file cannot be
        written.
    """
    try:
        return asyncio.run(_serve(sources, options, log))
    except (ModelLoadError, PortError) as error:
        log(f"error: {error}")
        return 1


class PortError(Exception):
    """A port that cannot be listened on, or the file of the ports that cannot be written."""


async def _serve(sources: Sequence[ModelSource], options: ServerOptions, log: Callable[[str], None]) -> int:
    """Load, listen, wait for the signal, stop."""
    stop = asyncio.Event()
    _stop_on_signals(stop, log)
    for port in (options.port, options.rest_api_port):
        _check_free(options.host, port)
    if options.port_file is not None:
        _port_file_part(options.port_file, {}).unlink()  # that it can be written is found out before the slow part
    loading = asyncio.ensure_future(asyncio.to_thread(load_models, sources, log))
    if options.stop_when_stdin_closes:
        _stop_on_stdin(stop)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        log("stopped while loading")
        _exit_now(0)  # a load in a thread cannot be interrupted
    models = loading.result()
    with contextlib.ExitStack() as stack:
        await _serve_models(models, options, stop, log, stack)
    return 0


async def _serve_models(
    models: ModelTable,
    options: ServerOptions,
    stop: asyncio.Event,
    log: Callable[[str], None],
    stack: contextlib.ExitStack,
) -> None:
    """Serve loaded models until the event is set."""
    max_bytes = options.max_message_mb << 20
    executor = _CountingExecutor(options.num_threads)
    health = Health(SERVICES)
    server = _make_grpc_server(Handlers(models, executor, max_bytes, log), health, max_bytes)
    grpc_port = _bind_grpc(server, options)
    app = rest.make_app(models, executor, max_bytes=max_bytes, timeout_s=options.rest_timeout_s, log=log)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=options.grace_s, handle_signals=False)
    await runner.setup()
    rest_socket = _bind(options.host, options.rest_api_port)
    await web.SockSite(runner, rest_socket, backlog=128).start()
    await server.start()
    health.set_serving(True)
    rest_port = rest_socket.getsockname()[1]
    log(f"gRPC on {_address(options.host, grpc_port)}, REST on http://{_address(options.host, rest_port)}")
    if options.port_file is not None:
        _write_ports(options.port_file, {"grpc": grpc_port, "rest": rest_port, "pid": os.getpid()})
        stack.callback(options.port_file.unlink, missing_ok=True)
    await stop.wait()
    start = time.monotonic()
    health.set_serving(False)
    await asyncio.gather(server.stop(options.grace_s), runner.cleanup())
    left_s = max(0.0, options.grace_s - (time.monotonic() - start))
    while executor.running and left_s > 0:  # calls whose clients are gone
        await asyncio.sleep(min(0.02, left_s))
        left_s = max(0.0, options.grace_s - (time.monotonic() - start))
    log(f"stopped in {time.monotonic() - start:.1f} s")
    if executor.running:
        log(f"{executor.running} calls still ran after {options.grace_s:g} s and were abandoned")
        stack.close()
        _exit_now(0)
    executor.shutdown()
    models.close()


class _CountingExecutor(ThreadPoolExecutor):
    """A thread pool that knows how many of its calls have not finished."""

    def __init__(self, num_threads: int) -> None:
        super().__init__(num_threads, thread_name_prefix="model")
        self._lock, self.running = threading.Lock(), 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            self.running += 1
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._finished)
        return future

    def _finished(self, future: Any) -> None:
        with self._lock:
            self.running -= 1


def _make_grpc_server(handlers: Handlers, health: Health, max_bytes: int) -> grpc.aio.Server:
    """Build the gRPC server with its three services."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_send_message_length", max_bytes),
            ("grpc.so_reuseport", 0),  # otherwise a second server on the port would start without an error
        ]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(handlers), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(handlers), server)
    server.add_generic_rpc_handlers((health.handler(),))
    return server


def _address(host: str, port: int) -> str:
    """Join host and port; IPv6 goes into brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind_grpc(server: grpc.aio.Server, options: ServerOptions) -> int:
    """Take the gRPC port."""
    try:
        port = server.add_insecure_port(_address(options.host, options.port))
    except RuntimeError as error:
        raise PortError(f"cannot listen on {_address(options.host, options.port)}: {error}") from None
    if port == 0:
        raise PortError(f"cannot listen on {_address(options.host, options.port)}")
    return port


def _bind(host: str, port: int) -> socket.socket:
    """Open a listening-to-be TCP socket."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise PortError(f"cannot listen on {_address(host, port)}: {error.strerror or error}") from None
    return listener


def _check_free(host: str, port: int) -> None:
    """Find out before the slow part that a port is taken; the sockets open only when there is something to serve."""
    _bind(host, port).close()


def _stop_on_signals(stop: asyncio.Event, log: Callable[[str], None]) -> None:
    """Set the event on SIGTERM and SIGINT; a second signal ends the process at once."""

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            log(f"{number.name} again: stopping at once")
            _exit_now(1)
        log(f"{number.name}: stopping")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def _stop_on_stdin(stop: asyncio.Event) -> None:
    """Set the event when standard input ends."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop may have ended first
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True).start()


def _write_ports(path: Path, ports: dict[str, int]) -> None:
    """Write the port file atomically: a reader finds all of it or nothing."""
    _port_file_part(path, ports).replace(path)


def _port_file_part(path: Path, ports: dict[str, int]) -> Path:
    """Write what the port file is to hold into a file beside it."""
    if path.is_dir():
        raise PortError(f"cannot write the port file {path}: it is a folder")
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(json.dumps(ports) + "\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise PortError(f"cannot write the port file {path}: {error.strerror}") from None
    return part


def _exit_now(code: int) -> None:
    """End the process without waiting for its threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
