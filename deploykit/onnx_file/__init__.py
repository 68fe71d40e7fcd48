"""The ONNX file: reading and writing it, its contract, its graphs and inputs, and sessions on it."""

from __future__ import annotations

from deploykit.onnx_file.file import (
    get_contract,
    has_contract,
    number_type,
    operators,
    opset,
    read,
    read_whole,
    set_contract,
    to_bytes,
    write,
)

__all__ = [
    "get_contract",
    "has_contract",
    "number_type",
    "operators",
    "opset",
    "read",
    "read_whole",
    "set_contract",
    "to_bytes",
    "write",
]
