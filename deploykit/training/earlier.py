"""What an earlier run left in the folder of a new one is set aside, not overwritten: it may have taken weeks.

The files of the earlier run, finished or not, are kept together in ``previous-1``, ``previous-2`` and so on, in the order
in which they were made. This happens when the new run has something to put in their place, at the end of its first epoch:
until then a run that fails or is stopped has changed nothing. A set that holds a `resume.pt` can be resumed where it lies.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deploykit import files
from deploykit.errors import OutputError, first_line
from deploykit.network import checkpoint
from deploykit.training import record

FOLDER = "previous-"
RESUME = "resume.pt"
# Not the exported file: export owns it, and an app may be reading it.
FILES = (checkpoint.NAME, RESUME, *record.FILES)


def set_aside(folder: Path) -> Path | None:
    """Keep an earlier run's files in a folder of their own; gives that folder, or `None` where there was nothing.

    At every moment `folder` has the old weights or the new ones: they stay under their name too until they are replaced,
    while whatever describes them leaves with them. Raises `OutputError`.
    """
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if not any(path.name in (checkpoint.NAME, RESUME) for path in found):
        return None
    try:
        with files.scratch_folder(folder) as temporary:
            whole = temporary / "run"
            whole.mkdir()
            for path in found:
                _duplicate(path, whole / path.name)
            kept = whole.rename(_next(folder))
        for path in found:
            if path.name != checkpoint.NAME:
                path.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot set the earlier run in {folder} aside: {first_line(error)}", "free the space or choose another --out"
        ) from error
    return kept


def _duplicate(path: Path, copy: Path) -> None:
    """A second name for the same bytes where the file system has that, else a copy; either outlives a replaced `path`."""
    try:
        os.link(path.resolve(), copy)  # a link to weights would show the new ones
    except OSError:
        shutil.copy2(path, copy)


def _next(folder: Path) -> Path:
    numbers = [int(p.name.removeprefix(FOLDER)) for p in folder.glob(f"{FOLDER}*") if p.name.removeprefix(FOLDER).isdecimal()]
    return folder / f"{FOLDER}{max(numbers, default=0) + 1}"
