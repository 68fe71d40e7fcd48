"""What the doctor found, as a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploykit.reports import Column, Report, Table

if TYPE_CHECKING:
    from deploykit.runtime import Diagnosis

_PROVIDERS = (Column("name", "provider"), Column("usable", "works"), Column("reason", "why not", "prose"))


def report(diagnosis: Diagnosis) -> Report:
    """Versions, providers, and last what to do."""
    rows = [{"name": p.name, "usable": "yes" if p.usable else "no", "reason": p.reason} for p in diagnosis.providers]
    facts = [*diagnosis.versions.items(), ("threads", f"{diagnosis.threads} on {diagnosis.cores} cores")]
    return Report(
        title="this machine",
        document=diagnosis.document(),
        facts=facts,
        tables=[Table("", _PROVIDERS, rows)],
        notes=[f"- {line}" for line in diagnosis.advice],
        headline="" if diagnosis.advice else "nothing to do",
    )
