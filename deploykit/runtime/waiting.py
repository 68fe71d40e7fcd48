"""Requests that wait for a worker, the oldest first, and which of them share a run: plain data and a given time, no threads."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from deploykit.errors import Unavailable

Key = tuple[object, ...]


@dataclass(frozen=True)
class Answer:
    """Outputs by name, the rows of one request. `queued`, `computed`: seconds; `rows`: of the run that it shared."""

    outputs: dict[str, Any]
    queued: float
    computed: float
    rows: int


@dataclass(eq=False)
class Waiting:
    """One request: arrays by input name, `rows` of them; requests of one `key` may share a run, `None` runs alone.

    `arrived` and `deadline` are seconds of the same clock; `deadline` is `None` where the caller waits as long as it takes.
    """

    inputs: Mapping[str, Any]
    rows: int
    key: Key | None
    arrived: float
    deadline: float | None = None
    future: Future[Answer] = field(default_factory=Future)

    def is_late(self, now: float) -> bool:
        """Whether nobody waits for it any more because its time is over."""
        return self.deadline is not None and now >= self.deadline


@dataclass(frozen=True)
class Taken:
    """What a worker gets: a `batch` to run (may be empty), and the requests that are `late` and `cancelled` (counted, not run)."""

    batch: list[Waiting]
    late: list[Waiting]
    cancelled: int


class Line:
    """At most `limit` requests; a run takes at most `max_rows` rows of one key.

    `delay`: seconds for which the oldest request of a key waits for others to fill its run; 0 lets a free worker take at once
    what is there.
    """

    def __init__(self, limit: int, max_rows: int, delay: float) -> None:
        self.limit = limit
        self.max_rows = max_rows
        self.delay = delay
        self._waiting: list[Waiting] = []
        self._late: list[Waiting] = []
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request: Waiting, now: float) -> None:
        """Put it at the end. Raises `Unavailable` where the line is full of requests that somebody waits for."""
        self.check_room(now)
        self._waiting.append(request)

    def check_room(self, now: float) -> None:
        """Raise `Unavailable` where `add` would."""
        if len(self._waiting) >= self.limit:
            self._drop_the_dead(now)
        if len(self._waiting) >= self.limit:
            raise Unavailable("full", f"{len(self._waiting)} requests wait already, which is the limit")

    def take(self, now: float, closing: bool = False) -> Taken:
        """The oldest request that may run now and what can go with it. `closing`: nobody comes any more, so nothing waits."""
        self._drop_the_dead(now)
        batch: list[Waiting] = []
        for group in self._groups():
            if closing or self._is_full(group) or now >= group[0].arrived + self.delay:
                batch = [request for request in group if request.future.set_running_or_notify_cancel()]
                self._cancelled += len(group) - len(batch)
                gone = set(map(id, group))
                self._waiting = [request for request in self._waiting if id(request) not in gone]
                if batch:
                    break
        taken = Taken(batch, self._late, self._cancelled)
        self._late, self._cancelled = [], 0
        return taken

    def due(self, now: float) -> float | None:
        """Seconds until the next request may run or is late; `None` where none waits."""
        if not self._waiting:
            return None
        moments = [request.arrived + self.delay for request in self._waiting]
        moments += [request.deadline for request in self._waiting if request.deadline is not None]
        return max(0.0, min(moments) - now)

    def clear(self) -> list[Waiting]:
        """Every request, which are then no longer here."""
        found, self._waiting = self._waiting, []
        return found

    def _drop_the_dead(self, now: float) -> None:
        alive = []
        for request in self._waiting:
            if request.future.cancelled():
                self._cancelled += 1
            elif request.is_late(now):
                self._late.append(request)
            else:
                alive.append(request)
        self._waiting = alive

    def _groups(self) -> list[list[Waiting]]:
        """One run for each key, in the order of the oldest requests: what comes after one that does not fit waits behind it."""
        groups: dict[Key, list[Waiting]] = {}
        rows: dict[Key, int] = {}
        full: set[Key] = set()
        for request in self._waiting:
            key = ("alone", id(request)) if request.key is None else request.key
            group = groups.setdefault(key, [])
            taken = rows.get(key, 0) + request.rows
            if group and (key in full or taken > self.max_rows):
                full.add(key)
                continue
            group.append(request)
            rows[key] = taken
        self._full = {id(groups[key][0]) for key in full}
        return list(groups.values())

    def _is_full(self, group: list[Waiting]) -> bool:
        """Whether waiting could not bring another request into this run."""
        first = group[0]
        return first.key is None or id(first) in self._full or sum(request.rows for request in group) >= self.max_rows
