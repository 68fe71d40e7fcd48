"""One page that needs nothing else: no network, no fonts, no library. Tables sort, filter and fold; no script is needed to read it.

Everything that comes from a report is escaped. The page follows the reader's light or dark setting and is legible on a phone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

from deploykit.reports import _charts
from deploykit.reports._types import Bars, Column, Points, Report, Table, Tile
from deploykit.reports._values import RIGHT, printable, short, show, with_unit

DENSE = 11  # columns from which on a table is set smaller on a screen that is not wide
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
    yield f"<h1>{_text(report.heading) or title}</h1>"
    if report.headline:
        mood = {True: "good", False: "bad", None: "plain"}[report.good]
        yield f'<p class="headline {mood}">{_text(report.headline)}</p>'
    if report.tiles:
        yield f'<div class="tiles">{"".join(map(_tile, report.tiles))}</div>'
    if report.facts:
        yield "<dl>" + "".join(f"<dt>{_text(label)}</dt><dd>{_text(value)}</dd>" for label, value in report.facts) + "</dl>"
    for table in report.tables:
        if table.summary:
            yield from _table(table)
    yield from _figures(report)
    for table in sorted((*report.tables, *report.page_tables), key=lambda table: not table.depths):  # a tree is the overview
        if not table.summary:
            yield from _table(table)
    if report.notes:
        yield "<ul>" + "".join(f"<li>{_text(note)}</li>" for note in report.notes) + "</ul>"
    yield f"</main><script>{(_HERE / '_page.js').read_text()}</script></body></html>"


def _tile(tile: Tile) -> str:
    """A large number, short; whole under the pointer."""
    value = with_unit(short(tile.value, tile.kind), tile.kind)
    return f'<div title="{_text(show(tile.value, tile.kind))}"><b>{_text(value)}</b> {_text(tile.label)}</div>'


def _figures(report: Report) -> Iterator[str]:
    """Histograms as wide as the page; bars in two columns where there is room, and of one height, so that nothing gapes."""
    if not report.charts:
        return
    series = max((len(chart.series) for chart in report.charts if isinstance(chart, Bars)), default=1)
    yield '<div class="figures">'
    for chart in report.charts:
        if isinstance(chart, Bars):
            kind, drawn = "half", _charts.bars(chart, series)
        else:
            kind, drawn = "wide", _charts.points(chart) if isinstance(chart, Points) else _charts.spread(chart)
        yield f'<figure class="{kind}"><figcaption>{_text(chart.title)}</figcaption>{drawn}</figure>'
    yield "</div>"


def _table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"<h2>{_text(table.title)}</h2>"
    yield f'<div class="scroll" tabindex="0"><table class="{_look(table)}"><thead><tr>'
    for column in table.columns:
        yield f'<th scope="col"{_class(column)}><button type="button">{_text(column.title)}</button></th>'
    yield "</tr></thead><tbody>"
    yield from (_row(table, row, depth) for row, depth in zip_longest(table.rows, table.depths))
    yield "</tbody>"
    if table.totals is not None:
        yield f"<tfoot>{_row(table, table.totals, gap='')}</tfoot>"
    yield "</table></div>"


def _look(table: Table) -> str:
    return ("tree" if table.depths else "list") + (" dense" if len(table.columns) >= DENSE else "")


def _row(table: Table, row: Mapping[str, Any], depth: int | None = None, gap: str = "-") -> str:
    """`depth`: of the row in a tree, which indents its name; `None` where there is no tree."""
    cells = []
    for index, column in enumerate(table.columns):
        value = row.get(column.key)
        inner = depth is not None and index == 0
        if inner:
            value = row.get("name", value)
        shown = gap if value is None else _text(show(value, column.kind))
        order = f' data-value="{value!r}"' if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
        indent = f' style="--depth:{depth}"' if inner else ""
        cells.append(f"<td{_class(column)}{order}{indent}>{shown}</td>")
    opening = "<tr>" if depth is None else f'<tr data-depth="{depth}">'
    return f"{opening}{''.join(cells)}</tr>"


def _class(column: Column) -> str:
    """Numbers stand on the right; neither they nor shapes are broken into two lines."""
    return ' class="number"' if column.kind in RIGHT else ' class="whole"' if column.kind == "shape" else ""


def _text(text: str) -> str:
    return escape(printable(text), quote=True)
