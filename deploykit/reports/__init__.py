"""How results are shown: one text format per file; the name of the file is the name of the format. `draw` writes a picture.

A new format is one new file here with ``render(report: Report) -> str``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deploykit import plugins
from deploykit.lazy import attach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploykit.reports._types import Bars as Bars
    from deploykit.reports._types import Column as Column
    from deploykit.reports._types import Kind as Kind
    from deploykit.reports._types import Lines as Lines
    from deploykit.reports._types import Point as Point
    from deploykit.reports._types import Points as Points
    from deploykit.reports._types import Report as Report
    from deploykit.reports._types import Spread as Spread
    from deploykit.reports._types import Table as Table
    from deploykit.reports._types import Tile as Tile
    from deploykit.reports._values import human_bytes as human_bytes
    from deploykit.reports._values import printable as printable
    from deploykit.reports._values import show as show

# The command line asks for the names of the formats at every start.
__getattr__, _, _lazy = attach(
    __name__,
    {
        "_types": ["Bars", "Column", "Kind", "Lines", "Point", "Points", "Report", "Spread", "Table", "Tile"],
        "_values": ["human_bytes", "printable", "show"],
    },
)
__all__ = [*_lazy, "check_picture", "curves", "draw", "fragment", "names", "render"]


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
