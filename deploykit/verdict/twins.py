"""Stored weights under other names than the network's: which tensor is meant, and whether it was changed in a few places.

A tool that renames values leaves the numbers as they are. A tensor of the same shape that holds most of the same numbers, but not
all, is the network's with something changed, which no batch need show: a row of a table that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import counted

LEAST_ELEMENTS = 64  # in a tensor that can be recognized
LEAST_SHARE = 0.5  # of the elements other than zero that are equal in a tensor that was changed
SAMPLE = 4096  # elements that are looked at first
# Relative, of one element: what weight norm leaves of a weight whose norm it has not changed, g * v / |v|, is no change.
ROUNDING = 16.0 * float(np.finfo(np.float32).eps)

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Changed:
    """A tensor of the file that is one of the network's but for some elements."""

    found: str
    own: str
    elements: int

    def told(self, whose: str) -> str:
        """In words."""
        return f"{self.found} is {whose} {self.own} but for {counted(self.elements, 'element')}"


def compare(found: Arrays, own: Arrays) -> tuple[int, Changed | None]:
    """How many tensors of `found`, by the file's names, equal one of `own`, by the network's; and the first changed one.

    Tensors of at least two axes and `LEAST_ELEMENTS`; a matrix may be turned. Tensors that are made anew, as by folding, are
    neither, nor are those that differ by rounding alone.
    """
    wanted = {name: array for name, array in own.items() if _told(array)}
    equal = 0
    rest: dict[str, NDArray[Any]] = {}
    for name, array in found.items():
        if not _told(array):
            continue
        twin = next((path for path, right in wanted.items() if _share(array, right) == 1.0), None)
        if twin is None:
            rest[name] = array
        else:
            equal += 1
            del wanted[twin]
    for name, array in rest.items():
        for path, right in wanted.items():
            if _share(array, right) > LEAST_SHARE and (elements := _apart(array, right)):
                return equal, Changed(name, path, elements)
    return equal, None


def _told(array: NDArray[Any]) -> bool:
    return array.ndim > 1 and array.size >= LEAST_ELEMENTS and array.dtype.kind == "f"


def _share(found: NDArray[Any], right: NDArray[Any]) -> float:
    """The share of elements other than zero that are equal, 0..1, in the better of two turns; 0 for other shapes."""
    return max((_equal(found, turned) for turned in _turns(found, right)), default=0.0)


def _turns(found: NDArray[Any], right: NDArray[Any]) -> list[NDArray[Any]]:
    return [each for each in ((right, right.T) if right.ndim == 2 else (right,)) if each.shape == found.shape]


def _equal(found: NDArray[Any], right: NDArray[Any]) -> float:
    a, b = found.reshape(-1), right.reshape(-1)
    step = max(1, a.size // SAMPLE)
    first = _of_some(a[::step], b[::step])
    return first if first < LEAST_SHARE else _of_some(a, b)


def _of_some(a: NDArray[Any], b: NDArray[Any]) -> float:
    some = (a != 0) | (b != 0)
    return float(np.mean(a[some] == b[some])) if some.any() else 0.0


def _apart(found: NDArray[Any], right: NDArray[Any]) -> int:
    """How many elements differ by more than rounding, in the better of two turns."""
    return min(int(np.sum(~_near(found, turned))) for turned in _turns(found, right))


def _near(found: NDArray[Any], right: NDArray[Any]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore", over="ignore"):  # of infinities
        near: NDArray[np.bool_] = (found == right) | (np.abs(found - right) <= ROUNDING * np.abs(right))
    return near
