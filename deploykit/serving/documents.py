"""JSON that comes from outside -> plain data, with limits on its size and depth; plain data -> JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from deploykit.errors import InputError
from deploykit.serving.refusals import Refusal

MAX_DEPTH = 100
# Bytes of a document. Python parses it without letting another thread run: with much more, all callers would wait for seconds.
MAX_JSON = 16 << 20
MAX_PARTS = 1 << 20  # lists, objects, texts and escapes of a document: each takes as long as a hundred bytes of numbers
PIECE = 1 << 14  # numbers that are written at once: Python lets no other thread run meanwhile

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


def write_long(document: object) -> bytes:
    """The same bytes, a piece at a time: for what may hold many numbers, in a thread."""
    return b"".join(piece.encode("utf-8", "backslashreplace") for piece in _pieces(document))


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


def _pieces(value: object) -> Iterator[str]:
    """Objects by their entries, lists by as many of theirs as hold `PIECE` numbers."""
    if isinstance(value, dict) and value:
        for place, (key, inner) in enumerate(value.items()):
            yield f"{',' if place else '{'}{_ENCODER.encode(key)}:"
            yield from _pieces(inner)
        yield "}"
    elif isinstance(value, list) and value and (isinstance(value[0], dict) or _numbers_in(value) > PIECE):
        step = 0 if isinstance(value[0], dict) else PIECE // _numbers_in(value[0])
        for place in range(0, len(value), step or 1):
            yield "," if place else "["
            if step:
                yield _ENCODER.encode(value[place : place + step])[1:-1]
            else:
                yield from _pieces(value[place])
        yield "]"
    else:
        yield _ENCODER.encode(value)


def _numbers_in(value: Any) -> int:
    """How many there are in lists within lists, all of them like the first."""
    count = 1
    while isinstance(value, list) and value:
        count *= len(value)
        value = value[0]
    return count


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
