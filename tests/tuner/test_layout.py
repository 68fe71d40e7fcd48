"""Which ways to write a graph for onnxruntime's convolutions are tried, and what they are called."""

from __future__ import annotations

import math

import onnx
import pytest
from onnx import TensorProto, helper

from deploykit.tuner import blocked_layout, parts
from deploykit.tuner.layout import Layout, layouts, written

SMALL = blocked_layout.SMALL


@pytest.mark.parametrize(
    ("count", "small", "wide", "found"),
    [
        (0, 0, False, []),
        (3, 3, False, [Layout(math.inf)]),
        (3, 0, False, [Layout(math.inf)]),
        (3, 2, False, [Layout(SMALL), Layout(math.inf)]),
        (0, 0, True, [Layout(parts=True)]),
        (3, 3, True, [Layout(math.inf, True), Layout(0, True), Layout(math.inf)]),
        (3, 2, True, [Layout(SMALL, True), Layout(math.inf, True), Layout(0, True), Layout(SMALL)]),
    ],
)
def test_which_are_tried(monkeypatch, count, small, wide, found):
    monkeypatch.setattr(blocked_layout, "gates", lambda model, most=math.inf: count if most == math.inf else small)
    monkeypatch.setattr(parts, "wide", lambda model: ["something"] * wide)
    assert layouts(onnx.ModelProto()) == found
    assert len(found) <= 4, "as many as are timed at once"


def test_what_they_are_called():
    assert Layout().name == ""
    assert Layout(math.inf).name == "gates in blocks"
    assert Layout(SMALL, parts=True).name == "small gates in blocks, wide layers in parts"
    assert Layout(parts=True).name == "wide layers in parts"


def test_each_part_of_it_is_written(monkeypatch):
    monkeypatch.setattr(blocked_layout, "blocked", lambda model, most: (model, most))
    monkeypatch.setattr(parts, "in_parts", lambda model: (model, "parts"))
    assert written("model", Layout()) == "model"
    assert written("model", Layout(5)) == ("model", 5)
    assert written("model", Layout(5, parts=True)) == (("model", 5), "parts")
    assert written("model", Layout(parts=True)) == ("model", "parts")


@pytest.mark.parametrize("name", ["ReduceMean", "Conv", "GlobalAveragePool", "Mul"])
def test_a_function_that_is_called_like_an_operator_and_takes_nothing_is_another_one(name):
    value, own = helper.make_tensor_value_info, [helper.make_opsetid("", 20)]
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"]),
        helper.make_node("Mul", ["x", "m"], ["y"]),
        helper.make_node(name, [], ["k"], domain="my"),
    ]
    inputs, outputs = [value("x", TensorProto.FLOAT, ["n", 8, 6, 6])], [value("y", TensorProto.FLOAT, ["n", 8, 6, 6])]
    model = helper.make_model(
        helper.make_graph(nodes, "gate", inputs, outputs), opset_imports=[*own, helper.make_opsetid("my", 1)], ir_version=9
    )
    constant = helper.make_node("Constant", [], ["o"], value_float=1.5)
    model.functions.append(helper.make_function("my", name, [], ["o"], [constant], own))
    assert layouts(model) == [Layout(math.inf)], "the gate of the graph itself"
    assert "Resize" in {node.op_type for node in written(model, Layout(math.inf, parts=True)).graph.node}
