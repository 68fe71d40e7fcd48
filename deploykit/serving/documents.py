"""JSON that comes from outside -> plain data, with a limit on its depth; plain data -> JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from deploykit.errors import InputError

MAX_DEPTH = 100

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_TEXT = re.compile(rb'"[^"]*"')
_OTHER = bytes(set(range(256)) - set(b'[]{}"'))


def parse(data: bytes | memoryview) -> dict[str, Any]:
    """The object that the bytes say. Raises `InputError` for anything else, and for more than 100 levels."""
    text = bytes(data)
    if is_deep(text):
        raise InputError(f"the JSON is nested deeper than {MAX_DEPTH} levels")
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
    """Whether brackets are nested deeper than `MAX_DEPTH`. Works at the speed of `bytes.replace`, before anything is parsed."""
    if b"\\" in text:
        text = _ESCAPED.sub(b"", text)
    brackets = _TEXT.sub(b"", text.translate(None, _OTHER))
    for _ in range(MAX_DEPTH):
        inner = brackets.replace(b"[]", b".").replace(b"{}", b".").replace(b".", b"")  # one level, the innermost
        if not inner:
            return False
        if inner == brackets:
            break
        brackets = inner
    else:
        return True
    # What is left is no JSON: its brackets are counted one by one, so that the parser is not given them where they are many.
    depth = deepest = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
        if deepest > MAX_DEPTH:
            return True
    return False


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
