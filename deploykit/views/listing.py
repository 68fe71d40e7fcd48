"""The lists of what there is, as reports."""

from __future__ import annotations

from typing import Any

from deploykit import plugins
from deploykit.reports import Column, Report, Table

_ARCHITECTURES = (
    Column("name", "name"),
    Column("input_shape", "input", "shape"),
    Column("params", "params", "count"),
    Column("macs", "MACs", "count"),
    Column("dataset", "dataset"),
    Column("trained", "trained"),
    Column("summary", "what it is", "prose"),
)
_OTHERS = (Column("name", "name"), Column("summary", "what it is", "prose"))


def report(kind: str) -> Report:
    """`kind`: "architectures", "datasets", "backends" or "formats"."""
    rows = _architectures() if kind == "architectures" else _plugins(kind)
    columns = _ARCHITECTURES if kind == "architectures" else _OTHERS
    shown = [{**row, "trained": "yes" if row.get("trained") else ""} for row in rows]
    return Report(title="", document=rows, tables=[Table("", columns, shown)])


def _architectures() -> list[dict[str, Any]]:
    from deploykit.profiler import list_architectures

    return list_architectures()


def _plugins(kind: str) -> list[dict[str, Any]]:
    """One file each; the first line of the file says what it is."""
    package = {"formats": "deploykit.reports"}.get(kind, f"deploykit.{kind}")
    return [{"name": name, "summary": plugins.summary(package, name)} for name in plugins.names(package)]
