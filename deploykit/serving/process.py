"""uvicorn's server with an end in which no accepted request is lost, and its settings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import uvicorn

from deploykit.serving.app import Service
from deploykit.serving.descriptors import room_for
from deploykit.serving.gate import Tokens
from deploykit.serving.listening import Listening, Options, let_nobody_in, pem_of

BACKLOG = 1024  # connections that wait to be accepted
CONNECTIONS = 4096  # or as many as the process may have descriptors for
FIRST_REQUEST_SECONDS = 1.0  # that a new connection has to send its request when the server ends
IDLE_SECONDS = 60  # after which a connection is closed on which no request is whole, and one whose answer is not taken
ENDING = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("deploykit.serving")


class Server(uvicorn.Server):
    """uvicorn's server with the end that the design asks for: not ready at once, then no new connections, then all answers."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_delay: float) -> None:
        super().__init__(config)
        self.service = service
        self.drain_delay = drain_delay
        self.ended_by = 0
        self.beside: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
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
            self.beside = beside = await grpc_side.start(self.service, options.host, options.grpc_port, tokens, pem_of(options))
        self._loop = asyncio.get_running_loop()
        watching = asyncio.ensure_future(self._tell(sock, options, beside, certificate is not None, started))
        try:
            await self._serve([sock])
        finally:
            watching.cancel()
            self._loop = None

    async def _tell(self, sock: socket.socket, options: Options, beside: Any, secure: bool, started: Any) -> None:
        while not self.started:
            await asyncio.sleep(0.01)
        if started is not None:
            host, port = sock.getsockname()[:2]
            listening = Listening(host, port, None if beside is None else beside.port, "https" if secure else "http")
            started(listening, self.service.models)

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end it, a second one at once; SIGHUP loads the models again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted: dict[int, Any] = dict.fromkeys(ENDING, self._on_end)
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
            let_nobody_in(each)
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
        # A second one is the system's: whatever is waited for then, a run of a network too, it is waited for no longer.
        for each in ENDING:
            signal.signal(each, signal.SIG_DFL)
        self.service.stopping = True
        self.ended_by = 0 if number == signal.SIGTERM else number
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._end_soon)

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


def config_of(app: Any, options: Options) -> uvicorn.Config:
    """Everything that uvicorn would decide otherwise, said."""
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
        limit_concurrency=room_for(CONNECTIONS),
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
