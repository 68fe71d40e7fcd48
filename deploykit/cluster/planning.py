"""Inputs -> parts: the pieces of work, each with a number and its rows, written down before the first one is asked.

The list that is written decides what the run is about: a run that goes on asks the same inputs under the same numbers, whatever
has come to the folders since.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from deploykit.cluster.listing import RowGroup

ROWS = 1024  # of a part, about: a second or so of work, and a file of a hundred kilobytes
GROWING = 1 << 20  # after so many rows parts become larger, up to `LARGEST` times: each costs the driver some milliseconds
LARGEST = 16
FEWEST_PARTS = 32  # smaller parts where there would be less, so that every worker has some
CHUNK = 64  # parts in one file of the list


@dataclass(frozen=True)
class Part:
    """`number` of the part, the run's number of its `first` row, how many `rows`, and where they are, as JSON knows it.

    `inputs`: a list of paths, or the rows of a group of a Parquet file as `{file, group, skip, first, column}`; `None` on the way
    to a worker that can read the list itself.
    """

    number: int
    first: int
    rows: int
    inputs: Any

    def packed(self) -> bytes:
        """For the way to a worker."""
        return zlib.compress(json.dumps([self.number, self.first, self.rows, self.inputs]).encode(), 1)

    @classmethod
    def unpacked(cls, data: bytes) -> Part:
        """The other way."""
        return cls(*json.loads(zlib.decompress(data)))


def parts_of(found: Iterable[str | RowGroup], batch_size: int) -> Iterator[Part]:
    """Inputs in their order -> parts of whole batches, so that every batch is the one that `predict_many` would make of them."""
    source = iter(found)
    begun = list(islice(source, FEWEST_PARTS * ROWS))
    few = len(begun) < FEWEST_PARTS * ROWS and not any(isinstance(each, RowGroup) for each in begun)
    size = -(-len(begun) // FEWEST_PARTS) if few else ROWS
    number = first = 0
    for rows, inputs in _cut(chain(begun, source), lambda row: whole_batches(size * min(LARGEST, 1 + row // GROWING), batch_size)):
        yield Part(number, first, rows, inputs)
        number, first = number + 1, first + rows


def whole_batches(rows: int, batch_size: int) -> int:
    """As many rows or a few more or less: a multiple of `batch_size`."""
    return max(1, round(rows / batch_size)) * batch_size


def _cut(found: Iterable[str | RowGroup], size_at: Callable[[int], int]) -> Iterator[tuple[int, Any]]:
    """(rows, `Part.inputs`) of each part; `size_at`: how many rows it has, by the number of its first row."""
    paths: list[str] = []
    first, size = 0, size_at(0)
    for each in found:
        if isinstance(each, str):
            paths.append(each)
        if paths and (len(paths) == size or not isinstance(each, str)):
            yield len(paths), paths
            first, paths = first + len(paths), []
            size = size_at(first)
        if not isinstance(each, str):
            for skip in range(0, each.rows, size):
                rows = min(size, each.rows - skip)
                yield rows, {"file": each.file, "group": each.number, "skip": skip, "first": each.first, "column": each.column}
                first += rows
            size = size_at(first)
    if paths:
        yield len(paths), paths
