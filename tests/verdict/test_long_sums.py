"""onnxruntime adds up a large image one pixel after the other. That is rounding, not another network; a wrong weight still is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from deploykit.exporter import to_onnx
from deploykit.network import target as targets
from deploykit.network.input_specs import InputSpec
from deploykit.verdict import judge
from deploykit.verdict.long_sums import PlainSums


class Pooled(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        y = torch.relu(self.body(x))
        if self.kind == "norm":
            return self.head(nn.functional.instance_norm(y).amax(dim=(2, 3)))
        return self.head({"mean": y.mean, "sum": y.sum, "std": y.std}[self.kind](dim=(2, 3)))


@pytest.mark.parametrize("kind", ["mean", "sum", "std", "norm"])
def test_a_long_sum_is_no_fault_and_hides_none(kind):
    torch.manual_seed(1)
    spec = InputSpec("input", (3, 256, 256))
    network = replace(targets.resolve("mlp", untrained=True), module=Pooled(kind).eval(), inputs=(spec,), rules=None)
    model = to_onnx(network)
    verdict = judge(model, network)
    assert verdict.same, verdict.checks
    faulty = Pooled(kind).eval()
    faulty.load_state_dict(network.module.state_dict())
    faulty.body.weight.data[0, 0, 0, 0] += 1e-3 * faulty.body.weight.abs().max()
    found = judge(to_onnx(replace(network, module=faulty)), network)
    assert found.verdict == "different"
    assert found.first_divergent_layer == "body"


def test_plain_sums_are_the_sums_but_for_rounding():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 40, 50)
    for act in (
        lambda t: t.mean(dim=(2, 3)),
        lambda t: t.sum(),
        lambda t: t.sum(dim=-1, keepdim=True),
        lambda t: t.var(dim=(0, 2), correction=0),
        lambda t: t.std(dim=1, keepdim=True),
        lambda t: nn.functional.layer_norm(t, (40, 50)),
        lambda t: nn.functional.group_norm(t, 3),
        lambda t: nn.functional.adaptive_avg_pool2d(t, 1),
    ):
        with PlainSums() as sums, torch.no_grad():
            found = act(x)
        torch.testing.assert_close(found, act(x), rtol=1e-3, atol=1e-4)
        assert sums.longest >= 3


@pytest.mark.parametrize(("rows", "terms"), [(5, 2), (3000, 16), (2, 17), (700, 3000), (0, 40)])
def test_plain_sums_are_added_one_after_the_other(rows, terms):
    x = torch.randn(rows, terms, generator=torch.Generator().manual_seed(rows)) * 1e3
    with PlainSums():
        found = x.sum(dim=1)
    expected = torch.zeros(rows)
    for place in range(terms):
        expected = expected + x[:, place]
    assert torch.equal(found, expected)
