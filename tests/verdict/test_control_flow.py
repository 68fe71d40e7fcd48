"""torch.cond and torch.while_loop: files of networks that branch and loop on values are proven, in either precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import deploykit
from deploykit.exporter import to_onnx
from deploykit.network import target as targets
from deploykit.network.request import Request
from deploykit.verdict import judge
from deploykit.verdict.long_sums import PlainSums
from deploykit.verdict.rounding import rounded
from deploykit.verdict.widening import widened


class Branches(nn.Module):
    def __init__(self, above=0.0):
        super().__init__()
        self.above = above
        self.one = nn.Linear(4, 4)
        self.other = nn.Linear(4, 4)

    def forward(self, x):
        return torch.cond(x.sum() > self.above, lambda x: self.one(x), lambda x: self.other(x) + 1, (x,))


class Loops(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)

    def forward(self, x):
        count = torch.tensor(0)
        return torch.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, self.body(x).tanh()), (count, x))[1]


def _network(module):
    torch.manual_seed(0)
    return targets.resolve(Request.of(module, input_shapes="4"))


@pytest.fixture(scope="module")
def branching():
    network = _network(Branches())
    return network, to_onnx(network)


def test_both_branches_are_proven_and_a_fault_in_either_is_seen(branching):
    network, model = branching
    verdict = judge(model, network)
    assert verdict.same, verdict.checks
    assert not any("torch.cond" in note for note in verdict.notes)
    for faulty in ("one", "other"):
        module = Branches().eval()
        module.load_state_dict(network.module.state_dict())
        getattr(module, faulty).weight.data[0, 0] += 0.01
        assert judge(model, replace(network, module=module)).verdict == "different", faulty


def test_a_side_that_is_never_taken_is_named(branching):
    network, model = branching
    never = replace(network, module=Branches(above=1e9).eval())
    never.module.load_state_dict(network.module.state_dict())
    note = next(note for note in judge(model, never).notes if "torch.cond" in note)
    assert note.startswith("torch.cond took one side alone at test_control_flow.py:")
    assert "(false)" in note


def test_a_loop_is_proven_in_float16(tmp_path):
    result = deploykit.export(Loops(), input_shapes="4", precision="fp16", out=tmp_path / "loops.onnx")
    assert result.verdict.same, result.verdict.checks


@pytest.mark.parametrize("module", [Branches(), Loops()], ids=["cond", "while_loop"])
def test_every_arithmetic_goes_into_branches_and_loops(module):
    x = torch.randn(2, 4)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected = module(x)
        with PlainSums():
            assert torch.equal(module(x), expected)
        with widened(module):
            wide = module(x.double())
        with rounded(module):
            narrow = module(x)
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), expected, rtol=0, atol=1e-6)
    assert torch.equal(narrow.half().float(), narrow)
    assert not torch.equal(narrow, expected)
