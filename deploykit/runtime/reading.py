"""Files from outside are read once, whole, and only if they are ordinary files of a bearable size."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from deploykit.errors import InputError, ModelFileError, first_line

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
            if stat.S_ISDIR(status.st_mode):
                raise error(f"{name} is a folder", _instead(path, error))
            raise error(f"{name} is no ordinary file", "give a file")
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


def _instead(folder: str | os.PathLike[str], error: type[InputError]) -> str:
    """What to give for a folder: the models in it are named, images are found by `predict` itself."""
    if error is not ModelFileError:
        return "give a file; a folder that has some can be given alone"
    models = sorted(str(found) for found in Path(os.fsdecode(folder)).glob("*.onnx"))
    return f"give the ONNX file in it: {shown(models[0])}" if len(models) == 1 else "give an ONNX file"


def read_stream(stream: Any, limit: int, error: type[InputError], name: str) -> bytes:
    """The bytes that an open file, or anything else with `read`, still has; it stays open. Raises `error` in one line."""
    try:
        data = stream.read(limit + 1)
    except Exception as reason:  # whatever somebody else's stream raises
        raise error(f"{name} cannot be read ({type(reason).__name__}: {first_line(reason, 120)})", "give its bytes") from reason
    if not isinstance(data, (bytes, bytearray, memoryview)):
        if hasattr(data, "close"):
            data.close()  # a coroutine that nobody awaits would warn
            raise error(f"{name} is read asynchronously", "give its bytes: await file.read()")
        raise error(f"{name} gives {type(data).__name__}, not bytes", 'open the file with open(path, "rb")')
    if not 0 < len(data) <= limit:
        raise error(f"{name} has no bytes left" if not data else f"{name} is larger than {limit:,} bytes", "is it the right file?")
    return bytes(data)


def shown(path: str | os.PathLike[str]) -> str:
    """A path as it can be printed anywhere: what is no text, or would move the cursor, is escaped."""
    text = os.fspath(path)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if text.isprintable() and text else ascii(text)
