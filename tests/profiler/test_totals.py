"""The sums below a table of layers: parameters, those that are trained, buffers, and each stored tensor once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deploykit.profiler.pytorch import paddle
from deploykit.profiler.pytorch.layers import count_layers


def test_totals():
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    network[2].weight = network[1].weight
    network[3].weight.requires_grad_(False)
    found = count_layers(network, [torch.zeros(5, 4)])
    assert found.totals.params == 8 + 20 + 4 + 10
    assert found.totals.trainable_params == 8 + 20 + 4 + 2
    assert found.totals.buffers == 4 + 4 + 1
    assert found.totals.ops == 5 * (16 + 16 + 8)
    assert found.batch == 5
    assert network[2].weight is network[1].weight
    assert all(tensor.device.type == "cpu" for tensor in network.state_dict().values())


def call(module, *shapes):
    made = type("Call", (), {})()
    made.module, made.input_shape, made.output_shape = module, shapes[0], shapes[1]
    return made


@pytest.mark.parametrize(
    ("module", "given", "gives", "ops"),
    [
        (nn.Linear(4, 3), (2, 4), (2, 3), 2 * 3 * 4),
        (nn.Conv2d(4, 6, 3), (1, 4, 8, 8), (1, 6, 6, 6), 6 * 36 * (36 + 1)),
        (nn.Conv2d(4, 6, 3, groups=2, bias=False), (1, 4, 8, 8), (1, 6, 6, 6), 6 * 36 * 18),
        (nn.BatchNorm2d(4), (1, 4, 2, 2), (1, 4, 2, 2), 2 * 16),
        (nn.ReLU(), (1, 4), (1, 4), 0),
        (nn.MaxPool2d(2), (1, 4, 2, 2), (1, 4, 1, 1), 0),
        (nn.Sigmoid(), (1, 4), (1, 4), None),
        (nn.Linear(4, 3), None, None, 0),
    ],
)
def test_the_paddle_convention(module, given, gives, ops):
    assert paddle.layer_ops(call(module, given, gives)) == ops
