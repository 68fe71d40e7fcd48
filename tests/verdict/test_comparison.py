"""How far apart two results are: values that are not finite, the scale, the tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.verdict.comparison import SIGMOID_SCALE, TOLERANCE_FLOOR, compare, distance, floor_of

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


@pytest.mark.parametrize("logit", [-9.0, -18.0, -30.0, -60.0])
def test_a_sigmoid_near_0_is_as_exact_as_onnxruntime_can_make_it(logit):
    """One number per sample, so that its scale is the number itself."""
    import onnxruntime
    from onnx import TensorProto, helper

    x = np.array([[0.3], [logit]])
    node, ends = (
        helper.make_node("Sigmoid", ["x"], ["y"]),
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 1]) for n in "xy"],
    )
    model = helper.make_model(
        helper.make_graph([node], "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x.astype(np.float32)})[0]
    exact = 1 / (1 + np.exp(-x))
    float32 = exact.astype(np.float32)
    assert compare(exact, float32, found, typical_scale=0.6, least_scale=SIGMOID_SCALE).within
    assert not compare(exact, float32, found + 2e-6, typical_scale=0.6, least_scale=SIGMOID_SCALE).within


def test_a_network_of_one_confident_number_is_the_same_and_a_changed_weight_is_not(tmp_path):
    import onnx
    import torch
    from onnx import TensorProto, helper, numpy_helper

    from deploykit import validate

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Sigmoid())
    with torch.no_grad():
        network[0].weight.mul_(20)
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])] for name, size in (("input", 4), ("logits", 1))
    ]
    nodes = [helper.make_node("Gemm", ["input", "w", "b"], ["0"], transB=1), helper.make_node("Sigmoid", ["0"], ["logits"])]
    for factor, word in ((1, "same"), (1.001, "different")):
        weights = {"w": network[0].weight.detach().numpy() * np.float32(factor), "b": network[0].bias.detach().numpy()}
        stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
        graph = helper.make_graph(nodes, "g", *ends, stored)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), tmp_path / "m.onnx")
        found = validate(tmp_path / "m.onnx", network, input_shapes=(4,), batches=[1, 2, 5])
        assert found.verdict == word, found


def test_the_distance_of_two_lone_infinities_is_none():
    lone = np.array(np.inf, np.float32)
    assert distance(lone, lone) == 0
