"""Requests of many callers share the runs of one network: rows are put together, and every caller gets its own.

::

    from deploykit.runtime import Batcher, Predictor

    with Predictor("model.onnx") as model, Batcher.of(model, max_rows=32) as batcher:
        answer = batcher.run({"input": array}, timeout=1.0)      # from any number of threads
        answer.outputs["logits"]                                 # the rows of this array, and no others

A free worker takes at once what waits and fits together, so a lone request never waits for company. A run that fails is asked
again request by request: one that the network refuses spoils no other. What nobody waits for any more is not computed, and a run
that has begun is ended once all its callers have given it up.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit import arguments as read
from deploykit.errors import InputError, Unavailable
from deploykit.runtime.pace import QUICK, Pace
from deploykit.runtime.stopping import Stop, Stopper, watched
from deploykit.runtime.waiting import Answer, Key, Line, Waiting

if TYPE_CHECKING:
    from deploykit.runtime.predictor import Predictor

Run = Callable[..., Mapping[str, Any]]  # takes arrays by input name and, where a batcher has a `stopper`, what that gives
Later = Callable[[Callable[[], None]], None]

MOST_SIZES = 1024  # sizes of runs that are told apart in the figures


@dataclass
class Figures:
    """What a batcher has done since it was made. Times are sums in seconds.

    `requests` were answered, `failed` refused by the network, `cancelled` given up by their callers, before their run or in it,
    `late` not begun before their deadline, `refused` because too many waited. `rows`: of the answered requests; `executions`: runs
    of the network. `sizes`: rows of a run -> (runs, seconds). `waiting`, `running`: requests at this moment.
    """

    requests: int = 0
    failed: int = 0
    cancelled: int = 0
    late: int = 0
    refused: int = 0
    rows: int = 0
    executions: int = 0
    queued: float = 0.0
    computed: float = 0.0
    failed_seconds: float = 0.0
    sizes: dict[int, tuple[int, float]] = field(default_factory=dict)
    waiting: int = 0
    running: int = 0

    @property
    def mean_rows(self) -> float:
        """Rows per run; 0 before the first."""
        return self.rows / self.executions if self.executions else 0.0


class Batcher:
    """A line of requests before `run`, which takes arrays by input name and gives outputs by name, rows along the first axis.

    `max_rows`: of one run. `delay`: seconds for which a request may wait for others. `limit`: requests that may wait. `workers`:
    threads, so many runs at a time. `together`: whether rows of several requests may share a run; without, each runs alone.
    `stopper`: makes what `run` gets as its second argument, one for each run, to be ended by when nobody waits for it any more.

    Raises `InputError` for values that make no sense. Close it, or use it in a `with`: then every request that was accepted is
    answered first.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_rows: int = 32,
        delay: float = 0.0,
        limit: int = 128,
        workers: int = 1,
        together: bool = True,
        stopper: Callable[[], Stopper] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not 0 <= delay <= 60:
            raise InputError(f"a delay cannot be {delay!r:.80}", "give seconds, from 0 to 60")
        self._run = run
        self._stopper = stopper
        self._clock = clock
        self._line = Line(read.whole(limit, "limit", 1, 1 << 20), read.whole(max_rows, "max_rows", 1, 1 << 20), float(delay))
        self._together = read.flag(together, "together")
        self._figures = Figures()
        self._changed = threading.Condition()
        self._closed = False
        self._here = False  # somebody else than a worker runs the network
        self._pace = Pace()
        count = read.whole(workers, "workers", 1, 1024)
        self._workers = [threading.Thread(target=self._work, name=f"batcher-{n}", daemon=True) for n in range(count)]
        for worker in self._workers:
            worker.start()

    @classmethod
    def of(cls, model: Predictor, **options: Any) -> Batcher:
        """One for a predictor, which must stay open; rows share a run where `deploykit.runtime.rows.together` says so, on trial."""
        from deploykit.runtime import rows

        if "together" not in options:
            options["together"] = rows.together(model)[0]
        return cls(model.run_all, **{"stopper": Stop, **options})

    @property
    def max_rows(self) -> int:
        """The most rows of one request, where requests share runs."""
        return self._line.max_rows

    @property
    def together(self) -> bool:
        """Whether rows of several requests may share a run; off for good once outputs came back that are not one per row."""
        return self._together

    def submit(self, inputs: Mapping[str, Any], timeout: float | None = None, later: Later | None = None) -> Future[Answer]:
        """Put a request into the line; cancel the future to give it up. `timeout`: seconds within which it must have begun.

        `later`: called with what wakes a worker, instead of waking one at once: for who submits several in a row.

        Every array has one row per sample along its first axis. Raises `InputError` for arrays of different rows, for none and
        for more than `max_rows`; `Unavailable` where the line is full or closed. The future raises what the network raised,
        and `Unavailable` after the deadline.
        """
        now = self._clock()
        rows = self._rows_of(inputs)
        key = _key(inputs) if self._together else None
        request = Waiting(inputs, rows, key, now, None if timeout is None else now + timeout)
        with self._changed:
            if self._closed:
                raise Unavailable("stopping", "no more requests are taken: it is being closed")
            try:
                self._line.add(request, now)
            except Unavailable:
                self._figures.refused += 1
                raise
            if later is None:
                self._changed.notify()
        if later is not None:
            later(self._wake)
        return request.future

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    @property
    def is_full(self) -> bool:
        """Whether `submit` would refuse a request because too many wait."""
        if len(self._line) < self._line.limit:
            return False
        with self._changed:
            return not self._line.has_room(self._clock())

    def check_room(self) -> None:
        """Raise `Unavailable` where `submit` would because too many wait: before work is put into a request that is refused."""
        if not self.is_full:
            return
        with self._changed:
            if not self._closed:
                try:
                    self._line.check_room(self._clock())
                except Unavailable:
                    self._figures.refused += 1
                    raise

    def run(self, inputs: Mapping[str, Any], timeout: float | None = None) -> Answer:
        """`submit`, and wait for the answer: `timeout` seconds in all. Raises `Unavailable` when they are over."""
        future = self.submit(inputs, timeout)
        try:
            return future.result(timeout)
        except TimeoutError:
            if not future.done():
                future.cancel()
                raise Unavailable("late", f"there was no answer within {timeout:g} seconds") from None
            return future.result()  # it came in that moment, or it is the network that raised this
        except BaseException:
            future.cancel()
            raise
        finally:
            del future  # it holds what is raised, whose traceback holds this frame

    def run_here(self, inputs: Mapping[str, Any], timeout: float = math.inf) -> Answer | None:
        """The answer, computed by the calling thread, which saves waking a worker and being woken by it.

        `None`, and nothing was done, unless no other request waits or runs, the last `OFTEN` that came alone with arrays of these
        shapes took at most `QUICK` seconds each (see `pace`), and this one has as many by its `timeout`. Nothing ends this run: it
        is for networks that are steady (`Predictor.is_steady`). Raises `InputError`, as `submit` does, and what the network raises.
        """
        if timeout < QUICK or not self._pace.is_quick(inputs):
            return None
        rows = self._rows_of(inputs)
        with self._changed:
            if self._closed or self._here or self._figures.running or self._line.has_work:
                return None
            self._here = True
            self._figures.running += 1
        began = self._clock()
        request = Waiting(inputs, rows, None, began)
        future = request.future
        try:
            self._answer([request])
        finally:
            del request  # it holds the future, that what is raised, and its traceback this frame
            self._leave(began)
        try:
            return future.result()
        finally:
            del future

    def _leave(self, began: float) -> None:
        """The caller's own run is over, or the application was interrupted in it: nothing runs, and workers may begin."""
        with self._changed:
            self._pace.note_here(self._clock() - began)
            self._figures.running = 0
            self._here = False
            if self._line.has_work or self._closed:
                self._changed.notify_all()

    def figures(self) -> Figures:
        """A copy of what was counted so far."""
        with self._changed:
            now = self._figures
            return Figures(**{**vars(now), "sizes": dict(now.sizes), "waiting": len(self._line)})

    def close(self, drain: bool = True) -> None:
        """Take no more requests and wait for the workers. `drain`: answer what waits; without, it gets `Unavailable`."""
        with self._changed:
            self._closed = True
            left = [] if drain else self._line.clear()
            self._changed.notify_all()
        for request in left:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(Unavailable("stopping", "it was closed before this request began"))
        for worker in self._workers:
            if worker is not threading.current_thread():
                worker.join()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(drain=error is None)

    def _rows_of(self, inputs: Mapping[str, Any]) -> int:
        counts = {name: array.shape[0] if getattr(array, "ndim", 0) else None for name, array in inputs.items()}
        found = set(counts.values())
        if not self._together:
            first = next(iter(counts.values()), None)
            return first or 1
        if len(found) != 1 or None in found:
            said = ", ".join(f"{name!r:.80} {'a scalar' if count is None else count}" for name, count in counts.items())
            raise InputError(f"every input must have the same number of rows, not {said or 'none'}")
        rows = int(found.pop() or 0)
        if not 1 <= rows <= self.max_rows:
            raise InputError(f"a request of {rows:,} rows is refused", f"send 1 to {self.max_rows:,} rows at a time")
        return rows

    def _work(self) -> None:
        while self._take_and_answer():
            pass

    def _take_and_answer(self) -> bool:
        """What comes next in the line; `False` once it is closed and empty. Waiting for more, a worker holds no request."""
        with self._changed:
            while True:
                while self._here:
                    self._changed.wait()
                now = self._clock()
                taken = self._line.take(now, self._closed)
                self._figures.cancelled += taken.cancelled
                self._figures.late += len(taken.late)
                self._figures.running += len(taken.batch)
                if taken.batch or taken.late:
                    break
                if self._closed:
                    return False
                self._changed.wait(self._line.due(now))
            if len(self._line):
                self._changed.notify()
        for request in taken.late:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(_late(now - request.arrived))
        if taken.batch:
            self._answer(taken.batch)
        return True

    def _answer(self, batch: list[Waiting]) -> None:
        """Run a batch, or each request of it alone where that fails; every future of it is done afterwards, and `batch` is empty.

        An exception holds the frames through which it came, and they hold `batch`: with a future in it that holds the exception,
        the arrays of all its requests would stay in memory until the garbage collector comes by.
        """
        try:
            self._answer_together(batch)
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0], error)
                return
            for alone in [[request] for request in batch]:
                now = self._clock()
                if alone[0].future.given_up:
                    self._fail(alone[0], error)
                    alone.clear()
                elif alone[0].is_late(now):
                    with self._changed:
                        self._figures.late += 1
                        self._figures.running -= 1
                    alone[0].future.set_exception(_late(now - alone[0].arrived))
                    alone.clear()
                else:
                    self._answer(alone)
        finally:
            batch.clear()

    def _answer_together(self, batch: list[Waiting]) -> None:
        began = self._clock()
        rows = sum(request.rows for request in batch)
        inputs = dict(batch[0].inputs) if len(batch) == 1 else _joined(batch)
        if self._stopper is None:
            outputs = self._run(inputs)
        else:
            with watched([request.future for request in batch], self._stopper) as ending:
                outputs = self._run(inputs, ending)
        if len(batch) > 1:
            wrong = [name for name, output in outputs.items() if getattr(output, "shape", (None,))[:1] != (rows,)]
            if wrong:
                self._together = False
                raise InputError(f"the output {wrong[0]!r:.80} has not one row per sample")
        seconds = self._clock() - began
        with self._changed:
            self._count(batch, rows, began, seconds)
        start = 0
        for request in batch:
            stop = start + request.rows
            # A copy: the rows of one caller must not keep those of all the others in memory.
            own = dict(outputs) if len(batch) == 1 else {name: output[start:stop].copy() for name, output in outputs.items()}
            request.future.set_result(Answer(own, began - request.arrived, seconds, rows))
            start = stop

    def _count(self, batch: list[Waiting], rows: int, began: float, seconds: float) -> None:
        figures = self._figures
        figures.running -= len(batch)
        figures.requests += len(batch)
        figures.rows += rows
        figures.executions += 1
        figures.queued += sum(began - request.arrived for request in batch)
        figures.computed += seconds * len(batch)
        if rows in figures.sizes or len(figures.sizes) < MOST_SIZES:
            runs, before = figures.sizes.get(rows, (0, 0.0))
            figures.sizes[rows] = (runs + 1, before + seconds)
        if len(batch) == 1:
            self._pace.note(batch[0].inputs, seconds)

    def _fail(self, request: Waiting, error: Exception) -> None:
        with self._changed:
            self._figures.running -= 1
            if request.future.given_up:
                self._figures.cancelled += 1
            else:
                self._figures.failed += 1
                self._figures.failed_seconds += self._clock() - request.arrived
        request.future.set_exception(error)


def _key(inputs: Mapping[str, Any]) -> Key:
    """The names, types and sizes without rows of a request's arrays: requests of one key can be joined along their first axis."""
    return tuple((name, inputs[name].dtype, inputs[name].shape[1:]) for name in sorted(inputs))


def _joined(batch: list[Waiting]) -> dict[str, Any]:
    return {name: np.concatenate([request.inputs[name] for request in batch]) for name in batch[0].inputs}


def _late(waited: float) -> Unavailable:
    return Unavailable("late", f"it waited for {waited:.3g} seconds, and its deadline is over")
