"""The walk finds every graph, node, tensor and name, wherever ONNX allows one to be."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from deploykit import onnx_file
from deploykit.onnx_file import external_data, walk


def number(name, *dims):
    return helper.make_tensor(name, TensorProto.FLOAT, dims, [1.0] * (dims[0] if dims else 1))


def sparse(name):
    return helper.make_sparse_tensor(number(name, 1), helper.make_tensor(f"{name} indices", TensorProto.INT64, [1], [2]), [4])


def constant(name, **where):
    return helper.make_node("Constant", [], [name], f"make {name}", **where)


def branch(name, *nodes):
    return helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info(nodes[-1].output[0], 1, [1])])


def model():
    """If in If, an operator of somebody else with a list of graphs, a local function with an If, and numbers in every place."""
    value = helper.make_tensor_value_info
    innermost = branch("innermost", constant("c1", value=number("n1", 1)))
    inner = branch("inner", helper.make_node("If", ["yes"], ["c2"], "inner if", then_branch=innermost, else_branch=innermost))
    inner.initializer.append(number("w1", 1))
    several = [
        branch("listed", constant("c3", value=number("n3", 1))),
        branch("listed too", constant("c4", sparse_value=sparse("n4"))),
    ]
    nodes = [
        helper.make_node("If", ["yes"], ["a"], "outer if", then_branch=inner, else_branch=innermost),
        helper.make_node("Many", ["a"], ["b"], "many", domain="somebody", bodies=several, numbers=[number("n5", 1)]),
        helper.make_node("Twice", ["b"], ["y"], "call", domain="local"),
    ]
    in_function = helper.make_node("If", ["x"], ["z"], "function's if", then_branch=several[0], else_branch=several[0])
    function = helper.make_function("local", "Twice", ["x"], ["z"], [in_function], [helper.make_opsetid("", 20)])
    graph = helper.make_graph(
        nodes, "main", [value("yes", 9, [])], [value("y", 1, [1])], [number("w2", 1)], sparse_initializer=[sparse("w3")]
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("somebody", 1), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=[function])


def test_every_graph_is_visited_the_outer_one_first():
    found = [graph.name for graph in walk.graphs(model())]
    # Attributes are in no order that ONNX names.
    assert found[0] == "main"
    assert sorted(found[1:]) == ["inner", *["innermost"] * 3, *["listed"] * 3, "listed too"]


def test_every_node_is_visited_before_those_in_it_and_functions_come_last():
    found = [node.name for node in walk.nodes(model())]
    assert found[:2] in (["outer if", "inner if"], ["outer if", "make c1"])
    assert found.index("many") < found.index("make c4") < found.index("call") < found.index("function's if")
    assert found[-2:] == ["make c3", "make c3"]
    assert "function's if" not in [node.name for node in walk.nodes(model().graph)]


def test_every_stored_tensor_is_visited():
    found = {tensor.name for tensor in walk.tensors(model())}
    assert found == {"n1", "n3", "n4", "n4 indices", "n5", "w1", "w2", "w3", "w3 indices"}
    assert walk.stored(model().graph) == {"w2", "w3"}


def test_names_are_those_of_nodes_and_values_of_every_graph():
    found = set(walk.names(model()))
    assert {"outer if", "function's if", "c1", "c4", "yes", "y", "w1", "w2", "w3", "z"} <= found


def test_operators_are_counted_by_their_full_names():
    assert onnx_file.operators(model()) == {"Constant": 5, "If": 2, "local.Twice": 1, "somebody.Many": 1}
    standard = onnx.NodeProto(op_type="Relu", domain="ai.onnx")
    assert walk.operator(standard) == "Relu"


def test_weights_outside_are_found_in_branches_lists_and_functions():
    whole = model()
    for tensor in walk.tensors(whole):
        external_data_of = onnx.external_data_helper.set_external_data
        tensor.raw_data = b"\0" * 8
        external_data_of(tensor, f"{tensor.name}.data")
    assert external_data.locations(whole) == {
        f"{n}.data" for n in ("n1", "n3", "n4", "n4 indices", "n5", "w1", "w2", "w3", "w3 indices")
    }


def test_the_walk_over_onnx_ir_finds_the_same_bodies():
    dense = model()
    del dense.graph.sparse_initializer[:]  # onnx_ir knows no sparse tensors
    dense.graph.node[1].attribute[0].graphs[1].node[0].attribute[0].CopyFrom(helper.make_attribute("value", number("n4", 1)))
    whole = ir.serde.deserialize_model(dense)
    found = {node.name: sorted(str(body.name) for body in walk.ir_bodies(node)) for node in whole.graph}
    assert found == {"outer if": ["inner", "innermost"], "many": ["listed", "listed too"], "call": []}
    assert sorted(str(graph.name) for graph in whole.graph.subgraphs()) == [
        "inner",
        "innermost",
        "innermost",
        "innermost",
        "listed",
        "listed too",
    ]
