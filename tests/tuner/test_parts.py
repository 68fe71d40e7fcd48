"""Wide layers in parts of their channels: the same answers, and only where the channels do not meet before they are joined."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.onnx_file import sessions
from deploykit.tuner import parts

FLOAT = TensorProto.FLOAT
SIDE = 20
value = helper.make_tensor_value_info


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A part of at most 32 channels."""
    monkeypatch.setattr(parts, "MOST", 32 * SIDE * SIDE)


def weight(name, *shape):
    generator = np.random.default_rng(sum(map(ord, name)))
    return numpy_helper.from_array((generator.standard_normal(shape) / 6).astype(np.float32), name)


def inverted(channels=96, act="silu", after="silu", depth=1, stride=2, opset=20):
    """Expansion, activation, depthwise convolution, activation, projection: MobileNet v2's block."""
    nodes = [helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="expand")]
    last = activated(nodes, act, "c1", "first")
    for step in range(depth):
        attributes = {"group": channels, "pads": [1, 1, 1, 1], "strides": [stride, stride]}
        nodes.append(helper.make_node("Conv", [last, "w2", "b2"], [f"d{step}"], name=f"deep{step}", **attributes))
        last = activated(nodes, after, f"d{step}", f"second{step}")
    nodes.append(helper.make_node("Conv", [last, "w3"], ["y"], name="project"))
    weights = [weight("w1", channels, 8, 1, 1), weight("b1", channels), weight("w2", channels, 1, 3, 3), weight("b2", channels)]
    weights += [weight("w3", 8, channels, 1, 1), numpy_helper.from_array(np.float32(0), "low"), numpy_helper.from_array(np.float32(6), "high")]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [value("x", FLOAT, ["n", 8, SIDE, SIDE])], [value("y", FLOAT, ["n", 8, None, None])], weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def activated(nodes, act, given, name):
    if act == "none":
        return given
    if act == "silu":
        nodes.append(helper.make_node("Sigmoid", [given], [f"{given}s"], name=f"{name}_sigmoid"))
        nodes.append(helper.make_node("Mul", [given, f"{given}s"], [f"{given}a"], name=name))
    elif act == "clip":
        nodes.append(helper.make_node("Clip", [given, "low", "high"], [f"{given}a"], name=name))
    else:
        nodes.append(helper.make_node(act, [given], [f"{given}a"], name=name))
    return f"{given}a"


def answers(model, batch=2):
    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = {each.name: each for each in (*inferred.value_info, *inferred.output)}
    for output in model.graph.output:
        if output.name in known:
            output.CopyFrom(known[output.name])
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(0).standard_normal((batch, 8, SIDE, SIDE)).astype(np.float32)
    return sessions.run(sessions.open_session(model.SerializeToString()), {"x": x})


def operators(model):
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("act", ["silu", "clip", "HardSwish", "Relu", "none"])
@pytest.mark.parametrize("after", ["silu", "none"])
def test_the_answers_are_the_same(act, after):
    model = inverted(act=act, after=after)
    before = model.SerializeToString()
    found = parts.in_parts(model)
    assert model.SerializeToString() == before, "it is a copy"
    assert operators(found)["Conv"] == 7, "three parts of two, and the projection"
    assert operators(found)["Concat"] == 1
    for batch in (1, 3):
        np.testing.assert_allclose(answers(found, batch)[0], answers(model, batch)[0], rtol=1e-5, atol=1e-6)
    sizes = {tuple(tensor.dims) for tensor in found.graph.initializer}
    assert (32, 8, 1, 1) in sizes
    assert (96, 8, 1, 1) not in sizes, "what nothing reads any more is gone"
    assert {"expand", "deep0", "project"} <= {node.name for node in found.graph.node}
    assert len({node.name for node in found.graph.node}) == len(found.graph.node)


@pytest.mark.parametrize(
    ("channels", "sizes"), [(64, [32, 32]), (72, [32, 16, 24]), (100, [32, 16, 32, 20]), (32, []), (33, [16, 17])]
)
def test_parts_are_whole_blocks_but_for_the_last(channels, sizes):
    model = inverted(channels)
    found = parts.in_parts(model)
    assert [node.attribute[0].i for node in found.graph.node if node.op_type == "Conv" and node.attribute] == (sizes or [channels])
    np.testing.assert_allclose(answers(found)[0], answers(model)[0], rtol=1e-5, atol=1e-6)


def test_the_second_of_two_deep_ones_takes_what_is_joined():
    model = inverted(depth=2, stride=1)
    (found,) = parts.wide(model)
    assert [node.name for node in found.nodes] == ["expand", "first_sigmoid", "first", "deep0", "second0_sigmoid", "second0"]
    np.testing.assert_allclose(answers(parts.in_parts(model))[0], answers(model)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("read", ["c1", "c1a", "d0"])
def test_what_others_read_before_it_is_joined_is_not_divided(read):
    model = inverted()
    model.graph.output.append(value(read, FLOAT, None))
    assert parts.wide(model) == []
    model = inverted()
    model.graph.node.append(helper.make_node("GlobalAveragePool", [read], ["mean"], name="mean"))
    model.graph.output.append(value("mean", FLOAT, None))
    assert [node.name for each in parts.wide(model) for node in each.nodes] == []


def test_several_may_read_what_is_joined():
    model = inverted()
    model.graph.node.append(helper.make_node("GlobalAveragePool", ["d0a"], ["mean"], name="mean"))
    model.graph.output.extend([value("mean", FLOAT, None), value("d0a", FLOAT, None)])
    assert len(parts.wide(model)) == 1
    for before, after in zip(answers(model), answers(parts.in_parts(model)), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def without(name, model):
    """One weight comes from outside."""
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    model.graph.initializer.remove(tensor)
    model.graph.input.append(value(name, FLOAT, list(tensor.dims)))
    return model


def with_slopes(model):
    model.graph.node[1].CopyFrom(helper.make_node("PRelu", ["c1", "slopes"], ["c1a"], name="slopes"))
    del model.graph.node[2]
    model.graph.initializer.append(weight("slopes", 96, 1, 1))
    return model


def in_groups(model):
    for node in model.graph.node:
        if node.name == "deep0":
            node.attribute[0].i = 48
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(weight("w2", 96, 2, 3, 3))
    return model


@pytest.mark.parametrize(
    "model",
    [
        without("w1", inverted()),
        without("b2", inverted()),
        with_slopes(inverted()),
        in_groups(inverted()),
        inverted(channels=24),
        inverted(depth=0, act="silu"),
        onnx.ModelProto(),
    ],
)  # fmt: skip
def test_what_cannot_be_divided_stays(model):
    assert parts.wide(model) == []
    assert parts.in_parts(model) == model


def test_numbers_are_of_one_sample_and_the_sides_must_be_known():
    model = inverted()
    assert len(parts.wide(model)) == 1
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"
    assert parts.wide(model) == []
