"""What a request says about itself, and waiting for its answer for as long as its caller does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from deploykit.serving.refusals import Refusal

T = TypeVar("T")

CONNECTION = "deploykit.connection"  # in the scope of a request, where our own protocol reads it
PATIENCE = 0.02  # seconds of a request before anybody looks whether its caller is still there


class Connection(Protocol):
    """What a request knows of where it came from. `whole`: all of it is here; `on_lost`: is called when the caller goes away.

    `lost`: that it has.
    """

    on_lost: Callable[[], None] | None
    lost: bool

    @property
    def whole(self) -> bool:
        """Whether nothing of the request is still to come."""

    def cut_off(self) -> None:
        """Close it at once, whatever was not sent."""


def header_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """The first header of that name, given in lower case; nothing where there is none. Cheaper than Starlette's `Headers`."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return ""


def is_of_another_site(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a browser sends the request for a page of another origin, from which it keeps the answer alone."""
    site = header_of(headers, b"sec-fetch-site").lower()
    if site:
        return site not in ("same-origin", "none")
    origin = header_of(headers, b"origin").lower()
    return origin != "" and origin.partition("://")[2] != header_of(headers, b"host").lower()


def connection_of(request: Request) -> int | None:
    """What is equal for the requests of one connection, where that is one of ours: a number, which does not keep it in memory."""
    connection: Connection | None = request.scope.get(CONNECTION)
    return None if connection is None else id(connection)


def is_whole(request: Request) -> bool:
    """Whether reading its body is known not to take any time."""
    connection: Connection | None = request.scope.get(CONNECTION)
    return connection is not None and connection.whole


def cut_off(scope: Scope) -> None:
    """Close the connection of a request whose answer is not taken, where it is one of ours. Raises `ClientDisconnect` elsewhere."""
    connection: Connection | None = scope.get(CONNECTION)
    if connection is None:
        raise ClientDisconnect
    connection.cut_off()


async def while_connected(request: Request, work: asyncio.Future[T], timeout: float) -> T:
    """The result, unless the caller goes away first or `timeout` is over: then it is given up. Raises `Refusal`."""
    waiting = _Waiting(work)
    over = asyncio.get_running_loop().call_later(timeout, waiting.give_up, 503)
    connection: Connection | None = request.scope.get(CONNECTION)
    watching: asyncio.Future[None] | None = None
    try:
        if connection is not None:
            connection.on_lost = waiting.leave
            if connection.lost:  # while what it sent was read
                waiting.leave()
        else:
            # Under another server: most answers are there at once, and to watch the connection costs more than all the waiting.
            await asyncio.wait([work], timeout=min(timeout, PATIENCE))
            if not work.done():
                watching = asyncio.ensure_future(_watch(request, waiting))
        return await work
    except asyncio.CancelledError:
        work.cancel()
        if waiting.status == 499:
            raise Refusal(499, "the caller went away", "cancelled") from None
        if waiting.status == 503:
            raise Refusal(503, f"there was no answer within {timeout:g} seconds; try again later", "late") from None
        raise
    finally:
        over.cancel()
        if connection is not None:
            connection.on_lost = None
        if watching is not None:
            watching.cancel()


class _Waiting:
    """Work that may be given up; `status`: of HTTP, why it was, 0 while it was not."""

    def __init__(self, work: asyncio.Future[Any]) -> None:
        self.work = work
        self.status = 0

    def give_up(self, status: int) -> None:
        if self.work.cancel():
            self.status = status

    def leave(self) -> None:
        self.give_up(499)


async def _watch(request: Request, waiting: _Waiting) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    waiting.leave()
