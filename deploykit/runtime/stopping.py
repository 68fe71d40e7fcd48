"""A run that is ended from another thread: by hand, or because nobody waits for its answers any more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from deploykit.runtime.waiting import Pending


class Stopper(Protocol):
    """What ends one run."""

    def now(self) -> None:
        """Let it fail as soon as it can."""


class Stop:
    """Of one run of onnxruntime: give it to that, and call `now` from any thread. The run then fails before its next operator."""

    def __init__(self) -> None:
        import onnxruntime  # which whoever only looks at this module need not have

        self.options = onnxruntime.RunOptions()

    def now(self) -> None:
        """A run that is over does not mind."""
        self.options.terminate = True


@contextlib.contextmanager
def watched(futures: Sequence[Pending], stopper: Callable[[], Stopper]) -> Iterator[Stopper]:
    """What ends the run for `futures`, and is called once all of them are given up."""
    stop = stopper()

    def look() -> None:
        if all(future.given_up for future in futures):
            stop.now()

    for future in futures:
        future.on_cancel = look
    look()  # whoever went before was not seen
    try:
        yield stop
    finally:
        for future in futures:
            future.on_cancel = None  # it holds them all
