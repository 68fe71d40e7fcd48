"""A connection that is bounded: in time, in the size of a head, in requests that wait, in answers that nobody takes.

uvicorn bounds only the time after an answer. One clock for each connection looks now and then at moments that are noted anyway: a
timer of its own for each request would cost more than most of what is done for it.
"""

from __future__ import annotations

import math
import sys
from asyncio import TimerHandle
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NoReturn

from httptools import HttpRequestParser
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from deploykit.serving import documents
from deploykit.serving.descriptors import has_hung_up
from deploykit.serving.gate import CLOSE, HEADERS
from deploykit.serving.joined import Joined
from deploykit.serving.refusals import RETRY_AFTER, Refusal

MAX_HEAD = 64 << 10  # bytes of a head (URL and headers), and of what follows a body
MOST_WAITING = 16  # requests behind the one that is answered on the same connection
LOOKS = 0.5  # seconds between two looks whether a caller with requests in line has gone
SLOWEST = 16 << 10  # bytes a second: no caller may take a long answer more slowly

# What is being read.
NOTHING, HEAD, BODY = range(3)


class Bounded(HttpToolsProtocol):
    """uvicorn's own protocol with an end for everything: a caller is told so in JSON, and one that does not listen is cut off."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.url = b""
        self._gate: Any = self.app
        self._most: float = math.inf if self.limit_concurrency is None else self.limit_concurrency
        self.limit_concurrency = None  # it is looked at here, for uvicorn refuses as text
        self._clock: TimerHandle | None = None
        self._since = -math.inf  # on the clock of the loop: from when on the connection is idle, unless something is answered
        self._was_closing = False  # when the clock looked last
        self._unsent = 0  # bytes of answers, where the caller does not take them as fast as they are written
        self._may_be_unsent: float = math.inf  # when the clock looks again
        self._part = NOTHING
        self._piece = b""
        self._unfinished = 0  # bytes of a head, or of what follows a body, that came before this piece
        self._why: Refusal | None = None  # nothing more of this connection is read
        self._asks_upgrade = False  # the request that is being read
        self._hangs_up: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A caller has connected."""
        super().connection_made(Joined(transport))  # type: ignore[arg-type]
        self.flow = _Flow(self)
        self._since = self.loop.time()
        self._clock = self.loop.call_later(self.timeout_keep_alive, self._look)
        if len(self.connections) > self._most:
            self._end_with(Refusal(503, f"{self._most} connections are open, which is the limit; try again later", "full"))

    def connection_lost(self, exc: Exception | None) -> None:
        """There is nothing to be looked at any more."""
        for timer in (self._clock, self._hangs_up):
            if timer is not None:
                timer.cancel()
        self._count_unsent(0)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What is parsed, unless an end of the connection is decided."""
        if self._why is not None:
            return
        self._piece = data
        self._unfinished += len(data)
        super().data_received(data)
        self._piece = b""
        if self._unfinished > MAX_HEAD and self._why is None:
            self._end_with(_too_large())

    def on_message_begin(self) -> None:
        """The first byte of a request: its head has to come in so much time."""
        self._part = HEAD
        self._unfinished = 0
        self._since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is whole: the request is begun, unless that is too large or one too many."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._asks_upgrade = True
            return
        if (self._unfinished or len(self._piece) > MAX_HEAD) and self._head_size() > MAX_HEAD:
            self._stop(_too_large())
        if len(self.pipeline) >= MOST_WAITING:
            self._stop(Refusal(503, f"more than {MOST_WAITING} requests wait on one connection; take the answers first", "full"))
        self._unfinished = 0
        self._begin()
        self._part = BODY
        if self.pipeline and self._hangs_up is None:
            self._hangs_up = self.loop.call_later(LOOKS, self._look_for_end)

    def on_body(self, body: bytes) -> None:
        """More of a body."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        if self._asks_upgrade:
            return
        self._part = NOTHING
        super().on_message_complete()
        if not self.pipeline:  # its last piece may have been large, and who reads no more does not see the caller go
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """What waits is next; while anything waits behind that, nothing is read."""
        self.transport.flush()  # type: ignore[attr-defined]
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._since = self.loop.time()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._why is not None:
            self._say(self._why)
        self.flow.resume_reading()

    def pause_writing(self) -> None:
        """The caller does not take an answer as fast as it is written."""
        self._count_unsent(self.transport.get_write_buffer_size())
        super().pause_writing()

    def resume_writing(self) -> None:
        """The caller has taken what it was sent."""
        self._count_unsent(0)
        self._may_be_unsent = math.inf
        super().resume_writing()

    def _unsupported_upgrade_warning(self) -> None:
        """In place of uvicorn's remark: who asks for another protocol (RFC 9110, 7.8) is answered in this one.

        The parser takes what follows for the other protocol, bodies too: so all is read again by a new one, without that question.
        """
        error = sys.exc_info()[1]
        rest = self._piece[error.args[0] :] if error is not None else b""
        head = without_upgrade(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        self._asks_upgrade = False
        self.parser = HttpRequestParser(self)
        self.data_received(head + rest)

    def send_400_response(self, msg: str) -> None:
        """In place of uvicorn's text, for what cannot be parsed and for what was stopped at."""
        self._end_with(self._why or Refusal(400, "this is no request of HTTP/1.1 that can be read"))

    def write_refusal(self, refusal: Refusal, lasting: bool) -> None:
        """A whole answer."""
        self.transport.write(whole_answer(refusal.status, refusal.text, lasting, tuple(self.server_state.default_headers)))

    def _begin(self) -> None:
        super().on_headers_complete()

    def _look_for_end(self) -> None:
        """Nothing is read while requests wait, so nobody else would tell that the caller has gone."""
        self._hangs_up = None
        if self.pipeline and not self.transport.is_closing():
            if has_hung_up(self.transport.get_extra_info("socket")):
                self.transport.abort()
            else:
                self._hangs_up = self.loop.call_later(LOOKS, self._look_for_end)

    def _is_pipelined(self) -> bool:
        """Whether answers of earlier requests have to be written first."""
        return self.cycle is not None and not self.cycle.response_complete

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _stop(self, refusal: Refusal) -> NoReturn:
        """Within the parser, which passes an exception on to `send_400_response`."""
        self._why = refusal
        raise ValueError(refusal.text)

    def _end_with(self, refusal: Refusal) -> None:
        """Nothing more is read; that is said when all that came before is answered, and the connection closed."""
        self._why = refusal
        self.flow.pause_reading()
        if self._part == BODY and self._is_pipelined():  # it is the newest request itself that has no end
            if self.pipeline:
                self.pipeline.popleft()
            elif self.cycle.response_started:
                self.transport.close()
            else:
                self._say(refusal)
        elif self._part == BODY and self.cycle is not None and not self._is_refused():
            self.transport.close()  # it has its answer
        elif not self._is_pipelined():
            self._say(refusal)

    def _is_refused(self) -> bool:
        """Whether the request that is being read will be refused without being begun."""
        return False

    def _say(self, refusal: Refusal) -> None:
        self.write_refusal(refusal, False)
        method = "" if self.scope is None else self.scope.get("method", "")
        self._gate.was_refused({"client": self.client, "method": method, "path": self.url.decode("latin-1")}, refusal)
        self.transport.close()

    def _count_unsent(self, unsent: int) -> None:
        self._gate.count_unsent(unsent - self._unsent)
        self._unsent = unsent

    def _look(self) -> None:
        """Close a connection that was idle for too long, cut off a caller who does not take what it was sent; look again later."""
        limit = again = float(self.timeout_keep_alive)
        if self.flow.write_paused:
            self._count_unsent(self.transport.get_write_buffer_size())
            if self._unsent > self._may_be_unsent:
                self.transport.abort()
                return
            self._may_be_unsent = max(0.0, self._unsent - SLOWEST * limit)
        elif self.transport.is_closing():
            if self._was_closing:
                self.transport.abort()
                return
            self._was_closing = True
        elif not self._is_pipelined():
            again = self._since + limit - self.loop.time()
            if again <= 0:
                self.transport.close()
                self._was_closing, again = True, limit
        self._clock = self.loop.call_later(again, self._look)


class _Flow(FlowControl):
    """uvicorn's, which would read on whenever an application asks for a body, however much waits."""

    def __init__(self, connection: Bounded) -> None:
        super().__init__(connection.transport)
        self._connection = connection

    def resume_reading(self) -> None:
        """Unless requests wait, or nothing more is wanted."""
        if self.read_paused and not self._connection.pipeline and self._connection._why is None:
            super().resume_reading()


def without_upgrade(method: bytes, url: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head of a request that does not ask for another protocol; `headers` with their names in lower case."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            value = b", ".join(each for each in value.split(b",") if each.strip().lower() not in (b"upgrade", b"http2-settings"))
        if value.strip() and name not in (b"upgrade", b"http2-settings"):
            lines.append(b"%s: %s" % (name, value.strip()))
    return b"\r\n".join([*lines, b"", b""])


def _too_large() -> Refusal:
    return Refusal(431, f"the head of a request may have {MAX_HEAD} bytes, and so may what follows a body", "too_large")


@lru_cache(64)
def whole_answer(status: int, text: str, lasting: bool, more: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """A whole answer of JSON; `lasting`: the connection stays; `more`: headers of every answer, such as the date."""
    body = documents.write({"error": text})
    headers = [
        *more,
        (b"content-length", b"%d" % len(body)),
        (b"content-type", b"application/json"),
        *([(b"retry-after", b"%d" % RETRY_AFTER)] if status == 503 else ()),
        *HEADERS,
        *(() if lasting else CLOSE),
    ]
    return STATUS_LINE[status] + b"\r\n".join([*(b"%s: %s" % header for header in headers), b"", body])
