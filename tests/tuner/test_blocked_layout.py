"""Gates of channels are written for onnxruntime's blocked layout: the same answers, fewer reorderings, and nothing else changes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.onnx_file import sessions
from deploykit.tuner import blocked_layout, mixing, quantizing
from deploykit.tuner.quantizing import Scheme

FLOAT = TensorProto.FLOAT
SIDE = 14


def gated(values=("batch", 32, SIDE, SIDE), gate_first=False, opset=20, axes=(2, 3), keepdims=1):
    """Convolution, squeeze and excitation, convolution: the trait of MobileNet v3 and EfficientNet."""
    generator = np.random.default_rng(0)

    def weight(name, *shape):
        return numpy_helper.from_array((generator.standard_normal(shape) / 6).astype(np.float32), name)

    weights = [weight("w1", 32, 3, 3, 3), weight("w2", 32, 32, 1, 1), weight("w3", 16, 32, 1, 1)]
    mean = helper.make_node("ReduceMean", ["a", "axes"] if opset >= 18 else ["a"], ["m"], name="mean", keepdims=keepdims)
    if opset >= 18:
        weights.append(numpy_helper.from_array(np.array(axes), "axes"))
    else:
        mean.attribute.append(helper.make_attribute("axes", axes))
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["a"], name="relu"),
        mean,
        helper.make_node("Conv", ["m", "w2"], ["e"], name="excite"),
        helper.make_node("Sigmoid", ["e"], ["s"], name="sigmoid"),
        helper.make_node("Mul", ["s", "a"] if gate_first else ["a", "s"], ["g"], name="gate"),
        helper.make_node("Conv", ["g", "w3"], ["y"], name="last"),
    ]
    shape = [values[0], 3, *values[2:]]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "gated", [value("x", FLOAT, shape)], [value("y", FLOAT, [values[0], 16, *values[2:]])], weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def product(values, gate, elem_type=FLOAT, opset=20):
    """One Mul of two inputs."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "s"], ["y"])],
        "g", [value("x", elem_type, values), value("s", elem_type, gate)], [value("y", elem_type, None)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def operators(model):
    return Counter(node.op_type for node in model.graph.node)


def answers(model, x):
    onnx.checker.check_model(model, full_check=True)
    return sessions.run(sessions.open_session(model.SerializeToString()), {"x": x})[0]


@pytest.mark.parametrize("changes", [{}, {"gate_first": True}, {"opset": 13}, {"axes": (-1, -2)}, {"values": (2, 32, SIDE, SIDE)}])
def test_the_answers_are_the_same(changes):
    model = gated(**changes)
    before = model.SerializeToString()
    found = blocked_layout.blocked(model)
    assert model.SerializeToString() == before, "it is a copy"
    assert blocked_layout.gates(model) == 1
    assert operators(found) == operators(model) - Counter({"ReduceMean": 1}) + Counter({"GlobalAveragePool": 1, "Resize": 1})
    assert [node.name for node in found.graph.node if node.name != "g_gate"] == [node.name for node in model.graph.node]
    assert {tensor.name for tensor in found.graph.initializer} == {"w1", "w2", "w3", "g_gate_scales"}, "axes are read no more"
    for batch in (2,) if "values" in changes else (1, 2, 5):
        x = np.random.default_rng(batch).standard_normal((batch, 3, SIDE, SIDE)).astype(np.float32)
        np.testing.assert_allclose(answers(found, x), answers(model, x), rtol=1e-5, atol=1e-6)


def test_gates_of_more_numbers_stay():
    model = product(["n", 5, 3, 7], ["n", 5, 1, 1])
    assert (blocked_layout.gates(model, 104), blocked_layout.gates(model, 105)) == (0, 1)
    assert blocked_layout.blocked(model, 104) == model
    assert operators(blocked_layout.blocked(model, 105)) == {"Resize": 1, "Mul": 1}
    assert not blocked_layout.gates(product(["n", "c", 3, 7], ["n", "c", 1, 1])), "nobody knows how many"


def test_the_product_is_the_same_bit_by_bit():
    model = product(["n", 5, 3, 7], ["n", 5, 1, 1])
    found = blocked_layout.blocked(model)
    assert operators(found) == {"Resize": 1, "Mul": 1}
    generator = np.random.default_rng(0)
    feeds = {"x": generator.standard_normal((2, 5, 3, 7)).astype(np.float32), "s": generator.random((2, 5, 1, 1), np.float32)}
    feeds["x"][0, 0, 0, :3] = np.nan, np.inf, -0.0
    (made,) = sessions.run(sessions.open_session(found.SerializeToString()), feeds)
    assert made.tobytes() == (feeds["x"] * feeds["s"]).tobytes()


def test_onnxruntime_reorders_less(tmp_path):
    """What it is for: between the convolutions nothing leaves the layout any more."""
    counted = []
    for number, model in enumerate((gated(), blocked_layout.blocked(gated()))):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{number}.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        counted.append(operators(onnx.load(options.optimized_model_filepath)))
    if not counted[0]["ReorderOutput"]:
        pytest.skip("onnxruntime has no blocked layout on this machine")
    assert counted[0]["ReorderOutput"] + counted[0]["ReorderInput"] >= 3
    assert (counted[1]["ReorderOutput"], counted[1]["ReorderInput"]) == (1, 0), "one at the end"


@pytest.mark.parametrize(
    "model",
    [
        product(["n", 5, 3, 7], ["n", 5, 3, 7]),
        product(["n", 5, 1, 1], ["n", 5, 1, 1]),
        product(["n", 5, 3, 7], [1, 5, 1, 1]),
        product(["n", 5, 3, 7], ["n", 1, 1, 1]),
        product(["n", 5, "h", 7], ["n", 5, 1, 1]),
        product([None, 5, 3, 7], [None, 5, 1, 1]),
        product([-1, 5, 3, 7], [-1, 5, 1, 1]),
        product(["n", 5, 3], ["n", 5, 1]),
        product(["n", 0, 3, 7], ["n", 0, 1, 1]),
        product(["n", 5, 3, 7], ["n", 5, 1, 1], elem_type=TensorProto.DOUBLE),
        product(["n", 5, 3, 7], ["n", 5, 1, 1], opset=10),
        onnx.ModelProto(),
    ],
)
def test_what_is_no_gate_stays(model):
    assert not blocked_layout.gates(model)
    assert blocked_layout.blocked(model) == model


@pytest.mark.parametrize("changes", [{"axes": (2,)}, {"axes": (1, 3)}])
def test_other_means_stay(changes):
    model = gated(**changes)
    assert operators(blocked_layout.blocked(model))["ReduceMean"] == 1


def test_axes_that_another_mean_reads_stay():
    model = gated(axes=(2, 3))
    model.graph.node.append(helper.make_node("ReduceMean", ["y", "axes"], ["z"], name="other", keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("z", FLOAT, ["batch", 16]))
    found = blocked_layout.blocked(model)
    assert "axes" in {tensor.name for tensor in found.graph.initializer}
    onnx.checker.check_model(found, full_check=True)


def test_a_name_that_is_taken_is_not_given_twice():
    model = gated()
    model.graph.node[0].name = "g_gate"
    model.graph.initializer[0].name = model.graph.node[0].input[1] = "g_gate_scales"
    found = blocked_layout.blocked(model)
    assert [node.name for node in found.graph.node if node.op_type == "Resize"] == ["g_gate_1"]
    x = np.ones((1, 3, SIDE, SIDE), np.float32)
    np.testing.assert_allclose(answers(found, x), answers(model, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "floats", [set(), {"first"}, {"excite"}, {"first", "excite"}, {"first", "excite", "last"}, {"first", "last"}]
)
def test_only_what_is_left_in_float_is_written_anew(tmp_path, floats):
    file = tmp_path / "gated.onnx"
    onnx.save(gated(), file)
    x = np.random.default_rng(0).standard_normal((8, 3, SIDE, SIDE)).astype(np.float32)
    whole = quantizing.quantized(onnx.load(file), quantizing.calibrate(file, [{"x": x}], "minmax"), Scheme(reduced=True))
    mixed = mixing.taken_back(whole, gated(), floats)
    found = blocked_layout.blocked(mixed)
    written = floats == {"first", "excite", "last"}  # before a last one in int8, the product leaves the layout in any case
    assert operators(found)["Resize"] == written
    assert operators(found)["GlobalAveragePool"] == written
    np.testing.assert_allclose(answers(found, x), answers(mixed, x), rtol=1e-4, atol=1e-4)
