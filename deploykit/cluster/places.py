"""Files by their name, here or in a store: "/data/a.png", "s3://bucket/a.png". Stores are those of pyarrow, as in Ray Data."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any

from deploykit.errors import InputError, first_line

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_uri(place: str) -> bool:
    """Whether a text names something in a store rather than a local file."""
    return _SCHEME.match(place) is not None


@functools.lru_cache(maxsize=64)
def _store(root: str) -> tuple[Any, str]:
    from pyarrow import fs

    try:
        return fs.FileSystem.from_uri(root)
    except Exception as error:  # pyarrow raises ValueError, OSError and errors of its own
        raise InputError(
            f"{root} cannot be reached: {first_line(error)}",
            "s3://, gs://, hdfs:// and file:// can be read, where pyarrow has them",
        ) from error


def store_of(uri: str) -> tuple[Any, str]:
    """A URI -> pyarrow's filesystem and the path in it. Raises `InputError`."""
    scheme, rest = uri.split("://", 1)
    host = rest.split("/", 1)[0].split("?", 1)[0]
    if scheme == "file" or "?" in rest or not host:
        return _store(uri)
    found, _ = _store(f"{scheme}://{host}")
    return found, rest.rstrip("/")


def joined(uri: str, path: str) -> str:
    """The URI of `path`, which a store gave, in the place of that of `uri`."""
    scheme, _ = uri.split("://", 1)
    query = "?" + uri.split("?", 1)[1] if "?" in uri else ""
    return f"{scheme}://{path}{query}"


def read(place: str) -> bytes:
    """The bytes of a file. Raises `OSError` (`FileNotFoundError` where it is not there), and `InputError` for no place."""
    if not is_uri(place):
        return Path(place).read_bytes()
    found, path = store_of(place)
    with found.open_input_stream(path, compression=None) as stream:
        data: bytes = stream.read()
    return data


def opened(place: str) -> Any:
    """An open file for pyarrow, which seeks in it. Raises as `read` does."""
    if not is_uri(place):
        return Path(place).open("rb")
    found, path = store_of(place)
    return found.open_input_file(path)


def is_there(place: str) -> bool:
    """Whether there is a file or folder of that name, or anything below it; also `False` where nobody answers."""
    if not is_uri(place):
        return os.path.lexists(place)
    try:
        found, path = store_of(place)
        return bool(found.get_file_info(path).type.name != "NotFound")
    except (OSError, InputError):
        return False


def folder_of(place: str) -> str:
    """What a place lies in."""
    return place.rsplit("/", 1)[0] if is_uri(place) else os.path.dirname(place) or "."  # noqa: PTH120  # texts, a million of them


class Remote:
    """A file in a store that is read when somebody asks for its bytes: `Predictor` takes it for an open file."""

    def __init__(self, place: str) -> None:
        self._place = place

    def read(self, size: int = -1) -> bytes:
        """The first `size` bytes. Raises as `read` of this module."""
        found, path = store_of(self._place)
        with found.open_input_stream(path, compression=None) as stream:
            data: bytes = stream.read(size) if size >= 0 else stream.read()
        return data
