"""Requests that wait for a worker, the oldest first, and which of them share a run: plain data and a given time, no threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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


class Pending(Future[Answer]):
    """The answer to come. `given_up`: its caller waits no longer, whether its run has begun or not; then `on_cancel` is called."""

    given_up = False
    on_cancel: Callable[[], None] | None = None

    def cancel(self) -> bool:
        """As every future does: `False` where its run has begun."""
        done = super().cancel()
        self.given_up = True
        if self.on_cancel is not None:
            self.on_cancel()
        return done


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
    future: Pending = field(default_factory=Pending)

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
        # Who looks at every request again and again has no time for any: only when one of them may be dead.
        self._some_gave_up = False
        self._first_deadline = math.inf
        self._full: set[int] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_work(self) -> bool:
        """Whether `take` has anything to give, or to tell."""
        return bool(self._waiting or self._late or self._cancelled)

    def add(self, request: Waiting, now: float) -> None:
        """Put it at the end. Raises `Unavailable` where the line is full of requests that somebody waits for."""
        self.check_room(now)
        request.future.on_cancel = self._note
        if request.deadline is not None:
            self._first_deadline = min(self._first_deadline, request.deadline)
        self._waiting.append(request)
        if request.future.cancelled():  # before anybody was told
            self._note()

    def has_room(self, now: float) -> bool:
        """Whether another request may wait."""
        if len(self._waiting) >= self.limit:
            self._drop_the_dead(now)
        return len(self._waiting) < self.limit

    def check_room(self, now: float) -> None:
        """Raise `Unavailable` where `add` would."""
        if not self.has_room(now):
            raise Unavailable("full", f"{len(self._waiting)} requests wait already, which is the limit")

    def take(self, now: float, closing: bool = False) -> Taken:
        """The oldest request that may run now and what can go with it. `closing`: nobody comes any more, so nothing waits."""
        self._drop_the_dead(now)
        batch: list[Waiting] = []
        for group in self._in_turn(now, closing):
            if closing or now >= group[0].arrived + self.delay or self._is_full(group):
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

    def _note(self) -> None:
        self._some_gave_up = True

    def _drop_the_dead(self, now: float) -> None:
        if not self._some_gave_up and now < self._first_deadline:
            return
        self._some_gave_up = False  # who gives up from here on is found now, or next time
        alive = []
        for request in self._waiting:
            if request.future.cancelled():
                self._cancelled += 1
            elif request.is_late(now):
                self._late.append(request)
            else:
                alive.append(request)
        self._waiting = alive
        self._first_deadline = min((request.deadline for request in alive if request.deadline is not None), default=math.inf)

    def _in_turn(self, now: float, closing: bool) -> list[list[Waiting]]:
        """The runs that may be next, in their order: where the oldest request need not wait, its run is the only one."""
        if not self._waiting:
            return []
        first = self._waiting[0]
        if not (closing or now >= first.arrived + self.delay):
            return self._groups()
        group: list[Waiting] = []
        rows = 0
        for request in self._waiting if first.key is not None else [first]:
            if request.key != first.key:
                continue
            rows += request.rows
            if group and rows > self.max_rows:
                break
            group.append(request)
        return [group]

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
