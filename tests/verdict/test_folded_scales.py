"""Scales that the exporter multiplied into a layer: right files that keep the layer's name for what came of it later."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

from deploykit import simplifier
from deploykit.exporter import to_onnx
from deploykit.network import input_specs
from deploykit.network.target import Network
from deploykit.runtime.contract import ArrayInput, Output
from deploykit.verdict import judge, sample_batches


class NormAndActivation(nn.BatchNorm2d):
    def forward(self, x):
        return F.relu(F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps))


class Subclassed(nn.Module):
    def __init__(self, norm=NormAndActivation):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = norm(8)
        self.head = nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            self.norm.running_var.copy_(torch.rand(8) + 0.5)
            self.norm.running_mean.copy_(torch.randn(8))
            self.norm.weight.copy_(torch.rand(8) + 0.5)

    def forward(self, x):
        return self.head(self.norm(self.conv(x))).mean((2, 3))


class Functional(Subclassed):
    def forward(self, x):
        n = self.norm
        y = F.batch_norm(self.conv(x), n.running_mean, n.running_var, n.weight, n.bias)
        return self.head(F.relu(y)).mean((2, 3))


class LayerScale(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 12)
        self.second = nn.Linear(12, 6)
        self.gamma = nn.Parameter(torch.rand(6))
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(x + self.second(F.gelu(self.first(x))) * self.gamma)


class ChannelScale(nn.Module):
    """As in PoolFormer: the scale of the branch stands before the convolution's output, and gives the folded weight a name of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(6, 12, 1), nn.Conv2d(12, 6, 1)
        self.gamma = nn.Parameter(torch.full((6,), 0.01))
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.head(x + self.gamma.unsqueeze(-1).unsqueeze(-1) * self.second(F.gelu(self.first(x)))).mean((2, 3))


class NormAndScale(ChannelScale):
    """As in EfficientFormer: a batch norm and the scale of the branch, both behind the convolution."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(6)
        with torch.no_grad():
            self.norm.running_var.copy_(torch.rand(6) + 0.5)
            self.norm.running_mean.copy_(torch.randn(6))
            self.norm.weight.copy_(torch.rand(6) + 0.5)

    def forward(self, x):
        return self.head(x + self.norm(self.second(F.gelu(self.first(x)))) * self.gamma.view(1, -1, 1, 1)).mean((2, 3))


class Rotary(nn.Module):
    """A module that gives back two tensors."""

    def __init__(self):
        super().__init__()
        self.angles = Angles()
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        cos, sin = self.angles(x)
        return self.head(x * cos + x.flip(-1) * sin)


class Angles(nn.Module):
    def forward(self, x):
        return x.cos(), x.sin()


def network(module, shape):
    torch.manual_seed(0)
    spec = input_specs.InputSpec("input", shape)
    return Network("net", "net", module.eval(), (spec,), ArrayInput(shape), Output("none"))


CASES = [
    (Subclassed, (3, 16, 16)), (Functional, (3, 16, 16)), (LayerScale, (6,)), (ChannelScale, (6, 8, 8)), (NormAndScale, (6, 8, 8)),
    (Rotary, (6,)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape"), CASES)
def test_a_right_file_is_the_same(make, shape):
    found = network(make(), shape)
    model = simplifier.simplified(to_onnx(found), sample_batches(found)).model
    verdict = judge(model, found)
    assert verdict.same, [check for check in verdict.checks if not check.passed]


@pytest.mark.parametrize(("make", "shape"), CASES[:5])
@pytest.mark.parametrize("kind", ["one weight", "one channel", "bias"])
def test_a_wrong_weight_is_still_found(make, shape, kind):
    found = network(make(), shape)
    model = simplifier.simplified(to_onnx(found), sample_batches(found)).model
    layer = next(node for node in model.graph.node if node.name.startswith(("conv", "second")) and len(node.input) > 1)
    wanted = layer.input[2 if kind == "bias" else 1]
    tensor = next(each for each in model.graph.initializer if each.name == wanted)
    values = numpy_helper.to_array(tensor).copy()
    if kind == "one weight":
        values.flat[0] += 0.5 * values.std()
    elif kind == "one channel":
        values[0] *= 1.05
    else:
        values[0] += 0.05
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
    assert judge(model, found).verdict == "different"
