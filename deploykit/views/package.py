"""A packaged repository as a report: one row per model."""

from __future__ import annotations

from deploykit.errors import counted
from deploykit.reports import Column, Report, Table
from deploykit.serving.packaging import Package

_COLUMNS = (
    Column("name", "model"),
    Column("files", "files", "count"),
    Column("rows", "rows of a run", "count"),
    Column("note", "remark"),
)


def report(result: Package) -> Report:
    """What was written, and where rows do not share runs, why."""
    rows = [
        {"name": model.name, "files": len(model.files), "rows": model.max_batch_size or 1, "note": model.note}
        for model in result.models
    ]
    return Report(
        title=f"packaged for {result.kind}",
        document=result.document(),
        headline=f"{counted(len(rows), 'model')} in {result.out}",
        facts=[("manifest", str(file)) for file in result.manifests],
        tables=[Table("", _COLUMNS, rows)],
    )
