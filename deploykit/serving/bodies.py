"""The body of a request -> its bytes, inflated, within limits of size and time; the body of a response, deflated if wanted."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from starlette.requests import Request

from deploykit.serving.callers import header_of, is_whole
from deploykit.serving.refusals import Refusal

WORTH_IT = 1400  # bytes of a response below which nothing is gained by making it smaller
MOST_MEMBERS = 4096  # of one gzip: each takes time, even an empty one
SMALL = 1 << 20  # bytes of a body
_STEP = 1 << 20
_WINDOW = 1 << 16
_MEMBER = b"\x1f\x8b"


@dataclass
class Limits:
    """`body`: bytes of a request, before and after it is inflated. `held`: of all requests at a time, and of all answers that
    nobody takes. `seconds`: to send a body.

    An eighth of `held` is for bodies of at most `SMALL` bytes: a few callers that send large ones slowly keep nobody else out.
    """

    body: int = 64 << 20
    held: int = 512 << 20
    seconds: float = 60.0


class Budget:
    """How many bytes of requests the server holds at a time. `unsent`: of answers that nobody takes, as connections count them."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0
        self.unsent = 0

    async def read(self, request: Request) -> Body:
        """The whole body, inflated. Raises `Refusal` for one that is too large, too slow, wrongly encoded or cut off."""
        if self.unsent > self.limits.held:
            raise Refusal(503, "too many bytes of answers wait for their callers; try again later", "full")
        body = Body(self)
        try:
            if is_whole(request):
                await self._read_into(body, request)
            else:
                async with asyncio.timeout(self.limits.seconds):  # unlike wait_for, it makes no task
                    await self._read_into(body, request)
        except TimeoutError:
            body.release()
            raise Refusal(408, f"the body was not there within {self.limits.seconds:g} seconds", "slow") from None
        except BaseException:
            body.release()
            raise
        return body

    async def _read_into(self, body: Body, request: Request) -> None:
        encoding = ", ".join(all_of(request.scope["headers"], b"content-encoding")).strip().lower()
        if encoding not in ("", "identity", "gzip", "deflate"):
            raise Refusal(415, f"the content encoding {encoding!r:.40} is not known; gzip and deflate are")
        length = header_of(request.scope["headers"], b"content-length")
        if length.isascii() and length.isdecimal() and (len(length) > 18 or int(length) > self.limits.body):
            raise self._too_large()
        parts: list[bytes] = []
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise Refusal(499, "the caller went away", "cancelled")
            part = message.get("body", b"")
            body.grow(len(part))
            parts.append(part)
            more = message.get("more_body", False)
        data = b"".join(parts)
        if encoding in ("gzip", "deflate") and data:
            data = (
                await asyncio.to_thread(inflated, data, encoding, self.limits.body)
                if len(data) > 4096
                else inflated(data, encoding, self.limits.body)
            )
            body.set(len(data))
        body.data = data

    def _too_large(self) -> Refusal:
        return too_large(self.limits.body)


class Body:
    """Bytes that count against the budget until `release`."""

    def __init__(self, budget: Budget) -> None:
        self.data = b""
        self._budget = budget
        self._size = 0

    def grow(self, more: int) -> None:
        """Count `more` bytes. Raises `Refusal` where they are too many for a request, or for all of them together."""
        self.set(self._size + more)

    def set(self, size: int) -> None:
        """Count `size` bytes instead of what was counted. Raises `Refusal`."""
        limits = self._budget.limits
        if size > limits.body:
            raise too_large(limits.body)
        room = limits.held if size <= SMALL else limits.held - limits.held // 8
        if self._budget.held - self._size + size > room:
            raise Refusal(503, "too many bytes of other requests are held; try again later", "full")
        self._budget.held += size - self._size
        self._size = size

    def release(self) -> None:
        """Count nothing any more. Twice is fine."""
        self._budget.held -= self._size
        self._size = 0

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def all_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """Every header of that name, given in lower case, in their order."""
    return [value.decode("latin-1") for key, value in headers if key == name]


def too_large(limit: int) -> Refusal:
    """The refusal of a body of more than `limit` bytes."""
    return Refusal(413, f"a request may have {limit} bytes, inflated too")


def inflated(data: bytes, encoding: str, limit: int) -> bytes:
    """What `data` holds, of gzip in one member or in several. Raises `Refusal` for more than `limit` bytes of it, for damaged data
    and for what follows its end.
    """
    parts, size = [], 0
    try:
        for part in _pieces(data, encoding):
            size += len(part)
            if size > limit:
                raise too_large(limit)
            parts.append(part)
    except zlib.error as error:
        raise Refusal(400, f"the body is no {encoding}: {str(error)[:80]}") from error
    return b"".join(parts)


def _pieces(data: bytes, encoding: str) -> Iterator[bytes]:
    """What `data` holds, at most `_STEP` bytes at a time, read by the window: zlib copies whatever is left of what it is given."""
    view, at = memoryview(data), 0
    for _ in range(MOST_MEMBERS):
        stream = zlib.decompressobj(zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))
        left: bytes | memoryview = b""
        while not stream.eof:
            if not left:
                left = view[at : at + _WINDOW]
                at += len(left)
            part = stream.decompress(left, _STEP)
            left = stream.unconsumed_tail
            if part:
                yield part
            elif not stream.eof and not left and at == len(view):
                raise Refusal(400, f"the body is no {encoding}: it is cut off")
        at -= len(stream.unused_data)
        if at == len(view):
            return
        if encoding != "gzip" or view[at : at + 2] != _MEMBER:
            raise Refusal(400, f"the body is no {encoding}: it goes on after its end")
    raise Refusal(413, f"a body of gzip may have {MOST_MEMBERS} members")


def deflated(data: bytes, accepted: str) -> tuple[bytes, str | None]:
    """`data` in an encoding that the caller accepts, and its name; as it is where that is not worth it."""
    if not accepted or len(data) < WORTH_IT:
        return data, None
    wanted = [part.split(";")[0].strip().lower() for part in accepted.split(",") if not _is_refused(part)]
    if "gzip" in wanted:
        return gzip.compress(data, 1, mtime=0), "gzip"
    if "deflate" in wanted:
        return zlib.compress(data, 1), "deflate"
    return data, None


def _is_refused(part: str) -> bool:
    quality = part.replace(" ", "").lower().partition(";q=")[2]
    return quality.strip("0.") == "" and quality != ""
