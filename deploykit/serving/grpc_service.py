"""The gRPC side: the protocol's service over the same models, lines and limits as the HTTP side, on the same event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # files are tried in forked children that use no gRPC

import grpc

from deploykit.errors import InputError
from deploykit.serving.app import Service
from deploykit.serving.grpc_calls import Calls
from deploykit.serving.grpc_messages import SERVICE, health, message
from deploykit.serving.refusals import CODES, Refusal, forget, refusal_of

log = logging.getLogger("deploykit.serving")

OPEN = ("ServerLive", "ServerReady", "Check")
Call = Callable[[Any, Any], Awaitable[Any]]


class Side:
    """A gRPC server that runs; `port` is where."""

    def __init__(self, server: Any, port: int, calls: Calls) -> None:
        self._server = server
        self._calls = calls
        self.port = port

    async def stop(self, seconds: float) -> None:
        """Refuse new calls, answer those that are under way within so many seconds, then close.

        Calls that reach a gRPC server while it closes are cancelled, which no client asks again; those that come before get
        UNAVAILABLE, which clients do.
        """
        self._calls.closed = True
        end = time.monotonic() + seconds
        await asyncio.sleep(0.2)
        while self._calls.under_way and time.monotonic() < end:
            await asyncio.sleep(0.02)
        self._calls.end()
        await self._server.stop(0.1)  # what is left are answers on their way, and streams without a request


async def start(service: Service, host: str, port: int, tokens: Any, pem: tuple[bytes, bytes] | None) -> Side:
    """Listen. `pem`: key and certificate, for TLS. Raises `InputError` for a port that is taken."""
    limit = service.budget.limits.body
    options = [
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # two servers on one port would share its callers
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=4096)
    calls = Calls(service)
    server.add_generic_rpc_handlers((_handlers(calls, tokens),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if pem is None:
            found = server.add_insecure_port(address)
        else:
            found = server.add_secure_port(address, grpc.ssl_server_credentials([pem]))
    except RuntimeError as error:
        raise InputError(f"cannot listen on port {port} of {host} for gRPC", "choose another with --grpc-port") from error
    if not found:
        raise InputError(f"cannot listen on port {port} of {host} for gRPC", "choose another with --grpc-port")
    await server.start()
    return Side(server, found, calls)


def _handlers(calls: Calls, tokens: Any) -> Any:
    """Every call by its full name; an exception becomes a status and one line."""
    services: dict[str, dict[str, Any]] = {SERVICE: {}, "grpc.health.v1.Health": {}}
    for name in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics",
                 "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "ModelInfer"):  # fmt: skip
        services[SERVICE][name] = grpc.unary_unary_rpc_method_handler(
            _guarded(getattr(calls, name), tokens, name in OPEN),
            request_deserializer=_reader(message(f"{name}Request")),
            response_serializer=_serialized,
        )
    services["grpc.health.v1.Health"]["Check"] = grpc.unary_unary_rpc_method_handler(
        _guarded(calls.Check, tokens, True),
        request_deserializer=_reader(health("HealthCheckRequest")),
        response_serializer=_serialized,
    )

    async def stream(requests: Any, context: Any) -> Any:
        try:
            _admit(tokens, context)
        except Refusal as refusal:
            _refuse(refusal, context)
            return
        async for answer in calls.ModelStreamInfer(requests, context):
            yield answer

    services[SERVICE]["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
        stream, request_deserializer=_reader(message("ModelInferRequest")), response_serializer=_serialized
    )
    return _Several([grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()])


class _Several(grpc.GenericRpcHandler):
    """The first handler that knows the call."""

    def __init__(self, handlers: list[Any]) -> None:
        self._handlers = handlers

    def service(self, details: Any) -> Any:
        """The method for a call, or `None`."""
        return next((found for handler in self._handlers if (found := handler.service(details)) is not None), None)


def _guarded(call: Call, tokens: Any, is_open: bool) -> Call:
    async def answer(request: Any, context: Any) -> Any:
        try:
            if not is_open:
                _admit(tokens, context)
            if request is None:
                raise Refusal(400, "the message cannot be read")
            return await call(request, context)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.reason == "internal" and not isinstance(error, Refusal):
                log.error("the call failed", exc_info=error)
            forget(error)
            _refuse(refusal, context)

    return answer


def _refuse(refusal: Refusal, context: Any) -> None:
    """The status of a call. `context.abort` would raise, and hold the request in a ring of references until it is searched for."""
    context.set_code(getattr(grpc.StatusCode, CODES.get(refusal.status, "UNKNOWN")))
    context.set_details(refusal.text)


def _admit(tokens: Any, context: Any) -> None:
    """Raise `Refusal` for a call without a token where one is needed."""
    if tokens is None:
        return
    given = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    if len(given) != 1 or not tokens.accept(given[0]):
        raise Refusal(401, "a token is needed: send the metadata authorization: Bearer TOKEN")


def _reader(kind: Any) -> Callable[[bytes], Any]:
    """Bytes -> a message, `None` for bytes that are none: what an exception says here, the caller would not be told."""

    def read(data: bytes) -> Any:
        try:
            return kind.FromString(data)
        except Exception:
            return None

    return read


def _serialized(answer: Any) -> bytes:
    found: bytes = answer.SerializeToString()
    return found
