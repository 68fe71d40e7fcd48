"""A training result as a report."""

from __future__ import annotations

from deploykit.errors import word
from deploykit.network import checkpoint
from deploykit.network.request import Target
from deploykit.reports import Column, Report, Table, show
from deploykit.training import TrainingResult
from deploykit.training.tasks import SHARES

LAST_EPOCHS = 10


def report(result: TrainingResult) -> Report:
    """Metrics first, the last epochs, then what to type next."""
    kind = "percent" if result.metric in SHARES else "number"
    facts = [(f"{split} {result.metric.replace('_', ' ')}", show(value, kind)) for split, value in result.metrics.items()]  # type: ignore[arg-type]
    facts += [
        ("epochs", str(result.epochs)),
        ("time", show(result.seconds, "seconds")),
        ("checkpoint", str(result.checkpoint)),
    ]
    if result.previous is not None:
        facts.append(("earlier run", f"kept in {result.previous}"))
    columns = [
        Column("epoch", "epoch", "count"),
        Column("loss", "loss", "number"),
        Column("seconds", "time", "seconds"),
    ]
    if result.history:
        metric = f"validation_{result.metric}"
        columns.insert(2, Column(metric, metric.replace("_", " "), kind))  # type: ignore[arg-type]
    rows = result.history[-LAST_EPOCHS:]
    title = "" if len(rows) == len(result.history) else f"the last {len(rows)} epochs of {len(result.history)}"
    # The callable by itself would be a fresh network.
    known = Target.parse(result.name).kind != "callable" and result.checkpoint.parent == checkpoint.folder_of(result.name)
    target = result.name if known else str(result.checkpoint)
    return Report(
        title=f"trained {result.name}",
        document=result.document(),
        facts=facts,
        tables=[Table(title, columns, rows)] if rows else [],
        notes=[*result.notes, f"next: deploykit export {word(target)}"],
    )
