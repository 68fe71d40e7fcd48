"""Any set of layers can be taken back to float32, and nothing else changes."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from deploykit.onnx_file import sessions
from deploykit.tuner import mixing, quantizing
from deploykit.tuner.quantizing import Scheme


def run(model, feeds):
    onnx.checker.check_model(model, full_check=True)
    return sessions.run(sessions.open_session(model.SerializeToString()), feeds)[0]


def converted(model):
    return sum(node.op_type == "QuantizeLinear" for node in model.graph.node)


def test_every_set_of_layers_gives_a_legal_graph_whose_answers_are_near(network):
    _, model, whole, feeds = network
    expected = run(model, feeds)
    names = quantizing.layers(model)
    assert names == ["first", "second", "third", "last"]
    errors = {}
    for size in range(len(names) + 1):
        for floats in itertools.combinations(names, size):
            found = run(mixing.taken_back(whole, model, set(floats)), feeds)
            errors[floats] = float(np.abs(found - expected).max() / np.abs(expected).max())
    assert errors[tuple(names)] == 0, "all taken back is the file that was given"
    assert all(0 < error < 0.1 for floats, error in errors.items() if len(floats) < len(names))


def test_all_taken_back_has_no_conversion_left_and_each_layer_at_most_its_own(network):
    _, model, whole, _ = network
    names = set(quantizing.layers(model))
    assert converted(mixing.taken_back(whole, model, names)) == 0
    assert converted(mixing.taken_back(whole, model, names - {"second"})) == 2, "one before it, one after it"
    assert converted(mixing.taken_back(whole, model, names - {"last"})) == 1, "a product of matrices gives float32"
    assert converted(mixing.taken_back(whole, model, set())) < converted(whole), "none between a layer and its Relu"


def test_weights_of_a_layer_that_stays_are_those_of_the_file(network):
    _, model, whole, _ = network
    mixed = mixing.taken_back(whole, model, {"second"})
    stored = {tensor.name: tensor for tensor in mixed.graph.initializer}
    original = {tensor.name: tensor for tensor in model.graph.initializer}
    (weight,) = (node.input[1] for node in mixed.graph.node if node.name == "second")
    assert stored[weight] == original[weight]
    assert not any(name.startswith("second") and "quantized" in name for name in stored)


def test_metadata_opset_and_the_contract_stay(network):
    _, model, whole, _ = network
    mixed = mixing.taken_back(whole, model, set())
    assert mixed.opset_import == model.opset_import
    assert mixed.metadata_props == model.metadata_props
    assert [value.name for value in mixed.graph.output] == [value.name for value in model.graph.output]


def small(nodes, weights, outputs, tmp_path):
    """A graph over images of 8 channels, everything in QDQ, and its answers to a few samples."""
    generator = np.random.default_rng(0)
    stored = [numpy_helper.from_array((generator.standard_normal(s) / 5).astype(np.float32), n) for n, s in weights.items()]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n", 8, 6, 6])], [value(n, 1, s) for n, s in outputs.items()], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "small.onnx")
    feeds = {"x": generator.standard_normal((4, 8, 6, 6)).astype(np.float32)}
    ranges = quantizing.calibrate(tmp_path / "small.onnx", [feeds], "minmax")
    return model, quantizing.quantized(model, ranges, Scheme(reduced=True)), feeds


@pytest.mark.parametrize("floats", [{"first"}, {"second"}, set(), {"first", "second"}])
def test_a_bias_of_two_layers_stays_as_it_is_for_the_one_in_float(tmp_path, floats):
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b"], ["a"], name="first"),
        helper.make_node("Conv", ["x", "w2", "b"], ["c"], name="second"),
    ]
    weights = {"w1": (8, 8, 1, 1), "w2": (8, 8, 3, 3), "b": (8,)}
    model, whole, feeds = small(nodes, weights, {"a": ["n", 8, 6, 6], "c": ["n", 8, 4, 4]}, tmp_path)
    mixed = mixing.taken_back(whole, model, floats)
    onnx.checker.check_model(mixed, full_check=True)
    assert {name: "b" in node.input for name in floats for node in mixed.graph.node if node.name == name} == dict.fromkeys(
        floats, True
    )
    expected, found = (sessions.run(sessions.open_session(each.SerializeToString()), feeds) for each in (model, mixed))
    for name, before, after in zip(("first", "second"), expected, found, strict=True):
        np.testing.assert_allclose(after, before, atol=(1e-5 if name in floats else 0.05) * np.abs(before).max())


@pytest.mark.parametrize("moved", [["Transpose"], ["Transpose", "Flatten"], []])
@pytest.mark.parametrize("floats", [set(), {"second"}])
def test_no_conversion_stands_before_what_a_body_reads(tmp_path, moved, floats):
    """onnxruntime 1.31 ends the process where one does."""
    nodes = [helper.make_node("Conv", ["x", "w1"], ["a"], name="first")]
    last = "a"
    for op in moved:
        nodes.append(helper.make_node(op, [last], [f"{last}t"], name=op, **({"perm": [0, 1, 3, 2]} if op == "Transpose" else {})))
        last += "t"
    branches = [
        helper.make_graph([helper.make_node(op, [last], [op])], op, [], [helper.make_tensor_value_info(op, 1, None)])
        for op in ("Relu", "Neg")
    ]
    nodes += [
        helper.make_node("Conv", [("a" if len(moved) != 1 else last), "w2"], ["c"], name="second"),
        helper.make_node("ReduceSum", ["x"], ["s"], name="sum", keepdims=0),
        helper.make_node("Cast", ["s"], ["p"], name="truth", to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["p"], ["q"], name="if", then_branch=branches[0], else_branch=branches[1]),
    ]
    sizes = {"q": ["n", 8, 6, 6] if moved != ["Transpose", "Flatten"] else ["n", 288], "c": ["n", 8, 4, 4]}
    model, whole, feeds = small(nodes, {"w1": (8, 8, 1, 1), "w2": (8, 8, 3, 3)}, sizes, tmp_path)
    mixed = mixing.taken_back(whole, model, floats)
    onnx.checker.check_model(mixed, full_check=True)
    back = {node.output[0] for node in mixed.graph.node if node.op_type == "DequantizeLinear"}
    assert not any(back & set(node.input) for node in mixed.graph.node if node.name in moved)
    expected, found = (sessions.run(sessions.open_session(each.SerializeToString()), feeds) for each in (model, mixed))
    for before, after in zip(expected, found, strict=True):
        np.testing.assert_allclose(after, before, atol=0.1 * np.abs(before).max())
