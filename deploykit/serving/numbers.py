"""Numbers as JSON says them, in lists within lists -> arrays of one type, none of them changed beyond rounding."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_AXES = 32
_KINDS: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}


def array_of(data: object, dtype: np.dtype[Any], what: str, called: str) -> NDArray[Any]:
    """Lists of equal length in each other -> an array of their shape. `what`, and `called` for its type, stand in messages.

    Every number is looked at before any array is made: numpy gives each element the room of the longest text among them. Raises
    `InputError` for lists of several lengths, for what is no number of that type, and for numbers that the type has not.
    """
    numbers, shape = _flat(data, what)
    if not set(map(type, numbers)) <= _KINDS[dtype.kind]:
        wanted = "true and false" if dtype.kind == "b" else f"numbers of {called}"
        raise InputError(f"{what} holds something else than {wanted}")
    found = _converted(numbers, dtype)
    if found is None:
        raise InputError(f"{what} holds numbers that {called} has not")
    return found.reshape(shape)


def _flat(data: object, what: str) -> tuple[list[Any], tuple[int, ...]]:
    """The leaves in row-major order, and the shape that the lists around them make."""
    if type(data) is not list:
        return [data], ()
    shape = [len(data)]
    while data and type(data[0]) is list:
        lengths = set(map(len, data)) if set(map(type, data)) == {list} else set()
        if len(lengths) != 1 or len(shape) == MAX_AXES:
            raise InputError(f"{what} is ragged, deeper than {MAX_AXES} lists, or holds something else than numbers")
        shape += lengths
        data = list(chain.from_iterable(data))
    return data, tuple(shape)


def _converted(numbers: list[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """`None` where one is too large or too small. By way of a wide type, as numpy's versions differ in what a short one does."""
    if dtype.kind == "b":
        return np.array(numbers, dtype)
    wide = np.dtype(np.float64 if dtype.kind == "f" else np.uint64 if dtype == np.uint64 else np.int64)
    if wide.kind == "u" and numbers and min(numbers) < 0:
        return None
    try:
        found = np.array(numbers, wide)
    except OverflowError:
        return None
    if dtype.kind != "f" and found.size and not _has(dtype, found):
        return None
    with np.errstate(over="ignore"):
        found = found.astype(dtype, copy=False)
    return found if dtype.kind != "f" or np.isfinite(found).all() else None


def _has(dtype: np.dtype[Any], found: NDArray[Any]) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= int(found.min()) and int(found.max()) <= limits.max
