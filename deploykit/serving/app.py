"""The HTTP side: routes of the Open Inference Protocol v2 and what stands beside it, as a Starlette application."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from deploykit.errors import InputError, Unavailable
from deploykit.runtime.prediction import Prediction
from deploykit.runtime.waiting import Answer
from deploykit.serving import description, documents, images, inference
from deploykit.serving.bodies import Budget, Limits, all_of, deflated
from deploykit.serving.callers import connection_of, cut_off, header_of, is_of_another_site, while_connected
from deploykit.serving.mailbox import Mailbox
from deploykit.serving.models import Models, Served
from deploykit.serving.refusals import RETRY_AFTER, Refusal, ending, forget, refusal_of
from deploykit.serving.work import worked

Handler = Callable[[Request], Awaitable[Response]]

log = logging.getLogger("deploykit.serving")

HEADER_LENGTH = b"inference-header-content-length"


class Service:
    """The models behind the routes. `stopping`: it is no longer ready, and tells callers to open no more connections."""

    def __init__(self, models: Models, limits: Limits | None = None, allow_reload: bool = False) -> None:
        self.models = models
        self.budget = Budget(limits or Limits())
        self.allow_reload = allow_reload
        self.stopping = False
        self.pool = ThreadPoolExecutor(images.threads(), thread_name_prefix="images")
        self._with_images = 0
        self._mailbox: Mailbox | None = None

    @property
    def ready(self) -> bool:
        """Whether every model answers that was not unloaded by somebody, and none is about to go."""
        return not self.stopping and all(self.models.model(name).is_as_wanted for name in self.models.names())

    def close(self) -> None:
        """Answer what was accepted, and let go of the models."""
        self.models.close()
        self.pool.shutdown(cancel_futures=True)

    async def about(self, _request: Request) -> Response:
        """`GET v2`."""
        return said(description.server())

    async def is_live(self, _request: Request) -> Response:
        """`GET v2/health/live`."""
        return said({"live": True})

    async def is_ready(self, _request: Request) -> Response:
        """`GET v2/health/ready`."""
        return said({"ready": self.ready}, 200 if self.ready else 503)

    async def model(self, request: Request) -> Response:
        """`GET v2/models/M`."""
        served = self._served(request)
        return said(description.model(served, list(self.models.model(served.name).versions)))

    async def is_model_ready(self, request: Request) -> Response:
        """`GET v2/models/M/ready`."""
        served = self._served(request)
        return said({"name": served.name, "ready": not self.stopping}, 503 if self.stopping else 200)

    async def config(self, request: Request) -> Response:
        """`GET v2/models/M/config`."""
        return said(description.config(self._served(request)))

    async def statistics(self, request: Request) -> Response:
        """`GET v2/models/stats`, of one model or of all."""
        if "model" in request.path_params:
            name, version = request.path_params["model"], request.path_params.get("version")
            chosen = [self.models.get(name, version)] if version else list(self.models.model(name).versions.values())
        else:
            chosen = self.models.loaded()
        return said({"model_stats": [description.statistics(served) for served in chosen]})

    async def infer(self, request: Request) -> Response:
        """`POST v2/models/M/infer`."""
        began = time.perf_counter()
        served = self._served(request)
        try:
            served.batcher.check_room()
            with await self.budget.read(request) as body:
                while True:
                    if served.closed:  # another has taken its place while the body came
                        served = self._served(request)
                    try:
                        asked, answer = await self._inferred(request, served, body.data)
                        break
                    except (InputError, Unavailable):
                        if not served.closed:
                            raise
            size = sum(getattr(array, "nbytes", 0) for array in answer.outputs.values())
            made = await worked(
                size, _response, asked, answer.outputs, served, header_of(request.scope["headers"], b"accept-encoding")
            )
        except Exception as error:
            raise served.counted(error) from error
        served.latencies.add(time.perf_counter() - began)
        request.scope["deploykit.log"] = {
            "model": served.name,
            "queued_ms": answer.queued * 1000,
            "computed_ms": answer.computed * 1000,
            "batch": answer.rows,
        }
        return made

    async def predict(self, request: Request) -> Response:
        """`POST v2/models/M/predict`."""
        began = time.perf_counter()
        served = self._served(request)
        try:
            top = images.top_of(request.query_params.get("top"))
            if self._with_images >= served.settings.queue:
                raise Refusal(503, f"{self._with_images} requests with images wait already; try again later", "full")
            self._with_images += 1
            try:
                with await self.budget.read(request) as body:
                    while True:
                        if served.closed:
                            served = self._served(request)
                        try:
                            answers, text = await self._predicted(request, served, body.data, top)
                            break
                        except (InputError, Unavailable):
                            if not served.closed:
                                raise
            finally:
                self._with_images -= 1
            if all(answer.error is not None for answer in answers):
                raise InputError(answers[0].error or "no answer")
        except Exception as error:
            raise served.counted(error) from error
        served.latencies.add(time.perf_counter() - began)
        request.scope["deploykit.log"] = {"model": served.name, "images": len(answers)}
        return Response(text, media_type="application/json")

    async def _inferred(self, request: Request, served: Served, body: bytes) -> tuple[inference.Inference, Answer]:
        """A body, read as `served` takes it, and the answer of its network."""
        header = _length_of(request.scope["headers"])
        asked = await worked(len(body), inference.read_request, body, header, served.signature)
        timeout = min(asked.timeout or served.settings.timeout, served.settings.timeout)
        if self.models.alone.asks(connection_of(request)) and (answer := served.run_here(asked.inputs, timeout)) is not None:
            return asked, answer
        mail = self._mail()
        future = mail.wrap(served.submit(asked.inputs, timeout, mail.after_these))
        return asked, await while_connected(request, future, timeout)

    async def _predicted(self, request: Request, served: Served, body: bytes, top: int) -> tuple[list[Prediction], bytes]:
        """The answers to the images in a body, as the contract of `served` has them, and the same as the body of a response."""
        self.models.alone.asks(None)
        given = await images.sources(body, request.headers.get("content-type", ""), served)
        timeout = served.settings.timeout
        asking = images.Asking(served, top, timeout)
        work = asyncio.get_running_loop().run_in_executor(self.pool, asking.written, given)
        try:
            return await while_connected(request, work, timeout)
        except BaseException:
            asking.cancel()
            raise

    async def index(self, request: Request) -> Response:
        """`POST v2/repository/index`."""
        with await self.budget.read(request) as body:
            asked = await worked(len(body.data), documents.parse, body.data) if body.data.strip() else {}
        ready = asked.get("ready", False)
        if not isinstance(ready, bool):
            raise InputError(f"ready must be true or false, not {ready!r:.40}")
        return said(description.index(self.models, ready))

    async def load(self, request: Request) -> Response:
        """`POST v2/repository/models/M/load`: the files as they are now; the old ones stay where that fails."""
        return await self._change(request, self.models.load)

    async def unload(self, request: Request) -> Response:
        """`POST v2/repository/models/M/unload`."""
        return await self._change(request, self.models.unload)

    async def _change(self, request: Request, change: Callable[[str], None]) -> Response:
        if not self.allow_reload:
            raise Refusal(403, "models are not loaded over the network here; start with --allow-reload, or send SIGHUP")
        if is_of_another_site(request.scope["headers"]):
            raise Refusal(403, "this was sent by a page of another site: models are loaded from here only")
        with await self.budget.read(request):  # its parameters would name other files: those are not taken from outside
            pass
        name = request.path_params["model"]
        self.models.model(name)
        await asyncio.to_thread(change, name)
        return Response(b"", 200)

    def _mail(self) -> Mailbox:
        loop = asyncio.get_running_loop()
        if self._mailbox is None or self._mailbox.loop is not loop:
            self._mailbox = Mailbox(loop)
        return self._mailbox

    def _served(self, request: Request) -> Served:
        return self.models.get(request.path_params["model"], request.path_params.get("version"))


class Application(Starlette):
    """Routes, of which the one that is asked most is found without those around it and without their layers."""

    infer: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        named = inference_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if named is None:
            await super().__call__(scope, receive, send)
            return
        scope["path_params"] = {"model": named[0], "version": named[1]}
        await self.infer(scope, receive, send)


@lru_cache(64)
def inference_of(method: str, path: str) -> tuple[str, str | None] | None:
    """The model and the version (`None`: the newest) that are asked for an inference; `None` for every other request."""
    if method != "POST" or not path.endswith("/infer"):
        return None
    parts = path.split("/")
    if parts[:3] != ["", "v2", "models"] or "" in parts[3:]:
        return None
    if len(parts) == 5:
        return parts[3], None
    return (parts[3], parts[5]) if len(parts) == 7 and parts[4] == "versions" else None


def application(service: Service, more: list[Route] | None = None) -> Application:
    """The application, with `more` routes beside those of the protocol."""
    routes: list[Route] = []

    def add(path: str, handler: Handler, method: str = "GET") -> None:
        routes.append(Route(path, Endpoint(guarded(handler)), methods=[method]))

    prefixes = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    for prefix in prefixes:  # first, for they are asked most and routes are tried in their order
        add(f"{prefix}/infer", service.infer, "POST")
        add(f"{prefix}/predict", service.predict, "POST")
    routes += more or ()
    add("/v2", service.about)
    add("/v2/health/live", service.is_live)
    add("/v2/health/ready", service.is_ready)
    add("/v2/models/stats", service.statistics)
    add("/v2/repository/index", service.index, "POST")
    add("/v2/repository/models/{model}/load", service.load, "POST")
    add("/v2/repository/models/{model}/unload", service.unload, "POST")
    for prefix in prefixes:
        add(prefix, service.model)
        add(f"{prefix}/ready", service.is_model_ready)
        add(f"{prefix}/config", service.config)
        add(f"{prefix}/stats", service.statistics)
    handlers: Any = {HTTPException: _http_error}
    app = Application(routes=routes, exception_handlers=handlers)
    app.infer = Endpoint(guarded(service.infer))
    app.router.redirect_slashes = False
    return app


class Endpoint:
    """A guarded handler as an ASGI application: no exception leaves it, so Starlette need not wrap it once more to catch some."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        response = await self._handler(Request(scope, receive, send))
        try:
            await response(scope, receive, send)
        except asyncio.CancelledError:  # there is no more time, and the caller does not take its answer
            cut_off(scope)


def guarded(handler: Handler) -> Handler:
    """The handler, whose exceptions become one line of JSON; what nobody expected is logged."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except asyncio.CancelledError:  # nobody else ends a request: there was no more time to wait for it
            refusal = ending()
            request.scope["deploykit.error"] = refusal.text
            return refused(refusal)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.reason == "internal" and not isinstance(error, Refusal):
                log.error("%s %s failed", request.method, request.scope["path"][:200], exc_info=error)
            request.scope["deploykit.error"] = refusal.text
            forget(error)
            return refused(refusal)

    return answer


class Written(Response):
    """A body with its headers as they are sent: what most requests get, so nothing is looked up or encoded for it."""

    def __init__(self, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = headers


def said(document: object, status: int = 200) -> Response:
    """A response of JSON."""
    return Response(documents.write(document), status, media_type="application/json")


def refused(refusal: Refusal) -> Response:
    """One line of JSON, with what the status needs beside it."""
    headers = {"Retry-After": str(RETRY_AFTER)} if refusal.status == 503 else {}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    found = said({"error": refusal.text}, refusal.status)
    found.headers.update(headers)
    return found


async def _http_error(request: Request, error: HTTPException) -> Response:
    path = request.scope["path"][:200]  # request.url would be put together from what the caller says, a host that is none too
    if error.status_code == 404:
        text = f"there is nothing at {path!r}"
    elif error.status_code == 405:
        text = f"{request.method[:20]} is not for {path!r}"
    else:
        text = str(error.detail)[:200]
    found = said({"error": text}, error.status_code)
    found.headers.update(error.headers or {})
    return found


def _response(asked: inference.Inference, outputs: dict[str, Any], served: Served, accepted: str) -> Response:
    data, head = inference.write_response(asked, outputs, served.signature, served.name, served.version)
    data, encoding = deflated(data, accepted)
    headers = [
        (b"content-length", b"%d" % len(data)),
        (b"content-type", b"application/json" if head is None else b"application/octet-stream"),
    ]
    if head is not None:
        headers.append((HEADER_LENGTH, b"%d" % head))
    if encoding is not None:
        headers.append((b"content-encoding", encoding.encode()))
    return Written(data, headers)


def _length_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Where the JSON of an inference ends, as its caller says; `None` where nothing does. Raises `InputError` where two do."""
    found = all_of(headers, HEADER_LENGTH)
    if len(found) > 1:
        raise InputError(f"Inference-Header-Content-Length is there {len(found)} times", "send it once")
    return (found[0] or None) if found else None
