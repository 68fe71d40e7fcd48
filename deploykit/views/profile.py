"""`Profile` -> `Report`: the tables, facts, notes and charts of a profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from deploykit.network.request import is_onnx
from deploykit.profiler import Latency, Layer, LayerTable, Profile, conventions
from deploykit.profiler.layer_table import Branch
from deploykit.profiler.result import layer_document, total_ms
from deploykit.profiler.tree import tree_of
from deploykit.reports import Bars, Column, Report, Spread, Table, Tile

_LAYERS = (
    Column("path", "layer"),
    Column("type", "type", "text", minor=True),
    Column("input_shape", "input", "shape", minor=True),
    Column("output_shape", "output", "shape"),
    Column("kernel", "kernel", "shape", minor=True),
    Column("stride", "stride", "shape", minor=True),
    Column("padding", "padding", "shape", minor=True),
    Column("params", "params", "count"),
    Column("ops", "ops", "count"),
    Column("share", "share", "percent", minor=True),
    Column("torch_ms", "PyTorch ms", "ms"),
    Column("onnxruntime_ms", "ONNX Runtime ms", "ms"),
    Column("gflops", "GFLOP/s", "number", minor=True),
    Column("peak_share", "of peak", "peak", minor=True),
)
MOST_BARS = 40  # labels of a bar chart; of more layers only those that cost most are drawn
_MEASURED = ("torch_ms", "onnxruntime_ms", "gflops", "peak_share")
_OPTIONAL = ("kernel", "stride", "padding", *_MEASURED)
_LATENCY = (
    Column("label", "engine"),
    Column("device", "device"),
    Column("threads", "threads", "count"),
    Column("median_ms", "median ms", "ms"),
    Column("p95_ms", "p95 ms", "ms"),
    Column("p99_ms", "p99 ms", "ms"),
    Column("throughput", "samples/s", "number"),
    Column("cold_start_ms", "cold start ms", "ms", minor=True),
    Column("peak_memory_bytes", "peak memory", "bytes"),
    Column("weight_bytes", "weights", "bytes", minor=True),
    Column("energy_joules", "J per run", "number", minor=True),
)


def report(profile: Profile) -> Report:
    """The layers, the latencies, who is faster, and what was left out. The columns of the first table add up to its totals."""
    rules = conventions.get(profile.table.convention)
    tables = [_first_table(profile)]
    if profile.against is not None:
        tables += [
            tree_table(profile.against) if profile.against.table.tree else layer_table(profile.against),
            side_by_side(profile, profile.against),
            *_by_layer(profile, profile.against),
        ]
    if profile.latencies:
        tables.append(latency_table(profile.latencies))
    return Report(
        title=_title(profile.target, profile.table, rules.unit),
        document=profile.document(),
        headline="; ".join(str(comparison) for comparison in profile.comparisons),
        facts=tuple(_facts(profile)),
        tables=tables,
        notes=tuple(_notes(profile)),
        charts=tuple(_charts(profile)),
        heading=profile.target,
        tiles=tuple(_tiles(profile, rules.unit)),
        page_tables=tuple(_page_tables(profile)),
    )


def _tiles(profile: Profile, unit: str) -> Iterator[Tile]:
    """The sums, and the median of every engine."""
    table = profile.table
    yield Tile(table.totals.params, "count", "parameters" + (", at least" if table.params_at_least else ""))
    yield Tile(table.totals.ops, "count", unit + (", at least" if table.ops_at_least else ""))
    for entry in profile.latencies:
        yield Tile(entry.median_ms, "ms", f"{entry.label}, median")


def _page_tables(profile: Profile) -> Iterator[Table]:
    """The tree beside the layers, or the layers beside the tree; a tree of a single level says no more than the layers."""
    for entry in (profile, *([profile.against] if profile.against is not None else [])):
        if entry.table.tree:
            yield layer_table(entry)
        else:
            branches = tree_of(entry.table.layers, _types(entry.table.layers))
            if any(branch.depth > 1 for branch in branches):
                yield tree_table(replace(entry, table=replace(entry.table, tree=branches)))


def _types(layers: Sequence[Layer]) -> dict[str, str]:
    """By path the type of every row, and "" for what is only around rows."""
    types: dict[str, str] = {}
    for row in layers:
        parts = row.path.split(".")
        types.update({path: "" for length in range(len(parts)) if (path := ".".join(parts[:length])) not in types})
    return types | {row.path.partition("@")[0]: row.type for row in layers}


def _title(target: str, table: LayerTable, unit: str) -> str:
    """The sums, marked as lower bounds where something is not in them."""
    params, ops = (f"{'at least ' if more else ''}" for more in (table.params_at_least, table.ops_at_least))
    return f"{target}: {params}{table.totals.params:,} parameters, {ops}{table.totals.ops:,} {unit}"


def _first_table(profile: Profile) -> Table:
    return tree_table(profile) if profile.table.tree else layer_table(profile)


def layer_table(profile: Profile) -> Table:
    """One row per layer; columns that nothing would stand in are left out."""
    table, unit = profile.table, conventions.get(profile.table.convention).unit
    rows: list[dict[str, Any]] = [layer_document(row, table, profile.peak.gflops if profile.peak else None) for row in table.layers]
    for row in rows:
        row["path"] = row["path"] or "(the network)"
        row["type"] += " (own operations)" if row["own"] and row["path"][0] != "(" else ""
    columns = [
        Column(c.key, unit, c.kind) if c.key == "ops" else c
        for c in _LAYERS
        if c.key not in _OPTIONAL or any(row[c.key] is not None for row in rows)
    ]
    totals = {
        "path": "total, at least" if table.params_at_least or table.ops_at_least else "total",
        "params": table.totals.params,
        "ops": table.totals.ops,
        "share": 1.0 if table.totals.ops else 0.0,
        "torch_ms": total_ms(table, "torch_ms"),
        "onnxruntime_ms": total_ms(table, "onnxruntime_ms"),
    }
    return Table(f"layers of {profile.target}", columns, rows, {k: v for k, v in totals.items() if v is not None})


def tree_table(profile: Profile) -> Table:
    """One row per module, drawn as a tree; each row has the sums of all below it, so the first one is the total."""
    table, unit = profile.table, conventions.get(profile.table.convention).unit
    rows = [
        {
            **vars(branch),
            "path": line,
            "name": branch.name or "(the network)",
            "share": branch.ops / table.totals.ops if table.totals.ops else 0.0,
        }
        for branch, line in zip(table.tree, _drawn(table.tree), strict=True)
    ]
    wanted = ("path", "type", "output_shape", "params", "ops", "share", "torch_ms", "onnxruntime_ms")
    titles = {"path": "module", "ops": unit}
    columns = [
        Column(c.key, titles.get(c.key, c.title), c.kind, c.minor)
        for c in _LAYERS
        if c.key in wanted and any(row[c.key] is not None for row in rows)
    ]
    return Table(f"modules of {profile.target}, each with all in it", columns, rows, depths=[branch.depth for branch in table.tree])


def _drawn(tree: Sequence[Branch]) -> list[str]:
    """The names behind the lines of a tree. A line goes on below a module while its level has another one to come."""
    lines: list[str] = []
    coming: set[int] = set()  # depths at which a later row has the same parent, seen from below
    for branch in reversed(tree):
        if branch.depth:
            around = "".join("│  " if depth in coming else "   " for depth in range(1, branch.depth))
            lines.append(f"{around}{'├─' if branch.depth in coming else '└─'} {branch.name}")
        else:
            lines.append("(the network)")
        coming = {depth for depth in coming if depth < branch.depth} | {branch.depth}
    return lines[::-1]


def side_by_side(mine: Profile, other: Profile) -> Table:
    """The sums of two networks or files, one row each."""
    columns = [
        Column("target", "network"),
        Column("layers", "layers", "count"),
        Column("params", "params", "count"),
        Column("ops", conventions.get(mine.table.convention).unit, "count"),
        Column("torch_ms", "layers in PyTorch, ms", "ms"),
        Column("onnxruntime_ms", "layers in ONNX Runtime, ms", "ms"),
    ]
    rows = [
        {
            "target": entry.target + (", at least" if entry.table.params_at_least or entry.table.ops_at_least else ""),
            "layers": entry.table.count,
            "params": entry.table.totals.params,
            "ops": entry.table.totals.ops,
            "torch_ms": total_ms(entry.table, "torch_ms"),
            "onnxruntime_ms": total_ms(entry.table, "onnxruntime_ms"),
        }
        for entry in (mine, other)
    ]
    known = [column for column in columns if any(row[column.key] is not None for row in rows)]
    return Table("side by side", known, rows, summary=True)


def _by_layer(mine: Profile, other: Profile) -> Iterator[Table]:
    """Of two files whose layers have the same names, such as one and what was tuned from it: which layers became faster."""
    theirs = {row.path: row for row in other.table.layers if row.onnxruntime_ms}
    rows = [
        {"path": row.path, "type": row.type, "before": theirs[row.path].onnxruntime_ms, "after": row.onnxruntime_ms,
         "ratio": (theirs[row.path].onnxruntime_ms or 0.0) / row.onnxruntime_ms}
        for row in mine.table.layers
        if row.onnxruntime_ms and row.path in theirs and row.type == theirs[row.path].type
    ]  # fmt: skip
    if not rows or not (is_onnx(mine.target) and is_onnx(other.target)):
        return
    columns = (
        Column("path", "layer"), Column("type", "type"), Column("before", f"{other.target}, ms", "ms"),
        Column("after", f"{mine.target}, ms", "ms"), Column("ratio", "faster", "ratio"),
    )  # fmt: skip
    yield Table("layers of the same name, in ONNX Runtime, without their conversions", columns, rows)


def latency_table(latencies: tuple[Latency, ...]) -> Table:
    """One row per engine; without what this machine does not tell, such as energy."""
    rows = [entry.document() for entry in latencies]
    columns = [column for column in _LATENCY if any(row[column.key] is not None for row in rows)]
    return Table("latency, host to host", columns, rows, summary=True)


def _facts(profile: Profile) -> Iterator[tuple[str, str]]:
    table = profile.table
    yield "convention", f"{table.convention}: {conventions.get(table.convention).meaning}"
    yield "batch", str(table.batch)
    if table.totals.trainable_params is not None:
        yield "parameters", f"{table.totals.trainable_params:,} trainable, {table.totals.buffers:,} numbers in buffers"
    if profile.agreement is not None:
        same = "the same" if profile.agreement < 1e-4 else "different"
        yield "outputs", f"{same} (they differ by {profile.agreement:.1e} of their scale)"
    if profile.peak is not None:
        yield "peak as measured", f"{profile.peak.gflops:.0f} GFLOP/s multiplying, {profile.peak.gigabytes:.1f} GB/s copying"
    if profile.latencies:
        yield "engines", "; ".join(_engine(entry) for entry in profile.latencies)
    if profile.conditions:
        yield "conditions", ", ".join(_condition(name, value) for name, value in profile.conditions.items())


def _charts(profile: Profile) -> Iterator[Bars | Spread]:
    """A histogram of the latencies; bars of the operations and of the milliseconds per layer, both of the same layers."""
    table = profile.table
    if profile.latencies:
        samples = {entry.label: entry.samples for entry in profile.latencies}
        yield Spread("latency of whole runs, in milliseconds", samples, "ms")
    shown, of_all = _dearest([row for row in table.layers if row.ops or row.milliseconds])
    unit, labels = conventions.get(table.convention).unit, [row.path or row.type for row in shown]
    if any(row.ops for row in shown):
        yield Bars(f"{unit} per layer{of_all}", labels, {unit: [row.ops or None for row in shown]}, "count")
    times = {"PyTorch": [row.torch_ms for row in shown], "ONNX Runtime": [row.onnxruntime_ms for row in shown]}
    times = {name: values for name, values in times.items() if any(value is not None for value in values)}
    if times:
        yield Bars(f"milliseconds per layer{of_all}", labels, times, "ms")


def _dearest(rows: list[Layer]) -> tuple[list[Layer], str]:
    """The `MOST_BARS` rows that cost most time (most operations where nothing was timed), in the order of execution.

    Also a remark for the title where that is not all.
    """
    if len(rows) <= MOST_BARS:
        return rows, ""
    dearest = sorted(range(len(rows)), key=lambda index: (-(rows[index].milliseconds or 0.0), -rows[index].ops))[:MOST_BARS]
    return [rows[index] for index in sorted(dearest)], f", the {MOST_BARS} dearest of {len(rows)}"


def _engine(entry: Latency) -> str:
    precision = entry.settings.get("precision", "")
    rest = "".join(f", {name} {value}" for name, value in entry.settings.items() if name not in ("version", "precision"))
    return f"{entry.label} ({entry.backend} {entry.settings.get('version', '')}{precision and ', ' + precision}{rest})"


def _condition(name: str, value: str) -> str:
    return value if name in ("cpu", "clock", "system") else f"{value} cores" if name == "cores" else f"{name} {value}"


def _notes(profile: Profile) -> Iterator[str]:
    for entry in (profile, *([profile.against] if profile.against else [])):
        prefix = f"{entry.target}: " if profile.against else ""
        yield from (prefix + note for note in _left_out(entry.table))
        yield from (prefix + note for note in (*entry.table.notes, *entry.notes))
    if profile.peak is not None and any((row.gflops or 0.0) > profile.peak.gflops for row in profile.table.layers):
        yield (
            "of peak: a layer with over 100 % was faster than the large matrix product that was measured as this machine's peak; "
            "small layers in the cache are, and so are all where the machine was busier in that moment"
        )
    unstable = [entry.label for entry in profile.latencies if entry.unstable]
    if unstable:
        yield f"the machine was busy: one run in twenty took more than twice the median on {', '.join(unstable)}"


def _left_out(table: LayerTable) -> Iterator[str]:
    if table.uncounted:
        yield f"NOT COUNTED, no formula or no shapes: {_calls(table.uncounted)}"
    if table.excluded:
        yield f"free under {table.convention}: {_calls(table.excluded)}"


def _calls(operators: Mapping[str, int]) -> str:
    return ", ".join(name if calls == 1 else f"{name} x{calls}" for name, calls in operators.items())
