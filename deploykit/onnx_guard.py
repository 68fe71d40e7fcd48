"""What an ONNX file from a stranger must pass before its objects are built, and numbers that are used before it is run."""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx

from deploykit.errors import ModelFileError
from deploykit.runtime._onnxfile import check_external_data, read_model

MAX_INPUT = 1 << 26  # elements of an input that is made up to try the file


def read(path: Path) -> bytes:
    """The bytes of a file whose size, counts and claims are within bounds, its weights all in its own folder.

    Raises `ModelFileError` in one line.
    """
    data = read_model(path)
    check_external_data(data, path)
    return data


def require_bearable(value: onnx.ValueInfoProto, shape: list[int]) -> None:
    """Raise `ModelFileError` unless an input of this shape can be made up."""
    if min(shape, default=1) < 0 or prod(shape) > MAX_INPUT:
        sizes = "x".join(map(str, shape))
        raise ModelFileError(f"the input {str(value.name)[:80]!r} would be {sizes}", "is it the right file? do not trust it")
