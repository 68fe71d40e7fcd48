"""1x1 convolutions as products of matrices: the same answers in float32, float32 out of int8, and only where it can be so."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.onnx_file import sessions
from deploykit.tuner import layers, mixing, products, quantizing
from deploykit.tuner.quantizing import Scheme

FLOAT = TensorProto.FLOAT
value = helper.make_tensor_value_info


def weight(name, *shape):
    generator = np.random.default_rng(sum(map(ord, name)))
    return numpy_helper.from_array((generator.standard_normal(shape) / 6).astype(np.float32), name)


def residual(sides=(5, 7), opset=20, batch="n", mean="GlobalAveragePool", gate_first=False, **conv):
    """Two inverted residuals with gates, the second with a sum around it, and a head: what EfficientNet consists of."""
    nodes, weights = [], [weight("w0", 16, 3, 3, 3), weight("wh", 24, 16, 1, 1), weight("bh", 24)]
    nodes.append(helper.make_node("Conv", ["x", "w0"], ["a0"], name="stem", pads=[1, 1, 1, 1]))
    for block in (1, 2):
        weights += [weight(f"w{block}", 16, 16, 3, 3), weight(f"s{block}", 16, 16, 1, 1), weight(f"p{block}", 16, 16, 1, 1)]
        weights.append(weight(f"b{block}", 16))
        before, gate = f"a{block - 1}", [f"d{block}", f"g{block}"]
        nodes += [
            helper.make_node("Conv", [before, f"w{block}"], [f"c{block}"], name=f"deep{block}", pads=[1, 1, 1, 1]),
            helper.make_node("Sigmoid", [f"c{block}"], [f"i{block}"], name=f"sigmoid{block}"),
            helper.make_node("Mul", [f"c{block}", f"i{block}"], [f"d{block}"], name=f"silu{block}"),
            helper.make_node("GlobalAveragePool", [f"d{block}"], [f"m{block}"], name=f"squeeze{block}"),
            helper.make_node("Conv", [f"m{block}", f"s{block}"], [f"e{block}"], name=f"excite{block}"),
            helper.make_node("Sigmoid", [f"e{block}"], [f"g{block}"], name=f"open{block}"),
            helper.make_node("Mul", gate[::-1] if gate_first else gate, [f"o{block}"], name=f"gate{block}"),
            helper.make_node("Conv", [f"o{block}", f"p{block}", f"b{block}"], [f"l{block}"], name=f"project{block}", **conv),
        ]
        if block == 2:
            nodes.append(helper.make_node("Add", ["l2", "a1"], ["a2"], name="sum"))
        else:
            nodes[-1].output[0] = "a1"
    nodes += [
        helper.make_node("Conv", ["a2", "wh", "bh"], ["h"], name="head"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["y"], name="pool"),
    ]
    if mean == "ReduceMean":
        nodes[-1] = helper.make_node("ReduceMean", ["r", "axes"] if opset >= 18 else ["r"], ["y"], name="pool", keepdims=1)
        if opset >= 18:
            weights.append(numpy_helper.from_array(np.array([-2, -1]), "axes"))
        else:
            nodes[-1].attribute.append(helper.make_attribute("axes", [2, 3]))
    graph = helper.make_graph(
        nodes, "residual", [value("x", FLOAT, [batch, 3, *sides])], [value("y", FLOAT, [batch, 24, 1, 1])], weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


ALL = ["project1", "project2", "head"]


def operators(model):
    return Counter(node.op_type for node in model.graph.node)


def answers(model, x):
    onnx.checker.check_model(model, full_check=True)
    return sessions.run(sessions.open_session(model.SerializeToString()), {"x": x})[0]


def samples(batch=2, sides=(5, 7)):
    return np.random.default_rng(0).standard_normal((batch, 3, *sides)).astype(np.float32)


@pytest.mark.parametrize(
    "changes", [{}, {"gate_first": True}, {"opset": 13}, {"mean": "ReduceMean"}, {"mean": "ReduceMean", "opset": 13}, {"batch": 2}]
)
@pytest.mark.parametrize("chosen", [ALL, ALL[:1], ALL[1:2], ALL[2:]])
def test_the_answers_are_the_same(changes, chosen):
    model = residual(**changes)
    before = model.SerializeToString()
    found, held = products.as_products(model, set(chosen))
    assert model.SerializeToString() == before, "it is a copy"
    assert {node.name for node in found.graph.node if node.op_type == "Gemm"} == set(chosen)
    for batch in (2,) if "batch" in changes else (1, 2, 3):
        np.testing.assert_allclose(answers(found, samples(batch)), answers(model, samples(batch)), rtol=1e-5, atol=1e-6)
    assert set(held.values()) <= {name for node in model.graph.node for name in (*node.input, *node.output)}


def test_what_joins_rows_stays_in_rows():
    """Two gates, a sum, an activation and a mean: of the planes nothing is left behind the first of them but what others read."""
    found, _ = products.as_products(residual(), set(ALL))
    assert operators(found)["Transpose"] == 3, "into rows behind each of the two deep convolutions, out of them before the second"
    (total,) = (node for node in found.graph.node if node.op_type == "Add")
    assert list(total.input) == ["l2_last", "a1_last"]
    assert operators(found)["ReduceMean"] == 1


def test_which_are_cheap():
    """Behind a gate that nothing else reads, or before a mean of places: 16 * 16 / 32 and 16 * 24 / 40."""
    assert products.cheap(residual()) == {"project1": 8.0, "project2": 8.0, "head": 9.6}
    model = residual()
    model.graph.output.append(value("o1", FLOAT, ["n", 16, 5, 7]))
    assert "project1" in products.cheap(model), "an application may read it, too"
    model.graph.output.append(value("r", FLOAT, ["n", 24, 5, 7]))
    assert "head" not in products.cheap(model)
    model = residual()
    model.graph.node.append(helper.make_node("Relu", ["o2"], ["also"], name="also"))
    assert "project2" not in products.cheap(model)


def test_how_busy_matrices_are():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="stored"),
        helper.make_node("MatMul", ["a", "a"], ["b"], name="of two values"),
        helper.make_node("Gemm", ["b", "v"], ["y"], name="turned", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "g", [value("x", FLOAT, [8, 4])], [value("y", FLOAT, None)], [weight("w", 4, 8), weight("v", 2, 8)]
    )
    assert products.matrices(helper.make_model(graph)) == {"stored": 32 / 12, "turned": 1.6}


@pytest.mark.parametrize("name", ["o1", "a1", "a2", "r"])
def test_what_an_application_reads_inside_is_as_it_was(name):
    model = residual()
    model.graph.output.append(value(name, FLOAT, ["n", 24 if name == "r" else 16, 5, 7]))
    found, _ = products.as_products(model, set(ALL))
    for before, after in zip(*(sessions.run(sessions.open_session(m.SerializeToString()), {"x": samples()}) for m in (model, found)), strict=True):  # fmt: skip
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_a_branch_that_reads_rows_gets_planes():
    """The body of an If reads a value from outside."""
    model = residual()
    branch = helper.make_graph([helper.make_node("Relu", ["a1"], ["t"])], "b", [], [value("t", FLOAT, None)])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch))
    model.graph.output.append(value("z", FLOAT, ["n", 16, 5, 7]))
    found, _ = products.as_products(model, set(ALL))
    before, after = (sessions.run(sessions.open_session(m.SerializeToString()), {"x": samples()})[1] for m in (model, found))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "conv", [{"strides": [2, 2]}, {"pads": [1, 1, 1, 1]}, {"group": 2}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}]
)
def test_what_is_no_product_stays(conv):
    model = residual(**conv)
    if conv.get("group"):
        for tensor in model.graph.initializer:
            if tensor.name in ("p1", "p2"):
                tensor.CopyFrom(weight(tensor.name, 16, 8, 1, 1))
    del model.graph.node[-4:]
    model.graph.output[0].CopyFrom(value("l2", FLOAT, None))
    assert products.pointwise(model) == [], conv
    assert products.as_products(model, {"project1", "project2"})[0].graph.node == model.graph.node


def test_open_sides_and_unknown_names_stay():
    open_sides = residual()
    for place, name in ((2, "h"), (3, "w")):
        open_sides.graph.input[0].type.tensor_type.shape.dim[place].dim_param = name
    assert products.pointwise(open_sides) == []
    assert products.as_products(open_sides, set(ALL))[0].graph.node == open_sides.graph.node
    assert products.as_products(residual(), {"of nobody"})[0].graph.node == residual().graph.node
    assert products.pointwise(onnx.ModelProto()) == []
    assert products.cheap(onnx.ModelProto()) == {}


def test_different_sizes_are_not_joined_row_by_row():
    """A value of one sample beside one of many: rows of the first would meet those of other samples."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="a"),
        helper.make_node("Conv", ["one", "w"], ["b"], name="b"),
        helper.make_node("Add", ["a", "b"], ["y"], name="sum"),
    ]
    graph = helper.make_graph(
        nodes, "g", [value("x", FLOAT, ["n", 3, 2, 2]), value("one", FLOAT, [1, 3, 2, 2])], [value("y", FLOAT, None)],
        [weight("w", 4, 3, 1, 1)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)
    found, _ = products.as_products(model, {"a", "b"})
    feeds = {"x": samples(3, (2, 2)), "one": samples(1, (2, 2))}
    before, after = (sessions.run(sessions.open_session(m.SerializeToString()), feeds)[0] for m in (model, found))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def in_int8(model, chosen, tmp_path):
    """The chosen ones in int8 and everything else in float32, as `tune` makes it; and the graph that it is made from."""
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    written, held = products.as_products(model, set(chosen))
    ranges = quantizing.with_ranges(quantizing.calibrate(file, [{"x": samples(8)}], "minmax"), held)
    whole = quantizing.quantized(written, ranges, Scheme(reduced=True))
    return mixing.taken_back(whole, written, {node.name for node in written.graph.node} - set(chosen)), written


def test_in_int8_each_takes_whole_numbers_and_gives_float32(tmp_path):
    model = residual()
    mixed, _ = in_int8(model, ALL, tmp_path)
    assert operators(mixed)["QuantizeLinear"] == len(ALL), "one before each, none behind"
    expected, found = (answers(each, samples()) for each in (model, mixed))
    assert 0 < np.abs(found - expected).max() < 0.03 * np.abs(expected).max()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(mixed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert operators(onnx.load(options.optimized_model_filepath))["QGemm"] == len(ALL)


def test_the_error_of_each_is_seen_in_its_rows(tmp_path):
    model = residual()
    mixed, _ = in_int8(model, ALL, tmp_path)
    found = layers.errors(model, mixed, {"x": samples(8)})
    assert {name for name, error in found.items() if error > 1e-4} == set(ALL)
    assert all(error < 0.1 for error in found.values())
