"""What an ONNX file from a stranger must pass before its objects are built, and numbers that are used before it is run."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import onnx

from deploykit.runtime.isolation import isolated, run_on_zeros
from deploykit.runtime.onnx_bytes import check_external_data, read_model

REMEMBERED = 64  # files that were rehearsed, by their digest

_rehearsed: OrderedDict[bytes, None] = OrderedDict()


def read(path: Path) -> bytes:
    """The bytes of a file whose counts and claims are within bounds, its weights all in its folder, and that kills nobody.

    The last is tried in a child process: onnx's checker, its shape inference and one run of onnxruntime, once per content.
    Raises `ModelFileError` in one line.
    """
    data = read_model(path)
    size = len(data) + check_external_data(data, path)
    digest = hashlib.sha256(data).digest()
    if digest not in _rehearsed:
        isolated(lambda: _rehearse(data, path), str(path), size)
        _rehearsed[digest] = None
        while len(_rehearsed) > REMEMBERED:
            _rehearsed.popitem(last=False)
    return data


def _rehearse(data: bytes, path: Path) -> bytes:
    """Every native function that will read the file; what one of them raises keeps none of the others from their turn."""
    attempts = (
        lambda: onnx.checker.check_model(data, full_check=True),
        lambda: onnx.shape_inference.infer_shapes(data, check_type=False, strict_mode=False, data_prop=True),
        lambda: run_on_zeros(data, path.resolve().parent),
    )
    failure: Exception | None = None
    for attempt in attempts:
        try:
            attempt()
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure
    return b""
