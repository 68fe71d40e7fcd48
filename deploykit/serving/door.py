"""The connection of a caller: where a model has no room, a request is refused before anything else is done for it.

Under twice the load that a server can bear, half of its requests are refused, and where a refusal costs a tenth of an answer, that
leaves nine tenths of the answers. So this one is written as soon as the request is read, without a task, a route or an exception,
and a request whose head is, byte by byte, the one that was refused before it on this connection is not even parsed again.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Callable
from typing import Any

from deploykit.serving.bounded import NOTHING, Bounded
from deploykit.serving.callers import CONNECTION, header_of
from deploykit.serving.models import Served
from deploykit.serving.refusals import Refusal

SECONDS = 60.0  # in which a caller has to send the rest of a request that is refused
CROWDED = Refusal(503, "too many requests are being answered; try again later", "full")


class Door(Bounded):
    """A bounded connection in front of a `Gate`. What is unusual about a request leaves the decision to the application."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.on_lost: Callable[[], None] | None = None
        self.lost = False
        self._model: Served | None = None  # that the request which is being read is for
        self._entered: Served | None = None  # that counts the request which is being answered
        self._refusal: Refusal | None = None  # of the request which is being read
        self._slow: TimerHandle | None = None
        self._again: tuple[bytes, int, Served] | None = None  # head and whole size of the request that was refused, and its model

    @property
    def whole(self) -> bool:
        """Whether nothing of the request is still to come."""
        return not self.cycle.more_body

    def data_received(self, data: bytes) -> None:
        """What is parsed, unless it is what was refused before and there is still no room."""
        if self._again is not None and len(data) == self._again[1] and data.startswith(self._again[0]):
            model = self._again[2]
            if (
                self._part == NOTHING
                and self._may_refuse()
                and not self._gate.stopping
                and (refusal := model.no_room()) is not None
            ):
                self._since = self.loop.time()
                self._write(refusal, True)
                return
        super().data_received(data)

    def on_body(self, body: bytes) -> None:
        """Nobody looks at what belongs to a refused request."""
        if self._refusal is None:
            super().on_body(body)
        else:
            self._unfinished = 0

    def on_message_complete(self) -> None:
        """From here on the request is the server's: it is inside until it is answered."""
        if self._asks_upgrade:
            return
        if self._refusal is not None:
            self._part = NOTHING
            self._refuse(self._refusal)
        else:
            super().on_message_complete()
            if self._model is not None and not self.cycle.response_complete:
                self._entered = self._model
                self._entered.inside += 1

    def on_response_complete(self) -> None:
        """It is outside again."""
        self._leave()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever computes for this caller need not go on."""
        self.lost = True
        self._leave()
        self._done_with_refusal()
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)

    def cut_off(self) -> None:
        """Close it at once, whatever was not sent."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # before anybody asks why its answer is not complete
        self.transport.abort()

    def _begin(self) -> None:
        """The decision, or what uvicorn does."""
        self._model = None
        if self._may_refuse() and not (self.expect_100_continue or self.parser.should_upgrade()):
            self._model = self._gate.model_of(self.parser.get_method(), self.url, self.headers)
            self._refusal = None if self._model is None else self._model.no_room()
            if len(self.tasks) >= self._most:
                self._refusal = CROWDED
        if self._refusal is None:
            self.scope[CONNECTION] = self  # type: ignore[literal-required]
            super()._begin()
        else:
            self.scope["method"], self.scope["path"] = self.parser.get_method().decode("ascii"), self.url.decode("latin-1")
            self._slow = self.loop.call_later(SECONDS, self.transport.close)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """In its turn."""
        self._gate.turns.begin(super()._start_asgi_task, cycle, app)

    def _may_refuse(self) -> bool:
        """Whether an answer that is written now comes in its turn, to a caller who takes answers."""
        return not (self._is_pipelined() or self.flow.write_paused)

    def _is_refused(self) -> bool:
        return self._refusal is not None

    def _leave(self) -> None:
        if self._entered is not None:
            self._entered.inside -= 1
            self._entered = None

    def _refuse(self, refusal: Refusal) -> None:
        """The request is read and refused."""
        self._done_with_refusal()
        lasting = self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1"
        if lasting and self._model is not None:
            self._again = self._alone(self._model)
        self._write(refusal, lasting)
        if lasting:
            self.on_response_complete()
        else:
            self.transport.close()

    def _alone(self, model: Served) -> tuple[bytes, int, Served] | None:
        """What to know this request by when it comes again, if it is exactly what was read in one piece.

        Where the piece is the end of a request, or holds several, its sizes do not add up.
        """
        end = self._piece.find(b"\r\n\r\n") + 4
        length = header_of(self.headers, b"content-length")
        if not self._piece.startswith(b"POST ") or not length.isdecimal() or end + int(length) != len(self._piece):
            return None
        return self._piece[:end], len(self._piece), model

    def _write(self, refusal: Refusal, lasting: bool) -> None:
        self.write_refusal(refusal, lasting)
        self._gate.was_refused(self.scope, refusal)

    def _done_with_refusal(self) -> None:
        self._refusal = None
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
