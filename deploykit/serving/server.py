"""`serve`: models, application and process put together, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from deploykit.errors import DependencyMissing, InputError
from deploykit.serving import beside as pages
from deploykit.serving.app import Service, application
from deploykit.serving.descriptors import raise_limit
from deploykit.serving.gate import Gate, Tokens
from deploykit.serving.listening import Listening, Options, bound, certificate_of, listen
from deploykit.serving.models import Models, Settings
from deploykit.serving.process import BACKLOG, CONNECTIONS, Server, config_of
from deploykit.serving.repository import find

OBJECTS = 100  # of a request that is inside, which the garbage collector counts, and somewhat more


def serve(
    files: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    grpc_port: int | None = None,
    names: Sequence[str] = (),
    max_batch_size: int = 32,
    max_queue_delay_us: int = 0,
    instances: int = 1,
    threads: int | None = None,
    queue_size: int = 128,
    timeout: float = 60.0,
    device: str = "auto",
    token_file: str | os.PathLike[str] | None = None,
    tls_certificate: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    allow_rejected: bool = False,
    allow_reload: bool = False,
    drain_seconds: float = 30.0,
    drain_delay: float = 0.0,
    access_log: Callable[[str], Any] | None = None,
    started: Callable[[Listening, Models], Any] | None = None,
) -> int:
    """Serve ONNX files and folders until SIGTERM or Ctrl-C, in the main thread; gives the signal that ended it, 0 for SIGTERM.

    The options are those of `deploykit serve`. `started` is called when every model is loaded and warm and the port answers;
    `access_log` with a line of JSON per request. SIGHUP loads every model again.

    Raises `InputError` before anything answers: for a port that is taken, for models that cannot be loaded or were rejected, for a
    token file or certificate that cannot be used.
    """
    settings = Settings(
        device, threads, instances, max_batch_size, max_queue_delay_us / 1e6, queue_size, float(timeout), allow_rejected
    )
    options = Options(
        host, port, grpc_port, drain_seconds, drain_delay, _path(token_file), _path(tls_certificate), _path(tls_key), allow_reload
    )
    sources = find([files] if isinstance(files, (str, os.PathLike)) else files, names)
    tokens = None if options.token_file is None else Tokens.read(options.token_file)
    certificate = certificate_of(options)
    raise_limit(CONNECTIONS)
    with held(options) as (sock, for_grpc):
        grpc_side = _grpc(options)
        models = Models(sources, settings)
        models.load_all()
        service = Service(models, options.limits, options.allow_reload)
        gate = Gate(application(service, pages.routes(service)), service, tokens, access_log)
        server = Server(config_of(gate, options), service, options.drain_delay)
        with server.signals():
            try:
                listen(sock, BACKLOG)
                for_grpc.close()  # that side opens a socket of its own
                with (
                    lasting_objects(settings.most_inside * len(models.names())),
                    asyncio.Runner(loop_factory=fastest_loop()) as runner,
                ):
                    runner.run(server.run_on(sock, options, certificate, tokens, grpc_side, started))
            finally:
                service.close()
    return server.ended_by


@contextlib.contextmanager
def held(options: Options) -> Iterator[tuple[socket.socket, contextlib.ExitStack]]:
    """The socket of HTTP, and what holds the port of gRPC until that is closed: both are refused before anything is loaded.

    Raises `InputError`.
    """
    if options.grpc_port and options.grpc_port == options.port:
        raise InputError(
            f"cannot listen on port {options.port} of {options.host} for gRPC: it is that of HTTP",
            "choose another with --grpc-port",
        )
    with bound(options.host, options.port) as sock, contextlib.ExitStack() as for_grpc:
        if options.grpc_port:
            for_grpc.enter_context(bound(options.host, options.grpc_port, grpc=True))
        yield sock, for_grpc


@contextlib.contextmanager
def lasting_objects(requests: int) -> Iterator[None]:
    """What is loaded by now is not searched for garbage, nor are `requests`, as many as may be inside, only because they are there.

    Each search stops all requests, the longer the more there is: with Python's own threshold, of 700 objects, a dozen requests that
    come together bring it on, and under overload it took an eighth of the time. What is answered leaves no garbage (`forget`).
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    if before[0]:
        gc.set_threshold(max(before[0], OBJECTS * requests), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, which takes a fifth off what a request costs; `None`, asyncio's own, where there is none (Windows)."""
    try:
        import uvloop
    except ImportError:
        return None
    found: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return found


def _path(given: str | os.PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)


def _grpc(options: Options) -> Any:
    """The module of the gRPC side, where a port for it is asked for. Raises `DependencyMissing`."""
    if options.grpc_port is None:
        return None
    try:
        from deploykit.serving import grpc_service
    except ModuleNotFoundError as error:
        raise DependencyMissing.of(error.name or "grpc", "grpc") from error
    return grpc_service
