"""For READMEs and issues: GitHub's Markdown. The last row of a table with totals is in bold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deploykit.reports._types import Report, Table
from deploykit.reports._values import RIGHT, printable, show

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def render(report: Report) -> str:
    """The whole report."""
    return "\n".join(_lines(report)).strip()


def _lines(report: Report) -> Iterator[str]:
    if report.title:
        yield from (f"## {_text(report.title)}", "")
    if report.headline:
        yield from (f"**{_text(report.headline)}**", "")
    if report.facts:
        yield from (f"- {_text(label)}: {_text(value)}" for label, value in report.facts)
        yield ""
    for table in report.tables:
        yield from _table(table)
    if report.notes:
        yield from (f"- {_text(note)}" for note in report.notes)


def _table(table: Table) -> Iterator[str]:
    if table.title:
        yield from (f"### {_text(table.title)}", "")
    yield _row([_text(column.title) for column in table.columns])
    yield _row(["---:" if column.kind in RIGHT else "---" for column in table.columns])
    for row in table.rows:
        yield _row(_cells(table, row))
    if table.totals is not None:
        yield _row([f"**{cell}**" if cell else "" for cell in _cells(table, table.totals, gap="")])
    yield ""


def _cells(table: Table, row: Mapping[str, Any], gap: str = "-") -> list[str]:
    return [gap if row.get(c.key) is None else _text(show(row[c.key], c.kind)) for c in table.columns]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", printable(text))
