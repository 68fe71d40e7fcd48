"""How far apart two results are: values that are not finite, the scale, the tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.verdict.comparison import TOLERANCE_FLOOR, compare, distance, floor_of

INF, NAN = np.inf, np.nan


def array(*rows):
    return np.array(rows, np.float32)


@pytest.mark.parametrize("odd", [-INF, INF, NAN])
def test_what_is_not_finite_at_the_same_place_is_equal_and_leaves_the_scale_alone(odd):
    a = array([1.0, odd, -2.0], [odd, 0.5, 0.25])
    found = compare(a.astype(np.float64), a, a)
    assert found.within
    assert (found.onnx_error, found.torch_error, found.onnx_vs_torch, found.cosine) == (0, 0, 0, 1)
    off = a.copy()
    off[0, 0] += 1e-3
    found = compare(a.astype(np.float64), a, off)
    assert not found.within
    assert found.onnx_error == pytest.approx(5e-4, rel=1e-3), "of the scale 2"
    assert found.worst == (0, 0)


@pytest.mark.parametrize(
    ("network", "file", "error"),
    [
        (-INF, INF, INF),
        (-INF, -3.4e38, INF),
        (-3.4e38, -INF, INF),
        (1.0, NAN, NAN),
        (NAN, 1.0, NAN),
        (INF, NAN, NAN),
        (NAN, -INF, NAN),
    ],
)
def test_anything_else_beside_what_is_not_finite_is_a_difference(network, file, error):
    a, b = array([1.0, network, 2.0, -INF]), array([1.0, file, 2.0, -INF])
    for options in ({}, {"rtol": 0.1}, {"atol": 1e30}):
        found = compare(a.astype(np.float64), a, b, **options)
        assert not found.within
        assert found.worst == (0, 1)
    assert np.isclose(compare(a.astype(np.float64), a, b).onnx_error, error, equal_nan=True)


def test_a_tolerance_that_is_given_holds_beside_infinities():
    a = array([1.0, -INF, NAN, 2.0])
    off = a + np.float32(0.01)
    assert compare(a, a, off, atol=0.02).within
    assert compare(a, a, off, rtol=0.02).within
    assert not compare(a, a, off, rtol=0.004).within


def test_a_network_that_overflows_in_its_own_precision_gives_no_tolerance():
    reference, own = np.array([[1.0, 1e39]]), array([1.0, INF])
    assert not compare(reference, own, own).within
    assert not compare(reference, own, array([1.0, 1e38])).within


def test_nothing_but_infinities_and_zeros_proves_nothing():
    for a in (array([-INF, -INF]), array([NAN, NAN]), array([0.0, -INF]), array([0.0, 0.0])):
        found = compare(a, a, a)
        assert found.within
        assert found.empty
    assert not compare(*[array([1.0, -INF])] * 3).empty


def test_a_sample_of_infinities_alone_is_judged_on_the_scale_of_its_batch():
    a = array([-INF, 0.0], [4.0, 2.0])
    off = a.copy()
    off[0, 1] = 4e-3
    assert compare(a, a, off).onnx_error == pytest.approx(1e-3, rel=1e-3)


def test_distance_keeps_the_type_and_the_shape():
    left, right = np.array([[1, -INF], [NAN, NAN]]), np.array([[3, -INF], [NAN, 0]])
    np.testing.assert_array_equal(distance(left, right), [[2, 0], [0, NAN]])
    assert distance(left, right).shape == (2, 2)


def test_recurrent_operators_are_given_more_room_than_others():
    assert floor_of("fp32", {"Conv", "Gemm"}) == TOLERANCE_FLOOR["fp32"]
    assert floor_of("fp32", {"LSTM", "Gemm"}) > TOLERANCE_FLOOR["fp32"]
    right = array([1.0, 0.5])
    off = right + np.float32(4e-6)
    assert not compare(right.astype(np.float64), right, off).within
    assert compare(right.astype(np.float64), right, off, floor=floor_of("fp32", {"GRU"})).within
