"""A report as a piece of HTML that stands inside of somebody else's page, such as a cell of a notebook.

No script, no style sheet and no colour of its own for text or ground: it looks like the page around it, in light and in dark, and
stays readable where a viewer takes all styles away. Long tables are folded and cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from deploykit.reports._types import Column, Report, Table
from deploykit.reports._values import RIGHT, printable, show

WIDE = 9  # columns of a table that is not too wide for a cell; the minor ones beyond go
SHORT = 16  # rows that are shown without folding
UNBROKEN = 32  # characters of a text that stays on one line
MOST = 200  # rows that are shown at all
_MOODS = {True: ("#2e9e5b", "&#10003; "), False: ("#d9534f", "&#10007; "), None: ("#7f8c9b", "")}  # seen on white and on black


def render(report: Report) -> str:
    """The report without its charts."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield '<div style="line-height:1.4">'
    if report.title:
        yield f'<div style="font-size:1.1em;font-weight:bold">{_text(report.title)}</div>'
    if report.headline:
        colour, sign = _MOODS[report.good]
        style = f"border-left:4px solid {colour};padding:.2em .6em;margin:.4em 0;font-weight:bold"
        yield f'<div style="{style}">{sign}{_text(report.headline)}</div>'
    if report.facts:
        rows = "".join(f"<tr>{_cell('th', label, 'left')}{_cell('td', value, 'left')}</tr>" for label, value in report.facts)
        yield f"<table>{rows}</table>"
    for table in report.tables:
        yield from _table(table)
    if report.notes:
        yield "<ul>" + "".join(f"<li>{_text(note)}</li>" for note in report.notes) + "</ul>"
    yield "</div>"


def _table(table: Table) -> Iterator[str]:
    folded = len(table.rows) > SHORT
    title = _text(table.title or f"{len(table.rows)} rows")
    if folded:
        yield f"<details><summary>{title}</summary>"
    elif table.title:
        yield f'<div style="font-weight:bold;margin-top:.6em">{title}</div>'
    yield '<div style="overflow-x:auto"><table><thead><tr>'
    columns = _columns(table)
    yield "".join(_cell("th", column.title, _side(column)) for column in columns)
    yield "</tr></thead><tbody>"
    yield from (_row(columns, row) for row in table.rows[:MOST])
    yield "</tbody>"
    if table.totals is not None:
        yield f"<tfoot>{_row(columns, table.totals, 'th', gap='')}</tfoot>"
    yield "</table></div>"
    if len(table.rows) > MOST:
        yield f"<div>the first {MOST} of {len(table.rows)} rows; print() shows all</div>"
    if folded:
        yield "</details>"


def _columns(table: Table) -> list[Column]:
    kept = list(table.columns)
    for column in reversed(table.columns):
        if len(kept) > WIDE and column.minor:
            kept.remove(column)
    return kept


def _row(columns: Sequence[Column], row: Mapping[str, Any], tag: str = "td", gap: str = "-") -> str:
    values = ((column, row.get(column.key)) for column in columns)
    cells = (_cell(tag, gap if value is None else show(value, column.kind), _side(column)) for column, value in values)
    return f"<tr>{''.join(cells)}</tr>"


def _cell(tag: str, text: str, side: str) -> str:
    wrap = ";white-space:nowrap" if side == "right" or len(text) < UNBROKEN else ""
    return f'<{tag} style="text-align:{side};padding:.1em .6em{wrap}">{_text(text)}</{tag}>'


def _side(column: Column) -> str:
    return "right" if column.kind in RIGHT else "left"


def _text(text: str) -> str:
    return escape(printable(text), quote=True)
