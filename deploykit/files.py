"""Files that are whole or not there: every write goes to a temporary file beside the target, is flushed, then renamed.

A kill at any moment leaves the old file or the new one. What a killed writer left behind is removed by the next writer
to the same target: a temporary file is locked while it is written, so one that can be locked has no owner.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deploykit.errors import OutputError

try:
    import fcntl

    LOCKS = True
except ImportError:  # Windows: renames are still atomic, stale files are left for the user
    LOCKS = False


SCRATCH = "deploykit-"
LOCK = ".lock"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on a clean exit it replaces `path`, on an error it is removed.

    Raises `OutputError` where the folder cannot be made, written or is full.
    """
    with temporary(path) as written:
        yield written
        publish(written, path)


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, for content whose final name is not known yet; see `publish`. Gone at the end.

    Raises `OutputError` where the folder cannot be made, written or is full.
    """
    handle, written = _open_temporary(path)
    try:
        yield written
    except OSError as error:
        raise OutputError(f"cannot write {path}: {_reason(error)}", "free the space or choose another --out") from error
    finally:
        written.unlink(missing_ok=True)
        os.close(handle)


def publish(written: Path, path: Path) -> None:
    """Let a temporary file become `path`, flushed to the disk. Raises `OSError`, which `temporary` turns into `OutputError`."""
    _flush(written)
    written.chmod(0o666 & ~_umask())
    written.replace(path)
    _flush(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def writable_folder(folder: Path) -> None:
    """Raise `OutputError` now if `folder` cannot take a file or be made: before long work, not after it. Leaves nothing."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    handle, temporary = _open_temporary(existing / "probe", folder)
    temporary.unlink(missing_ok=True)
    os.close(handle)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for files that nobody keeps, removed in the end; what killed processes left of theirs is removed first."""
    parent = Path(tempfile.gettempdir())
    _remove_abandoned_folders(parent)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=parent))
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileNotFoundError:  # another process took it for abandoned before it was locked
            continue
        _lock(handle)
        if (folder / LOCK).exists():
            break
        os.close(handle)
    try:
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _open_temporary(path: Path, asked: Path | None = None) -> tuple[int, Path]:
    prefix = f".{path.name}."
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        _remove_abandoned(path.parent, prefix)
        while True:
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)
            _lock(handle)
            if Path(name).exists():
                return handle, Path(name)
            os.close(handle)  # another writer took it for abandoned before it was locked
    except OSError as error:
        raise OutputError(
            f"cannot write {asked or path}: {_reason(error)}", "choose a folder that can be written with --out"
        ) from error


def _remove_abandoned(folder: Path, prefix: str) -> None:
    if not LOCKS:
        return
    for stale in folder.glob(f"{prefix}*.tmp"):
        with contextlib.suppress(OSError):
            handle = os.open(stale, os.O_RDWR)
            try:
                if _lock(handle):
                    stale.unlink()
            finally:
                os.close(handle)


def _remove_abandoned_folders(parent: Path) -> None:
    if not LOCKS:
        return
    for folder in parent.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            if not (folder / LOCK).exists():
                folder.rmdir()  # empty, or it stays
                continue
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if _lock(handle):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def _lock(handle: int) -> bool:
    if not LOCKS:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _flush(path: Path) -> None:
    """Ask the disk to hold what was written; folders too, so that the rename itself survives a power cut."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
