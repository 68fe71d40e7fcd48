"""Many inputs, lazily and in order: threads prepare what comes next while the network works on what is there."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from deploykit.errors import DeploykitError
from deploykit.runtime.cores import cores
from deploykit.runtime.prediction import Prediction

MAX_BATCH_BYTES = 256 << 20
MAX_WORKERS = 8
# Below this an item is mostly Python, and two threads take longer than one: they hand the interpreter's lock to and fro.
LIGHT_SECONDS = 0.4e-3
PROBE = 4

T = TypeVar("T")
R = TypeVar("R")
Sample = Any  # what `prepare` made (an array, or anything else with `nbytes`), or the error that it raised


class Named(NamedTuple):
    """An input that is called `path` in its answer: one of several in a file, or what came through standard input."""

    path: str
    source: Any


def stream(
    items: Iterable[Any],
    prepare: Callable[[Any], Any],
    answer: Callable[[list[Any]], list[Prediction]],
    batch_size: int,
    heavy: bool,
    workers: int | None = None,
) -> Iterator[Prediction]:
    """One `Prediction` per item, in order; an item that `prepare` refuses becomes its error and spoils nothing else.

    `workers`: threads that prepare, `None` for as many as there are cores, up to 8.

    At most about two batches are prepared ahead; with `heavy` samples (of any size, such as whole photographs) only a few. A
    batch ends early at `MAX_BATCH_BYTES`.
    """

    def attempt(item: Any) -> tuple[str | None, Sample]:
        path, source = (item.path, item.source) if isinstance(item, Named) else (_path_of(item), item)
        try:
            return path, prepare(source)
        except DeploykitError as error:
            return path, error

    workers = min(cores().usable, MAX_WORKERS) if workers is None else workers
    chunk = 1 if heavy else max(1, batch_size // (4 * workers))
    together = Pace(chunk, 2 * workers if heavy else max(2 * workers, -(-2 * batch_size // chunk)))
    alone = Pace(PROBE if heavy else batch_size, 1)
    waiting: list[tuple[str | None, Sample]] = []
    size = 0
    for path, sample in ahead(items, attempt, workers, alone, together):
        waiting.append((path, sample))
        size += 0 if isinstance(sample, DeploykitError) else sample.nbytes
        if len(waiting) >= batch_size or size >= MAX_BATCH_BYTES:
            yield from _answers(waiting, answer)
            waiting, size = [], 0
    yield from _answers(waiting, answer)


class Pace(NamedTuple):
    """How far to go ahead: tasks of `chunk` items each, `depth` of them begun before their turn."""

    chunk: int
    depth: int


def ahead(items: Iterable[T], function: Callable[[T], R], workers: int, alone: Pace, together: Pace) -> Iterator[R]:
    """`map(function, items)` in threads: one of them, `alone`, while items are light, else all `workers`, `together`.

    Whether they are light is measured, on the first few and from then on; once they were not, all threads stay.
    """
    source = iter(items)
    # The first few here: there is nothing yet that a thread could work beside, and often there is no more.
    probe = min(PROBE, alone.chunk)
    found, seconds = _timed(function, list(islice(source, probe)))
    yield from found
    if len(found) < probe:
        return
    from concurrent.futures import Future, ThreadPoolExecutor  # not for a handful of items

    pace = alone if seconds < LIGHT_SECONDS else together
    pending: deque[Future[tuple[list[R], float]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="deploykit-decode")

    def refill() -> None:
        while len(pending) < pace.depth and (part := list(islice(source, pace.chunk))):
            pending.append(pool.submit(_timed, function, part))

    try:
        refill()
        while pending:
            found, seconds = pending.popleft().result()
            if seconds >= LIGHT_SECONDS:
                pace = together
            refill()
            yield from found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _timed(function: Callable[[T], R], part: list[T]) -> tuple[list[R], float]:
    """What becomes of the items, and the (lower) median of their seconds: the first one may have loaded a library."""
    found, seconds = [], []
    for item in part:
        start = time.perf_counter()
        found.append(function(item))
        seconds.append(time.perf_counter() - start)
    return found, sorted(seconds)[(len(seconds) - 1) // 2] if seconds else 0.0


def _answers(waiting: list[tuple[str | None, Sample]], answer: Callable[[list[Any]], list[Prediction]]) -> Iterator[Prediction]:
    found = iter(answer([sample for _, sample in waiting if not isinstance(sample, DeploykitError)]))
    for path, sample in waiting:
        yield Prediction(path=path, error=str(sample)) if isinstance(sample, DeploykitError) else next(found).at(path)


def _path_of(item: Any) -> str | None:
    return os.fsdecode(item) if isinstance(item, (str, os.PathLike)) else None
