"""For the terminal: facts, tables and notes; colours and the terminal's width only where the output is a terminal.

In a pipe lines are as long as they need to be. How a table fits on a screen says `_layout`; a column that does not is named below.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from deploykit.reports import _layout
from deploykit.reports._layout import MARGIN, Layout, Measure
from deploykit.reports._types import Column, Report, Table
from deploykit.reports._values import RIGHT, printable, show

UNLIMITED = 10_000
NARROWEST = 60
INDENT = 2  # of sentences below their row


def render(report: Report) -> str:
    """The report as lines; escape codes only if stdout is a terminal that wants colours."""
    terminal = sys.stdout.isatty()
    width = max(NARROWEST, shutil.get_terminal_size().columns) if terminal else UNLIMITED
    out = StringIO()
    # With a height, too: without one rich takes a terminal that calls itself dumb for 80 columns wide.
    console = Console(file=out, force_terminal=terminal, width=width, height=25, highlight=False, emoji=False, markup=False)
    if report.title:
        console.print(_text(report.title, "bold"))
    label_width = max((len(label) for label, _ in report.facts), default=0)
    for label, value in report.facts:
        head = f"  {label:<{label_width}}  "
        for line in _folded(value, width - len(head)):
            console.print(_text(head, "dim") + _text(line))
            head = " " * len(head)
    for table in report.tables:
        _print_table(console, table, width)
    for note in report.notes:
        console.print(_text(note))
    if report.headline:
        console.print(_text(report.headline, {True: "bold green", False: "bold red", None: "bold"}[report.good]))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _print_table(console: Console, table: Table, width: int) -> None:
    layout = _layout.fit(table.columns, {column.key: _measure(table, column) for column in table.columns}, width)
    if table.title:
        console.print(_text(table.title, "bold"))
    console.print()
    for line in _heading(layout):
        console.print(_text(line, "bold"))
    length = sum(layout.widths) + layout.gap * (len(layout.widths) - 1)
    console.print(_text(" " * MARGIN + "─" * length))
    for row in table.rows:
        for line in _lines(layout, [show(row.get(column.key), column.kind) for column in layout.columns]):
            console.print(_text(line))
        for line in _below(layout, row, width):
            console.print(_text(line, "dim"))
    if table.totals is not None:
        console.print()
        for line in _lines(layout, [_footer(table, column) for column in layout.columns]):
            console.print(_text(line, "bold"))
    console.print()
    if layout.hidden:
        hidden = ", ".join(column.title for column in layout.hidden)
        console.print(_text(f"not shown, the terminal is too narrow: {hidden}", "dim"))


def _measure(table: Table, column: Column) -> Measure:
    cells = [show(row.get(column.key), column.kind) for row in table.rows]
    longest = max(map(cell_len, [_footer(table, column), *cells]))
    title = printable(column.title)
    return Measure(longest, cell_len(title), max(map(cell_len, title.split()), default=0))


def _heading(layout: Layout) -> Iterator[str]:
    """The titles, folded to their columns; the last lines stand on one level."""
    titles = [_folded(column.title, width) for column, width in zip(layout.columns, layout.widths, strict=True)]
    height = max(map(len, titles), default=0)
    for cells in zip(*([""] * (height - len(lines)) + lines for lines in titles), strict=True):
        yield _padded(layout, [[cell] for cell in cells], 0)


def _lines(layout: Layout, cells: Sequence[str]) -> Iterator[str]:
    """One row: names shortened to their columns; sentences folded, which makes further lines."""
    parts = [
        _folded(cell, width) if column.kind == "prose" else [_shortened(cell, width)]
        for column, width, cell in zip(layout.columns, layout.widths, cells, strict=True)
    ]
    yield from (_padded(layout, parts, index) for index in range(max(map(len, parts), default=0)))


def _padded(layout: Layout, parts: Sequence[Sequence[str]], index: int) -> str:
    cells = []
    for column, width, lines in zip(layout.columns, layout.widths, parts, strict=True):
        cell = lines[index] if index < len(lines) else ""
        right = column.kind in RIGHT
        cells.append(" " * (width - cell_len(cell)) + cell if right else set_cell_size(cell, max(width, cell_len(cell))))
    return (" " * MARGIN + (" " * layout.gap).join(cells)).rstrip()


def _below(layout: Layout, row: Mapping[str, Any], width: int) -> Iterator[str]:
    for column in layout.below:
        text = show(row.get(column.key), column.kind) if row.get(column.key) else ""
        yield from (" " * INDENT + line for line in _folded(text, width - INDENT) if line)


def _shortened(text: str, width: int) -> str:
    """Without its middle where it is too long: both ends of a path say which one it is."""
    if cell_len(text) <= width:
        return text
    end = (width - 1) // 2
    tail = text[-end:] if end else ""
    while cell_len(tail) > end:
        tail = tail[1:]
    return set_cell_size(text, width - 1 - cell_len(tail)) + "…" + tail


def _folded(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters, folded at spaces; a longer word is cut."""
    if cell_len(text := printable(text)) <= width:
        return [text]
    lines = Text(text).wrap(_FOLDING, max(1, width), overflow="fold")
    return [line.plain.rstrip() for line in lines]


_FOLDING = Console(file=StringIO())


def _footer(table: Table, column: Column) -> str:
    value = table.totals.get(column.key, "") if table.totals else ""
    return value if isinstance(value, str) else show(value, column.kind)


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)
