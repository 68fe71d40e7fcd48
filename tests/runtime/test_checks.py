"""Values that an input takes and those that it refuses; contracts that describe the graph and those that do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deploykit.errors import ContractError, InputError
from deploykit.runtime.checks import check_contract, check_finite, check_value
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput, Output
from deploykit.runtime.session import TensorSpec

F32, INT, U8 = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.uint8)


def spec(shape: tuple[int | None, ...] | None, dtype: Any = F32, kind: str = "tensor(float)") -> TensorSpec:
    return TensorSpec("x", shape, dtype, kind)


def zeros(*shape: int, dtype: Any = F32) -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("value", "wanted", "problem"),
    [
        (zeros(2, 3), spec((None, 3)), None),
        (zeros(2, 3), spec(None), None),
        (zeros(), spec(()), None),
        (zeros(), spec(None), None),
        ([[0.0]], spec((None, 1)), "cannot be a list"),
        (zeros(2, 3, dtype=INT), spec((None, 3)), "cannot be int64.*astype"),
        (zeros(2, 3, dtype=INT), spec((None, 3), None), None),
        (zeros(3), spec((None, 3)), r"1 axes instead of 2.*a batch of one is array\[None\]"),
        (zeros(1, 1, 3), spec((None, 3)), "3 axes instead of 2$"),
        (zeros(2, 4), spec((None, 3)), "axis 1 must be 3"),
        (zeros(1, 3), spec((2, 3)), "axis 0 must be 2"),
        (zeros(0, 3), spec((None, 3)), "is empty"),
        (zeros(0, 3), spec(None), "is empty"),
        (zeros(0, 3), spec((0, 3)), None),  # the graph wants it so
        (zeros(2, 0), spec((None, None)), None),
        ([zeros(1), zeros(2)], spec(None, None, "seq(tensor(float))"), None),
        (zeros(1), spec(None, None, "seq(tensor(float))"), "cannot be a ndarray.*a list of arrays"),
        ([zeros(1), zeros(1, dtype=INT)], spec(None, None, "seq(tensor(float))"), "cannot hold int64 at place 1"),
        ([[0.0]], spec(None, None, "seq(tensor(float))"), "cannot hold list at place 0"),
        ([np.full(1, np.inf, F32)], spec(None, None, "seq(tensor(float))"), r"place 0, has inf at \(0,\)"),
        ("anything", spec(None, None, "optional(tensor(float))"), None),
    ],
)
def test_a_value_for_an_input(value: object, wanted: TensorSpec, problem: str | None) -> None:
    if problem is None:
        check_value(value, wanted)
        return
    with pytest.raises(InputError, match=problem):
        check_value(value, wanted)


def test_what_is_not_asked_is_not_refused() -> None:
    check_value(zeros(0, 3), spec((None, 3)), batched=False)
    check_value(np.full((1, 3), np.nan, F32), spec((None, 3)), finite=False)
    check_value([np.full(3, np.nan, F32)], spec(None, None, "seq(tensor(float))"), finite=False)


def test_the_first_value_that_is_not_finite_is_named() -> None:
    array = zeros(2, 3)
    check_finite(array, "it")
    array[1, 0], array[1, 2] = np.nan, np.inf
    with pytest.raises(InputError, match=r"it has nan at \(1, 0\)"):
        check_finite(array, "it")
    with pytest.raises(InputError, match=r"'x' float32 \(any, 3\) has nan"):
        check_value(array, spec((None, 3)))


IMAGE = ImageInput(channels=3, height=4, width=5)
LABELS = Output("softmax", ("a", "b"))
TAKES, GIVES = spec((None, 3, 4, 5)), spec((None, 2))
PIXELS = spec((None, None, None, 3), U8, "tensor(uint8)")


@pytest.mark.parametrize(
    ("contract", "inputs", "outputs", "problem"),
    [
        (Contract(IMAGE, LABELS), (TAKES,), (GIVES,), None),
        (Contract(IMAGE, LABELS), (spec(None),), (spec(None),), None),
        (Contract(IMAGE, LABELS), (spec((8, 3, None, None)),), (spec((8, None)),), None),
        (Contract(IMAGE, LABELS), (), (GIVES,), "says one input, the graph has 0 inputs"),
        (Contract(IMAGE, LABELS), (TAKES, TAKES), (GIVES,), "says one input, the graph has 2 inputs"),
        (Contract(ArrayInput((3,)), Output()), (spec((None, 3)), TAKES), (GIVES,), None),
        (Contract(IMAGE, LABELS), (TAKES,), (), "says an output, the graph has none"),
        (Contract(IMAGE, LABELS), (replace(TAKES, dtype=U8),), (GIVES,), "floating point input"),
        (Contract(IMAGE, LABELS), (replace(TAKES, dtype=None),), (GIVES,), "floating point input"),
        (Contract(IMAGE, LABELS), (spec((None, 3, 4)),), (GIVES,), "an input of 4 axes"),
        (Contract(IMAGE, LABELS), (spec((None, 1, 4, 5)),), (GIVES,), "says 3 along axis 1 of the input"),
        (Contract(IMAGE, LABELS), (spec((None, 3, 5, 5)),), (GIVES,), "says 4 along axis 2 of the input"),
        (Contract(IMAGE, LABELS, preprocessing_in_graph=True), (PIXELS,), (GIVES,), None),
        (Contract(IMAGE, LABELS, preprocessing_in_graph=True), (replace(PIXELS, dtype=INT),), (GIVES,), "uint8 input"),
        (Contract(IMAGE, LABELS, preprocessing_in_graph=True), (replace(PIXELS, dtype=np.dtype("u2")),), (GIVES,), "uint8 input"),
        (Contract(IMAGE, LABELS, preprocessing_in_graph=True), (spec((None, 4, None, 3), U8),), (GIVES,), "images of any size"),
        (Contract(IMAGE, LABELS, preprocessing_in_graph=True), (spec((None, None, None, 1), U8),), (GIVES,), "3 along axis 3"),
        (
            Contract(ArrayInput((3,)), Output(), preprocessing_in_graph=True),
            (spec((None, 3)),),
            (GIVES,),
            "preprocessing in the gr",
        ),
        (Contract(ArrayInput((None, 3), "int64"), Output()), (spec((None, 7, 3), INT),), (GIVES,), None),
        (Contract(ArrayInput((3,), "int64"), Output()), (spec((None, 3)),), (GIVES,), "another type of input"),
        (Contract(ArrayInput((3,), "uint16"), Output()), (spec((None, 3), np.dtype("u1")),), (GIVES,), None),
        (Contract(ArrayInput((3,), "float"), Output()), (spec((None, 4)),), (GIVES,), "says 3 along axis 1"),
        (Contract(ArrayInput((3,), "complex64"), Output()), (spec((None, 3)),), (GIVES,), "'complex64' is no type of number"),
        (Contract(ArrayInput((3,), "no type"), Output()), (spec((None, 3)),), (GIVES,), "'no type' is no type of number"),
        (Contract(IMAGE, LABELS), (TAKES,), (replace(GIVES, dtype=INT),), "scores as output"),
        (Contract(IMAGE, LABELS), (TAKES,), (replace(GIVES, dtype=None),), "scores as output"),
        (Contract(IMAGE, LABELS), (TAKES,), (spec((None,)),), "one row of scores per sample"),
        (Contract(IMAGE, LABELS), (TAKES,), (spec((None, 3)),), "says 2 labels"),
        (Contract(IMAGE, Output("softmax")), (TAKES,), (spec((None, 3)),), None),
        (Contract(IMAGE, Output("softmax")), (TAKES,), (spec((None,)),), "one row of scores per sample"),
        (Contract(IMAGE, Output("none", ("a", "b"))), (TAKES,), (spec((None,)),), "one row of scores per sample"),
        (Contract(IMAGE, Output()), (TAKES,), (spec((None, 3, 1), INT),), None),
    ],
)
def test_a_contract_and_a_graph(
    contract: Contract, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], problem: str | None
) -> None:
    if problem is None:
        check_contract(contract, inputs, outputs)
        return
    with pytest.raises(ContractError, match=problem):
        check_contract(contract, inputs, outputs)
