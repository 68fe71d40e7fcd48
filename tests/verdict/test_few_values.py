"""A network that answers with one number, in which large terms cancel: float32 may by luck be right to the last bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from deploykit.exporter import to_onnx
from deploykit.network import target as targets
from deploykit.network.input_specs import InputSpec
from deploykit.verdict import judge


class Cancelling(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(20, 20)
        self.head = nn.Linear(20, 20)

    def forward(self, x):
        return (self.head(torch.relu(self.body(x)) + 1)).sum(dim=1, keepdim=True)


def test_the_seed_that_was_a_false_alarm():
    network = targets.resolve("fixed-hidden-mlp", untrained=True, seed=6)
    assert judge(to_onnx(network), network).same


@pytest.mark.parametrize("seed", range(8))
def test_few_values_are_no_alarm_and_hide_no_fault(seed):
    torch.manual_seed(seed)
    module = Cancelling().eval()
    network = replace(targets.resolve("mlp", untrained=True), module=module, inputs=(InputSpec("input", (20,)),), rules=None)
    verdict = judge(to_onnx(network), network)
    assert verdict.same, verdict.checks
    faulty = Cancelling().eval()
    faulty.load_state_dict(module.state_dict())
    faulty.head.weight.data[0, 0] += 1e-3 * faulty.head.weight.abs().max()
    found = judge(to_onnx(replace(network, module=faulty)), network)
    assert found.verdict == "different"
    assert found.first_divergent_layer == "head"
