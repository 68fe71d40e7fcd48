"""Both sides in one table, and times charged to the modules they belong to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from deploykit.profiler import Layer, LayerTable, Totals, joining
from deploykit.profiler.onnx.times import NodeTimes, charge
from deploykit.profiler.pytorch import times as torch_times


def table(*paths, own=()):
    rows = tuple(Layer(path, "T", (1,), (1,), ops=10, own=path in own) for path in paths)
    return LayerTable("macs", 1, rows, Totals(0, 0, 0, 10 * len(rows)))


def nodes(**ops):
    rows = tuple(Layer(name, "Op", None, None, ops=n) for name, n in ops.items())
    return LayerTable("macs", 1, rows, Totals(0, None, None, sum(ops.values())))


def test_nodes_are_added_to_the_row_of_their_module_or_the_nearest_around_it():
    found = joining.with_onnx(
        table("a.conv", "a", "", own=("a", "")),
        nodes(first=7, second=3, third=10, fourth=10),
        {"first": "a.conv", "second": "a.conv", "third": "a.unknown.deep", "fourth": ""},
    )
    assert [row.onnx_ops for row in found.layers] == [10, 10, 10]
    assert not found.notes


@pytest.mark.parametrize(
    ("paths", "node_path", "row"),
    [
        (("fc", "fc@1", ""), "fc@1", "fc@1"),  # the second call has a row of its own
        (("fc", ""), "fc@1", "fc"),  # the file called it twice, the network once
        (("block", ""), "block@2.fc@1", "block"),
        (("block.fc", "block", ""), "block.fc@3", "block.fc"),
        (("block", ""), "block.fc@1", "block"),
        (("fc", ""), "other@1", ""),
    ],
)
def test_a_second_call_without_a_row_is_charged_to_the_first_else_to_the_module_around_it(paths, node_path, row):
    found = joining.with_onnx(table(*paths), nodes(node=7), {"node": node_path})
    assert {entry.path: entry.onnx_ops for entry in found.layers if entry.onnx_ops} == {row: 7}


def test_a_difference_is_named():
    found = joining.with_onnx(table("a", "b"), nodes(a=10, b=4), {"a": "a", "b": "b"})
    assert found.notes == ("PyTorch and the ONNX graph differ in b (10 and 4)",)


def test_second_calls_have_rows_of_their_own():
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w"], ["fc"], name="fc/Gemm"),
            helper.make_node("Gemm", ["fc", "w"], ["fc@1"], name="fc"),
            helper.make_node("Relu", ["fc@1"], ["y"], name="/Relu"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2))],
    )
    assert joining.module_paths(graph) == {"fc/Gemm": "fc", "fc": "fc@1", "/Relu": ""}


def test_what_the_runtime_added_has_a_row_so_that_the_column_adds_up():
    times = NodeTimes({"a": 1.0, "b": 2.0}, {"ReorderOutput": 0.5})
    found = joining.with_onnx_times(table("a", "b"), times, {"a": "a", "b": "b"})
    assert [(row.path, row.onnxruntime_ms) for row in found.layers] == [("a", 1.0), ("b", 2.0), ("(onnxruntime)", 0.5)]
    assert sum(row.ops for row in found.layers) == found.totals.ops
    assert "ReorderOutput" in found.notes[-1]


def test_rows_of_a_file_are_its_nodes():
    found = joining.with_onnx_times(table("a", "b"), NodeTimes({"b": 2.0, "gone": 1.0}), None)
    assert [row.onnxruntime_ms for row in found.layers] == [0.0, 2.0, 1.0]


def test_paddle_lists_layers_only_and_says_what_it_left_out():
    timed = table("a", "", own=("",))
    rows = (timed.layers[0], replace(timed.layers[1], ops=0, torch_ms=0.25))
    found = joining.layers_only(replace(timed, layers=rows))
    assert [row.path for row in found.layers] == ["a"]
    assert found.notes == ("only layers are listed: 0.25 ms of PyTorch between them are not in the table",)


GRAPH = helper.make_graph(
    [
        helper.make_node("Conv", ["x", "w"], ["bn1"], name="conv1"),
        helper.make_node("Relu", ["bn1"], ["relu"], name="relu"),
        helper.make_node("Conv", ["relu", "w"], ["bn2"], name="conv2"),
        helper.make_node("Add", ["bn2", "x"], ["/Add"], name="/Add"),
        helper.make_node("Relu", ["/Add"], ["out"], name="/Relu"),
        helper.make_node("MatMul", ["out", "w"], ["fc"], name="fc"),
    ],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1,))],
    [helper.make_tensor_value_info("fc", TensorProto.FLOAT, (1,))],
)


def event(label, operator, duration, at=10):
    return {"cat": "Node", "name": f"{label}_kernel_time", "dur": duration, "ts": at, "args": {"op_name": operator}}


def run(at):
    return {"cat": "Session", "name": "model_run", "dur": 100, "ts": at, "args": {}}


@pytest.mark.parametrize(
    ("label", "operator", "node"),
    [
        ("conv1", "Conv", "conv1"),
        ("relu_nchwc", "Conv", "conv1"),  # Conv + Relu, named after the value that the Relu makes
        ("bn2_nchwc", "Conv", "conv2"),
        ("out_nchwc", "Conv", "conv2"),  # Conv + Add + Relu
        ("fused fc", "FusedMatMul", "fc"),
        ("fc/MatMulScaleFusion/", "FusedMatMul", "fc"),
        ("/Relu_token_12", "Relu", "/Relu"),
        ("ReorderOutput_token_3", "ReorderOutput", None),
    ],
)
def test_fused_nodes_are_charged_to_the_node_whose_operator_they_still_are(label, operator, node):
    found = charge([run(0), run(1), run(2), event(label, operator, 9)], GRAPH)
    assert found.charged == ({} if node is None else {node: pytest.approx(0.0095)})
    assert found.uncharged == ({operator: pytest.approx(0.0095)} if node is None else {})
    assert found.total_ms == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("label", "operator", "node"),
    [("relu_nchwc", "Conv", "conv1"), ("fc", "MatMul", "fc"), ("x", "Cast", None), ("fc", "Cast", None)],
)
def test_what_runs_in_another_precision_is_charged_and_the_casts_around_it_are_not(label, operator, node):
    """float16 on a CPU: the runtime computes in float32, and names what it inserts and what it wraps alike."""
    events = [run(0), run(1), run(2), event(f"InsertedPrecisionFreeCast_{label}", operator, 9)]
    assert set(charge(events, GRAPH).charged) == ({node} if node else set())


def test_a_loop_is_charged_with_what_it_takes_beyond_its_body():
    body = helper.make_graph([helper.make_node("MatMul", ["v", "w"], ["v2"], name="inner")], "body", [], [])
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], name="loop", body=body), helper.make_node("Relu", ["y"], ["z"], name="relu")],
        "g", [], [],
    )  # fmt: skip
    events = [
        run(0), run(1), run(2), event("loop", "Loop", 50, at=5), event("inner", "MatMul", 9, at=10), event("inner", "MatMul", 9, at=46),
        event("unnamed_7", "Identity", 4, at=30), event("relu", "Relu", 3, at=56),
    ]  # fmt: skip
    found = charge(events, graph)
    expected = {"loop": 0.0505 - 2 * 0.0095 - 0.0045 + 0.0045, "inner": 0.019, "relu": 0.0035}
    assert found.charged == {name: pytest.approx(spent) for name, spent in expected.items()}
    assert not found.uncharged
    rows = joining.with_onnx_times(table("loop", "relu"), found, None).layers
    assert [row.onnxruntime_ms for row in rows] == [pytest.approx(0.0505), pytest.approx(0.0035)]


def test_a_node_that_runs_twice_per_run_is_charged_twice_and_the_warm_up_is_left_out():
    warm = [run(0), run(1), event("conv1", "Conv", 5000, at=1)]
    counted = [
        run(10),
        *(event("conv1", "Conv", 9, at=11) for _ in range(2)),
        run(20),
        *(event("conv1", "Conv", 9, at=21) for _ in range(2)),
    ]
    assert charge([*warm, *counted], GRAPH).charged == {"conv1": pytest.approx(0.019)}


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(64, 64), nn.ReLU())

    def forward(self, x):
        return self.inner(self.inner(x)) + 1


def test_every_module_call_has_its_own_time_and_the_network_is_left_as_it_was():
    module = Nested().eval()
    found = torch_times.call_times(module, [torch.zeros(8, 64)], seconds=0.05)
    assert set(found) == {"", "inner", "inner@1", "inner.0", "inner.0@1", "inner.1", "inner.1@1"}
    assert all(value >= 0 for value in found.values())
    assert not any("forward" in vars(part) for part in module.modules())


def test_a_failing_forward_leaves_no_wrapper_behind():
    module = Nested().eval()
    with pytest.raises(RuntimeError):
        torch_times.call_times(module, [torch.zeros(8, 3)], seconds=0.05)
    assert not any("forward" in vars(part) for part in module.modules())
