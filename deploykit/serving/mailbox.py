"""Between the event loop and worker threads: what comes together wakes the other side once, not each for itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Mailbox:
    """Of one event loop. Like `asyncio.wrap_future`, where a batch of 32 answers would write 32 times to the loop's own socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._done: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._woken = False
        self._after: dict[Callable[[], None], None] = {}

    def after_these(self, wake: Callable[[], None]) -> None:
        """Call `wake` once the loop has done what is ready now, once for all who ask: the requests that were read together.

        A worker that is woken by the first of them would fight the loop for the interpreter, and run that one alone.
        """
        if not self._after:
            self.loop.call_soon(self._wake)
        self._after[wake] = None

    def _wake(self) -> None:
        woken, self._after = self._after, {}
        for wake in woken:
            wake()

    def wrap(self, work: Future[T]) -> asyncio.Future[T]:
        """A future of the loop with the same result; cancelling it cancels `work` where that has not begun."""
        mine: asyncio.Future[T] = self.loop.create_future()
        mine.add_done_callback(lambda found: work.cancel() if found.cancelled() else None)
        work.add_done_callback(partial(self._put, mine))
        return mine

    def _put(self, mine: asyncio.Future[Any], work: Future[Any]) -> None:
        """In the thread that did the work."""
        self._done.append((mine, work))
        # Whoever delivers takes this back before it looks: what is put in afterwards either is seen by it or wakes the loop again.
        if not self._woken and not self.loop.is_closed():
            self._woken = True
            self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        while self._done:
            mine, work = self._done.popleft()
            if mine.done():
                continue
            try:
                error = work.exception()
            except CancelledError:
                mine.cancel()
                continue
            if error is None:
                mine.set_result(work.result())
            else:
                mine.set_exception(error)
