"""For spreadsheets and scripts: the first table, plain numbers.

The header holds the column keys. Shapes are ``1x6x28x28``, whole numbers have no separators, times are in the unit that the
key names, a share is 0..1, a gap is empty. Where the table has totals they are the last row, which begins with ``total``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from deploykit.reports._types import Column, Report
from deploykit.reports._values import printable, show

# A spreadsheet would run a cell that begins with one of these; layer names come from files of strangers.
_FORMULA = ("=", "+", "-", "@")


def render(report: Report) -> str:
    """The first table; nothing for a report without one."""
    if not report.tables:
        return ""
    table = report.tables[0]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.key for column in table.columns])
    for row in (*table.rows, *([table.totals] if table.totals is not None else [])):
        writer.writerow([_cell(row, column) for column in table.columns])
    return out.getvalue().removesuffix("\n")


def _cell(row: Mapping[str, Any], column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return repr(value)
    if column.kind == "shape":
        return show(value, "shape")
    text = printable(str(value))
    return f"'{text}" if text.startswith(_FORMULA) else text
