"""Nodes that onnxruntime's quantizer would write as another function stay in float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from deploykit import onnx_file
from deploykit.onnx_file import sessions
from deploykit.tuner import mixing, quantizing
from deploykit.tuner.quantizable import left_in_float
from deploykit.tuner.quantizing import Scheme

value = helper.make_tensor_value_info
RANDOM = np.random.default_rng(0)


def stored(name, *shape):
    return numpy_helper.from_array((RANDOM.standard_normal(shape) / 3).astype(np.float32), name)


def scaled(**attributes):
    bias = numpy_helper.from_array(np.linspace(-6, 6, 6).astype(np.float32), "b")
    return [helper.make_node("Gemm", ["a", "w", "b"], ["y"], name="hard", **attributes)], [stored("w", 8, 6), bias], (8,)


def masked():
    mask = numpy_helper.from_array(np.array([0, 0, -np.inf, 0, 0, 0, -np.inf, 0], np.float32), "mask")
    nodes = [helper.make_node("Add", ["a", "mask"], ["s"], name="hard"), helper.make_node("Softmax", ["s"], ["y"], name="softmax")]
    return nodes, [mask], (8,)


def product(*shape, first):
    names = ["w", "a"] if first else ["a", "w"]
    return [helper.make_node("MatMul", names, ["y"], name="hard")], [stored("w", *shape)], (4, 8, 8)


def transposed():
    nodes = [helper.make_node("ConvTranspose", ["a", "w", "b"], ["y"], name="hard", group=2)]
    return nodes, [stored("w", 8, 3, 2, 2), stored("b", 6)], (8, 5, 5)


HARD = {
    "beta": lambda: scaled(beta=0.5),
    "alpha": lambda: scaled(alpha=0.5),
    "infinite mask": masked,
    "weights first": lambda: product(8, 8, first=True),
    "several matrices": lambda: product(4, 8, 6, first=False),
    "groups with a bias": transposed,
}


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("kind", HARD)
def test_it_stays_in_float_and_what_is_before_it_does_not(kind, coarse, tmp_path):
    nodes, tensors, shape = HARD[kind]()
    before = helper.make_node("MatMul", ["x", "w0"], ["a"], name="easy")
    graph = helper.make_graph(
        [before, *nodes], "g", [value("x", 1, ["n", *shape])], [value("y", 1, None)], [stored("w0", shape[-1], shape[-1]), *tensors]
    )
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    file = tmp_path / "network.onnx"
    onnx_file.write(model, file)
    feeds = {"x": RANDOM.standard_normal((16, *shape)).astype(np.float32)}
    whole = quantizing.quantized(
        onnx.load(file), quantizing.calibrate(file, [feeds], "minmax"), Scheme(reduced=True, coarse=coarse)
    )
    mixed = mixing.taken_back(whole, model, set())
    onnx.checker.check_model(mixed, full_check=True)
    back = {node.output[0] for node in mixed.graph.node if node.op_type == "DequantizeLinear"}
    readers = {node.name: list(node.input) for node in mixed.graph.node}
    assert back.issuperset(readers["easy"])
    assert back.isdisjoint(name for name in readers["hard"] if not name.startswith("a"))
    expected, found = (sessions.run(sessions.open_session(each.SerializeToString()), feeds)[0] for each in (model, mixed))
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


def test_a_gemm_without_a_bias_may_scale_its_product():
    nodes, tensors, _ = scaled(alpha=0.5)
    del nodes[0].input[2]
    graph = helper.make_graph(nodes, "g", [value("a", 1, ["n", 8])], [value("y", 1, None)], tensors)
    assert left_in_float(graph, {}) == []


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("kind", ["Relu", "Clip"])
def test_an_output_before_a_relu_keeps_what_the_relu_takes_away(kind, coarse, tmp_path):
    """The quantizer gives what a Relu reads the range of what it lets through, and does not see that an application reads it, too."""
    limits = ["low", "high"] if kind == "Clip" else []
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], name="before"), helper.make_node(kind, ["a", *limits], ["r"], name="cut"),
        helper.make_node("MatMul", ["r", "w1"], ["y"], name="after"),
    ]  # fmt: skip
    ends = [numpy_helper.from_array(np.array(number, np.float32), name) for name, number in (("low", 0), ("high", 6))]
    graph = helper.make_graph(
        nodes, "g", [value("x", 1, ["n", 8])], [value("y", 1, ["n", 8]), value("a", 1, ["n", 8])],
        [stored("w0", 8, 8), stored("w1", 8, 8), *(ends if limits else [])],
    )  # fmt: skip
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    file = tmp_path / "network.onnx"
    onnx_file.write(model, file)
    feeds = {"x": RANDOM.standard_normal((64, 8)).astype(np.float32)}
    whole = quantizing.quantized(
        onnx.load(file), quantizing.calibrate(file, [feeds], "minmax"), Scheme(reduced=True, coarse=coarse)
    )
    mixed = mixing.taken_back(whole, model, set())
    assert "DequantizeLinear" in {node.op_type for node in mixed.graph.node}
    for expected, found in zip(
        *(sessions.run(sessions.open_session(each.SerializeToString()), feeds) for each in (model, mixed)), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())
