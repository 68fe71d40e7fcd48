"""`LatencyReport` -> `Report`: a row per engine, and who is faster."""

from __future__ import annotations

from deploykit.profiler import LatencyReport
from deploykit.reports import Report
from deploykit.views.profile import latency_table


def report(result: LatencyReport) -> Report:
    """The engines, the comparisons, and the machine."""
    return Report(
        title=" and ".join(entry.label for entry in result.latencies),
        document=result.document(),
        headline="; ".join(str(comparison) for comparison in result.comparisons),
        facts=[*result.conditions.items()],
        tables=[latency_table(result.latencies)],
    )
