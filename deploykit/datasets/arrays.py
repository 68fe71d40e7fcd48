"""Your own arrays in a file of ``numpy.savez``: samples `x` and what is to be told of them, `y`; given with ``--data FILE.npz``.

Whole numbers in `y` are the numbers of classes from 0, other numbers are values to be told: (n,) or (n, outputs). `x` is (n, ...):
numbers for networks that take arrays, or images as uint8 (n, height, width) or (n, height, width, 3). A tenth is held out for
validation and a tenth for the test, unless the file has `x_test` and `y_test` (`x_validation` and `y_validation`), too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.datasets._local import HELD_OUT, hold_out
from deploykit.datasets._types import Dataset, Split
from deploykit.datasets.folder import title
from deploykit.errors import DatasetError, InputError
from deploykit.runtime import values

FILES = (".npz",)
SEED = 2006
MOST_CLASSES = 10_000
SPELLINGS = (("x", "y"), ("inputs", "targets"), ("data", "target"))
OTHERS = {"validation": ("validation", "val", "valid"), "test": ("test",)}
HOW = "write it with numpy.savez(FILE, x=samples, y=targets)"

Arrays = tuple[NDArray[Any], NDArray[Any]]


def recognizes(folder: Path) -> bool:
    """Whether it is a file of numpy's."""
    return folder.is_file() and folder.suffix.lower() in FILES


def load(folder: Path | None = None) -> Dataset:
    """float32 or uint8 samples; int64 (n,) classes or float32 (n, outputs) values.

    Raises `DatasetError` for a file that cannot be read, without `x` and `y`, of lengths that differ, with NaN, or with one class
    alone.
    """
    if folder is None:
        raise DatasetError("the dataset 'arrays' is a file of your own arrays", "give its path: --data FILE.npz")
    try:
        found = {name.lower(): array for name, array in (values.of_inputs(folder) or {}).items()}
    except InputError as error:
        raise DatasetError(error.problem, HOW) from error
    parts = {"train": _pair(found, folder, ("", "_train"))}
    if parts["train"] is None:
        raise DatasetError(f"{folder} has the arrays {', '.join(sorted(found))[:120] or 'of no name'}, not x and y", HOW)
    parts |= {name: _pair(found, folder, tuple(f"_{each}" for each in ends)) for name, ends in OTHERS.items()}
    classes = _classes([pair[1] for pair in parts.values() if pair is not None], folder)
    for index, name in enumerate(OTHERS):
        train = parts["train"]
        if parts[name] is None and train is not None:
            parts["train"], parts[name] = _divided(train, HELD_OUT / (1 - index * HELD_OUT), SEED + index)
    given = {name: pair for name, pair in parts.items() if pair is not None}
    splits = {name: _split(*pair, classes is not None) for name, pair in given.items()}
    return Dataset(title(folder).replace("folder", "file", 1), splits["train"], splits["validation"], splits["test"], classes)


def _pair(found: dict[str, NDArray[Any]], file: Path, ends: tuple[str, ...]) -> Arrays | None:
    """The samples and targets whose names end like that, checked; `None` where there are none."""
    names = [(f"{x}{end}", f"{y}{end}") for end in ends for x, y in SPELLINGS]
    name = next((pair for pair in names if pair[0] in found and pair[1] in found), None)
    if name is None:
        return None
    x, y = found[name[0]], found[name[1]]
    if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
        raise DatasetError(
            f"{file} has {name[0]} of shape {x.shape} and {name[1]} of shape {y.shape}", "give one target for each sample"
        )
    for array, called in ((x, name[0]), (y, name[1])):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DatasetError(f"{called} in {file} has NaN or infinite numbers", "leave those samples out")
    return x, y


def _classes(targets: list[NDArray[Any]], file: Path) -> tuple[str, ...] | None:
    """The classes by their numbers, `None` where the targets are values."""
    if any(y.dtype.kind == "f" for y in targets):
        return None
    low, high = min(int(y.min()) for y in targets), max(int(y.max()) for y in targets)
    if low < 0 or high >= MOST_CLASSES or any(y.squeeze().ndim > 1 for y in targets):
        raise DatasetError(
            f"{file} has whole numbers from {low} to {high} for targets: no numbers of classes",
            f"classes are (n,), 0 to {MOST_CLASSES - 1}; give values to be told as float32",
        )
    if high < 1:
        raise DatasetError(f"{file} has one class; a classifier needs two or more", "give values to be told as float32")
    return tuple(map(str, range(high + 1)))


def _divided(pair: Arrays, share: float, seed: int) -> tuple[Arrays, Arrays]:
    x, y = pair
    discrete = y.dtype.kind != "f" and y.squeeze().ndim == 1
    kept, held = hold_out(y.reshape(len(y)).astype(np.int64) if discrete else np.zeros(len(y), np.int64), share, seed)
    return (x[kept], y[kept]), (x[held], y[held])


def _split(x: NDArray[Any], y: NDArray[Any], classes: bool) -> Split:
    image = x.dtype == np.uint8 and (x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 3))
    samples = list(x if image else x.astype(np.float32))
    return Split(samples, y.reshape(len(y)).astype(np.int64) if classes else y.reshape(len(y), -1).astype(np.float32))
