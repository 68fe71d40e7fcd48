"""How long requests took that were alone in their run, by the shapes of their arrays: which can be expected to take a moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

QUICK = 0.005  # seconds for which a thread that serves everybody may be held up
OFTEN = 8  # quick runs after each other, before the next is expected to be one
MOST = 1024  # shapes that are told apart


class Pace:
    """Of one network. Not safe by itself: whoever notes holds a lock.

    Numbers of the same shapes can take a hundred times as long: denormal ones do on many processors. So each time that a run which
    was expected to be quick is not, twice as many quick ones are asked for from then on.
    """

    def __init__(self) -> None:
        self._quick: dict[tuple[object, ...], int] = {}  # how many after each other were quick
        self._often = OFTEN

    def is_quick(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the last requests with arrays of these shapes took at most `QUICK` seconds each: `OFTEN` of them, or more."""
        return self._quick.get(_shapes(inputs), 0) >= self._often

    def note(self, inputs: Mapping[str, Any], seconds: float) -> None:
        """A request that was alone in its run took so long."""
        shapes = _shapes(inputs)
        if seconds > QUICK:
            self._quick.pop(shapes, None)
            return
        if shapes not in self._quick and len(self._quick) >= MOST:
            del self._quick[next(iter(self._quick))]
        self._quick[shapes] = self._quick.get(shapes, 0) + 1

    def note_here(self, seconds: float) -> None:
        """One that was expected to be quick took so long, whatever came of it."""
        if seconds > QUICK:
            self._quick.clear()
            self._often *= 2


def _shapes(inputs: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple((name, getattr(array, "shape", None)) for name, array in inputs.items())
