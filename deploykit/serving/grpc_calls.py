"""What each call of the gRPC service does, with the models, lines and limits of the HTTP side. No web server in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from deploykit.errors import InputError, Unavailable
from deploykit.serving import description
from deploykit.serving.app import Service
from deploykit.serving.grpc_inference import read_request, write_response
from deploykit.serving.grpc_messages import SERVICE, health, message
from deploykit.serving.models import Served
from deploykit.serving.refusals import Refusal, ending, forget
from deploykit.serving.work import LARGE


class Calls:
    """One method per call of the service; each takes a message and gives one. `closed`: no new ones; `under_way`: how many run."""

    def __init__(self, service: Service) -> None:
        self.closed = False
        self.under_way = 0
        self._ended = False
        self._waited_for: set[asyncio.Future[Any]] = set()
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
            while True:
                served = self.models.get(request.model_name, request.model_version or None)
                try:
                    found = await self._infer(request, served, context.time_remaining())
                    break
                except (InputError, Unavailable):
                    if not served.closed:  # another has taken its place meanwhile
                        raise
        except Exception as error:
            raise served.counted(error) from error
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
                forget(error)
                answer = response(error_message=error.text)
                answer.infer_response.id = "" if request is None else request.id
                yield answer

    def end(self) -> None:
        """There is no more time: what is still computed is given up, and its callers are told."""
        self._ended = True
        for future in list(self._waited_for):
            future.cancel()

    async def _infer(self, request: Any, served: Served, left: float | None) -> Any:
        self.models.alone.asks(None)
        large = request.ByteSize() >= LARGE
        asked = await asyncio.to_thread(read_request, request, served) if large else read_request(request, served)
        times = [each for each in (asked.timeout, left, served.settings.timeout) if each is not None]
        future = asyncio.wrap_future(served.submit(asked.inputs, min(times)))
        self._waited_for.add(future)
        # A caller that goes away cancels this coroutine, and so the future.
        try:
            answer = await asyncio.wait_for(future, min(times))
        except TimeoutError as error:
            raise Unavailable("late", f"there was no answer within {min(times):g} seconds") from error
        except asyncio.CancelledError:
            if not self._ended:
                raise
            raise ending() from None
        finally:
            self._waited_for.discard(future)
        return write_response(asked, answer.outputs, served)

    async def _change(self, name: str, change: Callable[[str], None]) -> None:
        if not self.service.allow_reload:
            raise Refusal(403, "models are not loaded over the network here; start with --allow-reload, or send SIGHUP")
        self.models.model(name)
        await asyncio.to_thread(change, name)
