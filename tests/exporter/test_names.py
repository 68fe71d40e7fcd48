"""Which module an FX node belongs to, whose output it is, and what is taken out of a graph before it is written."""

from __future__ import annotations

from types import SimpleNamespace

import onnx_ir as ir
import pytest

from deploykit.exporter import names


class Node(SimpleNamespace):
    """As torch's nodes, every one is itself alone."""

    __hash__ = object.__hash__


def node(name, *paths, users=(), op="call_function"):
    """An FX node in calls of modules, from the outermost to the innermost; a path may be `(key, path)`."""
    pairs = [path if isinstance(path, tuple) else (path, path) for path in paths]
    stack = {key: (path, object) for key, path in pairs}
    return Node(name=name, op=op, meta={"nn_module_stack": stack}, users=list(users))


def program(*nodes):
    return SimpleNamespace(graph=SimpleNamespace(nodes=nodes))


def test_a_node_belongs_to_the_innermost_call_and_is_the_output_of_the_innermost_that_it_leaves():
    outside = node("out", "")
    relu = node("relu", "", "block", "block.relu", users=[outside])
    conv = node("conv", "", "block", "block.conv", users=[relu])
    calls, outputs = names._module_calls(program(node("x", "", op="placeholder"), conv, relu, outside))
    assert calls == {"conv": "block.conv", "relu": "block.relu", "out": ""}
    assert outputs == {"conv": "block.conv", "relu": "block.relu"}


def test_a_call_whose_values_leave_it_at_several_places_has_no_one_output():
    outside = node("out", "")
    first, second = node("first", "", "block", users=[outside]), node("second", "", "block", users=[outside])
    assert names._module_calls(program(first, second, outside))[1] == {}
    unused = node("unused", "", "block")
    used = node("used", "", "block", users=[unused, outside])
    assert names._module_calls(program(used, unused, outside))[1] == {"used": "block"}


def test_torchs_own_placeholders_are_no_modules():
    odd = node("odd", ("k", "_empty_nn_module_stack_from_metadata_hook"))
    assert names._module_calls(program(odd, SimpleNamespace(name="bare", op="call_function", meta={}, users=[]))) == ({}, {})


@pytest.mark.parametrize(
    ("key", "path", "call"),
    [
        ("L__self__fc", "fc", "fc"),
        ("L__self__fc@1", "fc", "fc@1"),
        ("L__self__fc@x", "fc", "fc"),
        ("L__self__@1", "", ""),
        ("k@2", "_empty_nn_module_stack", None),
    ],
)
def test_the_second_call_of_a_module(key, path, call):
    assert names._call_path(key, path) == call


def value(name, note):
    found = ir.Value(name=name)
    found.metadata_props["trace"] = note
    found.doc_string = note
    return found


def marked(graph_name, inner=None):
    """A graph in which everything carries the path of a machine."""
    given, weight = value("x", "/home/me"), value("w", "/home/me")
    weight.const_value = ir.tensor([1.0], name="w")
    attributes = [] if inner is None else [ir.AttrGraph("body", inner)]
    made = ir.Node("", "Neg", [given], attributes, outputs=[value("y", "/home/me")], name="n")
    made.metadata_props["trace"], made.doc_string = "/home/me", "/home/me"
    graph = ir.Graph([given], made.outputs, nodes=[made], initializers=[weight], opset_imports={"": 20}, name=graph_name)
    graph.metadata_props["trace"], graph.doc_string = "/home/me", "/home/me"
    return graph


def test_nothing_of_the_machine_stays_in_the_model():
    function = ir.Function("F", "f", graph=marked("of f"), attributes=[])
    model = ir.Model(marked("outer", marked("inner")), ir_version=10, functions=[function])
    model.metadata_props["trace"], model.doc_string = "/home/me", "/home/me"
    names.strip(model)
    text = ir.serde.serialize_model(model).SerializeToString()
    assert b"/home/me" not in text
    parts = [model, model.graph, *model.graph.subgraphs(), *model.graph.inputs, *model.graph.initializers.values(), *model.graph]
    parts += [output for each in model.graph for output in each.outputs]
    for part in parts:
        assert not part.metadata_props
        assert part.doc_string is None


def namer(taken=()):
    return names._Namer({}, {}, {"", "a", "a.b", "c"}, set(taken), set())


def test_names_of_nodes_and_of_values_are_counted_apart():
    found = namer(["a"])
    assert [found._unique("a"), found._unique("a"), found._unique("b"), found._unique("b")] == ["a_1", "a_2", "b", "b_1"]
    assert [found._unique("a", node_only=True), found._unique("a", node_only=True)] == ["a", "a_1"]


@pytest.mark.parametrize(("path", "leaf"), [("a.b", True), ("a.b@2", True), ("c", True), ("a", False), ("", False), ("d", False)])
def test_a_leaf_is_a_module_without_children(path, leaf):
    assert namer()._is_leaf(path) is leaf


@pytest.mark.parametrize(
    ("domain", "operator", "position", "role"),
    [
        ("", "Conv", 1, "weight"),
        ("", "Conv", 2, "bias"),
        ("", "Gemm", 1, "weight"),
        ("", "Gemm", 2, "bias"),
        ("", "Add", 1, "constant"),
        ("", "Reshape", 1, "shape"),
        ("", "LayerNormalization", 1, "scale"),
        ("", "LayerNormalization", 2, "bias"),
        ("", "Concat", 3, "inputs"),
        ("other", "Conv", 1, "constant"),
        ("", "NoSuchOperator", 1, "constant"),
    ],
)
def test_the_role_of_a_constant(domain, operator, position, role):
    assert names._role(SimpleNamespace(domain=domain, op_type=operator), position) == role


@pytest.mark.parametrize(("fused", "path"), [(True, "a.b"), (False, "c@2")])
def test_only_a_fused_node_belongs_to_the_module_of_its_weight(fused, path):
    """A convolution into which a BatchNorm was folded makes the BatchNorm's output; a functional one may use another module's weight."""
    found = names._Namer({"out": "c@2"}, {}, {"", "a", "a.b", "c"}, set(), set())
    node = ir.Node("", "Conv", [ir.Value(name="x"), ir.Value(name="a.b.weight")], outputs=[ir.Value(name="out")])
    if fused:
        node.metadata_props[names.RULE] = "FuseBatchNormIntoConv"
    assert found._path(node, "") == path
