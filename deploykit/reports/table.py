"""For the terminal: facts, tables and notes; colours and the terminal's width only where the output is a terminal.

In a pipe lines are as long as they need to be. On a screen that is too narrow the minor columns of a table go, and it says so.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from deploykit.reports._types import Column, Report, Table
from deploykit.reports._values import RIGHT, printable, show

UNLIMITED = 10_000
NARROWEST = 60
SPACING = 2  # between two columns


def render(report: Report) -> str:
    """The report as lines; escape codes only if stdout is a terminal that wants colours."""
    terminal = sys.stdout.isatty()
    width = max(NARROWEST, shutil.get_terminal_size().columns) if terminal else UNLIMITED
    out = StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, highlight=False, emoji=False, markup=False)
    if report.title:
        console.print(_text(report.title, "bold"))
    label_width = max((len(label) for label, _ in report.facts), default=0)
    for label, value in report.facts:
        console.print(_text(f"  {label:<{label_width}}  ", "dim") + _text(value))
    for table in report.tables:
        columns = _columns_that_fit(table, width)
        console.print(_grid(table, columns))
        if len(columns) < len(table.columns):
            hidden = ", ".join(column.title for column in table.columns if column not in columns)
            console.print(_text(f"not shown, the terminal is too narrow: {hidden}", "dim"))
    for note in report.notes:
        console.print(_text(note))
    if report.headline:
        console.print(_text(report.headline, {True: "bold green", False: "bold red", None: "bold"}[report.good]))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _grid(table: Table, columns: Sequence[Column]) -> Grid:
    grid = Grid(title=_text(table.title) if table.title else None, title_justify="left", title_style="bold", box=SIMPLE_HEAD,
                show_footer=table.totals is not None, pad_edge=False)  # fmt: skip
    for column in columns:
        right = column.kind in RIGHT
        grid.add_column(
            _text(column.title),
            justify="right" if right else "left",
            footer=_text(_footer(table, column)),
            no_wrap=right,
            overflow="fold",
        )
    for row in table.rows:
        grid.add_row(*(_text(show(row.get(column.key), column.kind)) for column in columns))
    return grid


def _columns_that_fit(table: Table, width: int) -> list[Column]:
    """Every column, or without as many minor ones, from the right, as it takes to fit."""
    kept = list(table.columns)
    needed = {column.key: _width(table, column) + SPACING for column in kept}
    for column in reversed(table.columns):
        if sum(needed[c.key] for c in kept) <= width:
            break
        if column.minor:
            kept.remove(column)
    return kept


def _width(table: Table, column: Column) -> int:
    cells = (show(row.get(column.key), column.kind) for row in table.rows)
    return max(len(column.title), len(_footer(table, column)), *(len(cell) for cell in cells), 0)


def _footer(table: Table, column: Column) -> str:
    value = table.totals.get(column.key, "") if table.totals else ""
    return value if isinstance(value, str) else show(value, column.kind)


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)
