"""The float64 pass: as exact as with all weights widened, in place, and gone without a trace afterwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deploykit.network.running import plain_attention
from deploykit.verdict.batches import Batch
from deploykit.verdict.reference import Reference
from deploykit.verdict.widening import widened


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


class Borrowing(Plain):
    """Uses a layer's weights without calling the layer."""

    def forward(self, x):
        return F.linear(self.norm(self.conv(x)).mean((2, 3)), self.head.weight, self.head.bias)


class Tied(Plain):
    def __init__(self):
        super().__init__()
        self.codes = nn.Embedding(4, 8)
        self.head.weight = self.codes.weight

    def forward(self, x):
        return super().forward(x) + self.codes(torch.zeros(1, dtype=torch.long)).mean()


class Attending(nn.Module):
    """Its `out_proj` derives from Linear and is never called."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Insisting(Plain):
    def forward(self, x):
        assert x.dtype == torch.float32
        return super().forward(x)


class Bytes(Plain):
    """Turns its input into float32 itself, and makes numbers of its own."""

    def forward(self, x):
        return super().forward(x.float() / 255) + torch.ones(1) / 3


def test_what_the_network_itself_turns_into_float32_is_float64_too():
    module = Bytes().eval()
    reference = Reference(module)
    (seen,) = reference.observe([Batch("noise", (torch.randint(0, 256, (2, 3, 6, 6), dtype=torch.uint8),))], {"noise"})
    assert reference.note == ""
    assert seen.float64.outputs[0].dtype == "float64"
    assert 0 < abs(seen.float64.outputs[0] - seen.float32.outputs[0]).max() < 1e-5


def test_without_float64_rounding_is_measured_by_asking_again():
    module = Insisting().eval()
    (seen,) = Reference(module).observe([Batch("noise", (torch.randn(40, 3, 6, 6),))], ())
    assert seen.float64 is seen.float32
    assert 0 < abs(seen.tolerance_reference.outputs[0] - seen.float32.outputs[0]).max() < 1e-4


@pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (Plain, (2, 3, 6, 6)),
        (Borrowing, (2, 3, 6, 6)),
        (Tied, (2, 3, 6, 6)),
        (Attending, (2, 5, 8)),
    ],
)
def test_the_answers_are_those_of_the_whole_network_in_float64(network, inputs):
    torch.manual_seed(0)
    module = network().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    x = torch.randn(*inputs)
    reference = Reference(module)
    (seen,) = reference.observe([Batch("noise", (x,))], {"noise"})
    assert reference.note == ""
    assert all(value.dtype == "float64" for value in seen.float64.layers.values())
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in module.modules())
    with torch.no_grad(), plain_attention():
        expected = module.double()(x.double())
    assert torch.equal(torch.from_numpy(seen.float64.outputs[0]), expected)


def test_the_weights_of_one_layer_at_a_time():
    module = Plain().eval()
    seen = []
    module.norm.register_forward_hook(lambda *_: seen.append((module.conv.weight.dtype, module.head.weight.dtype)))
    with widened(module), torch.no_grad():
        module(torch.randn(1, 3, 6, 6, dtype=torch.float64))
    assert seen == [(torch.float32, torch.float32)]


def test_a_network_that_raises_gets_its_weights_back():
    module = Insisting().eval()
    reference = Reference(module)
    (seen,) = reference.observe([Batch("noise", (torch.randn(2, 3, 6, 6),))], ())
    assert "no float64 reference: AssertionError" in reference.note
    assert seen.float64 is seen.float32
    assert {tensor.dtype for tensor in module.parameters()} == {torch.float32}
    narrow = torch.randn(1, 3, 6, 6)
    with pytest.raises(RuntimeError), widened(module), torch.no_grad():
        module.conv(narrow)  # float32 into a layer in float64
    assert torch.get_default_dtype() == torch.float32
    assert {tensor.dtype for tensor in module.parameters()} == {torch.float32}
