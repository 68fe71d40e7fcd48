"""The outputs of many layers, kept without filling the memory: what is more than a budget goes to a file that has no name."""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BUDGET = 128 << 20  # bytes of one set of values in memory; three sets are held at once


class Values(MutableMapping[str, NDArray[Any]]):
    """Arrays by module path, in the order in which they came. Above `budget` bytes they are read from a temporary file.

    Read anew each time, not mapped: the pages of a mapping would count as memory of this process until it ends.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._arrays: dict[str, NDArray[Any] | _Filed] = {}
        self._left = budget
        self._file: Any = None

    def __getitem__(self, path: str) -> NDArray[Any]:
        found = self._arrays[path]
        if not isinstance(found, _Filed):
            return found
        array = np.empty(found.shape, found.dtype)
        self._file.seek(found.offset)
        self._file.readinto(array.reshape(-1).view(np.uint8).data)
        return array

    def __setitem__(self, path: str, array: NDArray[Any]) -> None:
        """Keeps a copy: whoever made the array may write over it."""
        if array.nbytes <= self._left or not array.nbytes:
            self._left -= array.nbytes
            self._arrays[path] = array.copy()
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as this object)
            weakref.finalize(self, self._file.close)
        offset = self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(array).data)
        self._arrays[path] = _Filed(offset, array.shape, array.dtype)

    def nbytes(self, path: str) -> int:
        """The size of an array, without reading it."""
        found = self._arrays[path]
        return math.prod(found.shape) * found.dtype.itemsize

    def __delitem__(self, path: str) -> None:
        del self._arrays[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


class _Filed(NamedTuple):
    """Where in the file an array lies."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
