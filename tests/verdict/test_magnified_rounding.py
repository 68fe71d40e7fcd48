"""A norm over equal numbers magnifies rounding: how far float32 is off there is luck, and several answers say how far it may be."""

from __future__ import annotations

import torch
from torch import nn

from deploykit.exporter import export
from deploykit.verdict import validate
from deploykit.verdict.batches import Batch
from deploykit.verdict.reference import Reference


class Wave(nn.Module):
    """As wav2vec begins: a convolution whose every channel is normalized over time."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 8, 10, stride=5, bias=False)
        self.norm = nn.GroupNorm(8, 8)
        self.head = nn.Conv1d(8, 8, 3)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu())


def wave():
    torch.manual_seed(0)
    return Wave().eval()


def observed(kind):
    reference = Reference(wave())
    (observation,) = reference.observe([Batch("a batch", (kind,))], ())
    assert observation.tolerance_reference is observation.float32
    shaken = reference.shaken(observation).tolerance_reference.outputs[0]
    truth, float32 = observation.float64.outputs[0], observation.float32.outputs[0]
    assert (abs(shaken - truth) >= abs(float32 - truth)).all()
    return abs(shaken - truth).max() / abs(truth).max(), abs(float32 - truth).max() / abs(truth).max()


def test_shaking_shows_what_equal_numbers_magnify_and_finds_nothing_elsewhere():
    shaken, lucky = observed(torch.full((2, 1, 200), 0.7))
    assert lucky < 1e-7
    assert 1e-5 < shaken < 1e-2
    assert observed(torch.randn(2, 1, 200))[0] < 1e-5


def test_a_right_file_is_the_same_and_a_wrong_one_is_not(tmp_path):
    right = export(wave(), input_shapes=[(1, 200)], out=tmp_path / "m.onnx")
    assert right.verdict.same, right.verdict.checks
    wrong = wave()
    wrong.norm.eps = 1.1e-5
    wrong.head.weight.data[0, 0, 0] *= 1.001
    assert validate(right.file, wrong, input_shapes=[(1, 200)]).verdict == "different"


class Halves(nn.Module):
    """Rounds halves to the even number, as IEEE 754 and ONNX do, in a small part of its output."""

    def forward(self, x):
        return (x / 2).round() * 1e-3 + x


class HalvesUp(nn.Module):
    def forward(self, x):
        return (x / 2 + 0.5).floor() * 1e-3 + x


def test_a_jump_is_no_rounding(tmp_path):
    """At 1 the last bit decides which whole number comes out: shaken, the network itself gives both."""
    wrong = export(HalvesUp(), input_shapes=[(100,)], out=tmp_path / "m.onnx").file
    assert validate(wrong, Halves(), input_shapes=[(100,)]).verdict == "different"
