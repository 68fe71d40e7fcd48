"""Parameters of ONNX files: every stored number that is read as data, wherever it lies, once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploykit.profiler.onnx.nodes import count_nodes

MICROSOFT = "com.microsoft"


def node(op, inputs, domain="", outputs=("y",), **attributes):
    return helper.make_node(op, inputs, list(outputs), domain=domain, **attributes)


def model_of(nodes, weights=(), inputs=(("x", TensorProto.FLOAT, (5, 1, 16)),), functions=(), sparse=()):
    """`weights`: name -> array."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*entry) for entry in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in dict(weights).items()],
        sparse_initializer=list(sparse),
    )
    opsets = [helper.make_opsetid("", 21), *(helper.make_opsetid(d, 1) for d in (MICROSOFT, "ai.onnx.ml", "local", "my.domain"))]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)


def params(*args, **kwargs):
    return count_nodes(model_of(*args, **kwargs)).totals.params


def int8(*shape):
    return np.ones(shape, np.int8)


def test_an_lstm_of_integers_has_its_weights_and_their_macs():
    weights = {
        "w": int8(1, 16, 128),
        "r": int8(1, 32, 128),
        "s": np.ones(1, np.float32),
        "z": int8(1),
        "b": np.ones((1, 256), np.float32),
    }
    lstm = node("DynamicQuantizeLSTM", ["x", "w", "r", "b", "", "", "", "", "s", "z", "s", "z"], MICROSOFT, hidden_size=32)
    found = count_nodes(model_of([lstm], weights))
    assert (found.totals.params, found.totals.ops, found.uncounted) == (6144 + 256, 5 * 128 * (16 + 32), {})


SCALE = {"s": np.ones(4, np.float32), "z": int8(4)}


@pytest.mark.parametrize(
    ("nodes", "weights", "expected"),
    [
        # an embedding of bytes: gathered first, made numbers then
        ([node("Gather", ["w", "i"], outputs=["g"]), node("DequantizeLinear", ["g", "s"])], {"w": int8(9, 4), "i": np.array([1])}, 36),
        ([node("Transpose", ["w"], outputs=["t"]), node("Cast", ["t"], to=TensorProto.FLOAT)], {"w": int8(9, 4)}, 36),
        ([node("Cast", ["w"], to=TensorProto.BOOL)], {"w": int8(9, 4)}, 0),  # a mask
        ([node("Gather", ["x", "i"])], {"i": np.arange(7, dtype=np.int32)}, 0),  # indices
        ([node("QLinearAdd", ["x", "s", "z", "w", "s", "z", "s", "z"], MICROSOFT)], {"w": int8(9)}, 9),
        ([node("QLinearConcat", ["s", "z", "x", "s", "z", "w", "s", "z"], MICROSOFT)], {"w": int8(9)}, 9),
        ([node("MatMulNBits", ["x", "w", "s"], MICROSOFT, K=16, N=6)], {"w": np.ones((6, 1, 8), np.uint8)}, 96),
        ([node("GatherBlockQuantized", ["w", "x", "s"], MICROSOFT)], {"w": np.ones((9, 8), np.uint8)}, 144),
        ([node("GatherBlockQuantized", ["w", "x", "s"], MICROSOFT, bits=8)], {"w": np.ones((9, 8), np.uint8)}, 72),
        ([node("QEmbedLayerNormalization", ["x", "", "w", "w", "", "g", "g", "", *"ssssszzzzz"], MICROSOFT)],
         {"w": int8(9, 4), "g": int8(4)}, 40),
        # numbers that describe are no weights
        ([node("Resize", ["x", "", "f"])], {"f": np.ones(3, np.float32)}, 0),
        ([node("Add", ["x", "f"])], {"f": np.float32(3)}, 0),
        ([node("Add", ["x", "f"])], {"f": np.ones((1, 16), np.float16)}, 16),
        ([node("LinearRegressor", ["x"], "ai.onnx.ml", coefficients=[1.0, 2.0, 3.0], intercepts=[1.0])], {}, 4),
    ],
)  # fmt: skip
def test_what_is_read_as_data_is_a_parameter(nodes, weights, expected):
    assert params(nodes, {**weights, **SCALE}) == expected


def test_a_weight_that_is_shared_with_a_scale_or_between_nodes_counts_once():
    nodes = [node("BatchNormalization", ["x", "one", "zero", "zero", "one"], outputs=["a"]), node("Mul", ["a", "one"])]
    assert params(nodes, {"one": np.ones(1, np.float32), "zero": np.zeros(1, np.float32)}) == 2


def test_of_a_sparse_tensor_the_stored_numbers_count():
    values = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    places = onnx.numpy_helper.from_array(np.array([0, 5, 7]), "w_indices")
    sparse = helper.make_sparse_tensor(values, places, [16, 4])
    found = count_nodes(model_of([node("MatMul", ["x", "w"])], sparse=[sparse]))
    assert (found.totals.params, found.totals.ops) == (3, 5 * 16 * 4)
    assert params([node("Constant", [], outputs=["c"], sparse_value=sparse), node("MatMul", ["x", "c"])]) == 3
    assert params([node("Constant", [], outputs=["c"], value_floats=[1.0] * 16), node("Mul", ["x", "c"])]) == 16


def test_a_constant_of_a_local_function_counts_once_however_often_it_is_called():
    weight = onnx.numpy_helper.from_array(np.ones((16, 16), np.float32))
    inside = [node("Constant", [], outputs=["w"], value=weight), node("MatMul", ["a", "w"], outputs=["b"])]
    function = helper.make_function("local", "Mix", ["a"], ["b"], inside, [helper.make_opsetid("", 21)])
    calls = [node("Mix", ["x"], "local", ["h"]), node("Mix", ["h"], "local")]
    model = model_of(calls, functions=[function])
    before = model.SerializeToString()
    found = count_nodes(model)
    assert (found.totals.params, found.totals.ops) == (256, 2 * 5 * 256)
    assert model.SerializeToString() == before


def test_integers_that_nobody_knows_make_the_parameters_a_lower_bound():
    found = count_nodes(model_of([node("Strange", ["x", "w"], "my.domain")], {"w": int8(9, 4)}))
    assert (found.totals.params, found.params_at_least) == (0, True)
    assert any("may be weights" in note and "Strange" in note for note in found.notes)


def cast(value, made, kind=TensorProto.FLOAT):
    return node("Cast", [value], outputs=[made], to=kind)


MATRIX = np.ones((16, 4), np.int32)


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        # stored as integers of any size, made floats at last
        ([cast("w", "f"), node("MatMul", ["x", "f"])], MATRIX.astype(np.int64)),
        ([cast("w", "f"), node("MatMul", ["x", "f"])], MATRIX.astype(np.uint32)),
        ([cast("w", "f"), node("MatMul", ["x", "f"])], MATRIX.astype(bool)),
        # by way of other integers
        ([cast("w", "i", TensorProto.INT32), node("Sub", ["i", "three"], outputs=["d"]), cast("d", "f"), node("MatMul", ["x", "f"])],
         MATRIX.astype(np.uint8)),
        ([node("Where", ["mask", "w", "w"], outputs=["d"]), node("DequantizeLinear", ["d", "s"])], MATRIX.astype(np.int8)),
        ([node("SequenceConstruct", ["w", "w"], outputs=["q"]), node("SequenceAt", ["q", "at"], outputs=["d"]),
          node("DequantizeLinear", ["d", "s"])], MATRIX.astype(np.int8)),
        # never floats at all
        ([cast("x", "n", TensorProto.INT32), node("MatMul", ["n", "w"])], MATRIX),
    ],
)  # fmt: skip
def test_integers_are_weights_by_what_they_are_read_as_in_the_end(nodes, weights):
    around = {"three": np.int32(3), "s": np.float32(0.5), "at": np.array(0), "mask": np.array(True)}
    found = count_nodes(model_of(nodes, {**around, "w": weights}))
    assert (found.totals.params, found.params_at_least) == (64, False)


def test_integers_of_which_only_shapes_are_made_are_no_weights():
    nodes = [
        cast("sizes", "f"), node("Mul", ["f", "one"], outputs=["g"]), cast("g", "h", TensorProto.INT64), node("Reshape", ["x", "h"]),
    ]  # fmt: skip
    assert params(nodes, {"sizes": np.array([16, 5]), "one": np.float32(1)}) == 0
    assert params([node("Gather", ["x", "at"])], {"at": np.array([1, 0])}) == 0


def test_integers_that_are_taken_apart_bit_by_bit_are_a_lower_bound():
    nodes = [node("BitShift", ["w", "four"], outputs=["h"], direction="RIGHT"), cast("h", "f"), node("MatMul", ["x", "f"])]
    found = count_nodes(model_of(nodes, {"w": MATRIX.astype(np.uint8), "four": np.uint8(4)}))
    assert (found.totals.params, found.params_at_least) == (64, True)
    assert any("may hold several numbers: BitShift" in note for note in found.notes)


@pytest.mark.parametrize("kind", [np.uint8, np.int32])
def test_a_packed_matrix_has_as_many_numbers_whatever_it_is_stored_as(kind):
    packed = np.ones((6, 1, 8 // np.dtype(kind).itemsize), kind)
    assert params([node("MatMulNBits", ["x", "w", "s"], MICROSOFT, K=16, N=6)], {"w": packed, "s": np.float32(1)}) == 96


def graph(nodes, outputs, inputs=(), weights=()):
    values = [
        [helper.make_value_info(name, helper.make_tensor_type_proto(kind, None)) for name, kind in side]
        for side in (inputs, outputs)
    ]
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in dict(weights).items()]
    return helper.make_graph(nodes, "body", *values, stored)


FLOAT, BYTE, INT, BOOL = TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT64, TensorProto.BOOL


def branches(**attributes):
    return node("If", ["c"], outputs=["w"], **attributes)


@pytest.mark.parametrize("kind", [np.float32, np.int8])
@pytest.mark.parametrize("constant", [True, False])
def test_what_a_branch_gives_back_as_it_is_stored_is_read_too(kind, constant):
    made = {"value": onnx.numpy_helper.from_array(np.ones((16, 4), kind))}
    one = graph([node("Constant", [], outputs=["a"], **made)], [("a", BYTE)]) if constant else None
    other = graph([], [("b", BYTE)], weights={"b": np.ones((16, 4), kind)})
    nodes = [branches(then_branch=one or other, else_branch=other)]
    nodes += [node("DequantizeLinear", ["w", "s"])] if kind is np.int8 else [node("MatMul", ["x", "w"])]
    assert params(nodes, {"s": np.float32(1), "c": np.array(True)}) == 128


def test_integers_pass_into_loops_and_scans_and_out_of_branches():
    read = [node("DequantizeLinear", ["q", "s"], outputs=["d"]), node("MatMul", ["h", "d"], outputs=["o"])]
    carried = graph([*read, node("Identity", ["go"], outputs=["on"]), node("Identity", ["q"], outputs=["r"])],
                    [("on", BOOL), ("o", FLOAT), ("r", BYTE)], [("i", INT), ("go", BOOL), ("h", FLOAT), ("q", BYTE)])  # fmt: skip
    weights = {"w": int8(16, 16), "s": np.float32(1), "n": np.array(3)}
    assert params([node("Loop", ["n", "", "x", "w"], outputs=["y", "left"], body=carried)], weights) == 256
    sliced = graph(read, [("o", FLOAT)], [("h", FLOAT), ("q", BYTE)])
    stacked = {**weights, "w": int8(5, 16, 16)}
    assert params([node("Scan", ["x", "w"], body=sliced, num_scan_inputs=1)], stacked) == 5 * 256
    same = graph([node("Identity", ["all"], outputs=["a"])], [("a", BYTE)])
    nodes = [node("If", ["c"], outputs=["w"], then_branch=same, else_branch=same), node("DequantizeLinear", ["w", "s"])]
    assert params(nodes, {"all": int8(16, 4), "s": np.float32(1), "c": np.array(True)}) == 64


def function(nodes, version=21, **attributes):
    imports = [helper.make_opsetid("", version), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_function("local", "Mix", ["a"], ["b"], nodes, imports, **attributes)


CALLS = [node("Mix", ["x"], "local", ["h"]), node("Mix", ["h"], "local")]


def test_lists_of_numbers_in_a_function_count_once_however_often_it_is_called():
    inside = [node("Constant", [], outputs=["w"], value_floats=[1.0] * 16), node("Add", ["a", "w"], outputs=["b"])]
    assert params(CALLS, functions=[function(inside)]) == 16
    linear = [node("LinearRegressor", ["a"], "ai.onnx.ml", ["b"], coefficients=[1.0] * 16, intercepts=[1.0])]
    assert params(CALLS, functions=[function(linear)]) == 17


def test_a_weight_that_is_the_default_of_an_attribute_counts():
    constant = node("Constant", [], outputs=["w"])
    constant.attribute.add(name="value", ref_attr_name="weight", type=onnx.AttributeProto.TENSOR)
    weight = helper.make_attribute("weight", onnx.numpy_helper.from_array(np.ones((16, 16), np.float32)))
    mix = function([constant, node("MatMul", ["a", "w"], outputs=["b"])], attribute_protos=[weight])
    found = count_nodes(model_of(CALLS, functions=[mix]))
    assert (found.totals.params, found.totals.ops, found.uncounted) == (256, 2 * 5 * 256, {})


@pytest.mark.parametrize(("operator", "ops"), [("Relu", 2 * 5 * 256), ("Softmax", 0)])
def test_a_function_of_another_opset_has_its_parameters_and_its_costs_if_nothing_in_it_has_changed(operator, ops):
    """Softmax is another since opset 13, Relu since 14."""
    weight = onnx.numpy_helper.from_array(np.ones((16, 16), np.float32))
    inside = [
        node("Constant", [], outputs=["w"], value=weight),
        node("MatMul", ["a", "w"], outputs=["m"]),
        node(operator, ["m"], outputs=["b"]),
    ]
    found = count_nodes(model_of(CALLS, functions=[function(inside, 14 if ops else 12)]))
    assert (found.totals.params, found.totals.ops, found.ops_at_least) == (256, ops, not ops)


@pytest.mark.parametrize(
    ("strange", "expected", "at_least"),
    [
        (node("QLinearConv", ["x", "q"], "my.domain"), 0, True),  # has nothing but the name of the known one
        (node("Clip", ["x", "f"], "my.domain"), 36, False),
        (node("Strange", ["x", "long"], "my.domain"), 0, True),
        (node("Strange", ["x"], "my.domain", w=onnx.numpy_helper.from_array(np.ones((9, 4), np.float32))), 36, False),
        (node("Strange", ["x"], "my.domain", w=onnx.numpy_helper.from_array(int8(9, 4))), 0, True),
        (node("Strange", ["x"], "my.domain", w=[1.0, 2.0]), 0, True),
        (node("Strange", ["x"], "my.domain", w=1.0), 0, False),
    ],
)
def test_an_operator_of_another_domain_is_not_known_by_its_name(strange, expected, at_least):
    weights = {"q": int8(9, 4), "f": np.ones((9, 4), np.float32), "long": np.ones(9, np.int32)}
    found = count_nodes(model_of([strange], weights))
    assert (found.totals.params, found.params_at_least, found.ops_at_least) == (expected, at_least, True)
    assert any("my.domain" in note for note in found.notes) == at_least


def test_the_weights_of_terms_count():
    terms = node("TfIdfVectorizer", ["i"], mode="TFIDF", min_gram_length=1, max_gram_length=1, max_skip_count=0, ngram_counts=[0],
                 ngram_indexes=[0, 1, 2], pool_int64s=[1, 2, 3], weights=[1.0, 2.0, 3.0])  # fmt: skip
    assert params([terms], inputs=[("i", INT, (6,))]) == 3
