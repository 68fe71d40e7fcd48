"""A module that lies under several paths, as in CoaT: a graph calls it by the one that it was reached by, the network by its first."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from deploykit.exporter import to_onnx
from deploykit.network import input_specs
from deploykit.network.target import Network
from deploykit.runtime.contract import ArrayInput, Output
from deploykit.verdict import judge

SHAPE = (4, 8, 8)


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(4, 4, 3, padding=1, groups=4)

    def forward(self, x):
        return self.proj(x) + x


class Block(nn.Module):
    def __init__(self, positions):
        super().__init__()
        self.positions = positions
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return torch.relu(self.conv(self.positions(x)))


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.positions = Positions()
        self.blocks = nn.Sequential(Block(self.positions), Block(self.positions))
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return self.head(self.positions(self.blocks(x))).mean((2, 3))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network("net", "net", Shared().eval(), (input_specs.InputSpec("input", SHAPE),), ArrayInput(SHAPE), Output("none"))


def test_a_right_file_is_the_same(network):
    verdict = judge(to_onnx(network), network)
    assert verdict.same, verdict.checks
    assert verdict.layers_compared >= 5


def test_a_wrong_weight_of_it_is_found(network):
    model = to_onnx(network)
    tensor = next(each for each in model.graph.initializer if each.name.endswith("proj.weight"))
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0, 1, 1] += 0.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    assert judge(model, network).verdict == "different"
