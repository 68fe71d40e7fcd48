"""Where a benchmark leaves what it found: ``benchmarks/results/<name>.json`` and ``.md``, with the date, versions and CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from deploykit import reports
from deploykit.profiler.benchmark import conditions
from deploykit.reports import Report

RESULTS = Path(__file__).parent / "results"


def keep(name: str, report: Report) -> None:
    """Print the report and write both files."""
    found = conditions.of_machine()
    date = datetime.now(UTC).date().isoformat()
    machine = ("machine", ", ".join(f"{key} {value}" for key, value in found.items()))
    complete = replace(report, facts=[*report.facts, ("date", date), machine])
    print(reports.render(complete, "table"))
    RESULTS.mkdir(exist_ok=True)
    document = {"date": date, "conditions": found, "good": report.good, "headline": report.headline, "rows": report.document}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(reports.render(complete, "markdown") + "\n")
