"""The standard health service, grpc.health.v1, from descriptors built at run time (its package is not a dependency)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
_FIELD = descriptor_pb2.FieldDescriptorProto


def _message_types() -> tuple[Any, Any]:
    """Build HealthCheckRequest and HealthCheckResponse in a pool of their own, so that no other copy can clash."""
    file = descriptor_pb2.FileDescriptorProto(
        name="grpc/health/v1/health.proto", package="grpc.health.v1", syntax="proto3"
    )
    request = file.message_type.add(name="HealthCheckRequest")
    request.field.add(name="service", number=1, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    response = file.message_type.add(name="HealthCheckResponse")
    status = response.enum_type.add(name="ServingStatus")
    for number, name in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")):
        status.value.add(name=name, number=number)
    response.field.add(
        name="status",
        number=1,
        type=_FIELD.TYPE_ENUM,
        label=_FIELD.LABEL_OPTIONAL,
        type_name=".grpc.health.v1.HealthCheckResponse.ServingStatus",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    if hasattr(message_factory, "GetMessageClass"):
        make = message_factory.GetMessageClass
    else:  # protobuf before 4.22
        make = message_factory.MessageFactory(pool).GetPrototype  # type: ignore[attr-defined]
    request_type = make(pool.FindMessageTypeByName(f"grpc.health.v1.{request.name}"))
    return request_type, make(pool.FindMessageTypeByName(f"grpc.health.v1.{response.name}"))


HealthCheckRequest, HealthCheckResponse = _message_types()


class Health:
    """Answers Check and Watch for the whole server ('') and for each named service."""

    def __init__(self, services: tuple[str, ...]) -> None:
        self._services = frozenset(("", SERVICE, *services))
        self._status = NOT_SERVING
        self._changed = asyncio.Event()

    def set_serving(self, serving: bool) -> None:
        """Change the state and tell the watchers."""
        self._status = SERVING if serving else NOT_SERVING
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def check(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Answer Check."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}")
        return HealthCheckResponse(status=self._status)

    async def watch(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        """Answer Watch: the state now and at each change, until the server stops."""
        known = request.service in self._services
        while True:
            changed = self._changed
            yield HealthCheckResponse(status=self._status if known else SERVICE_UNKNOWN)
            await changed.wait()
            if self._status == NOT_SERVING:  # the server stops: a last word, then let go
                yield HealthCheckResponse(status=self._status if known else SERVICE_UNKNOWN)
                return

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server takes."""
        coding = {
            "request_deserializer": HealthCheckRequest.FromString,
            "response_serializer": HealthCheckResponse.SerializeToString,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self.check, **coding),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch, **coding),
            },
        )
