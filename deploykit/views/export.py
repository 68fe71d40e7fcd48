"""An export as a report."""

from __future__ import annotations

from deploykit import architectures
from deploykit.errors import counted, word
from deploykit.exporter import ExportResult
from deploykit.network.request import Target
from deploykit.reports import Report, human_bytes
from deploykit.runtime.contract import ImageInput
from deploykit.views import verdict as verdict_view


def report(result: ExportResult) -> Report:
    """What was written, what simplifying did, the verdict, what to type next."""
    judged = verdict_view.report(result.verdict)
    simplified = result.simplified
    change = f"{sum(simplified.before.values())} -> {sum(simplified.after.values())} nodes; " if simplified.applied else ""
    facts = [
        ("file", str(result.file)),
        ("size", f"{human_bytes(result.bytes)}, {counted(result.nodes, 'node')}, opset {result.opset}, {result.precision}"),
        ("simplify", change + simplified.reason),
        ("time", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result.seconds.items())),
    ]
    notes = [*judged.notes]
    if result.verdict.same:
        notes.append(f"next: deploykit profile {word(_named(result))}{_predict(result)}")
    else:
        notes.append("the file was set aside under this name, so that nobody deploys it by mistake")
    return Report(
        title=f"exported {result.target}",
        document=result.document(),
        headline=judged.headline,
        good=judged.good,
        facts=facts,
        tables=judged.tables,
        notes=notes,
    )


def _named(result: ExportResult) -> str:
    """What a command can be given: a module that somebody had in memory is known by its file alone."""
    known = Target.parse(result.target).kind != "architecture" or result.target in architectures.names()
    return result.target if known else str(result.file)


def _predict(result: ExportResult) -> str:
    """What to type for an answer."""
    if len(result.contract.inputs) > 1:
        return f", or deploykit predict {word(result.file)} INPUTS.npz..."
    sample = "IMAGE" if isinstance(result.contract.input, ImageInput) else "ARRAY.npy"
    return f", or deploykit predict {word(result.file)} {sample}..."
