"""Two models gave the same answers: what counts as the same, for everything that onnxruntime can give."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from deploykit.onnx_file.answers import TOLERANCE, difference

INF, NAN = np.inf, np.nan


def floats(*values, dtype=np.float32):
    return np.array(values, dtype)


def compared(a, b):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return difference(["y"], [a], [b])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (floats(1, 2), floats(1, 2)),
        (floats(1, 1000), floats(1.003, 1000)),  # 3e-6 of the scale
        (floats(INF, -INF, NAN, 1), floats(INF, -INF, NAN, 1)),
        (floats(0, 0), floats(0, -0.0)),
        (floats(), floats()),
        (floats(1, dtype=np.float16), floats(1, dtype=np.float16)),
        (np.array(3.5, np.float32), np.array(3.5, np.float32)),
        (np.array([2**62 + 1]), np.array([2**62 + 1])),
        (np.array(["a", "b"], object), np.array(["a", "b"], object)),
        ([floats(1), floats(1, 2)], [floats(1), floats(1, 2)]),
        ([{"cat": 1.0, "dog": NAN}], [{"dog": NAN, "cat": 1.0 + 1e-7}]),
        ([], []),
        (None, None),
    ],
)
def test_the_same(a, b):
    assert compared(a, b) == ""


@pytest.mark.parametrize(
    ("a", "b", "problem"),
    [
        (floats(INF, 1), floats(INF, 2), "changed by 1.0e\\+00 of its scale"),  # an infinity hides nothing
        (floats(INF, 1), floats(INF, INF), "became inf where it was 1"),
        (floats(INF, 1), floats(-INF, 1), "became -inf where it was inf"),
        (floats(1, 2), floats(NAN, 2), "became nan where it was 1"),
        (floats(NAN, 2), floats(1, 2), "became 1.0 where it was nan"),
        (floats(NAN, 1), floats(NAN, 1.01), "of its scale"),
        (floats(0, 0), floats(0, 1e-6), "was all zero and changed by 1.0e-06"),
        (floats(0, INF), floats(1e-6, INF), "was all zero"),
        (floats(-1e308, 1, dtype=np.float64), floats(1.7e308, 1, dtype=np.float64), "changed by"),
        (floats(1, 1000), floats(1, 1000.5), "changed by 5.0e-04 of its scale"),
        (floats(1, 2), floats(1, 2, dtype=np.float64), "became float64 2 instead of float32 2"),
        (floats(1, 2), floats(1, 2).reshape(1, 2), "became float32 1x2 instead of float32 2"),
        (floats(1), np.array(1, np.float32), "became float32 scalar"),
        (np.array([2**62 + 1]), np.array([2**62]), "changed in 1 of 1 places"),
        (np.array([True, False]), np.array([True, True]), "changed in 1 of 2 places"),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), "changed in 1 of 2 places"),
        ([floats(1), floats(2)], [floats(1)], "has 1 parts instead of 2"),
        ([floats(1), floats(2)], [floats(1), floats(3)], r"y\[1\] changed by"),
        ([floats(1)], floats(1), "became float32 1 instead of a list"),
        ([{"cat": 1.0}], [{"cat": 2.0}], "changed by"),
        ([{"cat": 1.0}], [{"dog": 1.0}], "has other keys"),
        (floats(1), None, "became a NoneType"),
        ("a", "b", "changed from 'a' to 'b'"),
        (np.zeros(1, np.complex64), np.zeros(1, np.complex64), "cannot be compared"),
        (object(), object(), "cannot be compared"),
    ],
)
def test_a_difference(a, b, problem):
    import re

    assert re.search(problem, compared(a, b)), compared(a, b)


@pytest.mark.parametrize(("factor", "same"), [(0.9, True), (1.1, False)])
def test_rounding_is_64_units_in_the_last_place_of_float32_at_the_scale(factor, same):
    assert TOLERANCE == 64 * 2.0**-23
    a = floats(0, 3, dtype=np.float64)
    assert (compared(a, a + np.array([factor * 3 * TOLERANCE, 0])) == "") == same


def test_every_output_is_compared_and_none_may_be_missing():
    one, two = floats(1), floats(2)
    assert difference(["a", "b"], [one, one], [one, two]).startswith("b changed")
    assert difference(["a", "b"], [one, one], [one]) == "there are 1 outputs instead of 2"
