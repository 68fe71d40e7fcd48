"""The inputs of a file, as the verdict makes values for them."""

from __future__ import annotations

import pytest
import torch
from onnx import TensorProto, helper

from deploykit.errors import InputError
from deploykit.runtime.contract import ArrayInput, Contract, Output
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.inputs import fixed_batch, specs_of

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def deployed(*values):
    made = [helper.make_tensor_value_info(*value) for value in values]
    return Deployed(helper.make_model(helper.make_graph([], "g", made, [])))


def shapes(specs):
    return {spec.name: (spec.shape, spec.batch_axis) for spec in specs}


def test_axes_of_one_name_have_one_size_and_the_batch_is_where_it_is_called_so():
    file = deployed(("x", FLOAT, ["batch", "t", 4]), ("state", FLOAT, [2, "batch", "t"]), ("rate", INT64, []))
    assert shapes(specs_of(file, None)) == {"x": ((8, 4), 0), "state": ((2, 8), 1), "rate": ((), None)}


def test_open_axes_have_the_sizes_of_the_contract():
    contract = Contract(ArrayInput((5,)), Output(), provenance={"inputs": [{"name": "state", "shape": [2, 6], "batch_axis": 1}]})
    file = deployed(("x", FLOAT, ["n", "t"]), ("state", FLOAT, ["layers", "m", "k"]))
    assert shapes(specs_of(file, contract)) == {"x": ((5,), 0), "state": ((2, 6), 1)}


@pytest.mark.parametrize(
    ("values", "batch"),
    [
        ([("x", FLOAT, [-1, 3])], None),
        ([("x", FLOAT, [4, 3])], 4),
        ([("a", FLOAT, [4, 3]), ("b", FLOAT, [4])], 4),
        ([("a", FLOAT, [2, 3]), ("b", FLOAT, [4])], None),
        ([("a", FLOAT, ["n", 3]), ("b", FLOAT, [4])], None),
    ],
)
def test_the_only_batch_of_a_file(values, batch):
    file = deployed(*values)
    assert fixed_batch(file.inputs, specs_of(file, None)) == batch


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (("x", TensorProto.STRING, ["n"]), "takes no numbers"),
        (("x", FLOAT, None), "has no shape"),
        (("x", FLOAT, ["n", 1 << 14, 1 << 14]), "would have 268,435,456 elements"),
    ],
)
def test_an_input_of_which_no_values_can_be_made_up_is_named(value, problem):
    with pytest.raises(InputError, match=f"input 'x' .*{problem}"):
        specs_of(deployed(value), None)


def test_types_are_those_of_torch():
    found = specs_of(deployed(("x", TensorProto.UINT8, ["n", 3]), ("y", INT64, ["n"])), None)
    assert [(spec.dtype, spec.below) for spec in found] == [(torch.uint8, 256), (torch.int64, 2)]
