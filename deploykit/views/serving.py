"""What a server began to serve, as a report: where it listens, one row per version of a model."""

from __future__ import annotations

from typing import Any

from deploykit.errors import counted
from deploykit.reports import Column, Report, Table

_COLUMNS = (
    Column("name", "model"),
    Column("version", "version"),
    Column("device", "device"),
    Column("verdict", "verdict"),
    Column("rows", "rows of a run", "count"),
    Column("note", "remark"),
)


def report(address: str, grpc_port: int | None, models: list[dict[str, Any]]) -> Report:
    """`models`: what `deploykit.serving.description.contract` says of each version."""
    keys = ("name", "version", "device", "verdict", "max_batch_size", "note")
    rows = [{**{key: model[key] for key in keys}, "rows": model["max_batch_size"] or 1} for model in models]
    return Report(
        title=f"serving on {address}",
        document={"address": address, "grpc_port": grpc_port, "models": [{key: model[key] for key in keys} for model in models]},
        headline=f"{counted(len(models), 'model')} on {address}",
        facts=[("gRPC", f"port {grpc_port}")] if grpc_port else [],
        tables=[Table("", _COLUMNS, rows)],
    )
