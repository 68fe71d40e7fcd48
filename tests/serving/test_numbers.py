"""Numbers of JSON become arrays of one type, and what is no number of it is refused before an array is made."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from deploykit.errors import InputError
from deploykit.serving import numbers, tensors
from deploykit.serving.tensors import TYPES


def made(data, dtype):
    return numbers.array_of(data, np.dtype(dtype), "the data", "X")


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        ([1, 2.5, 3], "f4", (3,)), ([[1, 2], [3, 4]], "i1", (2, 2)), ([[[True]], [[False]]], "?", (2, 1, 1)), ([], "f4", (0,)),
        ([[], []], "u1", (2, 0)), (7, "f8", ()), ([10**20, 0.5], "f4", (2,)), ([2**64 - 1, 0], "u8", (2,)), ([-(2**63)], "i8", (1,)),
        ([255, 0], "u1", (2,)), ([1e-400, 2**60 + 1], "f8", (2,)),
    ],
)  # fmt: skip
def test_numbers_of_a_type(data, dtype, shape):
    found = made(data, dtype)
    assert (found.dtype, found.shape) == (np.dtype(dtype), shape)
    assert found.tolist() == np.array(data, dtype).tolist()


@pytest.mark.parametrize(
    ("data", "dtype", "said"),
    [
        ([True, 0.5], "f4", "something else than numbers of X"), ([True, 1], "i8", "something else than numbers of X"),
        ([1, 0], "?", "something else than true and false"), ([0.5, 1], "i4", "something else than numbers of X"),
        (["1"], "f4", "something else than numbers of X"), ([None], "f4", "something else"), ([1, [2]], "f4", "something else"),
        ("1", "f4", "something else"), ({}, "f4", "something else"), ([[1], 2], "f4", "is ragged"), ([[1, 2], [3]], "f4", "is ragged"),
        ([[[1]], [2]], "f4", "something else"), ([256], "u1", "numbers that X has not"), ([-1], "u8", "numbers that X has not"),
        ([2**64], "u8", "numbers that X has not"), ([2**63], "i8", "numbers that X has not"), ([-129], "i1", "numbers that X has not"),
        ([1e39], "f4", "numbers that X has not"), ([10**400], "f8", "numbers that X has not"), ([float("inf")], "f8", "has not"),
    ],
)  # fmt: skip
def test_what_is_no_number_of_a_type(data, dtype, said):
    with pytest.raises(InputError, match=f"the data .*{said}"):
        made(data, dtype)


def test_lists_may_be_so_deep_as_arrays():
    data = 1
    for _ in range(numbers.MAX_AXES):
        data = [data]
    assert made(data, "f4").shape == (1,) * numbers.MAX_AXES
    with pytest.raises(InputError, match="deeper than 32 lists"):
        made([data], "f4")


@pytest.mark.parametrize("datatype", ["FP32", "BOOL", "BYTES"])
def test_one_long_text_makes_no_large_array(datatype):
    data = ["a" * 20_000, *[""] * 20_000]
    tracemalloc.start()
    try:
        if datatype == "BYTES":
            assert tensors.from_json(data, TYPES[datatype], (20_001,), "x").tolist() == data
        else:
            with pytest.raises(InputError, match="the data of 'x' holds something else"):
                tensors.from_json(data, TYPES[datatype], (20_001,), "x")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_typed_contents_of_grpc_are_as_free_as_raw_bytes():
    values = [1.0, float("nan"), float("inf"), -float("inf")]
    for datatype in ("FP32", "FP64"):
        found = tensors.from_values(values, TYPES[datatype], (4,), "x")
        assert found.dtype == TYPES[datatype].numpy
        np.testing.assert_array_equal(found, values)
    assert tensors.from_values([2**64 - 1], TYPES["UINT64"], (1,), "x").tolist() == [2**64 - 1]
    assert tensors.from_values([], TYPES["INT8"], (0, 3), "x").shape == (0, 3)
    with pytest.raises(InputError, match="the data of 'x' holds numbers that INT8 has not"):
        tensors.from_values([128], TYPES["INT8"], (1,), "x")
