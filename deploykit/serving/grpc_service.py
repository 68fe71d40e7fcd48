"""The gRPC side: the protocol's service over the same models, lines and limits as the HTTP side, on the same event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # files are tried in forked children that use no gRPC

import grpc

from deploykit.errors import InputError, Unavailable
from deploykit.serving import description, inference
from deploykit.serving.app import LARGE, Service
from deploykit.serving.grpc_messages import SERVICE, health, message
from deploykit.serving.models import Served
from deploykit.serving.refusals import CODES, Refusal, refusal_of
from deploykit.serving.tensors import TYPES, checked_shape, from_bytes, from_values, to_bytes

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
        await self._server.stop(0.1)  # what is left are streams without a request


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


class Calls:
    """One method per call of the service; each takes a message and gives one. `closed`: no new ones; `under_way`: how many run."""

    def __init__(self, service: Service) -> None:
        self.closed = False
        self.under_way = 0
        self.service = service
        self.models = service.models

    async def ServerLive(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Whether it lives."""
        return message("ServerLiveResponse")(live=True)

    async def ServerReady(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Whether every model answers."""
        return message("ServerReadyResponse")(ready=self.service.ready)

    async def ModelReady(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Whether one answers."""
        self.models.get(request.name, request.version or None)
        return message("ModelReadyResponse")(ready=not self.service.stopping)

    async def ServerMetadata(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """What the server is."""
        return message("ServerMetadataResponse")(**description.server())

    async def ModelMetadata(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """What a model takes and gives."""
        served = self.models.get(request.name, request.version or None)
        return message("ModelMetadataResponse")(**description.model(served, list(self.models.model(served.name).versions)))

    async def ModelConfig(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Its configuration."""
        return message("ModelConfigResponse")(config=description.config(self.models.get(request.name, request.version or None)))

    async def ModelStatistics(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """What one has done, or all."""
        if request.version:
            chosen = [self.models.get(request.name, request.version)]
        else:
            chosen = list(self.models.model(request.name).versions.values()) if request.name else self.models.loaded()
        stats = [description.statistics(served) for served in chosen]
        for each in stats:
            del each["inference_stats"]["cancel"]
        return message("ModelStatisticsResponse")(model_stats=stats)

    async def RepositoryIndex(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Which models there are."""
        return message("RepositoryIndexResponse")(models=description.index(self.models, request.ready))

    async def RepositoryModelLoad(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """The files as they are now."""
        await self._change(request.model_name, self.models.load)
        return message("RepositoryModelLoadResponse")()

    async def RepositoryModelUnload(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Take one away."""
        await self._change(request.model_name, self.models.unload)
        return message("RepositoryModelUnloadResponse")()

    async def Check(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Of gRPC's own health service; a service is a model, the empty one all of them."""
        if request.service and request.service != SERVICE:
            self.models.get(request.service)
        return health("HealthCheckResponse")(status=1 if self.service.ready else 2)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tensors in, tensors out."""
        if self.closed:
            raise Refusal(503, "the server is stopping; ask another one", "stopping")
        began = time.perf_counter()
        served = self.models.get(request.model_name, request.model_version or None)
        self.under_way += 1
        try:
            found = await self._infer(request, served, context.time_remaining())
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.reason == "internal":
                log.error("the model %s failed", served.name, exc_info=error)
            served.refused[refusal.reason] += 1
            raise refusal from error
        finally:
            self.under_way -= 1
        served.latencies.add(time.perf_counter() - began)
        return found

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """One answer for each request of a stream, in order; a refused one ends nothing."""
        async for request in requests:
            response = message("ModelStreamInferResponse")
            try:
                if request is None:
                    raise Refusal(400, "the message cannot be read")
                yield response(infer_response=await self.ModelInfer(request, context))
            except Refusal as error:
                answer = response(error_message=error.text)
                answer.infer_response.id = "" if request is None else request.id
                yield answer

    async def _infer(self, request: Any, served: Served, left: float | None) -> Any:
        large = request.ByteSize() >= LARGE
        asked = await asyncio.to_thread(read_request, request, served) if large else read_request(request, served)
        times = [each for each in (asked.timeout, left, served.settings.timeout) if each is not None]
        future = asyncio.wrap_future(self.models.submit(served, asked.inputs, min(times)))
        # A caller that goes away cancels this coroutine, and so the future.
        try:
            answer = await asyncio.wait_for(future, min(times))
        except TimeoutError as error:
            raise Unavailable("late", f"there was no answer within {min(times):g} seconds") from error
        return write_response(asked, answer.outputs, served)

    async def _change(self, name: str, change: Callable[[str], None]) -> None:
        if not self.service.allow_reload:
            raise Refusal(403, "models are not loaded over the network here; start with --allow-reload, or send SIGHUP")
        self.models.model(name)
        await asyncio.to_thread(change, name)


def read_request(request: Any, served: Served) -> inference.Inference:
    """A message `ModelInferRequest` as plain data. Raises `InputError`."""
    network = served.signature
    parameters = inference.check_parameters(_parameters(request.parameters), "the request")
    inference.check_sequence(parameters)
    raw = list(request.raw_input_contents)
    typed = [entry for entry in request.inputs if entry.HasField("contents")]
    if raw and (typed or len(raw) != len(request.inputs)):
        raise InputError(f"{len(request.inputs)} inputs come with {len(raw)} raw contents and {len(typed)} typed ones")
    arrays: dict[str, Any] = {}
    for place, entry in enumerate(request.inputs):
        tensor = inference.input_named(entry.name, entry.datatype, network)
        if tensor.name in arrays:
            raise InputError(f"the input {tensor.name!r:.80} is given twice")
        inference.check_parameters(_parameters(entry.parameters), f"the input {tensor.name!r:.80}")
        shape = checked_shape(list(entry.shape), tensor.name)
        if raw:
            arrays[tensor.name] = from_bytes(memoryview(raw[place]), tensor.datatype, shape, tensor.name)
        else:
            arrays[tensor.name] = _typed(entry, tensor, shape)
    inference.check_inputs(arrays, network)
    asked = []
    for entry in request.outputs:
        own = inference.check_parameters(_parameters(entry.parameters), f"the output {entry.name!r:.80}")
        classes = own.get("classification", 0)
        if isinstance(classes, bool) or not isinstance(classes, int) or not 0 <= classes <= 100_000:
            raise InputError(f"classification must be a whole number, not {classes!r:.40}")
        asked.append((entry.name, True, classes))
    wanted = inference.outputs_named(asked or [(tensor.name, True, 0) for tensor in network.outputs], network)
    if len(request.id) > inference.MAX_ID:
        raise InputError(f"id must be a text of at most {inference.MAX_ID} characters")
    return inference.Inference(arrays, wanted, request.id, inference.timeout_of(parameters.get("timeout")))


def write_response(asked: inference.Inference, outputs: Mapping[str, Any], served: Served) -> Any:
    """The message `ModelInferResponse`; outputs are raw, as every client reads them."""
    response = message("ModelInferResponse")(model_name=served.name, model_version=served.version, id=asked.id)
    tensors = {tensor.name: tensor for tensor in served.signature.outputs}
    for wanted in asked.outputs:
        array, datatype = outputs[wanted.name], tensors[wanted.name].datatype
        if wanted.classes:
            array, datatype = inference.best(array, wanted, served.signature.labels), TYPES["BYTES"]
        response.outputs.add(name=wanted.name, datatype=datatype.name, shape=list(array.shape))
        response.raw_output_contents.append(to_bytes(array, datatype))
    return response


def _typed(entry: Any, tensor: Any, shape: tuple[int, ...]) -> Any:
    field = tensor.datatype.field
    if field is None:
        raise InputError(
            f"there are no typed contents of {tensor.datatype.name}", f"send {tensor.name!r:.80} as raw_input_contents"
        )
    for other, values in entry.contents.ListFields():
        if other.name != field and len(values):
            raise InputError(f"the input {tensor.name!r:.80} of {tensor.datatype.name} has {other.name}, not {field}")
    return from_values(list(getattr(entry.contents, field)), tensor.datatype, shape, tensor.name)


def _parameters(given: Any) -> dict[str, Any]:
    """A map of `InferParameter` as texts, numbers and booleans."""
    found = {}
    for name, value in given.items():
        chosen = value.WhichOneof("choice")
        if chosen is not None:
            found[name] = getattr(value, chosen)
    return found


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
        await _admit(tokens, context)
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
        if not is_open:
            await _admit(tokens, context)
        try:
            if request is None:
                raise Refusal(400, "the message cannot be read")
            return await call(request, context)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.reason == "internal" and not isinstance(error, Refusal):
                log.error("the call failed", exc_info=error)
            await context.abort(getattr(grpc.StatusCode, CODES.get(refusal.status, "UNKNOWN")), refusal.text)

    return answer


async def _admit(tokens: Any, context: Any) -> None:
    if tokens is None:
        return
    given = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    if len(given) != 1 or not tokens.accept(given[0]):
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is needed: send the metadata authorization: Bearer TOKEN")


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
