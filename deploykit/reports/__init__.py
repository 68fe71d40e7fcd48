"""How results are shown: one format per file; the name of the file is the name of the format.

A new format is one new file here with ``render(report: Report) -> str``.
"""

from __future__ import annotations

from deploykit import plugins
from deploykit.reports._types import Bars, Column, Kind, Report, Spread, Table
from deploykit.reports._values import human_bytes, printable, show

__all__ = ["Bars", "Column", "Kind", "Report", "Spread", "Table", "human_bytes", "names", "printable", "render", "show"]


def names() -> tuple[str, ...]:
    """Every format, sorted; imports none of them."""
    return plugins.names(__name__)


def render(report: Report, format: str) -> str:  # noqa: A002
    """The report as text in one of the formats. Raises `UnknownName`."""
    text: str = plugins.load(__name__, format, "format").render(report)
    return text
