"""The parts of a run: which of them are answered, which are to be asked next, and which were lost too often to be asked again."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace

from deploykit.cluster.folder import Folder, name_of
from deploykit.cluster.planning import Part
from deploykit.cluster.worker import Done

ATTEMPTS = 3  # a part with which so many workers ended is not asked again


class Work:
    """What is missing in a folder, by number; `rows` and `errors` of what is there, of which `resumed` rows were there before."""

    def __init__(self, folder: Folder, kind: str, parts: int) -> None:
        self._folder, self._kind, self._parts = folder, kind, parts
        self._done = {number for number in folder.done() if number < parts}
        counts = [folder.counts(number, kind) for number in sorted(self._done)]
        self.rows, self.errors = sum(rows for rows, _ in counts), sum(errors for _, errors in counts)
        self.resumed = self.rows
        self._new = self._unasked(set(self._done))
        self._again: deque[bytes] = deque()
        self._lost: Counter[int] = Counter()

    @property
    def missing(self) -> int:
        """How many parts are not answered."""
        return self._parts - len(self._done)

    @property
    def to_ask(self) -> int:
        """How many parts are not answered and not given up."""
        return self.missing - sum(count >= ATTEMPTS for count in self._lost.values())

    def _unasked(self, done: set[int]) -> Iterator[bytes]:
        """Missing parts, as they travel: where the workers can read the list themselves, their numbers alone."""
        for part in self._folder.parts(self._parts, done):
            yield (replace(part, inputs=None) if self._folder.shared else part).packed()

    def next(self, alone: bool) -> bytes | None:
        """The next part to ask, packed; `None` where there is none now.

        What was lost before comes last, and only if it is `alone` with its worker, so that it takes nothing along.
        """
        found = next(self._new, None)
        if found is None and alone and self._again:
            found = self._again.popleft()
        return found

    def keep(self, done: Done) -> int:
        """An answered part is written; how many rows that brought: none if it was there."""
        if done.number in self._done:
            return 0
        if done.data is not None:
            self._folder.write(name_of(done.number, self._kind), done.data)
        self._done.add(done.number)
        self._lost.pop(done.number, None)
        self.rows, self.errors = self.rows + done.rows, self.errors + done.errors
        return done.rows

    def lost(self, packed: bytes) -> None:
        """A part whose worker failed is asked again later, unless that happened too often."""
        number = Part.unpacked(packed).number
        self._lost[number] += 1
        if self._lost[number] < ATTEMPTS:
            self._again.append(packed)
