"""What an ONNX file from a stranger must pass before its objects are built: bounds on what it claims, and a rehearsal."""

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
    """The bytes of the file at `path`, after its counts were found within bounds and its weights all in its folder.

    onnx's checker, its shape inference and one run of onnxruntime were then tried on it in a child process, once per content, and
    did not crash. Raises `ModelFileError` in one line.
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
    """Call every native function that will read the file, each also after one before it raised; then raise the last exception."""
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
