"""How many layers a table has does not depend on whether it was timed."""

from __future__ import annotations

from deploykit.profiler.layer_table import Layer, LayerTable, Totals


def test_rows_that_only_have_a_time_are_no_layers():
    rows = (
        Layer("fc", "Linear", (1, 2), (1, 2), params=6, ops=4),
        Layer("relu", "ReLU", (1, 2), (1, 2)),
        Layer("", "Net", (1, 2), (1, 2), own=True, torch_ms=0.1),
        Layer("(onnxruntime)", "ReorderOutput", None, None, own=True, onnxruntime_ms=0.1),
        Layer("block", "Block", (1, 2), (1, 2), own=True, ops=8),
    )
    assert LayerTable("macs", 1, rows, Totals(6, 6, 0, 12)).count == 3
