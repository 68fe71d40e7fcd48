"""Files from outside are read once, whole, and only if they are ordinary files of a bearable size."""

from __future__ import annotations

import os
import stat

from deploykit.errors import InputError, first_line

# A pipe would otherwise block until somebody writes to it.
_NON_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def read_file(path: str | os.PathLike[str], limit: int, error: type[InputError]) -> bytes:
    """The bytes of a file of 1 to `limit` bytes. Raises `error` in one line that names the file and says why not."""
    name = shown(path)
    try:
        handle = os.open(path, os.O_RDONLY | _NON_BLOCKING)
    except FileNotFoundError as reason:
        raise error(f"there is no file {name}", "check the path") from reason
    except (OSError, ValueError) as reason:
        raise error(f"cannot open {name}: {first_line(reason)}") from reason
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
            raise error(f"{name} is {what}", "give a file, or a folder that has some")
        with os.fdopen(handle, "rb", closefd=False) as stream:
            data = stream.read(limit + 1) if status.st_size <= limit else None
    except (OSError, MemoryError) as reason:
        raise error(f"cannot read {name}: {first_line(reason)}") from reason
    finally:
        os.close(handle)
    if data is None or len(data) > limit:
        raise error(f"{name} is larger than {limit:,} bytes", "is it the right file?")
    if not data:
        raise error(f"{name} is empty", "is it the right file?")
    return data


def shown(path: str | os.PathLike[str]) -> str:
    """A path as it can be printed anywhere: what is no text, or would move the cursor, is escaped."""
    text = os.fspath(path)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if text.isprintable() and text else ascii(text)
