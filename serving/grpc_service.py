"""PredictionService and ModelService of TensorFlow Serving, on asyncio; models run in the executor's threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc

from .codec import from_proto, to_proto
from .errors import ServingError, invalid
from .models import LoadedModel, ModelTable
from .stubs import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

SERVICES = (
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "PredictionService",  # the two names tensorflow_model_server reports its health under
    "ModelService",
)
_MAX_MESSAGE_CHARS = 1500  # status messages travel in a header of at most 8 KiB, percent-encoded
_Answer = TypeVar("_Answer")


def predict(
    models: ModelTable, request: predict_pb2.PredictRequest, timeout_s: float | None, max_bytes: int
) -> predict_pb2.PredictResponse:
    """Answer a Predict request.

    Raises:
        ServingError: With the code TensorFlow Serving uses for the case.
    """
    model = models.find_spec(request.model_spec)
    key, _ = model.signature(request.model_spec.signature_name)
    inputs = {
        name: from_proto(proto, max_bytes=max_bytes, name=f"input {name!r}") for name, proto in request.inputs.items()
    }
    outputs = model.run(key, inputs, list(request.output_filter), timeout_s)
    response = predict_pb2.PredictResponse()
    _fill_spec(response.model_spec, model, key)
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(to_proto(array))
    return response


def model_metadata(
    models: ModelTable, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Answer a GetModelMetadata request; the only field there is, is signature_def."""
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field; allowed: signature_def")
    for name in request.metadata_field:
        if name != "signature_def":
            raise invalid(f"Metadata field {name} is not supported; allowed: signature_def")
    model = models.find_spec(request.model_spec)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for key, signature in model.signatures.items():
        signatures.signature_def[key].CopyFrom(signature)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    _fill_spec(response.model_spec, model, "")
    response.metadata["signature_def"].Pack(signatures)
    return response


def model_status(
    models: ModelTable, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answer a GetModelStatus request; a server that answers has loaded and warmed every version it lists."""
    spec = request.model_spec
    version = spec.version.value if spec.HasField("version") else None
    response = get_model_status_pb2.GetModelStatusResponse()
    for model in models.versions(spec.name, version, spec.version_label):
        status = response.model_version_status.add(
            version=model.version, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
        )
        status.status.SetInParent()  # code OK, no message
    return response


def _fill_spec(spec: Any, model: LoadedModel, key: str) -> None:
    """Write which model, version and signature answered."""
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = key


class Handlers:
    """What both services need: the models, threads to run them in, and how to report an error."""

    def __init__(self, models: ModelTable, executor: Executor, max_bytes: int, log: Callable[[str], None]) -> None:
        self.models, self.executor, self.max_bytes, self.log = models, executor, max_bytes, log

    async def answer(self, context: grpc.aio.ServicerContext, work: Callable[[], _Answer]) -> _Answer:
        """Run the work in a thread and turn its error into a status."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self.executor, work)
        except ServingError as error:
            await context.abort(error.code, error.message[:_MAX_MESSAGE_CHARS])
        except Exception as error:
            self.log(f"internal error: {type(error).__name__}: {error}")
            await context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"[:_MAX_MESSAGE_CHARS])
        raise AssertionError("abort always raises")

    async def refuse(self, context: grpc.aio.ServicerContext, what: str) -> Any:
        """Say that a call of the protocol is not offered."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{what} is not offered by this server; {_OFFERED}")


_OFFERED = "it answers Predict, GetModelMetadata, GetModelStatus and health"


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """tensorflow.serving.PredictionService."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def Predict(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Run a model."""
        handlers, remaining_s = self._handlers, context.time_remaining()
        deadline = None if remaining_s is None else time.monotonic() + remaining_s

        def work() -> predict_pb2.PredictResponse:
            # Time in the queue counts: a call whose client has given up is not run.
            left_s = None if deadline is None else deadline - time.monotonic()
            return predict(handlers.models, request, left_s, handlers.max_bytes)

        return await handlers.answer(context, work)

    async def GetModelMetadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Describe a model's signatures."""
        return await self._handlers.answer(context, lambda: model_metadata(self._handlers.models, request))

    async def Classify(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Refuse."""
        return await self._handlers.refuse(context, "Classify")

    async def Regress(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Refuse."""
        return await self._handlers.refuse(context, "Regress")

    async def MultiInference(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Refuse."""
        return await self._handlers.refuse(context, "MultiInference")


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """tensorflow.serving.ModelService."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def GetModelStatus(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """List a model's versions."""
        return await self._handlers.answer(context, lambda: model_status(self._handlers.models, request))

    async def HandleReloadConfigRequest(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Refuse."""
        return await self._handlers.refuse(context, "HandleReloadConfigRequest")
