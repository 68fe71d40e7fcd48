"""What is looked up in a graph: its inner values, its one batch size, what its weights are stored in, sessions with more outputs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.verdict.deployed import Deployed


def tensor(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def graph_of(nodes, inputs, outputs, weights=None):
    stored = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    return Deployed(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def chain():
    nodes = [
        helper.make_node("Unique", ["x"], ["u", "", "places"]),
        helper.make_node("Cast", ["places"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["numbers"], ["y"]),
    ]
    return graph_of(nodes, [tensor("x", ["n"])], [tensor("y", ["n"])])


def test_inner_values_are_those_between_inputs_and_outputs_that_have_a_name():
    assert chain().values() == {"u": "Unique", "places": "Unique", "numbers": "Cast"}


def test_a_session_gives_inner_values_too_and_the_graph_stays_as_it_is():
    file = chain()
    session = file.session("disabled", also=["numbers", "u"])
    assert [entry.name for entry in session.get_outputs()] == ["y", "numbers", "u"]
    assert [value.name for value in file.model.graph.output] == ["y"]
    assert [entry.name for entry in file.session().get_outputs()] == ["y"]
    assert session.run(None, {"x": np.array([4, 1, 4], np.float32)})[1].tolist() == [1.0, 0.0, 1.0]


def test_the_session_on_the_whole_graph_is_opened_once():
    file = chain()
    assert file.answering() is file.answering("cpu")
    assert chain().answering() is not file.answering()
    assert [entry.name for entry in file.answering().get_outputs()] == ["y"]


@pytest.mark.parametrize(
    ("shapes", "fixed"),
    [
        ([["n", 4]], None),
        ([[3, 4]], 3),
        ([["n", 4], [2]], 2),
        ([[], [5]], 5),
        ([[]], None),
        ([None], None),
        ([["n"], ["m"]], None),
    ],
)
def test_the_only_batch_size(shapes, fixed):
    inputs = [tensor(f"x{place}", shape) for place, shape in enumerate(shapes)]
    assert graph_of([], inputs, []).fixed_batch == fixed


@pytest.mark.parametrize(
    ("halves", "singles", "precision"),
    [(0, 0, "fp32"), (0, 4, "fp32"), (4, 4, "fp32"), (5, 4, "fp16"), (4, 5, "fp32"), (4, 0, "fp16")],
)
def test_the_precision_is_that_of_most_numbers(halves, singles, precision):
    weights = {"a": np.zeros(halves, np.float16), "b": np.zeros(singles, np.float32), "c": np.zeros(100, np.int64)}
    assert graph_of([], [], [], weights).precision == precision


def test_old_files_list_weights_among_the_inputs():
    file = graph_of([], [tensor("x", ["n", 2]), tensor("w", [2])], [], {"w": np.zeros(2, np.float32)})
    assert [value.name for value in file.inputs] == ["x"]
    assert file.fixed_batch is None


def test_what_a_sigmoid_makes_in_another_shape_or_in_parts():
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["gate"]),
        helper.make_node("Split", ["gate"], ["left", "right"], axis=0, num_outputs=2),
        helper.make_node("Transpose", ["left"], ["turned"]),
        helper.make_node("Mul", ["right", "x"], ["y"]),
        helper.make_node("Identity", ["x"], ["z"]),
    ]
    assert graph_of(nodes, [tensor("x", [2, 2])], [tensor("y", [2, 2])]).sigmoids == {"gate", "left", "right", "turned"}


def test_what_a_sigmoid_makes_is_known_beside_other_numbers():
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["score"]),
        helper.make_node("Concat", ["x", "score"], ["y"], axis=1),
        helper.make_node("Concat", ["x", "x"], ["z"], axis=1),
    ]
    assert graph_of(nodes, [tensor("x", [2, 2])], [tensor("y", [2, 4]), tensor("z", [2, 4])]).sigmoids == {"score", "y"}
