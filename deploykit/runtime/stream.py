"""Many inputs, lazily and in order: threads prepare what comes next while the network works on what is there."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import DeploykitError
from deploykit.runtime.cores import cores
from deploykit.runtime.prediction import Prediction

MAX_BATCH_BYTES = 256 << 20
MAX_WORKERS = 8

T = TypeVar("T")
R = TypeVar("R")
Sample = NDArray[Any] | DeploykitError


def stream(
    items: Iterable[Any],
    prepare: Callable[[Any], NDArray[Any]],
    answer: Callable[[list[NDArray[Any]]], list[Prediction]],
    batch_size: int,
    heavy: bool,
) -> Iterator[Prediction]:
    """One `Prediction` per item, in order; an item that `prepare` refuses becomes its error and spoils nothing else.

    At most about two batches are prepared ahead; with `heavy` samples (whole photographs) only a few. A batch ends early at
    `MAX_BATCH_BYTES`.
    """

    def attempt(item: Any) -> tuple[str | None, Sample]:
        path = os.fsdecode(item) if isinstance(item, (str, os.PathLike)) else None
        try:
            return path, prepare(item)
        except DeploykitError as error:
            return path, error

    workers = min(cores().usable, MAX_WORKERS)
    chunk = 1 if heavy else max(1, batch_size // (4 * workers))
    depth = 2 * workers if heavy else max(2 * workers, -(-2 * batch_size // chunk))
    waiting: list[tuple[str | None, Sample]] = []
    size = 0
    for path, sample in ahead(items, attempt, workers, chunk, depth):
        waiting.append((path, sample))
        size += sample.nbytes if isinstance(sample, np.ndarray) else 0
        if len(waiting) >= batch_size or size >= MAX_BATCH_BYTES:
            yield from _answers(waiting, answer)
            waiting, size = [], 0
    yield from _answers(waiting, answer)


def ahead(items: Iterable[T], function: Callable[[T], R], workers: int, chunk: int, depth: int) -> Iterator[R]:
    """`map(function, items)` with threads: `chunk` items per task, at most `depth` tasks begun before their turn."""
    from concurrent.futures import Future, ThreadPoolExecutor

    def work(part: list[T]) -> list[R]:
        return [function(item) for item in part]

    source = iter(items)
    pending: deque[Future[list[R]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="deploykit-decode")
    try:
        while True:
            while len(pending) < depth and (part := list(islice(source, chunk))):
                pending.append(pool.submit(work, part))
            if not pending:
                return
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _answers(
    waiting: list[tuple[str | None, Sample]], answer: Callable[[list[NDArray[Any]]], list[Prediction]]
) -> Iterator[Prediction]:
    found = iter(answer([sample for _, sample in waiting if isinstance(sample, np.ndarray)]))
    for path, sample in waiting:
        yield next(found).at(path) if isinstance(sample, np.ndarray) else Prediction(path=path, error=str(sample))
