"""How results are shown: one text format per file; the name of the file is the name of the format. `draw` writes a picture.

A new format is one new file here with ``render(report: Report) -> str``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploykit import plugins
from deploykit.reports._types import Bars, Column, Kind, Lines, Point, Points, Report, Spread, Table, Tile
from deploykit.reports._values import human_bytes, printable, show

__all__ = [
    "Bars", "Column", "Kind", "Lines", "Point", "Points", "Report", "Spread", "Table", "Tile", "check_picture", "curves", "draw",
    "fragment", "human_bytes", "names", "printable", "render", "show",
]  # fmt: skip


def names() -> tuple[str, ...]:
    """Every format, sorted; imports none of them."""
    return plugins.names(__name__)


def render(report: Report, format: str) -> str:  # noqa: A002
    """The report as text in one of the formats. Raises `UnknownName`."""
    text: str = plugins.load(__name__, format, "format").render(report)
    return text


def fragment(report: Report) -> str:
    """The report without its charts as HTML to be put into another page, such as a cell of a notebook."""
    from deploykit.reports import _fragment

    return _fragment.render(report)


def check_picture(path: Path) -> None:
    """Raise what `draw` would raise for this path: `InputError` for the suffix, `OutputError` for the file."""
    from deploykit.reports import _picture

    _picture.check_picture(path)


def curves(title: str, panels: Sequence[Lines], best: int = 0) -> bytes:
    """Values per epoch as a PNG file, the epoch `best` marked (0: none). Raises `DependencyMissing` without matplotlib."""
    from deploykit.reports import _curves

    return _curves.png(title, panels, best)


def draw(report: Report, path: Path) -> None:
    """Write the report's charts as a .png, .svg or .pdf file. Raises `InputError`, `OutputError`, `DependencyMissing`."""
    from deploykit.reports import _picture

    _picture.draw(report, path)
