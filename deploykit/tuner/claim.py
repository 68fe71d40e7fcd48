"""One tuning at a time writes a result: two would remove each other's files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deploykit import files
from deploykit.errors import InputError


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Be the only one that tunes for `out`, until the end of the block or of the process.

    The lock is a file among the temporary ones, by the name of the result: what lies beside that is removed and made anew. Without
    locks on this system, or a place for the file, nothing is asked. Raises `InputError` where another process is at it.
    """
    handle, path = _locked(out)
    try:
        yield
    finally:
        if handle is not None:
            path.unlink(missing_ok=True)
            os.close(handle)


def _locked(out: Path) -> tuple[int | None, Path]:
    owner = os.getuid() if hasattr(os, "getuid") else 0
    name = hashlib.sha256(os.fsencode(out.resolve())).hexdigest()[:24]
    path = Path(tempfile.gettempdir()) / f"deploykit-tune-{owner}-{name}.lock"
    while files.LOCKS:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError:
            break
        if files.lock(handle) is False:
            os.close(handle)
            raise InputError(f"another process tunes for {out} at this moment", "wait for it, or choose another --out")
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle, path
        os.close(handle)  # whoever had it has just removed it
    return None, path
