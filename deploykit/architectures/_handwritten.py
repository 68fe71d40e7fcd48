"""Convolution and pooling written out from their definitions: windows, multiply, sum. No call into torch's own
operators.

Every operator first lays the windows of the input out as dimensions of their own (`windows`, a view: nothing is
copied), and then contracts or reduces over them. That is vectorised and differentiable, exports to ONNX with a free
batch, and its multiplications are seen by a FLOP counter as the contraction they are.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """How many windows fit along a side: floor((size + 2 * padding - kernel) / stride) + 1."""
    return (size + 2 * padding - kernel) // stride + 1


def windows(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """(batch, channels, h, w) -> (batch, channels, rows, columns, kernel height, kernel width), a view of `x`."""
    return x.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])


def cross_correlate(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: tuple[int, int] = (1, 1), padding: tuple[int, int] = (0, 0)
) -> Tensor:
    """What deep learning calls a convolution: y[b, o, i, j] = sum over c, u, v of x[b, c, i*s + u, j*s + v] * weight[o,
    c, u, v].

    x: (batch, in, h, w). weight: (out, in, kernel height, kernel width). bias: (out,). Gives (batch, out, rows,
    columns), whose sizes are those of `output_size`. The padding is zeros.
    """
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    patches = windows(padded, (weight.shape[2], weight.shape[3]), stride)
    y = torch.einsum("bcijuv,ocuv->boij", patches, weight)
    return y if bias is None else y + bias[:, None, None]


def max_pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The largest value of each window. Where two are equal the gradient is shared; torch's own gives it to the first."""
    return windows(x, kernel, stride).amax(dim=(-2, -1))


def average_pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The mean of each window."""
    return windows(x, kernel, stride).mean(dim=(-2, -1))


class CrossCorrelation2d(nn.Module):
    """A convolutional layer made of `cross_correlate`; names, shapes and first values of its weights are those of `nn.Conv2d`."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = (kernel_size,) * 2, (stride,) * 2, (padding,) * 2
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels))
        # He et al. (2015) with slope sqrt(5), which comes to U(-b, b) with b = 1 / sqrt(fan in): torch's default.
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        bound = 1 / math.sqrt(in_channels * kernel_size * kernel_size)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, h, w) -> (batch, out_channels, rows, columns)."""
        return cross_correlate(x, self.weight, self.bias, self.stride, self.padding)


class MaxPooling2d(nn.Module):
    """A layer made of `max_pool`, with windows that do not overlap unless a stride is given."""

    def __init__(self, kernel_size: int, stride: int | None = None) -> None:
        super().__init__()
        self.kernel_size, self.stride = (kernel_size,) * 2, (stride or kernel_size,) * 2

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, h, w) -> (batch, channels, rows, columns)."""
        return max_pool(x, self.kernel_size, self.stride)


class AveragePooling2d(nn.Module):
    """A layer made of `average_pool`, with windows that do not overlap unless a stride is given."""

    def __init__(self, kernel_size: int, stride: int | None = None) -> None:
        super().__init__()
        self.kernel_size, self.stride = (kernel_size,) * 2, (stride or kernel_size,) * 2

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, h, w) -> (batch, channels, rows, columns)."""
        return average_pool(x, self.kernel_size, self.stride)
