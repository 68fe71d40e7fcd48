"""What a graph takes, and values that are made up for it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploykit import onnx_file
from deploykit.errors import InputError
from deploykit.onnx_file import inputs
from deploykit.onnx_file.inputs import GraphInput
from deploykit.runtime.contract import ArrayInput, Contract, Output


def model_of(*values, initializers=(), sparse=()):
    graph = helper.make_graph([], "g", list(values), [], list(initializers), sparse_initializer=list(sparse))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def tensor(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def test_weights_that_are_listed_among_the_inputs_are_none():
    """Files of IR version 3 list all of them."""
    dense = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]), indices, [4])
    model = model_of(tensor("x", [1]), tensor("w", [1]), tensor("s", [4]), initializers=[dense], sparse=[sparse])
    assert [value.name for value in inputs.of_graph(model.graph)] == ["x"]


def test_inputs_as_plain_data():
    nameless = tensor("e", [1, 2])
    nameless.type.tensor_type.shape.dim[1].Clear()
    model = model_of(
        tensor("a", ["n", 3, -1, 0]),
        tensor("b", [], TensorProto.INT64),
        tensor("c", None),
        tensor("d", [1], TensorProto.STRING),
        nameless,
        helper.make_tensor_sequence_value_info("f", TensorProto.FLOAT, None),
        onnx.ValueInfoProto(name="g"),
    )
    assert inputs.described(model.graph) == [
        GraphInput("a", ("n", 3, None, 0), np.dtype(np.float32), "tensor"),
        GraphInput("b", (), np.dtype(np.int64), "tensor"),
        GraphInput("c", None, np.dtype(np.float32), "tensor"),
        GraphInput("d", (1,), None, "tensor"),
        GraphInput("e", (1, None), np.dtype(np.float32), "tensor"),
        GraphInput("f", None, None, "sequence"),
        GraphInput("g", None, None, ""),
    ]


def test_random_feeds_have_the_sizes_of_the_rule_and_the_contract():
    model = model_of(tensor("x", ["n", "t"]), tensor("y", ["n", "t"], TensorProto.INT32), tensor("rate", [], TensorProto.INT64))
    onnx_file.set_contract(model, Contract(ArrayInput((5,)), Output()))
    found = inputs.random_feeds(model, 3)
    assert {name: (array.shape, array.dtype.name) for name, array in found.items()} == {
        "x": ((3, 5), "float32"),
        "y": ((3, 5), "int32"),
        "rate": ((), "int64"),
    }
    assert all(isinstance(array, np.ndarray) for array in found.values())
    again = inputs.random_feeds(model, 3)
    assert all((found[name] == again[name]).all() for name in found)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("float16", -9, 9), ("float64", -9, 9), ("uint8", 0, 255), ("int8", 0, 127), ("int64", 0, 1), ("bool", 0, 1)],
)
def test_random_values(dtype, low, high):
    found = inputs.random_values((1000,), np.dtype(dtype), np.random.default_rng(0))
    assert found.dtype == dtype
    assert low <= found.min() < found.max() <= high
    if high > 100:
        assert found.max() > high * 0.9
    scalar = inputs.random_values((), np.dtype(dtype), np.random.default_rng(0))
    assert isinstance(scalar, np.ndarray)
    assert scalar.shape == ()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (tensor("x", [1], TensorProto.STRING), "takes no numbers that numpy has"),
        (tensor("x", [1], TensorProto.BFLOAT16), "takes no numbers that numpy has"),
        (helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None), "is a sequence, not a tensor"),
        (onnx.ValueInfoProto(name="x"), "value without a type"),
        (tensor("x", None), "has no shape in the file"),
        (tensor("x", [1 << 20, 1 << 20]), "would be 1048576x1048576"),
    ],
)
def test_an_input_of_which_no_values_can_be_made_up_is_named(value, problem):
    with pytest.raises(InputError, match=f"input 'x' .*{problem}"):
        inputs.random_feeds(model_of(value), 1)
