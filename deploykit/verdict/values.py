"""The outputs of many layers, kept without filling the memory: what is more than a budget goes to a file that has no name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUDGET = 128 << 20  # bytes; three sets are held at once, and a network of gigabytes leaves little room


class Values(MutableMapping[str, NDArray[Any]]):
    """Arrays by module path, in the order in which they came. Above `budget` bytes they are mapped from a temporary file."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        self._left = budget
        self._file: Any = None

    def __getitem__(self, path: str) -> NDArray[Any]:
        return self._arrays[path]

    def __setitem__(self, path: str, array: NDArray[Any]) -> None:
        """Keeps a copy: whoever made the array may write over it."""
        if array.nbytes <= self._left or not array.nbytes:
            self._left -= array.nbytes
            self._arrays[path] = array.copy()
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the arrays that are mapped from it)
        offset = self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(array).data)
        self._file.flush()
        self._arrays[path] = np.memmap(self._file, array.dtype, "r", offset, array.shape)

    def __delitem__(self, path: str) -> None:
        del self._arrays[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)
