"""`answer`: what is missing is given to the actors and kept as it comes; what a lost one was at is asked again, last."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deploykit.cluster.actors import Actors, Lost, said_by
from deploykit.cluster.pool import Pool
from deploykit.cluster.work import Work
from deploykit.cluster.worker import Asked, Done
from deploykit.errors import DeviceUnavailable, InputError, Unavailable, counted
from deploykit.progress import Progress

PATIENCE = 5  # losses one after the other, without an answer or a worker that became ready in between
LOOKING = 30.0  # seconds between two looks at what the cluster has room for: machines come back
ALONE = 120.0  # seconds in which a cluster that lost all its machines must get one


@dataclass(frozen=True)
class Ran:
    """How a run went: `seconds` of asking, by as many as `actors` at a time, of which `lost` were lost."""

    seconds: float = 0.0
    actors: int = 0
    lost: int = 0


def answer(ray: Any, work: Work, model: Any, asked: Asked, pool_now: Callable[[], Pool], rows: int, progress: Progress) -> Ran:
    """Until nothing is missing of `rows` in all.

    `pool_now`: what the cluster has room for when it is called. Raises what it raises, the `DeploykitError` that a worker met, and
    `Unavailable` where workers are lost again and again, or with the same part each time: then all others are answered.
    """
    pool = pool_now()
    asked = replace(asked, threads=pool.cpus, decoders=pool.cpus)
    size = min(pool.size, work.missing)
    progress.start(f"predicting on {counted(size, 'actor')}", rows)
    progress.advance(work.rows)
    began = time.perf_counter()
    with Actors(ray, model, asked, pool) as actors:
        loop = _Loop(work, actors, pool_now, progress)
        try:
            loop.run(ray.is_initialized)
        except (ray.exceptions.RayError, ConnectionError) as error:  # the latter where a client is cut off
            raise _unavailable(work, f"the cluster is lost ({said_by(error)})") from error
    if work.missing:
        raise _unavailable(work, f"workers end with the same inputs each time ({loop.reason})")
    return Ran(time.perf_counter() - began, size, loop.lost)


class _Loop:
    """`lost`: how many actors were; `reason`: what Ray said of the last."""

    def __init__(self, work: Work, actors: Actors, pool_now: Callable[[], Pool], progress: Progress) -> None:
        self._work, self._actors, self._pool_now, self._progress = work, actors, pool_now, progress
        self._began = self._alive = time.perf_counter()
        self._looked, self._size, self._losses = -math.inf, 0, 0
        self.reason, self.lost, self._waited = "they ended", 0, False

    def run(self, connected: Callable[[], bool]) -> None:
        """Until there is nothing to ask."""
        while self._work.to_ask:
            if not connected():
                raise _unavailable(self._work, "the connection to the cluster is closed")
            self._fill()
            self._give()
            came = self._actors.wait(1.0)
            for each in came:
                if isinstance(each, Done):
                    self._keep(each)
            self._ask_again([each for each in came if isinstance(each, Lost)])

    def _fill(self) -> None:
        now = time.perf_counter()
        if now - self._looked > LOOKING:
            self._looked, self._size = now, self._room()
        self._actors.start(min(self._size, self._work.to_ask))
        if not self._waited and not self._actors.ready and now - self._began > LOOKING:
            self._waited = True
            self._progress.say("no worker has begun yet: the cluster may have no room now; `ray status` tells")
        if len(self._actors):
            self._alive = now
        elif now - self._alive > ALONE:
            raise _unavailable(self._work, f"the cluster has no machine left ({self.reason})")

    def _room(self) -> int:
        try:
            return self._pool_now().size
        except (InputError, DeviceUnavailable):  # all machines are gone, for now
            return 0

    def _give(self) -> None:
        while True:
            given = False
            for actor, busy in list(self._actors.room()):
                part = self._work.next(alone=not busy)
                if part is not None:
                    self._actors.give(actor, part)
                    given = True
            if not given:
                return

    def _keep(self, done: Done) -> None:
        rows = self._work.keep(done)
        self._losses = 0
        speed = (self._work.rows - self._work.resumed) / max(time.perf_counter() - self._began, 1e-9)
        self._progress.advance(rows, f"{speed:,.0f} rows/s")

    def _ask_again(self, lost: Sequence[Lost]) -> None:
        """What they were at is asked again. A machine takes all its actors along: what is lost together counts once."""
        if not lost:
            return
        for each in lost:
            for part in each.parts:
                self._work.lost(part)
        self.lost += sum(each.ended for each in lost)
        self._losses += 1
        self.reason, self._looked = lost[-1].reason, -math.inf
        if self._losses >= PATIENCE and self._work.to_ask:
            raise _unavailable(self._work, f"workers are lost again and again ({self.reason})")
        what = counted(len(lost), "worker")
        self._progress.say(f"{what} failed ({self.reason}): what is missing is asked again")


def _unavailable(work: Work, what: str) -> Unavailable:
    hint = "what is answered stays: look at the cluster, then add --resume"
    return Unavailable("late", f"{what}; {counted(work.missing, 'part')} missing", hint)
