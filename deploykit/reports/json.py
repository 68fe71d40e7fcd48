"""The report's public document as JSON, indented; what is not finite becomes null, so any parser can read it."""

from __future__ import annotations

import json
import math
from typing import Any

from deploykit.reports._types import Report


def render(report: Report) -> str:
    """One JSON document."""
    text = json.dumps(_finite(report.document), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a path that is no text
        text = json.dumps(_finite(report.document), indent=2, allow_nan=False)
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value
