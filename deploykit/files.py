"""Files that are whole or not there: every write goes to a temporary file beside the target, is flushed, then renamed.

A kill at any moment leaves the old file or the new one. What a killed writer left behind is removed by the next writer
to the same target: a temporary file is locked while it is written, so one that can be locked has no owner. Windows has no
such locks: its renames are atomic too, and what a killed writer left stays for the user to remove.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deploykit.errors import OutputError, first_line

try:
    import fcntl

    LOCKS = True
except ImportError:  # Windows
    LOCKS = False
WINDOWS = os.name == "nt"

SCRATCH = re.compile(r"\.deploykit-scratch-[0-9a-f]{16}\.tmp")  # the name of a scratch folder
MARKER = ".deploykit-scratch"  # the file in it that says whose it is, and is locked while it is used
MAX_LINKS = 40  # symbolic links one after the other, as in Linux
KINDS = {
    stat.S_IFDIR: "it is a folder",
    stat.S_IFIFO: "it is a pipe",
    stat.S_IFCHR: "it is a device",
    stat.S_IFBLK: "it is a device",
    stat.S_IFSOCK: "it is a socket",
}
# Flags that not every system has. A link or a pipe of that name must neither be followed nor waited for.
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_OPEN = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on a clean exit it replaces `path`, on an error it is removed.

    Raises `OutputError` as `real_path` does, and where the folder cannot be made, written or is full.
    """
    with temporary(path) as written:
        yield written
        publish(written, path)


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `real_path(path)`, for content whose final name is not known yet; see `publish`.

    It is gone at the end. Raises `OutputError` as `real_path` does, and where the folder cannot be made, written or is full.
    """
    target = real_path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        handle, written = _make_temporary(target)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {first_line(error)}", "choose a folder that can be written with --out") from error
    try:
        yield written
    except OSError as error:
        raise OutputError(f"cannot write {path}: {first_line(error)}", "free the space or choose another --out") from error
    finally:
        written.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def publish(written: Path, path: Path) -> None:
    """Let a temporary file become `real_path(path)`, flushed to the disk; it keeps the owner and permissions of what it replaces.

    Raises `OutputError` as `real_path` does, and `OSError`, which `temporary` turns into `OutputError`.
    """
    target = real_path(path)
    handle = os.open(written, _OPEN)
    try:
        if target.exists():
            _resemble(handle, target.stat())
        os.fsync(handle)
    finally:
        os.close(handle)  # before the rename: Windows does not rename an open file
    os.replace(written, target)  # noqa: PTH105  # the tests watch the order of these calls
    _flush_folder(target.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all. Raises `OutputError`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all; what UTF-8 cannot say is escaped. Raises `OutputError`."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def real_path(path: Path) -> Path:
    """The regular file that a write to `path` replaces or makes: links are followed, also one to a file that is not there yet.

    Raises `OutputError` for anything else that is there (a folder, pipe, device, socket; a standard stream, which may be a
    regular file that others go on writing to), and for a link into a folder that is not there.
    """
    try:
        target = _follow(path)
        found = _kind(target)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise OutputError(f"cannot write {path}: {reason}", "choose another file with --out") from error
    if target is None:
        raise OutputError(f"cannot write {path}: it is a stream of a process", "choose the name of a file")
    if found not in (None, stat.S_IFREG):
        raise OutputError(f"cannot write {path}: {KINDS.get(found or 0, 'it is no regular file')}", "choose the name of a file")
    if found is None and path.is_symlink() and not target.parent.is_dir():
        raise OutputError(
            f"cannot write {path}: it is a link to {target}, whose folder is not there", "make it, or remove the link"
        )
    return target


def writable_file(path: Path) -> None:
    """Raise `OutputError` now if `path` cannot be written: before long work, not after it. Leaves nothing."""
    writable_folder(real_path(path).parent)


def writable_folder(folder: Path) -> None:
    """Raise `OutputError` now if `folder` cannot take a file or be made: before long work, not after it. Leaves nothing."""
    existing = folder.absolute()
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    try:
        handle, probe = _make_temporary(existing / "probe")
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}: {first_line(error)}", "choose a folder that can be written with --out"
        ) from error
    probe.unlink(missing_ok=True)
    if handle is not None:
        os.close(handle)


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Give a new folder in `parent` (the system's temporary folder) for files that nobody keeps; it is removed in the end.

    What killed processes of this user left of theirs in `parent` is removed first: a folder is known by its name and by a
    marker in it, which holds that name and can be locked. Raises `OutputError` where no folder can be made.
    """
    try:
        parent = parent or Path(tempfile.gettempdir())
        _remove_abandoned_folders(parent)
        handle, folder = _make_scratch(parent)
    except OSError as error:
        where = parent or "the system's temporary folder"
        raise OutputError(f"cannot make a folder in {where}: {first_line(error)}", "free the space, or set TMPDIR") from error
    try:
        yield folder
    finally:
        os.close(handle)
        _remove_scratch(folder)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _follow(path: Path) -> Path | None:
    """Where the links that begin at `path` end, by its real folder; `None` where one of them is an open file of a process."""
    for _ in range(MAX_LINKS):
        folder = os.path.realpath(path.parent)
        if f"{folder}/".startswith(("/proc/", "/dev/fd/")):
            return None
        if not path.is_symlink():
            return Path(folder, path.name)
        path = Path(folder, path.readlink())
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _kind(path: Path | None) -> int | None:
    """One of `KINDS` or `stat.S_IFREG`; `None` where nothing is there."""
    try:
        return None if path is None else stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _make_temporary(target: Path) -> tuple[int | None, Path]:
    """Make an empty file beside `target`; gives the handle that keeps it locked (`None` where there are no locks) and its path.

    The system gives it the permissions of any new file. In place of a file that is there it has that one's, and is this user's
    to write.
    """
    old = target.stat() if target.exists() else None
    while True:
        written = target.parent / f".{target.name}.deploykit-{os.urandom(8).hex()}.tmp"
        handle = os.open(written, _CREATE, 0o666 if old is None else 0o600)
        if old is not None:
            _resemble(handle, old, least=0o600)
        if not LOCKS:
            os.close(handle)
            return None, written
        if _claim(handle, written):
            return handle, written
        os.close(handle)


def _claim(handle: int, path: Path) -> bool:
    """Lock a file that was just made. False where another process took it for abandoned before that: it has it, or had it."""
    return lock(handle) is not False and path.exists()


def _remove_abandoned(target: Path) -> None:
    """Remove the temporary files of killed writers to `target`."""
    if not LOCKS:
        return
    name = re.compile(rf"\.{re.escape(target.name)}\.deploykit-[0-9a-f]{{16}}\.tmp")
    for stale in _named(target.parent, name):
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(stale.lstat().st_mode):
                continue
            handle = os.open(stale, _OPEN)
            try:
                if lock(handle):
                    stale.unlink()
            finally:
                os.close(handle)


def _make_scratch(parent: Path) -> tuple[int, Path]:
    """Make a folder with a marker in it; gives the handle that keeps the marker locked, and the folder.

    The marker is locked before it says anything, so one that does and can be locked belongs to a process that ended.
    """
    while True:
        folder = parent / f".deploykit-scratch-{os.urandom(8).hex()}.tmp"
        folder.mkdir(mode=0o700)
        handle = None
        try:
            handle = os.open(folder / MARKER, _CREATE, 0o600)
            if not LOCKS or _claim(handle, folder / MARKER):
                os.write(handle, _marker(folder))
                return handle, folder
            os.close(handle)
        except OSError:
            if handle is not None:
                os.close(handle)
            _remove_scratch(folder)
            raise


def _marker(folder: Path) -> bytes:
    """What the marker of a scratch folder holds. A copy of the folder has another name, and is nobody's to remove."""
    return f"deploykit removes the folder {folder.name}\n".encode()


def _remove_abandoned_folders(parent: Path) -> None:
    """Remove the scratch folders of this user in `parent` whose processes ended."""
    if not LOCKS:
        return
    for folder in _named(parent, SCRATCH):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            handle = os.open(folder / MARKER, _OPEN)
            try:
                if os.read(handle, 1000) == _marker(folder) and lock(handle):
                    _remove_scratch(folder)
            finally:
                os.close(handle)


def _remove_scratch(folder: Path) -> None:
    """Remove a scratch folder, as far as that can be; the marker last, so that a kill in here leaves it to the next process."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name == MARKER:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        (folder / MARKER).unlink(missing_ok=True)
        folder.rmdir()


def _named(folder: Path, name: re.Pattern[str]) -> list[Path]:
    try:
        return [folder / found for found in os.listdir(folder) if name.fullmatch(found)]  # noqa: PTH208  # names only
    except OSError:
        return []


def lock(handle: int) -> bool | None:
    """Lock an open file until it is closed, without waiting. False: another has it. `None`: its file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _resemble(handle: int, old: os.stat_result, least: int = 0) -> None:
    """Give an open file the owner and group (where this user may) and the permissions of the file that it replaces.

    `least`: permissions that it has in any case. On Windows, which has neither, nothing.
    """
    if WINDOWS:
        return
    now = os.fstat(handle)
    if (now.st_uid, now.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(handle, old.st_uid, old.st_gid)
        except OSError:
            with contextlib.suppress(OSError):
                os.fchown(handle, -1, old.st_gid)
    os.fchmod(handle, old.st_mode & 0o777 | least)


def _flush_folder(folder: Path) -> None:
    """Ask the disk to hold the names in a folder, so that a rename survives a power cut. Windows and some file systems cannot."""
    if WINDOWS:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
