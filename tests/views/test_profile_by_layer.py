"""Two files whose layers have the same names: which of them became faster."""

from __future__ import annotations

import pytest

from deploykit.profiler.layer_table import Layer, LayerTable, Totals
from deploykit.profiler.result import Profile
from deploykit.views import profile as view


def profile_of(target, times):
    rows = tuple(Layer(path, kind, None, None, onnxruntime_ms=ms) for path, kind, ms in times)
    return Profile(target, LayerTable("macs", 1, rows, Totals(0, 0, 0, 0)), "leaves")


def test_layers_of_one_name_stand_side_by_side_with_their_ratio():
    before = profile_of("model.onnx", [("conv1", "Conv", 2.0), ("conv2", "Conv", 1.0), ("gone", "Relu", 1.0)])
    after = profile_of("model.tuned.onnx", [("conv1", "Conv", 0.5), ("conv2", "Conv", 2.0), ("new", "QuantizeLinear", 1.0)])
    (table,) = view._by_layer(after, before)
    assert [(row["path"], row["ratio"]) for row in table.rows] == [("conv1", pytest.approx(4.0)), ("conv2", pytest.approx(0.5))]
    assert [column.title for column in table.columns][2:] == ["model.onnx, ms", "model.tuned.onnx, ms", "faster"]


def test_networks_and_files_without_a_common_name_have_no_such_table():
    a, b = profile_of("lenet5", [("conv1", "Conv2d", 1.0)]), profile_of("lenet", [("conv1", "Conv2d", 1.0)])
    assert not list(view._by_layer(a, b))
    a, b = profile_of("a.onnx", [("x", "Conv", 1.0)]), profile_of("b.onnx", [("y", "Conv", 1.0)])
    assert not list(view._by_layer(a, b))
