"""Single inputs behind what people name: files, folders, patterns such as "digits/*.png", and anything in between them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import InputError, kind_of
from deploykit.runtime.contract import Contract, ImageInput
from deploykit.runtime.images import SUFFIXES

if TYPE_CHECKING:
    from numpy.typing import NDArray

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

_ARRAYS = (".npy",)
_SEVERAL_ARRAYS = (".npz",)
_SEVERAL = "give a list: predict_many([...]), or ask about one with predict(...)"


def expand(paths: Paths, contract: Contract | None = None) -> Iterator[str]:
    """The single files behind files, folders and patterns. What leads nowhere is given as it is: reading it says why."""
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    suffixes = _suffixes(contract)
    for path in several:
        text = os.fsdecode(path)
        if glob.has_magic(text) and not os.path.lexists(text):
            matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (pathlib has no absolute patterns)
            for match in matches or [text]:
                yield from _files(match, suffixes)
        else:
            yield from _files(text, suffixes)


def each(sources: Any, contract: Contract) -> Iterator[Any]:
    """The single inputs behind several: one path as `expand` does, all else as it is; an array is taken for a batch of inputs.

    In a list nothing is expanded: there is one answer per entry, so that a caller may go through both side by side.
    Raises `InputError` for what is one input, such as an image or its bytes: iterated, it would fall into rows or numbers.
    """
    if isinstance(sources, (str, os.PathLike)):
        return expand(sources, contract)
    if isinstance(sources, np.ndarray):
        _require_batch(sources, contract)
    one = isinstance(sources, (bytes, bytearray, memoryview, Mapping)) or hasattr(sources, "read") or hasattr(sources, "getexif")
    if one or not isinstance(sources, Iterable):
        raise InputError(f"{kind_of(sources)} is not several inputs", _SEVERAL)
    return iter(sources)


def _suffixes(contract: Contract | None) -> tuple[str, ...]:
    """Ends of the names of files that hold an input."""
    if contract is not None and len(contract.inputs) > 1:
        return _SEVERAL_ARRAYS
    return SUFFIXES if contract is None or isinstance(contract.input, ImageInput) else _ARRAYS


def _require_batch(array: NDArray[Any], contract: Contract) -> None:
    """Raise `InputError` for an array that is one input; one of three axes is a batch of grey images, or one in colour."""
    if len(contract.inputs) > 1:
        raise InputError(f"an array cannot be {len(contract.inputs)} inputs", "give a list of dicts of arrays by name")
    rules = contract.input
    if isinstance(rules, ImageInput):
        one = array.ndim < 3 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    else:
        one = array.ndim <= len(rules.shape)
    if one:
        raise InputError(f"an array of shape {array.shape} is not several inputs", _SEVERAL)


def _files(path: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """The file itself, or the files with one of `suffixes` in a folder; an empty folder is given back, to be refused by name."""
    if not os.path.isdir(path):  # noqa: PTH112  # asked of every input: a Path costs more than the answer
        yield path
        return
    empty = True
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(suffixes) and not name.startswith("."):
                empty = False
                yield str(Path(folder) / name)
    if empty:
        yield path
