"""What onnxruntime's quantizer cannot read is written as it reads it: the answers stay, and every layer can be int8 or float."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from deploykit import onnx_file
from deploykit.errors import InputError
from deploykit.onnx_file import sessions
from deploykit.tuner import mixing, quantizing, tuning
from deploykit.tuner.quantizing import Scheme
from deploykit.tuner.readable import readable

value = helper.make_tensor_value_info
RANDOM = np.random.default_rng(0)
FEEDS = {"x": RANDOM.standard_normal((8, 3, 8, 8)).astype(np.float32)}


def weights(name, outputs, inputs):
    return numpy_helper.from_array((RANDOM.standard_normal((outputs, inputs, 3, 3)) / 4).astype(np.float32), name)


def network(opset=17, ir_version=8, names=("first", "relu", "second"), stored=("w1", "w2"), middle="m", ends=("y",)):
    nodes = [
        helper.make_node("Conv", ["x", stored[0]], ["c"], name=names[0], pads=[1] * 4),
        helper.make_node("Relu", ["c"], [middle], name=names[1]),
        helper.make_node("Conv", [middle, stored[1]], ["y"], name=names[2], pads=[1] * 4),
    ]
    shapes = {"y": ["n", 4, 8, 8], middle: ["n", 8, 8, 8], "w2": [4, 8, 3, 3]}
    outputs = [value(name, 1, shapes[name]) for name in ends]
    tensors = [weights(stored[0], 8, 3), weights(stored[1], 4, 8)]
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n", 3, 8, 8])], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    model.metadata_props.add(key="author", value="somebody")
    return model


def with_constants():
    model = network()
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
    limits = [
        helper.make_node("Constant", [], ["low"], value_float=0.0),
        helper.make_node("Constant", [], ["high"], value=numpy_helper.from_array(np.float32(6))),
        helper.make_node("Clip", ["c", "low", "high"], ["m"], name="relu"),
    ]
    kept = [node for node in model.graph.node if node.op_type != "Relu"]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend([*nodes, *limits[:2], kept[0], limits[2], kept[1]])
    return model


def listing_weights():
    model = network(ir_version=3)
    model.graph.input.extend(value(t.name, 1, t.dims) for t in model.graph.initializer)
    return model


def of_constants_in_a_body():
    """A value inside a body has a name that the quantizer would take; nothing is renamed there."""
    model = network()
    body = helper.make_graph([helper.make_node("Neg", ["y_"], ["y_scale"])], "b", [], [value("y_scale", 1, None)])
    other = helper.make_graph([helper.make_node("Abs", ["y_"], ["o"])], "b", [], [value("o", 1, None)])
    model.graph.node[-1].output[0] = "y_"
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["y"], name="if", then_branch=body, else_branch=other))
    return model


def with_a_body_called_after(name):
    """Values inside two bodies are called as the quantizer calls what belongs to a value outside."""
    model = network()
    bodies = [
        helper.make_graph([helper.make_node(op, ["y_"], [name + suffix])], "b", [], [value(name + suffix, 1, None)])
        for op, suffix in (("Neg", "_scale"), ("Abs", "_zero_point"))
    ]
    model.graph.node[-1].output[0] = "y_"
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["y"], name="if", then_branch=bodies[0], else_branch=bodies[1]))
    return model


HARD = {
    "opset 9": lambda: network(opset=9, ir_version=4),
    "opset 11": lambda: network(opset=11, ir_version=6),
    "opset 12": lambda: network(opset=12, ir_version=7),
    "weights in Constant nodes": with_constants,
    "weights among the inputs": listing_weights,
    "nodes without names": lambda: network(names=("", "", "")),
    "names that the quantizer takes": lambda: network(stored=("c_scale", "c_zero_point"), middle="w_QuantizeLinear_Output"),
    "weights called like quantized ones": lambda: network(stored=("w", "w_quantized"), middle="c_scale"),
    "an output with such a name": lambda: network(middle="c_scale", ends=("y", "c_scale")),
    "an output called after an input": lambda: network(middle="x_scale", ends=("y", "x_scale")),
    "an output called after an output": lambda: network(middle="y_zero_point", ends=("y", "y_zero_point")),
    "an output that is used inside": lambda: network(ends=("y", "m")),
    "an output that is stored": lambda: network(ends=("y", "w2")),
    "a body with such a name": of_constants_in_a_body,
    "a body called after a value": lambda: with_a_body_called_after("c"),
    "a body called after an input": lambda: with_a_body_called_after("x"),
}


@pytest.mark.parametrize("kind", HARD)
def test_any_layers_of_it_can_be_int8_and_all_else_answers_as_before(kind, tmp_path):
    model = HARD[kind]()
    given = model.SerializeToString()
    known = readable(model)
    assert model.SerializeToString() == given
    assert readable(known) is known
    assert [(each.key, each.value) for each in known.metadata_props] == [("author", "somebody")]
    assert [each.name for each in known.graph.output] == [each.name for each in model.graph.output]
    file = tmp_path / "network.onnx"
    onnx_file.write(known, file)
    expected = run(model)
    for name, array in run(known).items():
        np.testing.assert_array_equal(array, expected[name])
    ranges = quantizing.calibrate(file, [FEEDS], "minmax")
    for coarse in (False, True):
        whole = quantizing.quantized(onnx.load(file), ranges, Scheme(reduced=True, coarse=coarse))
        for size in range(3):
            for floats in itertools.combinations(quantizing.layers(known), size):
                mixed = mixing.taken_back(whole, known, set(floats))
                onnx.checker.check_model(mixed, full_check=True)
                assert ("QuantizeLinear" in {node.op_type for node in mixed.graph.node}) == (size < 2)
                for name, array in run(mixed).items():
                    scale = np.abs(expected[name]).max()
                    np.testing.assert_allclose(array, expected[name], atol=(0.1 if size < 2 else 0) * scale, err_msg=str(floats))
    assert len(quantizing.layers(known)) == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["network.onnx"]


def run(model):
    names = [each.name for each in model.graph.output]
    session = sessions.open_session(model.SerializeToString(), level="basic")
    return dict(zip(names, sessions.run(session, FEEDS), strict=True))


def test_what_needs_nothing_stays_the_same_object():
    model = network()
    assert readable(model) is model


def test_constants_of_every_kind_are_stored_but_for_texts_and_for_what_the_application_reads():
    given = {
        "value_float": 1.5, "value_floats": [1.5, 2.5], "value_int": 3, "value_ints": [3, 4],
        "value": numpy_helper.from_array(np.float64(2)), "value_string": "text",
    }  # fmt: skip
    nodes = [helper.make_node("Constant", [], [name], name=name, **{name: each}) for name, each in given.items()]
    nodes.append(helper.make_node("Constant", [], ["end"], name="end", value_float=1.0))
    model = helper.make_model(helper.make_graph(nodes, "g", [], [value("end", 1, [])]))
    found = readable(model)
    assert [node.name for node in found.graph.node] == ["value_string", "end"]
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
    assert set(arrays) == {"value_float", "value_floats", "value_int", "value_ints", "value"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, given[name] if name != "value" else 2.0)
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64", "value": "float64",
    }  # fmt: skip


def test_a_name_that_is_taken_is_not_given_twice():
    nodes = [helper.make_node("Relu", ["x"], ["a"], name="Relu_1"), helper.make_node("Relu", ["a"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "g", [value("x", 1, ["n"])], [value("y", 1, ["n"])]))
    found = readable(model)
    assert [node.name for node in found.graph.node] == ["Relu_1", "Relu_2"]
    assert model.graph.node[1].name == ""


def test_an_old_graph_that_onnx_cannot_convert_is_refused_with_the_reason():
    model = network(opset=11, ir_version=6)
    model.graph.node[1].op_type = "OfNobody"
    model.opset_import.append(helper.make_opsetid("of.nobody", 1))
    model.graph.node[1].domain = "of.nobody"
    model.graph.node[0].op_type = "NoOperator"
    known = readable(model)
    assert onnx_file.opset(known) == 11
    with pytest.raises(InputError, match=r"old\.onnx is of opset 11, and onnx cannot convert it to 13, .*--precisions fp32"):
        quantizing.quantized(known, None, Scheme(), "old.onnx")


def test_functions_of_an_old_file_are_written_out():
    """onnx's converter loses them, and leaves nodes that nobody knows."""
    function = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["s"]), helper.make_node("Relu", ["s"], ["b"])],
        [helper.make_opsetid("", 11)],
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Twice", ["m"], ["y"], domain="own")],
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", 3])],
        [helper.make_tensor_value_info("y", 1, ["n", 3])],
        [numpy_helper.from_array(np.arange(9, dtype=np.float32).reshape(3, 3) - 4, "w")],
    )
    opsets = [helper.make_opsetid("", 11), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
    found = readable(model)
    assert onnx_file.opset(found) == 13
    assert not found.functions
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    expected, given = (sessions.run(sessions.open_session(each.SerializeToString()), feeds)[0] for each in (model, found))
    np.testing.assert_array_equal(given, expected)


def test_what_can_no_longer_be_given_is_said():
    """From IR 4 on an input with a stored value may be left out or given; a file in int8 holds it for good."""
    here = Path("network.onnx")
    for ir_version, said in (
        (8, ["in int8 the file holds w1, w2 for good: what was stored can no longer be given as an input"]),
        (3, []),
    ):
        model = network(ir_version=ir_version)
        model.graph.input.extend(value(tensor.name, 1, list(tensor.dims)) for tensor in model.graph.initializer)
        assert tuning._remarks(here, here, True, model) == said
    assert tuning._remarks(here, here, True, network()) == []
