"""JSON that comes from outside -> plain data, with limits on its size and depth; plain data -> JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from deploykit.errors import InputError
from deploykit.serving.refusals import Refusal

MAX_DEPTH = 100
# Bytes of a document. Python parses it without letting another thread run: with much more, all callers would wait for seconds.
MAX_JSON = 16 << 20
MAX_PARTS = 1 << 20  # lists, objects, texts and escapes of a document: each takes as long as a hundred bytes of numbers

_OTHERWISE = "send tensors as binary data, images as files"
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_OTHER = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def parse(data: bytes | memoryview) -> dict[str, Any]:
    """The object that the bytes say. Raises `InputError` for anything else and beyond 100 levels, `Refusal` beyond 16 MiB."""
    if len(data) > MAX_JSON:
        raise Refusal(413, f"a JSON document may have {MAX_JSON} bytes; {_OTHERWISE}")
    text = bytes(data)
    if is_deep(text):
        raise InputError(f"the JSON is nested deeper than {MAX_DEPTH} levels")
    if len(text) > MAX_PARTS and sum(map(text.count, (b"[", b"{", b"\\"))) + text.count(b'"') // 2 > MAX_PARTS:
        raise Refusal(413, f"a JSON document may have {MAX_PARTS} lists, objects, texts and escapes; {_OTHERWISE}")
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is no valid JSON: {str(error)[:120]}") from error
    if not isinstance(document, dict):
        raise InputError("the request must be a JSON object")
    return document


def write(document: object) -> bytes:
    """Compact UTF-8. Raises `ValueError` for NaN and infinities."""
    return _ENCODER.encode(document).encode("utf-8", "backslashreplace")


def is_deep(text: bytes) -> bool:
    """Whether brackets are nested deeper than `MAX_DEPTH`: before anything is parsed, in time that grows with the text alone."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return False
    if b"\\" in text:  # pairs first: what is left of a row of them is one before a quote, or none
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    signs = np.frombuffer(text.translate(None, _OTHER), np.uint8)
    within = np.cumsum(signs == ord('"'), dtype=np.uint8) & 1  # an odd number of quotes before it; 256 are even
    levels = np.cumsum(np.where(within, 0, _STEPS[signs]), dtype=np.int32)
    return int(levels.max(initial=0)) > MAX_DEPTH


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
