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
