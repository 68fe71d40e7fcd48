"""Whether one caller has been asking all alone: then nobody minds if the event loop computes its answers itself.

Over a connection of HTTP/1.1 one request is answered at a time. One of gRPC carries many, which would no longer share runs.
"""

from __future__ import annotations

ENOUGH = 8  # requests of one caller after each other, before it counts as alone


class Alone:
    """Of one event loop."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._count = 0

    def asks(self, caller: int | None) -> bool:
        """A request over the connection of that number -> whether it is alone; `None`, in another way, never is."""
        if caller is None or caller != self._last:
            self._last, self._count = caller, 0
            return False
        self._count += 1
        return self._count >= ENOUGH
