"""Requests begin a few in each turn of the event loop, so that it soon looks again at what has come meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

EACH = 32  # as many as share a run


class Turns:
    """Of one event loop. All that are read together would otherwise be worked on before anybody is refused, or even read."""

    def __init__(self) -> None:
        self._left = EACH
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_due = False

    def begin(self, start: Callable[..., None], *args: Any) -> None:
        """Call `start(*args)`: now, or in one of the next turns, in the order in which they came."""
        if self._left:
            self._left -= 1
            start(*args)
        else:
            self._waiting.append((start, args))
        self._next_turn()

    def _next_turn(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due = False
        self._left = EACH
        while self._waiting and self._left:
            self._left -= 1
            start, args = self._waiting.popleft()
            start(*args)
        if self._left < EACH:
            self._next_turn()
