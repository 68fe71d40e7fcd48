"""A tuning as a report: what was chosen, every candidate, every layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploykit.reports import Bars, Column, Point, Points, Report, Table, Tile, human_bytes
from deploykit.tuner.result import Measured, TuneResult

_CANDIDATES = (
    Column("name", "candidate"),
    Column("threads", "threads", "count", minor=True),
    Column("bytes", "size", "bytes", minor=True),
    Column("median_ms", "ms", "ms"),
    Column("ratio", "speed", "ratio"),
    Column("low", "at least", "ratio", minor=True),
    Column("high", "at most", "ratio", minor=True),
    Column("accuracy", "accuracy", "percent"),
    Column("drop_high", "drop, at most", "percent"),
    Column("agreement", "agrees", "percent"),
    Column("reason", "what became of it", "prose"),
)
_OPTIONAL = ("accuracy", "drop_high")
_LAYERS = (
    Column("path", "layer"),
    Column("type", "type"),
    Column("precision", "left in"),
    Column("fp32_ms", "fp32 ms", "ms"),
    Column("int8_ms", "int8 ms", "ms"),
    Column("error", "error", "percent"),
    Column("reason", "why", "prose"),
)
MOST_BARS = 24


def report(result: TuneResult) -> Report:
    """The choice with its interval, every candidate with what became of it, and the layers of the chosen file."""
    tables = [_candidates(result)]
    if result.layers:
        tables.append(_layers(result))
    return Report(
        title=f"tuned {result.target}: {_short(result)}",
        document=result.document(),
        headline=_headline(result),
        good=True if result.verdict == "faster" else None,
        facts=tuple(_facts(result)),
        tables=tables,
        notes=result.notes,
        charts=tuple(_charts(result)),
        heading=result.target,
        tiles=tuple(_tiles(result)),
    )


def _short(result: TuneResult) -> str:
    timing = result.chosen.timing
    return f"{timing.ratio:.2f}x" if timing is not None and result.chosen is not result.baseline else "as it is"


def _headline(result: TuneResult) -> str:
    chosen, timing = result.chosen, result.chosen.timing
    if chosen.candidate == result.baseline.candidate or timing is None:
        words = "nothing that could be proven to keep the decisions was faster than the file as it is"
        return f"{words}: {result.file} is that file"
    judged = chosen.judged
    kept = "" if judged is None else f"; {judged.reason}"
    return (
        f"{chosen.candidate.name} is {timing.ratio:.2f}x faster [{timing.low:.2f}, {timing.high:.2f}] than the file as it is{kept}"
    )


def _facts(result: TuneResult) -> Iterator[tuple[str, str]]:
    chosen = result.chosen.candidate
    yield "file", f"{result.file} ({human_bytes(result.chosen.bytes)})"
    options = "".join(f", {name.replace('_', ' ')} {value}" for name, value in sorted(chosen.options.items()))
    yield "runs on", f"{chosen.engine}, {chosen.threads} threads, batch {chosen.batch}{options}"
    yield "goal", result.goal
    yield "budget", result.budget
    if result.test:
        yield "interval", result.test
    yield "data", result.data
    yield "time", f"{result.seconds:.0f} s"
    if result.script is not None:
        yield "again", str(Path(result.script))


def _candidates(result: TuneResult) -> Table:
    rows = [_row(entry, entry is result.chosen or entry.candidate == result.chosen.candidate) for entry in result.candidates]
    rows.sort(key=lambda row: -(row["ratio"] or 0.0))
    columns = [c for c in _CANDIDATES if c.key not in _OPTIONAL or any(row[c.key] is not None for row in rows)]
    return Table("candidates", columns, rows)


def _row(entry: Measured, chosen: bool) -> dict[str, Any]:
    row = entry.document()
    return row | {"reason": f"CHOSEN: {row['reason']}" if chosen else row["reason"]}


def _layers(result: TuneResult) -> Table:
    rows = [layer.document() for layer in result.layers]
    columns = [c for c in _LAYERS if any(row[c.key] not in (None, "") for row in rows)]
    return Table(f"layers of {result.file.name}", columns, rows)


def _charts(result: TuneResult) -> Iterator[Bars | Points]:
    plane = _plane(result)
    if len(plane.points) > 1:
        yield plane
    layers = [layer for layer in result.layers if layer.fp32_ms is not None and layer.int8_ms is not None]
    if layers:
        shown = sorted(layers, key=lambda layer: -(layer.fp32_ms or 0.0))[:MOST_BARS]
        shown = [layer for layer in layers if layer in shown]
        series = {"fp32": [layer.fp32_ms for layer in shown], "int8": [layer.int8_ms for layer in shown]}
        yield Bars("milliseconds per layer, in both precisions", [layer.path for layer in shown], series, "ms")


def _plane(result: TuneResult) -> Points:
    """Time against what is lost of the decisions, of all candidates whose answers were asked for; both relative to the baseline."""
    drops = any(entry.judged is not None and entry.judged.drop is not None for entry in result.candidates)
    name = result.baseline.candidate.name
    found = [Point(name, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, result.chosen.candidate == result.baseline.candidate)]
    for entry in result.candidates:
        timing, judged = entry.timing, entry.judged
        if timing is None or judged is None or timing.low <= 0:
            continue
        lost, low, high = 1 - judged.agreement, 1 - judged.agreement, 1 - judged.agreement_low
        if judged.drop is not None and judged.drop_low is not None and judged.drop_high is not None:
            lost, low, high = judged.drop, judged.drop_low, judged.drop_high
        x = (1 / timing.ratio, 1 / timing.high, 1 / timing.low)
        found.append(Point(entry.candidate.name, *x, lost, low, high, entry.candidate == result.chosen.candidate))
    lost_what = "drop of the accuracy" if drops else "decisions that change"
    return Points(
        f"time against {lost_what}", "time, as a share of that of the file as it is", lost_what, found, "percent", "percent"
    )


def _tiles(result: TuneResult) -> Iterator[Tile]:
    timing, judged = result.chosen.timing, result.chosen.judged
    if timing is not None:
        yield Tile(timing.ratio, "ratio", "as fast as the file as it is")
        yield Tile(timing.median_ms, "ms", f"on {result.chosen.candidate.engine}")
    yield Tile(result.chosen.bytes, "bytes", "file")
    if judged is not None and judged.drop_high is not None:
        yield Tile(judged.drop_high, "percent", "drop of the accuracy, at most")
    elif judged is not None:
        yield Tile(judged.agreement_low, "percent", "of the decisions agree, at least")
