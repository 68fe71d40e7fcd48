"""Lines for stderr that nobody waits for: a thread writes them, and what does not fit is counted and said."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator

MOST = 8192  # lines that wait to be written
TOGETHER = 0.02  # seconds in which lines come together: one call of the system for all of them
LAST = 1.0  # seconds in which the last lines are written, where somebody reads them


class Lines:
    """Of one process, in a `with`. Whoever started it may not read its stderr, or read it slowly: then lines are dropped.

    A write to a full pipe waits for its reader, and so would the event loop, and every caller.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._counting = threading.Lock()
        self._some = threading.Event()
        self._is_ending = False
        self._thread = threading.Thread(target=self._work, name="lines", daemon=True)

    def write(self, text: str) -> None:
        """One line, without its end; from any thread, at once."""
        if len(self._waiting) >= self._most:
            with self._counting:
                self._dropped += 1
            return
        self._waiting.append(text)
        if not self._some.is_set():
            self._some.set()

    def __enter__(self) -> Lines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ending = True
        self._some.set()
        self._thread.join(LAST)

    def _work(self) -> None:
        while not self._is_ending or self._waiting:
            self._some.wait()
            if not self._is_ending:
                time.sleep(TOGETHER)
            self._some.clear()  # before they are taken: one that comes now is either taken or sets it again
            taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
            with self._counting:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                taken.append(json.dumps({"dropped": dropped, "error": "lines of this log were dropped: stderr is read too slowly"}))
            with contextlib.suppress(OSError, ValueError):  # a reader that went away ends nothing
                _write("".join(f"{line}\n" for line in taken))


def _write(text: str) -> None:
    """To the descriptor itself: a thread that waits within Python's own stream would end the process with a fatal error."""
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError):  # there is none, or what stands in its place in a notebook
        if sys.stderr is not None:
            sys.stderr.write(text)
        return
    left = memoryview(text.encode("utf-8", "backslashreplace"))
    while left:
        left = left[os.write(descriptor, left) :]


@contextlib.contextmanager
def logged(lines: Lines) -> Iterator[None]:
    """What is logged from WARNING on goes there, too, where Python would write it to stderr and wait."""
    handler = _Handler(lines)
    if logging.root.handlers:  # an application of its own has decided where it goes
        yield
        return
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, lines: Lines) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """As Python's handler of last resort has it: the message, and a traceback."""
        self._lines.write(self.format(record))
