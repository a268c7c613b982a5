"""Clients with numpy in and out, over gRPC and REST, for this server and for tensorflow_model_server.

Example:
    with start_server({"digits": "build/demo/export/refine"}) as server, Client(server.grpc_target) as client:
        probs = client.predict("digits", {"images": images}, signature="plain")["probs"]
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format, text_format

from .codec import NUMPY_DTYPES, complete_empty, dtype_name, from_proto, spec_shape, to_proto
from .errors import HTTP_STATUS, ServingError, invalid
from .health import SERVICE, SERVING, HealthCheckRequest, HealthCheckResponse
from .stubs import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    meta_graph_pb2,
    model_pb2,
    model_server_config_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

__all__ = ["Client", "RestClient", "RunningServer", "ServingError", "start_server"]

Progress = Callable[[int], object]


class _ChunkedPredict:
    """What both clients share: long arrays travel in pieces."""

    max_message_mb: int

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        signature: str = "serving_default",
        version: int | None = None,
        *,
        outputs: Sequence[str] = (),
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> dict[str, np.ndarray]:
        """Run a model.

        Where every input has the same number of rows, and more than `batch_size`, they are sent in pieces of that many
        (fewer where a piece would be too large a message) and the answers are joined.

        Args:
            model: The model's name.
            inputs: Input name -> array (or what numpy makes one of), of the signature's type and shape.
            signature: Which of the model's signatures to run.
            version: Which version; None for the highest.
            outputs: Outputs to return; empty for all.
            batch_size: Most rows in one request, at least 1.
            progress: Called with the number of rows done since the last call, such as the `update` of a tqdm bar.

        Returns:
            Output name -> array.

        Raises:
            ServingError: The server refused, could not be reached or did not answer in time.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        rows = {array.shape[0] if array.ndim else None for array in arrays.values()}
        num_rows = rows.pop() if len(rows) == 1 else None
        size = batch_size
        if num_rows:
            row_bytes = sum(array.nbytes for array in arrays.values()) / num_rows
            size = max(1, min(batch_size, int((self.max_message_mb << 20) * 0.9 / max(row_bytes, 1))))
        if num_rows is None or num_rows <= size:
            answer = self._predict(model, arrays, signature, version, outputs)
            if progress is not None and num_rows:
                progress(num_rows)
            return answer
        answers: list[dict[str, np.ndarray]] = []
        for start in range(0, num_rows, size):
            piece = {name: array[start : start + size] for name, array in arrays.items()}
            answer = self._predict(model, piece, signature, version, outputs)
            sent = min(size, num_rows - start)
            for name, array in answer.items():
                if array.ndim == 0 or array.shape[0] != sent:
                    raise invalid(
                        f"output {name!r} of shape {list(array.shape)} has not one row for each of the {sent} sent, so "
                        f"{num_rows} rows cannot be asked in pieces: send at most batch_size={size} rows"
                    )
            answers.append(answer)
            if progress is not None:
                progress(sent)
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _predict(
        self, model: str, arrays: dict[str, np.ndarray], signature: str, version: int | None, outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Send one request."""
        raise NotImplementedError


class Client(_ChunkedPredict):
    """A gRPC client. Safe to use from many threads; usable as a context manager.

    Args:
        target: 'HOST:PORT' of the gRPC server.
        timeout_s: Deadline of each request, seconds.
        max_message_mb: Largest request and answer, MiB; not above the server's own limit.
    """

    def __init__(self, target: str, timeout_s: float = 60.0, *, max_message_mb: int = 64) -> None:
        self.target, self.timeout_s, self.max_message_mb = target, timeout_s, max_message_mb
        limit = max_message_mb << 20
        self._channel = grpc.insecure_channel(
            target,
            options=[("grpc.max_send_message_length", limit), ("grpc.max_receive_message_length", limit)],
        )
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._check = self._channel.unary_unary(
            f"/{SERVICE}/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _predict(
        self, model: str, arrays: dict[str, np.ndarray], signature: str, version: int | None, outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest(model_spec=_spec(model, version, signature), output_filter=outputs)
        for name, array in arrays.items():
            request.inputs[name].CopyFrom(to_proto(array))
        response = self._call(self._prediction.Predict, request)
        return {name: from_proto(proto, name=f"output {name!r}") for name, proto in response.outputs.items()}

    def metadata(self, model: str, version: int | None = None) -> dict[str, Any]:
        """Describe a model.

        Returns:
            {"name": str, "version": int, "signatures": {NAME: {"inputs": {NAME: {"dtype": "float32",
            "shape": (None, 32, 32, 3)}}, "outputs": the same}}}; a shape is None where the rank is unknown.

        Raises:
            ServingError: As for `predict`.
        """
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_spec(model, version), metadata_field=["signature_def"]
        )
        response = self._call(self._prediction.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return _describe(response.model_spec.name, response.model_spec.version.value, signatures)

    def status(self, model: str, version: int | None = None) -> dict[int, str]:
        """Return the state of each of a model's versions, such as {1: 'AVAILABLE'}.

        Raises:
            ServingError: As for `predict`.
        """
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_spec(model, version))
        response = self._call(self._models.GetModelStatus, request)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {entry.version: name(entry.state) for entry in response.model_version_status}

    def healthy(self) -> bool:
        """Tell whether the server answers its health check with SERVING."""
        try:
            return self._check(HealthCheckRequest(), timeout=self.timeout_s).status == SERVING
        except grpc.RpcError:
            return False

    def _call(self, method: Any, request: Any) -> Any:
        """Send a request and turn a failure into a ServingError."""
        try:
            return method(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise ServingError(error.code(), f"{error.details()} (asked {self.target} over gRPC)") from None


class RestClient(_ChunkedPredict):
    """A REST client. JSON carries no types, so the model's metadata is asked once and the answers get its types.

    Args:
        base_url: 'http://HOST:PORT'.
        timeout_s: Longest wait for an answer, seconds.
        max_message_mb: Largest array data in a request, MiB (its JSON is several times as long).
        compress: Send gzip bodies.
    """

    def __init__(
        self, base_url: str, timeout_s: float = 60.0, *, max_message_mb: int = 8, compress: bool = False
    ) -> None:
        self.base_url, self.timeout_s = base_url.rstrip("/"), timeout_s
        self.max_message_mb, self.compress = max_message_mb, compress
        self._metadata: dict[tuple[str, int | None], dict[str, Any]] = {}

    def __enter__(self) -> RestClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""

    def _predict(
        self, model: str, arrays: dict[str, np.ndarray], signature: str, version: int | None, outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        if (model, version) not in self._metadata:
            self._metadata[model, version] = self.metadata(model, version)
        known = self._metadata[model, version]["signatures"].get(signature, {}).get("outputs", {})
        body = {"signature_name": signature, "inputs": {name: _to_json(array) for name, array in arrays.items()}}
        answer = self._request(f"{_path(model, version)}:predict", body)["outputs"]
        columns = answer if len(known) != 1 else {next(iter(known)): answer}
        unknown = sorted(set(outputs) - set(columns))
        if unknown:
            raise invalid(
                f"the signature {signature!r} has no outputs {unknown}; allowed: {', '.join(sorted(columns))}"
            )
        return {
            name: complete_empty(_from_json(value, known[name]["dtype"]), known[name]["shape"])
            for name, value in columns.items()
            if not outputs or name in outputs
        }

    def metadata(self, model: str, version: int | None = None) -> dict[str, Any]:
        """Describe a model, in the form of `Client.metadata`.

        Raises:
            ServingError: As for `predict`.
        """
        answer = self._request(f"{_path(model, version)}/metadata")
        signatures = json_format.ParseDict(
            answer["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap(), ignore_unknown_fields=True
        )
        return _describe(answer["model_spec"]["name"], int(answer["model_spec"]["version"]), signatures)

    def status(self, model: str, version: int | None = None) -> dict[int, str]:
        """Return the state of each of a model's versions, such as {1: 'AVAILABLE'}.

        Raises:
            ServingError: As for `predict`.
        """
        entries = self._request(_path(model, version))["model_version_status"]
        return {int(entry["version"]): entry["state"] for entry in entries}

    def healthy(self) -> bool:
        """Tell whether an HTTP server answers; REST has no health check, so any answer but a server error counts."""
        try:
            with urllib.request.urlopen(f"{self.base_url}/v1/models/", timeout=self.timeout_s):
                return True
        except urllib.error.HTTPError as error:
            with error:
                return error.code < 500
        except OSError:
            return False

    def _request(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request and turn a failure into a ServingError."""
        headers = {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        if data is not None and self.compress:
            data, headers["Content-Encoding"] = gzip.compress(data, compresslevel=1), "gzip"
        asked = f"(asked {self.base_url}{path})"
        try:
            request = urllib.request.Request(self.base_url + path, data=data, headers=headers)
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            try:
                text = json.loads(text)["error"]
            except (ValueError, KeyError, TypeError):
                text = text[:500]
            raise ServingError(_code_of_http(error.code, text), f"HTTP {error.code}: {text} {asked}") from None
        except TimeoutError:
            raise ServingError(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {self.timeout_s:g} s {asked}"
            ) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            code = grpc.StatusCode.UNAVAILABLE
            if isinstance(reason, TimeoutError):
                code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise ServingError(code, f"cannot reach the server: {reason} {asked}") from None
        except ValueError as error:
            raise ServingError(grpc.StatusCode.INTERNAL, f"the answer is not JSON: {error} {asked}") from None


def _spec(model: str, version: int | None, signature: str = "") -> model_pb2.ModelSpec:
    """Make a request's model spec."""
    spec = model_pb2.ModelSpec(name=model, signature_name=signature)
    if version is not None:
        spec.version.value = version
    return spec


def _path(model: str, version: int | None) -> str:
    """Return a model's REST path."""
    path = f"/v1/models/{urllib.parse.quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{version}"


def _describe(name: str, version: int, signatures: get_model_metadata_pb2.SignatureDefMap) -> dict[str, Any]:
    """Turn signature definitions into plain dicts."""

    def side(infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, Any]:
        return {key: {"dtype": dtype_name(info.dtype), "shape": spec_shape(info)} for key, info in infos.items()}

    return {
        "name": name,
        "version": version,
        "signatures": {
            key: {"inputs": side(signature.inputs), "outputs": side(signature.outputs)}
            for key, signature in sorted(signatures.signature_def.items())
        },
    }


def _to_json(array: np.ndarray) -> Any:
    """Turn an array into nested lists; bytes become {"b64": ...}."""
    if array.dtype.kind == "S":
        array = array.astype(object)
    if array.dtype.kind != "O":
        return array.tolist()

    def convert(item: Any) -> Any:
        if isinstance(item, list):
            return [convert(child) for child in item]
        return {"b64": base64.b64encode(item).decode()} if isinstance(item, bytes) else item

    return convert(array.tolist())


def _from_json(value: Any, dtype: str) -> np.ndarray:
    """Turn nested lists into an array of a type; strings become bytes."""
    if dtype != "string":
        by_name = {dtype_name(enum): numpy_dtype for enum, numpy_dtype in NUMPY_DTYPES.items()}
        return np.asarray(value, dtype=by_name[dtype])

    def convert(item: Any) -> Any:
        if isinstance(item, list):
            return [convert(child) for child in item]
        return base64.b64decode(item["b64"]) if isinstance(item, dict) else item.encode()

    return np.asarray(convert(value), dtype=object)


def _code_of_http(http: int, text: str) -> grpc.StatusCode:
    """Return the gRPC code that most likely stands behind an HTTP status."""
    if http == 400 and text.startswith("Serving signature"):
        return grpc.StatusCode.FAILED_PRECONDITION
    if http == 413:
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return next((code for code, number in HTTP_STATUS.items() if number == http), grpc.StatusCode.UNKNOWN)


@dataclass(frozen=True)
class RunningServer:
    """A server that `start_server` started.

    Attributes:
        grpc_target: 'HOST:PORT' for `Client`.
        rest_url: 'http://HOST:PORT' for `RestClient`.
        process: The server's process.
        log_path: What it wrote to standard error.
    """

    grpc_target: str
    rest_url: str
    process: subprocess.Popen[bytes]
    log_path: Path


def config_text(models: Mapping[str, str | os.PathLike[str]]) -> str:
    """Return what `--model_config_file` holds: a model_config_list text proto.

    Args:
        models: Name -> base path (the folder of version folders).
    """
    config = model_server_config_pb2.ModelServerConfig()
    for name, base_path in models.items():
        config.model_config_list.config.add(
            name=name, base_path=str(Path(base_path).absolute()), model_platform="tensorflow"
        )
    return text_format.MessageToString(config)


@contextlib.contextmanager
def start_server(
    models: Mapping[str, str | os.PathLike[str]],
    *,
    host: str = "127.0.0.1",
    timeout_s: float = 180.0,
    grace_s: float = 10.0,
    max_message_mb: int = 64,
    num_threads: int = 0,
    env: Mapping[str, str] | None = None,
    log_path: str | os.PathLike[str] | None = None,
) -> Iterator[RunningServer]:
    """Start a server on free ports, wait until every model is available, and stop it at the end.

    The server also stops when this process dies, however it dies.

    Args:
        models: Name -> base path (the folder of version folders).
        host: Address to listen on.
        timeout_s: Longest wait for the models, seconds.
        grace_s: Seconds that running calls get when the server is stopped.
        max_message_mb: Largest request and answer, MiB.
        num_threads: Requests that run at once; 0 for the server's default.
        env: Environment of the server; None for this process's own. `{**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}`
            keeps it off a GPU that this process holds.
        log_path: Where to keep what the server says; None for a temporary file.

    Yields:
        Where the server is.

    Raises:
        ServingError: UNAVAILABLE, with the end of what the server said, where it does not start.
    """
    if not models:
        raise ValueError("start_server needs at least one model")
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        config_file, port_file = Path(folder, "models.config"), Path(folder, "ports.json")
        config_file.write_text(config_text(models))
        log_file = Path(log_path) if log_path is not None else Path(folder, "log")
        command = [
            sys.executable,
            "-m",
            __package__ or "serving",
            f"--model_config_file={config_file}",
            f"--host={host}",
        ]
        command += ["--port=0", "--rest_api_port=0", f"--port_file={port_file}", "--stop_when_stdin_closes"]
        command += [f"--grace_s={grace_s}", f"--max_message_mb={max_message_mb}", f"--num_threads={num_threads}"]
        with open(log_file, "wb") as log:
            # Standard input is a pipe that nobody writes to: it closes when this process ends, killed or not.
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=env)
        try:
            ports = _wait_for_ports(process, port_file, log_file, timeout_s)
            address = f"[{host}]" if ":" in host else host
            grpc_target, rest_url = f"{address}:{ports['grpc']}", f"http://{address}:{ports['rest']}"
            yield RunningServer(grpc_target, rest_url, process, log_file)
        finally:
            _stop(process, grace_s)


def _wait_for_ports(process: subprocess.Popen[bytes], port_file: Path, log_file: Path, timeout_s: float) -> Any:
    """Wait for the port file."""
    end = time.monotonic() + timeout_s
    while not port_file.exists():
        code = process.poll()
        if code is not None:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE,
                f"the server ended with status {code} before it was ready:\n{_tail(log_file)}",
            )
        if time.monotonic() > end:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE, f"the server was not ready within {timeout_s:g} s:\n{_tail(log_file)}"
            )
        time.sleep(0.05)
    return json.loads(port_file.read_text())


def _tail(path: Path, num_lines: int = 20) -> str:
    """Return the last lines of a file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-num_lines:]) or "(it said nothing)"


def _stop(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask the process to stop, and kill it only if it does not."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=grace_s + 20.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
