"""Why a request got no answer: a status of HTTP, one of gRPC, and one line for the caller. Never a traceback."""

from __future__ import annotations

from deploykit.errors import DeploykitError, InputError, Unavailable

RETRY_AFTER = 1  # seconds, for requests that came at the wrong moment

# HTTP status -> the name of the status in gRPC
CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}
_OUT_OF_MEMORY = ("bad_alloc", "failed to allocate", "out of memory", "bad allocation")


class Refusal(Exception):
    """`status`: of HTTP; `text`: one line; `reason`: a word for the metrics."""

    def __init__(self, status: int, text: str, reason: str = "") -> None:
        self.status = status
        self.text = text
        self.reason = reason or {404: "not_found", 401: "unauthorized", 413: "too_large", 503: "unavailable"}.get(status, "invalid")
        super().__init__(text)


def ending() -> Refusal:
    """For what has outlasted the time that the server had left. A new one each time: an exception keeps where it was raised."""
    return Refusal(503, "the server ends, and there is no time left for this request; ask another one", "stopping")


def refusal_of(error: Exception) -> Refusal:
    """The refusal for whatever went wrong; of an unknown exception only its type is told."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Unavailable):
        return Refusal(503, str(error), error.reason)
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _OUT_OF_MEMORY):
        return Refusal(500, "there is not enough memory for this request", "memory")
    if isinstance(error, (InputError, DeploykitError)):
        return Refusal(400, str(error), "invalid")
    return Refusal(500, f"internal error ({type(error).__name__})", "internal")


def forget(error: BaseException) -> None:
    """Take the traceback off an exception that was answered, and off those before it, and these from it.

    Its frames hold the request with all its bytes, and often the exception again, in a future or a variable: such a ring stays in
    memory until the garbage collector comes by, and a hundred refused requests may come before it does.
    """
    left: list[BaseException | None] = [error]
    while left:
        last = left.pop()
        if last is not None:
            left += [last.__cause__, last.__context__]
            last.__traceback__ = last.__cause__ = last.__context__ = None
