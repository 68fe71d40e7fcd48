"""The table of layers: errors of each layer alone, and what each was left in and why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from deploykit.tuner import layers
from deploykit.tuner.result import LayerChoice


def chain(scales, output="y", quantized=()):
    """Matrices one after the other that scale by a number each, called by letters; `quantized`: those whose weights are int8."""
    names = "abcdefgh"[: len(scales)]
    weights = [
        numpy_helper.from_array(np.eye(2, dtype=np.float32) * scale, f"w{name}") for name, scale in zip(names, scales, strict=True)
    ]
    weights += [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.uint8(0), "zero")]
    nodes, last = [], "x"
    for name in names:
        if name in quantized:
            nodes.append(helper.make_node("QuantizeLinear", [last, "scale", "zero"], [f"q{name}"], name=f"q{name}"))
            nodes.append(helper.make_node("DequantizeLinear", [f"q{name}", "scale", "zero"], [f"d{name}"], name=f"d{name}"))
            nodes.append(helper.make_node("DequantizeLinear", [f"i{name}", "scale", "zero"], [f"w{name}"], name=f"w{name}"))
            weights = [each for each in weights if each.name != f"w{name}"]
            weights.append(numpy_helper.from_array(np.eye(2, dtype=np.uint8), f"i{name}"))
            last = f"d{name}"
        end = output if name == names[-1] else f"v{name}"
        nodes.append(helper.make_node("MatMul", [last, f"w{name}"], [end], name=name))
        last = end
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n", 2])], [value(output, 1, ["n", 2])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


FEEDS = {"x": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)}


def test_an_error_is_that_of_the_layer_where_it_appears():
    """a is exact, b is a tenth off, c hands that on, d mends it by half."""
    found = layers.errors(chain([1.0, 1.0, 2.0, 1.0]), chain([1.0, 1.1, 2.0, 1.05 / 1.1]), FEEDS)
    assert found == pytest.approx({"a": 0.0, "b": 0.1, "c": 0.0, "d": 0.0}, abs=1e-6)
    found = layers.errors(chain([1.0, 1.0]), chain([1.2, 1.1]), FEEDS)
    assert found == pytest.approx({"a": 0.2, "b": 0.12}, abs=1e-6), "1.2 * 1.1 is 0.32 too much, of which 0.2 were there"


def test_what_lies_between_layers_hands_the_error_on():
    def relu(model):
        model.graph.node[1].input[0] = "ra"
        model.graph.node.insert(1, helper.make_node("Relu", ["va"], ["ra"], name="relu"))
        return model

    found = layers.errors(relu(chain([1.0, 1.0])), relu(chain([1.5, 1.0])), FEEDS)
    assert found == pytest.approx({"a": 0.5, "b": 0.0}, abs=1e-6)


def test_a_layer_that_is_not_in_the_other_file_has_no_error():
    found = layers.errors(chain([1.0, 1.0, 1.0]), chain([1.0, 1.5], output="y"), FEEDS)
    assert set(found) == {"a", "c"}, "vb is not there; y is"


@pytest.mark.parametrize(
    ("expected", "found", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.0], [3.0, 5.0], 0.2),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 0.5], 1.0),
        ([3.0, 4.0], [3.0, 4.0, 5.0], np.inf),
        ([-np.inf, np.nan, 3.0, 4.0], [-np.inf, np.nan, 3.0, 4.0], 0.0),
        ([-np.inf, np.nan, 3.0, 4.0], [-np.inf, np.nan, 3.0, 5.0], 0.2),
        ([-np.inf, 4.0], [np.inf, 4.0], np.inf),
        ([3.0, 4.0], [np.nan, 4.0], np.inf),
        ([np.nan, 4.0], [3.0, 4.0], np.inf),
    ],
)
def test_an_error_is_relative_to_the_size_of_the_output(expected, found, error):
    assert layers._relative(np.array(expected), np.array(found)) == pytest.approx(error)


def test_values_inside_are_asked_for_once_and_by_their_names():
    model = chain([2.0, 3.0])
    found = layers._values(model, ["va", "y", "unknown"], FEEDS)
    assert {name: array.tolist() for name, array in found.items()} == {
        "va": [[2.0, 4.0], [6.0, 8.0]],
        "y": [[6.0, 12.0], [18.0, 24.0]],
    }
    assert {array.dtype for array in found.values()} == {np.dtype(np.float64)}
    assert [value.name for value in model.graph.output] == ["y"], "the given graph stays as it is"


FP32 = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}
INT8 = {"a": 1.0, "b": 3.5, "c": 2.0, "d": 0.5}


def test_what_each_layer_was_left_in_and_why():
    original, chosen = chain([1.0] * 4), chain([1.0] * 4, quantized="ac")
    found = layers.choices(original, chosen, FP32, INT8, {"a": 0.25, "b": 0.5}, {"b": "because"})
    assert found == (
        LayerChoice("a", "MatMul", 4.0, 1.0, 0.25, "int8", "faster in int8"),
        LayerChoice("b", "MatMul", 3.0, 3.5, 0.5, "fp32", "because"),
        LayerChoice("c", "MatMul", 2.0, 2.0, None, "int8", "stays between layers in int8"),
        LayerChoice("d", "MatMul", 1.0, 0.5, None, "fp32", "the quantizer leaves it in float"),
    )
    assert found[0].document() == {
        "path": "a", "type": "MatMul", "fp32_ms": 4.0, "int8_ms": 1.0, "error": 0.25, "precision": "int8", "reason": "faster in int8",
    }  # fmt: skip


def test_what_was_not_measured_is_a_gap_and_a_file_without_conversions_is_not_quantized():
    fp32, int8 = {"a": 4.0, "b": 3.0}, {"a": 1.0, "b": 3.5}
    original, chosen = chain([1.0] * 2), chain([1.0] * 2, quantized="a")
    assert [(each.fp32_ms, each.int8_ms, each.reason) for each in layers.choices(original, chosen, {}, int8, {}, {"b": "x"})] == [
        (None, None, ""), (None, None, "x"),
    ]  # fmt: skip
    assert [(each.fp32_ms, each.int8_ms, each.reason) for each in layers.choices(original, chosen, fp32, {}, {}, {"b": "x"})] == [
        (4.0, None, ""), (3.0, None, "x"),
    ]  # fmt: skip
    plain = layers.choices(original, original, fp32, int8, {}, {})
    assert [(each.precision, each.reason) for each in plain] == [("fp32", "the file that was chosen is not quantized")] * 2
    assert [(each.fp32_ms, each.int8_ms) for each in plain] == [(4.0, 1.0), (3.0, 3.5)]
    gone = onnx.ModelProto()
    gone.CopyFrom(chosen)
    next(node for node in gone.graph.node if node.name == "a").name = "other"
    assert layers.choices(original, gone, fp32, int8, {}, {})[0].precision == "fp32", (
        "a layer of another name is not known to be in int8"
    )


@pytest.mark.parametrize(
    ("is_int8", "before", "after", "taken_back", "reason"),
    [
        (True, 2.0, 1.0, "", "faster in int8"), (True, 2.0, 2.0, "x", "stays between layers in int8"), (True, None, 1.0, "", ""),
        (True, 2.0, None, "", ""), (False, 2.0, 1.0, "x", "x"), (False, None, None, "x", "x"),
        (False, 2.0, 1.0, "", "the quantizer leaves it in float"),
    ],
)  # fmt: skip
def test_why_a_layer_was_left_in_its_precision(is_int8, before, after, taken_back, reason):
    assert layers._reason(is_int8, before, after, taken_back) == reason


def test_a_float_layer_that_reads_what_an_int8_one_gives_is_float():
    model = chain([1.0, 1.0], quantized="a")
    nodes = [
        helper.make_node("QuantizeLinear", ["va", "scale", "zero"], ["qva"]),
        helper.make_node("DequantizeLinear", ["qva", "scale", "zero"], ["dva"]),
    ]
    last = model.graph.node[-1]
    last.input[0] = "dva"
    for node in nodes:
        model.graph.node.insert(len(model.graph.node) - 1, node)
    found = layers.choices(chain([1.0, 1.0]), model, {}, {}, {}, {"b": "because"})
    assert [(row.path, row.precision, row.reason) for row in found] == [("a", "int8", ""), ("b", "fp32", "because")]
