"""A simplification as a report: operators before and after."""

from __future__ import annotations

from pathlib import Path

from deploykit.reports import Column, Report, Table
from deploykit.simplifier import Simplified

_COLUMNS = (
    Column("operator", "operator"),
    Column("before", "before", "count"),
    Column("after", "after", "count"),
    Column("change", "change", "count"),
)


def report(result: Simplified) -> Report:
    """One row per operator that either graph has."""
    names = sorted({*result.before, *result.after})
    counts = [(name, result.before.get(name, 0), result.after.get(name, 0)) for name in names]
    rows = [{"operator": n, "before": b, "after": a, "change": a - b} for n, b, a in counts]
    before, after = sum(b for _, b, _ in counts), sum(a for _, _, a in counts)
    totals = {"operator": "total", "before": before, "after": after, "change": after - before}
    return Report(
        title=f"simplified {result.file or 'a model'}",
        document={"file": _text(result.file), "out": _text(result.out), **result.document()},
        headline=("simplified: " if result.applied else "left as it was: ") + result.reason,
        facts=[("written to", str(result.out))] if result.out else [],
        tables=[Table("", _COLUMNS, rows, totals)],
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
