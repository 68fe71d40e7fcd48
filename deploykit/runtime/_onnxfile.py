"""An ONNX file as bytes, and the little that must be known of it before onnxruntime may read it.

Only what onnxruntime would not tell: which other files its weights lie in. ONNX is a protobuf message; the numbers below are
the field numbers of ModelProto, GraphProto and TensorProto in onnx.proto (https://github.com/onnx/onnx).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from deploykit.errors import ModelFileError
from deploykit.runtime._reading import read_file, shown

MAX_BYTES = (1 << 31) - 1  # protobuf's own limit; larger networks keep their weights beside the file

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_EXTERNAL_DATA = 7, 5, 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_model(path: str | os.PathLike[str]) -> bytes:
    """The whole file, read once: what replaces it afterwards does not matter. Raises `ModelFileError`."""
    return read_file(path, MAX_BYTES, ModelFileError)


def check_external_data(model: bytes, path: Path | None) -> None:
    """Raise `ModelFileError` where weights lie in a file that is missing or outside the model's own folder.

    `path` is where the model came from; `None` for bytes, which have no folder, so their weights must all be inside.
    """
    for location in sorted(external_locations(model)):
        if path is None:
            raise ModelFileError(
                f"the model keeps weights in another file ({location[:80]!r})", "give its path instead of its bytes"
            )
        folder = path.resolve().parent
        try:
            target = (folder / location).resolve()
            inside = not Path(location).is_absolute() and target.is_relative_to(folder)
            there = inside and target.is_file()
        except (OSError, ValueError):
            inside = there = False
        if not inside:
            raise ModelFileError(
                f"{shown(path)} wants weights from outside its folder ({location[:80]!r})", "do not trust this file"
            )
        if not there:
            raise ModelFileError(f"{shown(path)} needs the file {location[:80]!r} beside it, which is not there", "copy both")


def external_locations(model: bytes) -> set[str]:
    """The files named by the graph's weights. A model that cannot be parsed names none: onnxruntime says what is wrong."""
    if b"location" not in model:
        return set()
    found: set[str] = set()
    try:
        for tensor in _nested(memoryview(model), (_MODEL_GRAPH, _GRAPH_INITIALIZER)):
            for entry in _children(tensor, _TENSOR_EXTERNAL_DATA):
                key = b"".join(bytes(k) for k in _children(entry, _ENTRY_KEY))
                if key == b"location":
                    found.update(bytes(v).decode("utf-8", "replace") for v in _children(entry, _ENTRY_VALUE))
    except ValueError:
        return set()
    return found


def _nested(message: memoryview, path: tuple[int, ...]) -> Iterator[memoryview]:
    if not path:
        yield message
        return
    for child in _children(message, path[0]):
        yield from _nested(child, path[1:])


def _children(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The length-delimited fields number `wanted` of one protobuf message. Raises `ValueError` where it is none."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            _, position = _varint(message, position)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _BYTES:
            size, position = _varint(message, position)
            if position + size > end:
                raise ValueError("a field is longer than its message")
            if tag >> 3 == wanted:
                yield message[position : position + size]
            position += size
        else:
            raise ValueError("an unknown kind of field")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        if position >= len(message):
            raise ValueError("the message ends within a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number has too many digits")
