"""Where datasets that are too large to embed lie on this machine, and how they get there."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import DatasetError

VARIABLE = "DEPLOYKIT_DATA"
TIMEOUT = 20.0  # seconds without an answer
HELD_OUT = 0.1  # of the images of each class: for validation, and for the test where none is given


def home(name: str) -> Path:
    """``data/NAME`` under the current folder, or ``NAME`` in the folder that the variable DEPLOYKIT_DATA names."""
    return Path(os.environ.get(VARIABLE) or "data") / name


def download(name: str, fetch: Callable[[], object], folder: Path) -> None:
    """Let `fetch` (one of torchvision's dataset classes, which check what they get) fill `folder`.

    Raises `DatasetError` where that fails: the one line says where the files were looked for and where they can be put.
    """
    made = [place for place in (folder, folder.parent) if not place.exists()]
    try:
        with _impatient(), contextlib.redirect_stdout(sys.stderr):
            fetch()
    except (OSError, HTTPException, RuntimeError, EOFError, ValueError) as error:
        _remove_empty(folder, made)
        reason = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise DatasetError(
            f"the dataset {name} is not in {folder}, and downloading it failed ({reason[-1]})",
            f"put its files there, give their folder with --data, or set {VARIABLE}",
        ) from error


def _remove_empty(folder: Path, made: list[Path]) -> None:
    """What a download that got nothing leaves behind: folders without files."""
    inside = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    for path in [*inside, *made]:
        with contextlib.suppress(OSError):  # it has files, or was never made
            path.rmdir()


def hold_out(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (kept, held): held is `share` of each class, and at least one of a class that has two or more.

    Both are in a mixed order that is the same for the same labels on every machine, for good. Raises `DatasetError` where
    nothing can be held out.
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    kept, held = [], []
    for label in np.unique(labels):
        members = draw.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held.append(members[:count])
        kept.append(members[count:])
    if not sum(map(len, held)):
        raise DatasetError(f"of {len(labels)} samples none can be held out for validation", "every class needs two or more")
    return draw.permutation(np.concatenate(kept)), draw.permutation(np.concatenate(held))


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Sockets give up after `TIMEOUT`: a network that swallows everything would hold a command up for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
