"""What is missing in a folder is asked, and kept as it comes; where a worker is lost, what is missing then is asked again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from deploykit.cluster.folder import Folder, name_of
from deploykit.cluster.pipeline import Done, Pool, answered, said_by
from deploykit.cluster.worker import Asked
from deploykit.errors import DeploykitError, Unavailable, counted
from deploykit.progress import Progress

WAVE = 128 << 20  # bytes of paths, compressed, that are handed to Ray at a time: some ten million rows
PATIENCE = 5  # losses one after the other, without a part in between that was answered
PAUSE = 5.0  # seconds before a new round, and as many more for each loss in a row: Ray takes half a minute to miss a machine


class Rounds:
    """The parts of a run that are answered, by number, and what they counted: `rows`, `errors`; `resumed` rows were there before.

    `seconds` of asking, by as many as `actors` at a time; `lost`: how often the rest was asked again.
    """

    def __init__(self, folder: Folder, kind: str, parts: int, rows: int, progress: Progress) -> None:
        self._folder, self._kind, self._parts, self._progress = folder, kind, parts, progress
        self._done = {number for number in folder.done() if number < parts}
        counts = [folder.counts(number, kind) for number in sorted(self._done)]
        self.rows, self.errors = sum(rows for rows, _ in counts), sum(errors for _, errors in counts)
        self.resumed, self._all = self.rows, rows
        self.seconds, self.actors, self.lost = 0.0, 0, 0

    @property
    def missing(self) -> int:
        """How many parts are not answered."""
        return self._parts - len(self._done)

    def run(self, ray: Any, model: Any, asked: Asked, pool_now: Callable[[], Pool]) -> None:
        """Until nothing is missing. Raises the `DeploykitError` that a worker met, `Unavailable` where workers are lost on and on.

        `pool_now`: what the cluster has room for when it is called.
        """
        pool = pool_now()
        self.actors = min(pool.size, self.missing)
        self._progress.start(f"predicting on {counted(self.actors, 'actor')}", self._all)
        self._progress.advance(self.rows)
        began, losses = time.perf_counter(), 0
        while self.missing:
            before = self.missing
            wave = self._wave()
            reason = ""
            try:
                self._round(ray, wave, model, replace(asked, threads=pool.cpus, decoders=pool.cpus), pool, began)
            except DeploykitError:
                raise
            except Exception as error:  # Ray's own have no base of their own, and Ray Data changes them
                reason = said_by(error)
            if before - self.missing == len(wave):
                continue
            self.lost += 1
            losses = 1 if self.missing < before else losses + 1
            if losses >= PATIENCE or not ray.is_initialized():
                raise Unavailable(
                    "late",
                    f"workers are lost again and again, {counted(self.missing, 'part')} missing: {reason or 'they ended'}",
                    "what is answered stays: look at the cluster, then add --resume",
                )
            self._progress.say(f"a worker was lost ({reason or 'it ended'}): what is missing is asked again")
            time.sleep(PAUSE * losses)
            pool = pool_now()
        self.seconds = time.perf_counter() - began

    def _wave(self) -> list[bytes]:
        """Parts that are missing, as they travel: where the workers can read the list themselves, their numbers alone."""
        found: list[bytes] = []
        size = 0
        for part in self._folder.parts(self._parts, self._done):
            found.append((replace(part, inputs=None) if self._folder.shared else part).packed())
            size += len(found[-1])
            if size >= WAVE:
                break
        return found

    def _round(self, ray: Any, wave: Sequence[bytes], model: Any, asked: Asked, pool: Pool, began: float) -> None:
        for done in answered(ray, wave, model, asked, pool):
            self._keep(done)
            speed = (self.rows - self.resumed) / max(time.perf_counter() - began, 1e-9)
            self._progress.advance(done.rows, f"{speed:,.0f} rows/s")

    def _keep(self, done: Done) -> None:
        if done.number in self._done:
            return
        if done.data is not None:
            self._folder.write(name_of(done.number, self._kind), done.data)
        self._done.add(done.number)
        self.rows, self.errors = self.rows + done.rows, self.errors + done.errors
