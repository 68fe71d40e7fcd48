"""The demonstration as a report: one screen, a line per step, the layer table, the times, the answers, what to type next."""

from __future__ import annotations

from deploykit.demonstration import Demonstration
from deploykit.errors import counted, word
from deploykit.reports import Column, Report, Table, human_bytes, show
from deploykit.views.verdict import headline

_LAYERS = (
    Column("path", "layer"),
    Column("type", "type"),
    Column("input_shape", "input", "shape"),
    Column("output_shape", "output", "shape"),
    Column("params", "params", "count"),
    Column("ops", "MACs", "count"),
)


def report(result: Demonstration) -> Report:
    """What each step made and where it lies."""
    right = sum(p.label == truth for p, truth in zip(result.predictions, result.truth, strict=True))
    return Report(
        title=f"{result.training.name}, from handwriting to an app, in {result.seconds:.0f} s",
        document=result.document(),
        headline=headline(result.export.verdict),
        good=result.export.verdict.same,
        facts=[*_steps(result), *_times(result), ("predict", f"{right} of {len(result.truth)} right: {_answers(result)}")],
        tables=[_layers(result)],
        notes=[
            "next: " + f"deploykit predict {word(result.export.file)} {word(result.images)}",
            "      deploykit validate " + word(result.export.file),
            "      deploykit train resnet18 && deploykit export resnet18",
        ],
    )


def _steps(result: Demonstration) -> list[tuple[str, str]]:
    training, export = result.training, result.export
    errors = export.verdict.errors
    accuracy = show(training.metrics["test"], "percent")
    found = [
        (
            "train",
            f"{counted(training.epochs, 'epoch')} in {training.seconds:.0f} s, test accuracy {accuracy}: {training.checkpoint}",
        ),
        ("export", f"opset {export.opset}, {counted(export.nodes, 'node')}, {human_bytes(export.bytes)}: {export.file}"),
        ("simplify", export.simplified.reason),
    ]
    if errors:
        beside = f"error {errors.onnx_vs_64:.1e} beside PyTorch's own {errors.torch32_vs_64:.1e} (against float64)"
        alike = f", {show(export.verdict.decisions.agreement, 'percent')} of decisions alike" if export.verdict.decisions else ""
        found.append(("validate", beside + alike))
    return found


def _times(result: Demonstration) -> list[tuple[str, str]]:
    medians = ", ".join(f"{entry.backend} {show(entry.median_ms, 'ms')} ms" for entry in result.profile.latencies)
    lines = [("latency", f"{medians} (median, batch 1, host to host)")] if medians else []
    return lines + [("", str(comparison)) for comparison in result.profile.comparisons]


def _answers(result: Demonstration) -> str:
    """``0 1 2 ...``, a wrong one as ``8 (really 3)``."""
    pairs = zip(result.predictions, result.truth, strict=True)
    return " ".join(str(p.label) if p.label == truth else f"{p.label} (really {truth})" for p, truth in pairs)


def _layers(result: Demonstration) -> Table:
    table = result.profile.table
    # What runs between the layers is left to `deploykit profile` where it costs nothing: this is one screen.
    layers = [layer for layer in table.layers if not layer.own or layer.ops]
    rows = [{column.key: getattr(layer, column.key) for column in _LAYERS} for layer in layers]
    totals = {"path": "total", "params": table.totals.params, "ops": table.totals.ops}
    return Table("", _LAYERS, rows, totals)
