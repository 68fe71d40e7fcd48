"""A run over a cluster as a report: facts, for its rows lie in a folder."""

from __future__ import annotations

from deploykit.cluster.result import ClusterPrediction
from deploykit.errors import counted
from deploykit.reports import Report


def report(result: ClusterPrediction) -> Report:
    """How many rows, how many without an answer, how fast, and where they are."""
    facts = [("rows", f"{result.rows:,}"), ("without an answer", f"{result.errors:,}"), ("files", f"{result.parts:,}")]
    if result.resumed:
        facts.append(("answered before", f"{result.resumed:,}"))
    speed = result.rows_per_second
    if speed is not None:
        facts.append(("speed", f"{speed:,.0f} rows/s on {counted(result.actors, 'actor')}, {result.seconds:,.0f} s"))
    if result.lost:
        facts.append(("workers lost", f"{counted(result.lost, 'time')}; what they were at was asked again"))
    return Report(title="", document=result.document(), headline=f"{counted(result.rows, 'row')} in {result.out}", facts=facts)
