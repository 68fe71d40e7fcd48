"""Values as people read them; one place for all formats."""

from __future__ import annotations

import math
from typing import Any

from deploykit.reports._types import Kind

RIGHT = frozenset({"count", "bytes", "ms", "seconds", "percent", "peak", "ratio", "score", "number"})


def show(value: Any, kind: Kind) -> str:  # noqa: C901 - one case per kind
    """A value of a column as text: 61706 -> "61,706", 0.987 percent -> "98.7 %", (1, 32) shape -> "1x32", None -> "-"."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return printable(value)
    match kind:
        case "shape":
            return "x".join(str(size) for size in value) if value else "scalar"
        case "count":
            return f"{value:,}"
        case "bytes":
            return human_bytes(value)
        case "ms":
            return f"{value:.3g}" if value < 100 else f"{value:.0f}"
        case "seconds":
            return f"{value:.1f} s"
        case "percent":
            return f"{100 * value:.1f} %"
        case "peak":
            return f"{100 * value:.1f} %" if value <= 1 else "over 100 %"
        case "ratio":
            return f"{value:.2f}x"
        case "score":
            return score(value)
        case "number":
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        case _:
            return printable(str(value))


def short(value: float, kind: Kind) -> str:
    """What fits in a chart or a tile: 115,605,504 as "116 M"; what is no large count as `show` has it."""
    if kind != "count" or abs(value) < 10_000:
        return show(value, kind)
    power = min(4, int(math.log10(abs(value) * 1.0005) // 3))
    return f"{value / 1000**power:.3g} {' kMGT'[power]}"


def with_unit(text: str, kind: Kind) -> str:
    """The text of a value with the unit that `show` leaves to the heading of a column."""
    return f"{text} ms" if kind == "ms" else text


def score(value: float) -> str:
    """Four digits; what is not quite 1, or not quite 0, is not shown as such."""
    text = f"{value:.4f}"
    if text == "1.0000" and value < 1:
        return ">0.9999"
    return "<0.0001" if text == "0.0000" and value > 0 else text


def printable(text: str) -> str:
    """The text with what would move a cursor, ring a bell or start a new line written out: names come from files of strangers."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def human_bytes(count: float) -> str:
    """Bytes with a unit of 1000: 247_000 -> "247.0 kB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
