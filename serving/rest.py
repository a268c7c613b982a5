"""The REST API of TensorFlow Serving, on aiohttp; models run in the executor's threads."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import grpc
from aiohttp import web
from google.protobuf import json_format

from .errors import HTTP_STATUS, ServingError, invalid
from .json_codec import decode_inputs, encode_outputs, parse_body
from .models import ModelTable

_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?P<verb>/metadata|:predict|:classify|:regress)?"
)


# Asks for the fields that are at their default too; protobuf 5 renamed the argument.
_ARGUMENTS = inspect.signature(json_format.MessageToDict).parameters
_ALL_FIELDS: dict[str, Any] = {
    name: True
    for name in ("always_print_fields_with_no_presence", "including_default_value_fields")
    if name in _ARGUMENTS
}


def predict(
    models: ModelTable, name: str, version: int | None, label: str, body: bytes, timeout_s: float
) -> dict[str, Any]:
    """Answer a predict request.

    Raises:
        ServingError: With the code TensorFlow Serving uses for the case.
    """
    model = models.find(name, version, label)
    request = parse_body(body)
    key, signature = model.signature(request.get("signature_name", ""))
    outputs = model.run(key, decode_inputs(request, signature), (), timeout_s)
    return encode_outputs(outputs, row_format="instances" in request)


def status(models: ModelTable, name: str, version: int | None, label: str) -> dict[str, Any]:
    """Answer a status request."""
    ok = {"error_code": "OK", "error_message": ""}
    return {
        "model_version_status": [
            {"version": str(model.version), "state": "AVAILABLE", "status": ok}
            for model in models.versions(name, version, label)
        ]
    }


def metadata(models: ModelTable, name: str, version: int | None, label: str) -> dict[str, Any]:
    """Answer a metadata request."""
    model = models.find(name, version, label)
    signatures = {
        key: json_format.MessageToDict(signature, preserving_proto_field_name=True, **_ALL_FIELDS)
        for key, signature in model.signatures.items()
    }
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def make_app(
    models: ModelTable, executor: Executor, *, max_bytes: int, timeout_s: float, log: Callable[[str], None]
) -> web.Application:
    """Build the application.

    Args:
        models: What to serve.
        executor: Threads to run models in.
        max_bytes: Largest request body, after decompression.
        timeout_s: Seconds a request may take, its time in the queue included.
        log: Takes one line for each internal error.
    """

    async def handle(request: web.Request) -> web.Response:
        try:
            work = await _route(request, models, timeout_s)
            answer = await asyncio.get_running_loop().run_in_executor(executor, work)
            return web.Response(body=answer, content_type="application/json")
        except ServingError as error:
            return _error(HTTP_STATUS[error.code], error.message)
        except web.HTTPRequestEntityTooLarge:
            return _error(413, f"the request body is larger than {max_bytes} bytes")
        except web.RequestPayloadError as error:
            return _error(400, f"the request body cannot be read: {error}")
        except Exception as error:
            log(f"internal error: {type(error).__name__}: {error}")
            return _error(500, f"{type(error).__name__}: {error}")

    app = web.Application(client_max_size=max_bytes)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


async def _route(request: web.Request, models: ModelTable, timeout_s: float) -> Callable[[], bytes]:
    """Read a request and return the work that answers it."""
    found = _PATH.fullmatch(request.path)
    method, verb = request.method, found["verb"] if found else None
    if found is None:
        if not request.path.startswith("/v1/"):
            raise ServingError(grpc.StatusCode.NOT_FOUND, f"nothing at {request.path}: models are below /v1/models/")
        raise invalid(f"Malformed request: {method} {request.path}")
    name, label = found["name"], found["label"] or ""
    version = int(found["version"]) if found["version"] else None
    if method == "POST" and verb == ":predict":
        deadline = time.monotonic() + timeout_s
        body = await request.read()
        return lambda: _dump(predict(models, name, version, label, body, deadline - time.monotonic()))
    if method == "POST" and verb in (":classify", ":regress"):
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"{verb} is not offered by this server; it answers :predict")
    if method == "GET" and verb is None:
        return lambda: _dump(status(models, name, version, label))
    if method == "GET" and verb == "/metadata":
        return lambda: _dump(metadata(models, name, version, label))
    raise invalid(f"Malformed request: {method} {request.path}")


def _dump(answer: dict[str, Any]) -> bytes:
    """Write JSON; NaN and Infinity as such, the way TensorFlow Serving does."""
    return json.dumps(answer).encode()


def _error(code: int, message: str) -> web.Response:
    """Make an error answer."""
    return web.json_response({"error": message}, status=code)
