"""One page that needs nothing else: no network, no fonts, no library. Charts are inline SVG, tables sort on a click.

Everything that comes from a report is escaped. The page follows the reader's light or dark setting and is legible on a phone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from deploykit.reports import _charts
from deploykit.reports._types import Bars, Column, Report, Table
from deploykit.reports._values import RIGHT, printable, show

_HERE = Path(__file__).parent
# No request of any kind can leave the page, whatever a layer is called.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def render(report: Report) -> str:
    """The whole report as one HTML document."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    title = _text(report.title or "deploykit")
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{(_HERE / '_page.css').read_text()}</style></head><body><main>"
    yield f"<h1>{title}</h1>"
    if report.headline:
        mood = {True: "good", False: "bad", None: "plain"}[report.good]
        yield f'<p class="headline {mood}">{_text(report.headline)}</p>'
    if report.facts:
        yield "<dl>" + "".join(f"<dt>{_text(label)}</dt><dd>{_text(value)}</dd>" for label, value in report.facts) + "</dl>"
    for table in report.tables:
        if table.summary:
            yield from _table(table)
    yield from _figures(report)
    for table in report.tables:
        if not table.summary:
            yield from _table(table)
    if report.notes:
        yield "<ul>" + "".join(f"<li>{_text(note)}</li>" for note in report.notes) + "</ul>"
    yield f"</main><script>{(_HERE / '_page.js').read_text()}</script></body></html>"


def _figures(report: Report) -> Iterator[str]:
    """In two columns where there is room."""
    if not report.charts:
        return
    yield '<div class="figures">'
    for chart in report.charts:
        drawn = _charts.bars(chart) if isinstance(chart, Bars) else _charts.spread(chart)
        yield f"<figure><figcaption>{_text(chart.title)}</figcaption>{drawn}</figure>"
    yield "</div>"


def _table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"<h2>{_text(table.title)}</h2>"
    yield '<div class="scroll"><table><thead><tr>'
    for column in table.columns:
        yield f'<th scope="col"{_class(column)}><button type="button">{_text(column.title)}</button></th>'
    yield "</tr></thead><tbody>"
    yield from (_row(table, row, "td") for row in table.rows)
    yield "</tbody>"
    if table.totals is not None:
        yield f"<tfoot>{_row(table, table.totals, 'td', gap='')}</tfoot>"
    yield "</table></div>"


def _row(table: Table, row: Mapping[str, Any], tag: str, gap: str = "-") -> str:
    cells = []
    for column in table.columns:
        value = row.get(column.key)
        shown = gap if value is None else _text(show(value, column.kind))
        order = f' data-value="{value!r}"' if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
        cells.append(f"<{tag}{_class(column)}{order}>{shown}</{tag}>")
    return f"<tr>{''.join(cells)}</tr>"


def _class(column: Column) -> str:
    return ' class="number"' if column.kind in RIGHT else ""


def _text(text: str) -> str:
    return escape(printable(text), quote=True)
