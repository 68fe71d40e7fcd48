"""Convolution and pooling written by hand: the textbooks' worked values, torch's own operators, and lenet5 twice."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deploykit import architectures
from deploykit.architectures._handwritten import (
    CrossCorrelation2d,
    average_pool,
    cross_correlate,
    max_pool,
    output_size,
    windows,
)

X = torch.arange(9.0).reshape(1, 1, 3, 3)
K = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).reshape(1, 1, 2, 2)
TWO_CHANNELS = torch.cat([X, X + 1], dim=1)
TWO_KERNELS = torch.cat([K, K + 1], dim=1)


def test_cross_correlation_of_one_channel():
    assert cross_correlate(X, K).tolist() == [[[[19, 25], [37, 43]]]]


def test_cross_correlation_of_two_input_channels():
    assert cross_correlate(TWO_CHANNELS, TWO_KERNELS).tolist() == [[[[56, 72], [104, 120]]]]


def test_cross_correlation_to_three_output_channels():
    kernels = torch.cat([TWO_KERNELS, TWO_KERNELS + 1, TWO_KERNELS + 2])
    expected = [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]]
    assert cross_correlate(TWO_CHANNELS, kernels).tolist() == [expected]


def test_pooling():
    assert max_pool(X, (2, 2), (1, 1)).tolist() == [[[[4, 5], [7, 8]]]]
    assert average_pool(X, (2, 2), (1, 1)).tolist() == [[[[2, 3], [5, 6]]]]


def test_a_1x1_convolution_is_a_matrix_product_over_channels():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 3, 3, generator=generator)
    weight = torch.randn(2, 3, 1, 1, generator=generator)
    product = weight.reshape(2, 3) @ x.reshape(3, 9)
    torch.testing.assert_close(cross_correlate(x, weight), product.reshape(1, 2, 3, 3))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"), [(7, 3, 1, 0), (7, 3, 2, 1), (8, 3, 3, 2), (32, 5, 1, 0), (5, 5, 2, 0)]
)
def test_sizes_and_values_are_those_of_torch(size, kernel, stride, padding):
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(2, 3, size, size + 1, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 3, kernel, kernel, generator=generator, dtype=torch.float64)
    bias = torch.randn(4, generator=generator, dtype=torch.float64)
    ours = cross_correlate(x, weight, bias, (stride, stride), (padding, padding))
    torch.testing.assert_close(ours, F.conv2d(x, weight, bias, stride, padding))
    assert ours.shape[2:] == (output_size(size, kernel, stride, padding), output_size(size + 1, kernel, stride, padding))
    torch.testing.assert_close(max_pool(x, (kernel, kernel), (stride, stride)), F.max_pool2d(x, kernel, stride))
    torch.testing.assert_close(average_pool(x, (kernel, kernel), (stride, stride)), F.avg_pool2d(x, kernel, stride))


def test_gradients_are_those_of_torch():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 2, 6, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 2, 3, 3, generator=generator, dtype=torch.float64)
    found = []
    for convolve, pool in ((cross_correlate, lambda y: max_pool(y, (2, 2), (2, 2))), (F.conv2d, lambda y: F.max_pool2d(y, 2))):
        w = weight.clone().requires_grad_()
        pool(convolve(x, w)).square().sum().backward()
        found.append(w.grad)
    torch.testing.assert_close(found[0], found[1])


def test_windows_are_a_view():
    x = torch.randn(2, 3, 8, 8)
    assert windows(x, (3, 3), (1, 1)).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_the_first_weights_are_those_of_torch():
    torch.manual_seed(11)
    ours = CrossCorrelation2d(3, 4, kernel_size=5)
    torch.manual_seed(11)
    theirs = nn.Conv2d(3, 4, kernel_size=5)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


@pytest.fixture(scope="module")
def pair():
    """lenet5, and lenet5-handwritten with the same weights."""
    torch.manual_seed(5)
    lenet5 = architectures.get("lenet5").create().eval()
    handwritten = architectures.get("lenet5-handwritten").create().eval()
    handwritten.load_state_dict(lenet5.state_dict())
    return lenet5, handwritten


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_handwritten_lenet5_is_lenet5(pair, batch, dtype):
    x = torch.randn(batch, 1, 32, 32, generator=torch.Generator().manual_seed(batch)).to(dtype)
    lenet5, handwritten = (network.to(dtype) for network in pair)
    with torch.no_grad():
        expected = lenet5(x)
        noise = 20 * torch.finfo(dtype).eps * float(expected.abs().max())
        torch.testing.assert_close(handwritten(x), expected, rtol=0, atol=noise)


def test_handwritten_lenet5_calls_no_operator_of_torch_for_convolution_or_pooling(pair):
    program = torch.export.export(pair[1].float(), (torch.randn(2, 1, 32, 32),))
    called = " ".join(str(node.target) for node in program.graph.nodes if node.op == "call_function")
    assert "conv" not in called
    assert "pool" not in called
    assert "im2col" not in called


def test_handwritten_lenet5_runs_through_onnxruntime_at_any_batch(pair, tmp_path):
    network = pair[1].float()
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(network, (torch.randn(2, 1, 32, 32),), dynamo=True, dynamic_shapes=dynamic, verbose=False)
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 2, 7):
        x = torch.randn(batch, 1, 32, 32)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, network(x).numpy(), atol=1e-6)
