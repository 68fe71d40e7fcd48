"""The actors of a run: started where there is room, given parts, and watched; nothing here waits longer than it is told to.

They are Ray's own actors and not the pool of Ray Data, which may wait for ever after a loss: for what the lost machine had
(ray-project/ray#62746), or, in the dataset that is made next, for CPUs that actors of the last one still hold.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from deploykit.cluster.connecting import require_same, versions
from deploykit.cluster.pool import Pool
from deploykit.cluster.worker import Asked, Done, Worker, told_by
from deploykit.errors import first_line

IN_FLIGHT = 2  # parts that an actor was given: the next one is there when the last is done
FETCHING = 60.0  # seconds in which an answer that is ready must arrive


@dataclass(frozen=True)
class Lost:
    """What an actor was at when it failed, and what Ray says of it; `ended` unless it goes on with the next part."""

    parts: list[bytes]
    reason: str
    ended: bool


class Actors:
    """`room` for parts -> `give` -> `wait`; at the end of the block all of them are killed, whatever they are at.

    An actor is given nothing before it is there: one that waits for a free CPU holds nothing up.
    """

    def __init__(self, ray: Any, model: Any, asked: Asked, pool: Pool) -> None:
        self._ray, self._model, self._asked = ray, model, asked
        # No restarts: an actor whose machine is lost would wait for room for ever, and what it was asked with it.
        lasting = {"max_restarts": 0, "max_task_retries": 0}
        self._kind = ray.remote(num_cpus=pool.cpus, num_gpus=pool.gpus, **lasting)(Worker)
        self._handles: dict[int, Any] = {}
        self._ready: set[int] = set()
        self._waiting: dict[Any, tuple[int, bytes | None]] = {}  # what is waited for: by whom, for which part; None: to be there
        self._started = 0

    def __len__(self) -> int:
        return len(self._handles)

    @property
    def ready(self) -> int:
        """How many of them are there."""
        return len(self._ready)

    def start(self, size: int) -> None:
        """Start actors until there are `size`; those of a machine that comes later are there later."""
        while len(self._handles) < size:
            self._started += 1
            handle = self._kind.remote(self._model, self._asked)
            self._handles[self._started] = handle
            self._waiting[handle.ready.remote()] = (self._started, None)

    def room(self) -> Iterator[tuple[int, int]]:
        """(actor, how many parts it was given) of all that are there and can be given one more, those with the fewest first."""
        given = dict.fromkeys(self._ready, 0)
        for actor, part in self._waiting.values():
            if part is not None:
                given[actor] += 1
        yield from sorted((pair for pair in given.items() if pair[1] < IN_FLIGHT), key=lambda pair: pair[1])

    def give(self, actor: int, part: bytes) -> None:
        """A packed part is on its way to the actor."""
        self._waiting[self._handles[actor].ask.remote(part)] = (actor, part)

    def wait(self, seconds: float) -> list[Done | Lost]:
        """What has come, after at most so many seconds. Raises the `DeploykitError` that a worker met."""
        waiting = list(self._waiting)
        if not waiting:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [came for reference in ready if (came := self._came(reference)) is not None]

    def _came(self, reference: Any) -> Done | Lost | None:
        if reference not in self._waiting:  # of an actor that was lost a moment ago
            return None
        actor, part = self._waiting.pop(reference)
        try:
            found = self._ray.get(reference, timeout=FETCHING)
        except self._ray.exceptions.RayTaskError as error:  # an exception in its own code: it is there still
            if part is not None:
                return Lost([part], said_by(error), ended=False)
            return self._lose(actor, [], said_by(error))
        except (self._ray.exceptions.RayError, self._ray.exceptions.GetTimeoutError) as error:
            return self._lose(actor, [] if part is None else [part], said_by(error))
        if part is None:
            require_same(versions(), found[1], found[0])
            self._ready.add(actor)
            return None
        if isinstance(found, str):
            raise told_by(found)
        done: Done = found
        return done

    def _lose(self, actor: int, parts: list[bytes], reason: str) -> Lost:
        theirs = {reference: part for reference, (whose, part) in self._waiting.items() if whose == actor}
        for reference in theirs:
            del self._waiting[reference]
        self._ready.discard(actor)
        self._kill(self._handles.pop(actor))
        return Lost(parts + [part for part in theirs.values() if part is not None], reason, ended=True)

    def _kill(self, handle: Any) -> None:
        with contextlib.suppress(Exception):  # it is gone, or the cluster is
            self._ray.kill(handle)

    def __enter__(self) -> Actors:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles.values():
            self._kill(handle)


def said_by(error: BaseException) -> str:
    """What Ray says of a loss, in a line: the first of its lines, or of what it was raised from, that has more than a name."""
    lines = [first_line(each) for each in _around(error)]
    return next((line for line in lines if " " in line), lines[0])


def _around(error: BaseException) -> Iterator[BaseException]:
    """An exception, and all that it was raised from."""
    seen: list[object] = []
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop(0)
        if isinstance(found, BaseException) and not any(found is each for each in seen):
            seen.append(found)
            yield found
            waiting += [getattr(found, "cause", None), found.__cause__, found.__context__]
