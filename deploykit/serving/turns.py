"""Requests begin a few in each turn of the event loop, and only a few runs of a model are begun at a time.

A request that waits as bytes costs little; one that is begun is a task, futures, a timer and arrays, and where some 160 of them
take turns, the cache of a core holds none of them when its turn comes: an answer of lenet5 then took a tenth longer than with 96.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

EACH = 32  # as many as share a run
PATIENCE = 0.02  # seconds for which a request is held back: its deadline counts from when it is begun


class Crowd(Protocol):
    """What requests are for. `begun`: those that have begun and are not answered yet, of which `most_begun` are enough."""

    begun: int
    most_begun: int


class Turns:
    """Of one event loop. All that are read together would otherwise be worked on before anybody is refused, or even read."""

    def __init__(self) -> None:
        self._left = EACH
        self._lines: dict[Crowd | None, deque[tuple[float, Callable[[], None]]]] = {}
        self._is_due = False
        self._late: asyncio.TimerHandle | None = None

    def begin(self, start: Callable[[], None], crowd: Crowd | None = None) -> None:
        """Call `start()`, which counts itself as begun: now, or in one of the next turns, those of a crowd in their order."""
        if self._left and crowd not in self._lines and (crowd is None or crowd.begun < crowd.most_begun):
            self._left -= 1
            start()
        else:
            self._lines.setdefault(crowd, deque()).append((asyncio.get_running_loop().time(), start))
        self._next_turn()

    def ended(self) -> None:
        """One that had begun was answered, so another may begin."""
        if self._lines:
            self._next_turn()

    def _next_turn(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due = False
        self._left = EACH
        now = asyncio.get_running_loop().time()
        for crowd, line in list(self._lines.items()):
            while line and self._left and (crowd is None or crowd.begun < crowd.most_begun or now - line[0][0] >= PATIENCE):
                self._left -= 1
                line.popleft()[1]()
            if not line:
                del self._lines[crowd]
        if self._left < EACH:
            self._next_turn()
        elif self._lines and self._late is None:
            oldest = min(line[0][0] for line in self._lines.values())
            self._late = asyncio.get_running_loop().call_later(max(0.0, oldest + PATIENCE - now), self._too_late)

    def _too_late(self) -> None:
        self._late = None
        self._next_turn()
