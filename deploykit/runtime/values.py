"""Arrays by name from an `.npz` file: the values of inputs as they occur. Nothing that came with the file is run."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import InputError, first_line, kind_of
from deploykit.files import replacing

MOST_BYTES = 1 << 33  # of all arrays together, unpacked
MOST_ARRAYS = 1024

Values = Mapping[str, NDArray[Any]]
LONE = "input"  # what the only input of a network is called


def of_inputs(given: Mapping[str, Any] | str | os.PathLike[str] | None) -> dict[str, NDArray[Any]] | None:
    """The arrays by input: as they are, from an `.npz` file, or `None` for none.

    Raises `InputError` for a file that is absent, no `.npz`, too large, or holds objects, and for what is no array of numbers.
    """
    if given is None:
        return None
    if isinstance(given, (str, os.PathLike)):
        return _read(Path(given))
    found = {}
    for name, array in given.items():
        value = _array(array, str(name))
        if value.dtype.kind not in "biuf":
            raise InputError(f"the values of {str(name)[:60]!r} are no numbers but {value.dtype}", "give arrays of numbers")
        found[str(name)] = value
    return found


def _array(given: Any, name: str) -> NDArray[Any]:
    """What is or can become an array; a tensor of PyTorch on whatever device, also one that belongs to a gradient."""
    try:
        return np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    except Exception as error:  # bfloat16, sparse tensors, and what only looks like an array
        problem = f"the values of {name[:60]!r} are no array but {kind_of(given)} ({first_line(error, 120)})"
        raise InputError(problem, "give arrays of numbers") from error


def require_names(given: Mapping[str, object], names: Sequence[str], whose: str) -> None:
    """Raise `InputError` for values of an input that is not among `names`, and for an input without values."""
    known = ", ".join(names)[:200]
    unknown = next((name for name in given if name not in names), None)
    if unknown is not None:
        raise InputError(f"{whose} has no input {unknown[:60]!r}", f"it takes {known}")
    missing = next((name for name in names if name not in given), None)
    if missing is not None:
        raise InputError(f"there are no values for the input {missing[:60]!r} of {whose}", f"it takes {known}")


def write(path: Path, arrays: Values) -> None:
    """Write arrays by name as an `.npz` file, whole or not at all. Raises `OutputError`."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **dict(arrays))  # type: ignore[arg-type]  # numpy's stub takes them for its own options


def _read(path: Path) -> dict[str, NDArray[Any]]:
    how = "write it with numpy.savez(FILE, name=array, ...)"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there", how) from error
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise InputError(f"{path} is no .npz file: {first_line(error)}", how) from error
    if not entries or len(entries) > MOST_ARRAYS or sum(entry.file_size for entry in entries) > MOST_BYTES:
        total = sum(entry.file_size for entry in entries)
        limits = f"give 1 to {MOST_ARRAYS} arrays of at most {MOST_BYTES:,} bytes"
        raise InputError(f"{path} holds {len(entries)} arrays of {total:,} bytes", limits)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy, zipfile and zlib have many ways to fail on a broken or hostile archive
        raise InputError(f"{path} cannot be read: {first_line(error, 200)}", how) from error
    return of_inputs(found) or {}
