"""What `profile` gives, and its public JSON form, whose keys are an interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from deploykit.errors import counted
from deploykit.profiler import conventions
from deploykit.profiler.benchmark.latency import Comparison, Latency
from deploykit.profiler.benchmark.roofline import Peak
from deploykit.profiler.layer_table import Branch, Layer, LayerTable
from deploykit.profiler.pytorch.layers import Depth
from deploykit.shown import Shown


@dataclass(frozen=True, repr=False)
class Profile(Shown):
    """What is in a network or file, what it costs, and how long it takes.

    `table`: one row per layer. `latencies` and `comparisons`: whole runs. `conditions`: the machine, as texts. `peak`: the
    best this machine can do, `None` if nothing was timed. `against`: the other network or file. `agreement`: the largest
    difference of the two networks' outputs, relative to their scale; `None` where they were not compared.
    """

    _view: ClassVar[str] = "profile"

    target: str
    table: LayerTable
    depth: Depth = "leaves"
    latencies: tuple[Latency, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    peak: Peak | None = None
    against: Profile | None = None
    agreement: float | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        totals, unit = self.table.totals, conventions.get(self.table.convention).unit
        return f"<Profile {self.target}: {counted(self.table.count, 'layer')}, {totals.params:,} parameters, {totals.ops:,} {unit}>"

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return document(self)


def document(profile: Profile) -> dict[str, Any]:
    """The public JSON form of a profile: plain values only."""
    table, peak = profile.table, profile.peak
    rules = conventions.get(table.convention)
    return {
        "target": profile.target,
        "convention": table.convention,
        "convention_meaning": rules.meaning,
        "batch": table.batch,
        "layers": [layer_document(row, table, peak.gflops if peak else None) for row in table.layers],
        "tree": [_branch_document(branch) for branch in table.tree],
        "totals": {
            "params": table.totals.params,
            "trainable_params": table.totals.trainable_params,
            "buffers": table.totals.buffers,
            "ops": table.totals.ops,
            "params_at_least": table.params_at_least,
            "ops_at_least": table.ops_at_least,
            "torch_ms": total_ms(table, "torch_ms"),
            "onnxruntime_ms": total_ms(table, "onnxruntime_ms"),
        },
        "uncounted": list(table.uncounted),
        "excluded": dict(table.excluded),
        "latency": [entry.document() for entry in profile.latencies],
        "comparisons": [entry.document() for entry in profile.comparisons],
        "conditions": dict(profile.conditions),
        "peak": None if peak is None else {"gflops": peak.gflops, "gigabytes_per_second": peak.gigabytes},
        "against": None if profile.against is None else document(profile.against),
        "agreement": profile.agreement,
        "notes": [*table.notes, *profile.notes],
    }


def _branch_document(branch: Branch) -> dict[str, Any]:
    shape = None if branch.output_shape is None else list(branch.output_shape)
    return {**vars(branch), "output_shape": shape}


def layer_document(row: Layer, table: LayerTable, peak: float | None) -> dict[str, Any]:
    """One row. `share`: of all operations; `peak_share`: of what this machine can do at best."""
    sizes = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in (
            ("input_shape", row.input_shape),
            ("output_shape", row.output_shape),
            ("kernel", row.kernel),
            ("stride", row.stride),
            ("padding", row.padding),
        )
    }
    return {
        "path": row.path,
        "type": row.type,
        **sizes,
        "params": row.params,
        "ops": row.ops,
        "share": row.ops / table.totals.ops if table.totals.ops else 0.0,
        "onnx_ops": row.onnx_ops,
        "torch_ms": row.torch_ms,
        "onnxruntime_ms": row.onnxruntime_ms,
        "gflops": row.gflops,
        "peak_share": row.gflops / peak if row.gflops and peak else None,
        "own": row.own,
        "called": row.called,
    }


def total_ms(table: LayerTable, name: str) -> float | None:
    """The sum of a column of times; `None` if it was not measured."""
    values = [getattr(row, name) for row in table.layers if getattr(row, name) is not None]
    return sum(values) if values else None
