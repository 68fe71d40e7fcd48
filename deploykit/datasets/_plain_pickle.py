"""Reads a pickle that holds plain data and numpy arrays, and nothing else: no code of its own ever runs.

CIFAR's files are pickles, and a pickle may name any function and have it called. Here the only names it may use are
those by which numpy arrays are written, and even these stand for small records in this file: numpy itself is not
called before what they hold has been checked.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import DatasetError

LARGEST = 1 << 28  # bytes; a file of CIFAR has 31 million
MAX_STEPS = 1_000_000  # opcodes; a file of CIFAR has 40 thousand


def read(path: Path) -> Any:
    """What the pickle holds; arrays of bytes as uint8 arrays, Python 2's texts as `bytes`.

    Raises `DatasetError` for a file that wants anything else, is damaged, or is larger than `LARGEST`.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise DatasetError(f"{path} is larger than {LARGEST} bytes", "is it the right file?")
        _require_bearable(data)
        return _arrays(_PlainUnpickler(io.BytesIO(data), encoding="bytes").load(), depth=0)
    except _RefusedError as error:
        raise DatasetError(
            f"{path} was refused: its pickle asks for {error}, which is not data", "fetch the original file"
        ) from error
    except (pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
            ImportError, MemoryError, OverflowError, RecursionError) as error:  # fmt: skip
        raise DatasetError(f"{path} cannot be read as a pickle ({type(error).__name__})", "is it whole? fetch it again") from error


def _require_bearable(data: bytes) -> None:
    """Raise `_RefusedError` for too many steps, or a place in the memo beyond them: room is made up to that place at once."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count > MAX_STEPS:
            raise _RefusedError(f"more than {MAX_STEPS} steps")
        if "PUT" in opcode.name and isinstance(argument, int) and argument > MAX_STEPS:
            raise _RefusedError(f"place {argument} of its memo")


class _RefusedError(Exception):
    """The name of something that is not data."""


@dataclass
class _Array:
    """Stands for an array while the pickle is read: what numpy would have been told."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def values(self) -> NDArray[np.uint8]:
        """The array, if it is one of bytes. Raises `_RefusedError` for any other."""
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, _Dtype) or dtype.code not in (b"u1", "u1", b"|u1", "|u1") or not isinstance(data, bytes):
            raise _RefusedError("an array that is not of bytes")
        return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


@dataclass
class _Dtype:
    """Stands for the type of an array's values."""

    code: object = None

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment: of no meaning for bytes."""


def _empty_array(*_: object) -> _Array:
    return _Array()


def _dtype(code: object, *_: object) -> _Dtype:
    return _Dtype(code)


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    return _Array((1, shape, dtype, order == "F", bytes(data) if isinstance(data, bytes | bytearray) else None))


def _encode(text: object, encoding: object) -> bytes:
    """How Python 3 writes bytes into a pickle that Python 2 can read."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError("a conversion other than to bytes")
    return text.encode("latin1")


_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _NAMES:
            raise _RefusedError(f"{module}.{name}"[:80])
        return _NAMES[module, name]


def _arrays(value: Any, depth: int) -> Any:
    """The same with arrays in the place of what stood for them; as deep as CIFAR's files go."""
    if isinstance(value, _Array):
        return value.values()
    if isinstance(value, dict) and depth == 0:
        return {key: _arrays(item, depth + 1) for key, item in value.items()}
    return value
