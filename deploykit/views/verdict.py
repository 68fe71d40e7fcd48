"""A verdict as a report: the word, the checks, the three errors, the culprit."""

from __future__ import annotations

from deploykit.errors import counted
from deploykit.network.request import is_onnx
from deploykit.reports import Column, Report, Table
from deploykit.verdict import Verdict

_CHECKS = (Column("passed", ""), Column("name", "check"), Column("detail", "what was found", "prose"))


def report(verdict: Verdict) -> Report:
    """The checks as a table; errors relative to the scale of the float64 outputs."""
    facts = [("file", verdict.file), ("against", verdict.against)]
    errors = verdict.errors
    if errors:
        narrow, wide = ("PyTorch float32", "float64") if not is_onnx(verdict.against) else ("the other file", "itself unoptimized")
        facts.append((f"{narrow} vs {wide}", f"{errors.torch32_vs_64:.1e}"))
        facts.append((f"onnxruntime vs {wide}", f"{errors.onnx_vs_64:.1e}"))
        facts.append((f"onnxruntime vs {narrow}", f"{errors.onnx_vs_torch32:.1e}"))
        facts.append(("worst", errors.worst))
    rows = [{"passed": "ok" if c.passed else "NO", "name": c.name, "detail": c.detail} for c in verdict.checks]
    notes = list(verdict.notes)
    if verdict.decisions:
        notes += [f"sample {index} flipped; PyTorch's margin was {margin:.2e}" for index, margin in verdict.decisions.flipped]
    return Report(
        title="validation",
        document=verdict.document(),
        headline=headline(verdict, checks_are_shown=True),
        good=verdict.passed,
        facts=facts,
        tables=[Table("", _CHECKS, rows)],
        notes=notes,
    )


def headline(verdict: Verdict, checks_are_shown: bool = False) -> str:
    """The verdict in one line: "same network", or what is wrong and who did it.

    `checks_are_shown`: a table beside it has the details, and the names of the checks that failed are enough.
    """
    if verdict.same:
        layers = counted(verdict.layers_compared, "layer") if verdict.layers_compared else "its outputs"
        return f"verdict: same network ({counted(len(verdict.checks), 'check')}, {layers} compared)"
    if verdict.verdict == "same decisions":
        return f"verdict: same decisions as {verdict.against} ({verdict.checks[-1].detail})"
    failed = [check for check in verdict.checks if not check.passed]
    reason = f"{failed[0].name}: {failed[0].detail}"
    if checks_are_shown:
        reason = f"failed: {', '.join(check.name for check in failed)}"
    if verdict.verdict == "invalid":
        return f"verdict: invalid file ({reason})"
    if verdict.verdict == "not proven":
        return f"verdict: not proven, neither the same nor different ({reason})"
    # No step changed the numbers where the contract or the network itself is at fault.
    step = [f"step: {verdict.blamed_step}"] if verdict.blamed_step not in (None, "unknown") else []
    layer = [f"first divergent layer: {verdict.first_divergent_layer}"] if verdict.first_divergent_layer else []
    return f"verdict: not the same network ({'; '.join([*step, *layer, reason])})"
