"""Whether two models gave the same answers, on everything that onnxruntime can give: arrays of numbers or texts, sequences, maps.

Floating point numbers may differ by rounding; everything else, shapes and types included, must be equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import kind_of

ULPS = 64  # of float32 at the scale of the output: folding constants may round once more per layer
TOLERANCE = ULPS * float(np.finfo(np.float32).eps)  # relative to the scale


def difference(names: Sequence[str], expected: Sequence[Any], found: Sequence[Any]) -> str:
    """The first difference between two lists of outputs called `names`, in words; empty where there is none."""
    if not len(names) == len(expected) == len(found):
        return f"there are {len(found)} outputs instead of {len(expected)}"
    return next(filter(None, map(_difference, names, expected, found)), "")


def _difference(name: str, a: Any, b: Any) -> str:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return _of_arrays(name, a, b)
    if type(a) is not type(b):
        return f"{name} became {_kind(b)} instead of {_kind(a)}"
    if isinstance(a, list):
        return _of_lists(name, a, b)
    if isinstance(a, Mapping):
        if a.keys() != b.keys():
            return f"{name} has other keys"
        return _of_lists(name, list(a.values()), [b[key] for key in a])
    if isinstance(a, (float, np.floating)):
        return _of_numbers(name, np.asarray(a), np.asarray(b))
    if a is None or isinstance(a, (str, bytes, int, np.generic)):
        return "" if a == b else f"{name} changed from {a!r:.40} to {b!r:.40}"
    return f"{name} is {_kind(a)}, which cannot be compared"


def _of_lists(name: str, a: Sequence[Any], b: Sequence[Any]) -> str:
    if len(a) != len(b):
        return f"{name} has {len(b)} parts instead of {len(a)}"
    return next(filter(None, (_difference(f"{name}[{place}]", x, y) for place, (x, y) in enumerate(zip(a, b, strict=True)))), "")


def _of_arrays(name: str, a: NDArray[Any], b: NDArray[Any]) -> str:
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{name} became {_kind(b)} instead of {_kind(a)}"
    if a.dtype.kind == "f":
        return _of_numbers(name, a, b)
    if a.dtype.kind not in "iubOUS":
        return f"{name} is {_kind(a)}, which cannot be compared"
    changed = np.asarray(a != b)
    return f"{name} changed in {int(changed.sum())} of {changed.size} places" if changed.any() else ""


def _of_numbers(name: str, a: NDArray[Any], b: NDArray[Any]) -> str:
    """Equal numbers, equal infinities and NaN at the same place are equal; the scale is the largest finite number of `a`."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(a) & np.isfinite(b)
    if not (equal | finite).all():
        place = tuple(int(index) for index in np.argwhere(~(equal | finite))[0])
        return f"{name} became {b[place]} where it was {a[place]:.4g}"
    changed = finite & ~equal
    if not changed.any():
        return ""
    with np.errstate(over="ignore"):  # infinite is larger than any tolerance
        largest = float(np.max(np.abs(a[changed] - b[changed])))
    scale = float(np.max(np.abs(a[np.isfinite(a)])))
    if scale == 0:
        return f"{name} was all zero and changed by {largest:.1e}"
    return f"{name} changed by {largest / scale:.1e} of its scale" if largest > TOLERANCE * scale else ""


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {'x'.join(map(str, value.shape)) or 'scalar'}"
    return kind_of(value)
