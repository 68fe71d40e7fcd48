"""`serve`: the process around the application: its port, its signals, and its end, in which no accepted request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from deploykit.errors import DependencyMissing, InputError, first_line
from deploykit.serving import beside as pages
from deploykit.serving.app import Service, application
from deploykit.serving.bodies import Limits
from deploykit.serving.gate import Gate, Tokens
from deploykit.serving.models import Models, Settings
from deploykit.serving.repository import find

BACKLOG = 1024  # connections that wait to be accepted
CONNECTIONS = 4096
FIRST_REQUEST_SECONDS = 1.0  # that a new connection has to send its request when the server ends
IDLE_SECONDS = 60  # after which a connection without a request is closed

log = logging.getLogger("deploykit.serving")


@dataclass(frozen=True)
class Options:
    """Where and how to listen. `drain_delay`: seconds in which it goes on after SIGTERM, no longer ready; `drain`: to finish in."""

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    drain: float = 30.0
    drain_delay: float = 0.0
    token_file: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    allow_reload: bool = False
    limits: Limits | None = None


@dataclass
class Listening:
    """Where the server answers, for whoever started it."""

    host: str
    port: int
    grpc_port: int | None
    scheme: str

    @property
    def address(self) -> str:
        """Such as http://127.0.0.1:8000."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


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
    certificate = _certificate(options)
    sock = _bound(options.host, options.port)
    try:
        grpc_side = _grpc(options)
        models = Models(sources, settings)
        models.load_all()
        service = Service(models, options.limits, options.allow_reload)
        try:
            gate = Gate(application(service, pages.routes(service)), service, tokens, access_log)
            server = _Server(_config(gate, options), service, options.drain_delay)
            with lasting_objects(), asyncio.Runner(loop_factory=fastest_loop()) as runner:
                runner.run(server.run_on(sock, options, certificate, tokens, grpc_side, started))
        finally:
            service.close()
    finally:
        sock.close()
    return server.ended_by


@contextlib.contextmanager
def lasting_objects() -> Iterator[None]:
    """What is loaded by now is not searched for garbage: each such search stops all requests, the longer the more is loaded."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
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


class _Server(uvicorn.Server):
    """uvicorn's server with the end that the design asks for: not ready at once, then no new connections, then all answers."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_delay: float) -> None:
        super().__init__(config)
        self.service = service
        self.drain_delay = drain_delay
        self.ended_by = 0
        self.beside: Any = None
        self._signals = 0
        self._reloading = threading.Lock()

    async def run_on(
        self,
        sock: socket.socket,
        options: Options,
        certificate: ssl.SSLContext | None,
        tokens: Tokens | None,
        grpc_side: Any,
        started: Any,
    ) -> None:
        """Listen on `sock` until the end."""
        self.config.load()
        self.config.ssl = certificate
        beside = None
        if grpc_side is not None:
            self.beside = beside = await grpc_side.start(self.service, options.host, options.grpc_port, tokens, _pem(options))
        with self.capture_signals():
            watching = asyncio.ensure_future(self._tell(sock, options, beside, certificate is not None, started))
            try:
                await self._serve([sock])
            finally:
                watching.cancel()

    async def _tell(self, sock: socket.socket, options: Options, beside: Any, secure: bool, started: Any) -> None:
        while not self.started:
            await asyncio.sleep(0.01)
        if started is not None:
            host, port = sock.getsockname()[:2]
            listening = Listening(host, port, None if beside is None else beside.port, "https" if secure else "http")
            started(listening, self.service.models)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end it, a second one at once; SIGHUP loads the models again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted: dict[int, Any] = {signal.SIGTERM: self._on_end, signal.SIGINT: self._on_end}
        if hasattr(signal, "SIGHUP"):
            wanted[signal.SIGHUP] = self._on_reload
        before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what already waits, then close the door and answer all that is inside."""
        beside = None if self.beside is None else asyncio.ensure_future(self.beside.stop(self.config.timeout_graceful_shutdown))
        await self._close_the_door(sockets or [])
        # Who has connected and not yet sent a request is about to: its connection is not closed under its hands.
        end = time.monotonic() + FIRST_REQUEST_SECONDS
        while time.monotonic() < end and any(getattr(each, "cycle", True) is None for each in self.server_state.connections):
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
        if beside is not None:
            await beside

    async def _close_the_door(self, sockets: list[socket.socket]) -> None:
        """Take in every connection that the system has made already, and close in the same moment: one left would be reset."""
        waiting: list[socket.socket] = []
        for each in sockets:
            with contextlib.suppress(OSError):  # there are no more
                while True:
                    waiting.append(each.accept()[0])
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        kind: Any = self.config.http_protocol_class

        def protocol() -> Any:
            return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop)

        for connection in waiting:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(protocol, connection, ssl=self.config.ssl)

    def _on_end(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self.service.stopping = True
        self.ended_by = 0 if number == signal.SIGTERM else number
        if self._signals > 1:
            self.should_exit = self.force_exit = True
            return
        asyncio.get_running_loop().call_soon_threadsafe(self._end_soon)

    def _end_soon(self) -> None:
        asyncio.get_running_loop().call_later(self.drain_delay, setattr, self, "should_exit", True)

    def _on_reload(self, _number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=self._reload, name="reload", daemon=True).start()

    def _reload(self) -> None:
        with self._reloading:
            for name in self.service.models.names():
                try:
                    self.service.models.load(name)
                    log.warning("the model %s was loaded again", name)
                except Exception as error:
                    log.error("the model %s was not loaded again, the old one answers: %s", name, error)


def _config(app: Any, options: Options) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_protocol(),
        log_config=None,
        log_level="error",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(options.drain)),
    )


def _protocol() -> Any:
    """Our own, which refuses at once; uvicorn's, where what it parses with is not installed: then the application refuses."""
    try:
        from deploykit.serving.door import Door
    except ImportError:
        return "auto"
    return Door


def _bound(host: str, port: int) -> socket.socket:
    """A socket that holds the port and does not listen yet: while models are loaded nobody is kept waiting. Raises `InputError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(found[0], found[1], found[2])
    except (OSError, UnicodeError, OverflowError) as error:
        raise InputError(
            f"cannot listen on {host!r:.80}: {first_line(error)}", "give an address of this machine with --host"
        ) from error
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the port of a server that was just killed is free
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(found[4])
    except (OSError, OverflowError) as error:
        sock.close()
        raise InputError(f"cannot listen on port {port} of {host}: {first_line(error)}", "choose another with --port") from error
    return sock


def _certificate(options: Options) -> ssl.SSLContext | None:
    if options.tls_certificate is None and options.tls_key is None:
        return None
    if options.tls_certificate is None or options.tls_key is None:
        raise InputError("TLS needs a certificate and its key", "give both --tls-certificate and --tls-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the certificate cannot be used: {first_line(error)}", "give PEM files of a certificate and its key"
        ) from error
    return context


def _grpc(options: Options) -> Any:
    """The module of the gRPC side, where a port for it is asked for. Raises `DependencyMissing`."""
    if options.grpc_port is None:
        return None
    try:
        from deploykit.serving import grpc_service
    except ModuleNotFoundError as error:
        raise DependencyMissing.of(error.name or "grpc", "grpc") from error
    return grpc_service


def _pem(options: Options) -> tuple[bytes, bytes] | None:
    if options.tls_key is None or options.tls_certificate is None:
        return None
    return options.tls_key.read_bytes(), options.tls_certificate.read_bytes()


def write_line(text: str) -> None:
    """To stderr at once; a reader that went away ends nothing."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
