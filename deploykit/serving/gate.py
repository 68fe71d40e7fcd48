"""What stands before the routes: the token, the access log, and what every response says; plain ASGI around the application."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploykit.errors import InputError, first_line
from deploykit.serving.app import Service, inference_of, refused
from deploykit.serving.models import Served
from deploykit.serving.refusals import Refusal
from deploykit.serving.turns import Turns

# Whoever looks whether the server lives has no token; the page asks for one itself.
OPEN = ("/v2/health/live", "/v2/health/ready", "/", "/page/page.js", "/page/style.css")
MAX_TOKEN_FILE = 1 << 16
Headers = Iterable[tuple[bytes, bytes]]
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
CLOSE = ((b"connection", b"close"),)


class Tokens:
    """The tokens that open the server. Comparing takes as long for a wrong one as for a right one."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """One token a line; lines that are empty or begin with # are none. Raises `InputError`."""
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_TOKEN_FILE + 1)
            lines = [line.strip() for line in data.decode().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"the token file {path} cannot be read: {first_line(error)}", "give a file with one token a line"
            ) from error
        tokens = [line for line in lines if line and not line.startswith("#")]
        if not tokens or len(data) > MAX_TOKEN_FILE:
            raise InputError(f"the token file {path} holds {'too much' if tokens else 'no token'}", "write one token a line")
        if any(len(token) < 16 or not token.isascii() for token in tokens):
            raise InputError(
                f"a token in {path} is too short to be safe", "take 16 characters or more, such as from `openssl rand -hex 32`"
            )
        return cls(tokens)

    def accept(self, authorization: str | bytes) -> bool:
        """Whether a header such as "Bearer TOKEN" holds one of them."""
        text = authorization if isinstance(authorization, bytes) else authorization.encode("utf-8", "replace")
        kind, _, token = text.partition(b" ")
        given = hashlib.sha256(token.strip()).digest()
        found = [hmac.compare_digest(given, digest) for digest in self._digests]
        return kind.lower() == b"bearer" and any(found)


class Gate:
    """The application behind a token (if there is one), with a line in the log for every request."""

    def __init__(self, app: ASGIApp, service: Service, tokens: Tokens | None, log: Callable[[str], Any] | None) -> None:
        self._app = app
        self._service = service
        self._tokens = tokens
        self._log = log
        self.turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        def send_more(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS, *(CLOSE if self._service.stopping else ())]
            return send(message)

        if self._log is None:
            await self._answer(scope, receive, send_more)
        else:
            await self._answer_and_log(scope, receive, send_more, self._log)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._may_pass(scope):
            await self._app(scope, receive, send)
        else:
            await refused(Refusal(401, "a token is needed: send the header Authorization: Bearer TOKEN"))(scope, receive, send)

    async def _answer_and_log(self, scope: Scope, receive: Receive, send: Send, log: Callable[[str], Any]) -> None:
        began, seen = time.perf_counter(), Seen()

        async def count_in() -> Message:
            message = await receive()
            seen.read += len(message.get("body", b""))
            return message

        async def count_out(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            else:
                seen.written += len(message.get("body", b""))
            await send(message)

        try:
            await self._answer(scope, count_in, count_out)
        finally:
            log(line(scope, seen, time.perf_counter() - began))

    def model_of(self, method: bytes, path: bytes, headers: Headers) -> Served | None:
        """The model that a request asks for an inference, as its head says; `None` for all that the application has to look at."""
        named = inference_of(method.decode("latin-1"), path.decode("latin-1"))
        if named is None or self._service.stopping or not self._has_token(headers):
            return None
        try:
            return self._service.models.get(*named)
        except Refusal:
            return None

    @property
    def stopping(self) -> bool:
        """Whether the server is about to end."""
        return self._service.stopping

    def count_unsent(self, more: int) -> None:
        """So many bytes of answers more, or fewer, that their callers have not taken."""
        self._service.budget.unsent += more

    def was_refused(self, scope: Scope, refusal: Refusal) -> None:
        """A line in the log for a request that did not come as far as here."""
        if self._log is not None:
            seen = Seen()
            seen.status = refusal.status
            self._log(line({**scope, "deploykit.error": refusal.text}, seen, 0.0))

    def _may_pass(self, scope: Scope) -> bool:
        return scope["path"] in OPEN or self._has_token(scope["headers"])

    def _has_token(self, headers: Headers) -> bool:
        if self._tokens is None:
            return True
        given = [value for name, value in headers if name == b"authorization"]
        return len(given) == 1 and self._tokens.accept(given[0])


class Seen:
    """What is known of a request at its end."""

    def __init__(self) -> None:
        self.status = 499  # nobody waited for the answer
        self.read = 0
        self.written = 0


def line(scope: Scope, seen: Seen, seconds: float) -> str:
    """One request as a line of JSON; what a caller wrote is escaped by it."""
    client = scope.get("client")
    said: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() * 1000) % 1000:03}Z",
        "client": client[0] if client else None,
        "method": scope["method"],
        "path": scope["path"][:500],
        "status": seen.status,
        "ms": round(seconds * 1000, 3),
        "bytes_in": seen.read,
        "bytes_out": seen.written,
        **{name: round(value, 3) if isinstance(value, float) else value for name, value in scope.get("deploykit.log", {}).items()},
    }
    if "deploykit.error" in scope:
        said["error"] = scope["deploykit.error"][:300]
    return json.dumps(said)
