"""Adds to the rows of a network's layer table what belongs to them: the counts of ONNX nodes, and both engines' times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import onnx

from deploykit.profiler.layer_table import Layer, LayerTable
from deploykit.profiler.onnx.times import NodeTimes

RUNTIME = "(onnxruntime)"


def module_paths(graph: onnx.GraphProto) -> dict[str, str]:
    """For each node of a graph that `deploykit export` named, the path of its module; ``fc@1`` for a second call."""
    found = {}
    for node in graph.node:
        path = node.name.partition("/")[0]
        output = node.output[0] if node.output else ""
        found[node.name] = output if output.rpartition("@")[0] == path and path else path
    return found


def with_onnx(table: LayerTable, nodes: LayerTable, paths: Mapping[str, str]) -> LayerTable:
    """`table` of the network with the counts of its ONNX graph (`nodes`), each node added to the row of its module."""
    found: dict[int, int] = defaultdict(int)
    where = _RowIndex(table.layers)
    for node in nodes.layers:
        found[where.index(paths.get(node.path, node.path))] += node.ops
    rows = tuple(replace(row, onnx_ops=found[index]) for index, row in enumerate(table.layers))
    uncounted = {**table.uncounted, **{name: n for name, n in nodes.uncounted.items() if name not in table.uncounted}}
    differing = [row for row in rows if row.onnx_ops != row.ops and row.called]
    notes = [*table.notes, *nodes.notes]
    if differing:
        shown = ", ".join(f"{row.path or row.type} ({row.ops:,} and {row.onnx_ops:,})" for row in differing[:6])
        more = f" and {len(differing) - 6} more" if len(differing) > 6 else ""
        notes.append(f"PyTorch and the ONNX graph differ in {shown}{more}")
    return replace(table, layers=rows, uncounted=uncounted, notes=tuple(notes))


def with_torch_times(table: LayerTable, times: Mapping[str, float]) -> LayerTable:
    """With milliseconds by module call."""
    found = _charged(table.layers, times.items())
    return replace(table, layers=tuple(replace(row, torch_ms=found.get(i, 0.0)) for i, row in enumerate(table.layers)))


def with_onnx_times(table: LayerTable, times: NodeTimes, paths: Mapping[str, str] | None) -> LayerTable:
    """With milliseconds by node; `paths` lead from nodes to modules (`None`: the rows are the nodes).

    What belongs to no node of the file gets a row of its own, so that the column adds up to the run.
    """
    if paths is None:
        known = {row.path: index for index, row in enumerate(table.layers)}
        charged: dict[str, float] = defaultdict(float)
        for name, spent in times.charged.items():
            charged[times.inside.get(name, name)] += spent
        found = {known[name]: spent for name, spent in charged.items() if name in known}
        stray = {name: spent for name, spent in charged.items() if name not in known}
    else:
        found, stray = _charged(table.layers, ((paths.get(n, n), spent) for n, spent in times.charged.items())), {}
    rows = [replace(row, onnxruntime_ms=found.get(index, 0.0)) for index, row in enumerate(table.layers)]
    extra = sum(times.uncharged.values()) + sum(stray.values())
    notes = list(table.notes)
    if extra:
        names = ", ".join(sorted({*times.uncharged, *stray})[:6])
        rows.append(Layer(RUNTIME, names, None, None, own=True, onnx_ops=None if paths is None else 0, onnxruntime_ms=extra))
        notes.append(f"ONNX Runtime added or rewrote nodes that cannot be charged to a layer: {names}")
    return replace(table, layers=tuple(rows), notes=tuple(notes))


def _charged(rows: Iterable[Layer], times: Iterable[tuple[str, float]]) -> dict[int, float]:
    where = _RowIndex(rows)
    found: dict[int, float] = defaultdict(float)
    for path, spent in times:
        found[where.index(path)] += spent
    return dict(found)


class _RowIndex:
    """Which row a path belongs to: its own, else that of the nearest module around it."""

    def __init__(self, rows: Iterable[Layer]) -> None:
        self.known = {row.path: index for index, row in enumerate(rows)}

    def index(self, path: str) -> int:
        while path:
            if path in self.known:
                return self.known[path]
            head, at, _ = path.rpartition("@")
            path = head if at and head in self.known else path.rpartition(".")[0]
        return self.known.get("", 0)


def layers_only(table: LayerTable) -> LayerTable:
    """Without what runs between layers: the rows that `paddle.summary` would print, and what their times leave out."""
    rows = tuple(row for row in table.layers if not row.own or row.params or row.ops)
    left = [row for row in table.layers if row.own and not (row.params or row.ops)]
    notes = list(table.notes)
    for engine, spent in (
        ("PyTorch", sum(row.torch_ms or 0.0 for row in left)),
        ("ONNX Runtime", sum(row.onnxruntime_ms or 0.0 for row in left)),
    ):
        if spent:
            notes.append(f"only layers are listed: {spent:.3g} ms of {engine} between them are not in the table")
    return replace(table, layers=rows, notes=tuple(notes))
