"""A network that repeats a module until its values settle: it turns more often in float64 than in float32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from deploykit.exporter import to_onnx
from deploykit.network import target as targets
from deploykit.network.input_specs import InputSpec
from deploykit.verdict import judge
from deploykit.verdict.batches import Batch
from deploykit.verdict.reference import Reference


class Step(nn.Module):
    """Newton's step towards a square root."""

    def forward(self, root, square):
        return (root + square / root) / 2


class Settling(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = Step()

    def forward(self, x):
        square = x.abs() + 1
        root, last = square, square * 2
        while (last - root).abs().max() > 4 * torch.finfo(x.dtype).eps * root.abs().max():
            root, last = self.step(root, square), root
        return root


class Turning(Settling):
    """As often as is enough for either."""

    def __init__(self, turns, wrong=None):
        super().__init__()
        self.turns, self.wrong = turns, wrong

    def forward(self, x):
        square = x.abs() + 1
        root = square
        for turn in range(self.turns):
            root = self.step(root, square)
            if turn == self.wrong:
                root = root * 1.5
        return root


@pytest.mark.parametrize("width", [1, 40])  # one number in a sample is asked for several times
def test_calls_that_only_one_precision_makes_are_not_compared(width):
    network = replace(targets.resolve("mlp", untrained=True), module=Settling(), inputs=(InputSpec("input", (width,)),), rules=None)
    (seen,) = Reference(network.module).observe([Batch("noise", (torch.randn(2, width),))], {"noise"})
    assert len(seen.float64.layers) > len(seen.float32.layers), "the loop turns equally often: this test shows nothing"
    assert seen.layers == list(seen.float32.layers)
    verdict = judge(to_onnx(replace(network, module=Turning(12))), network)
    assert verdict.same, verdict.checks
    faulty = judge(to_onnx(replace(network, module=Turning(12, wrong=11))), network)
    assert faulty.verdict == "different"
