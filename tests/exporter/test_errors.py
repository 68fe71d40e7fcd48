"""What is said of a network that torch cannot export: the part of it that is at fault, and what to use instead."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from deploykit.errors import ExportError
from deploykit.exporter import errors, to_onnx
from deploykit.network import target as targets
from deploykit.network.request import Request


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)
        self.example_inputs = (torch.randn(2, 5, 3), torch.tensor([5, 2]))

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.part = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))

    def forward(self, x):
        return self.part(x)


def test_packed_sequences_are_named():
    network = targets.resolve(Request.of(Packed()))
    with pytest.raises(ExportError, match=r"uses packed sequences \(pack_padded_sequence\) in 'rnn'.*give padded tensors"):
        to_onnx(network)
    assert not network.module.rnn._forward_pre_hooks


def test_a_torchscript_part_is_named():
    module = Scripted().eval()
    network = targets.resolve(Request("scripted", module=nn.Linear(4, 4), input_shapes=[(4,)]))
    object.__setattr__(network, "module", module)
    said = str(errors.of_export(TypeError("Sequential.forward() takes 2 positional arguments"), network))
    assert said == (
        "scripted cannot be exported to ONNX: its layer 'part' is a TorchScript module; use the module that it was made from"
    )


def test_the_short_form_of_an_export_names_the_network_the_file_and_the_verdict():
    from types import SimpleNamespace

    from deploykit.exporter.exporting import ExportResult

    export = SimpleNamespace(target="lenet5", file="model.onnx", verdict=SimpleNamespace(verdict="same"))
    assert ExportResult.__repr__(export) == "<ExportResult lenet5 -> model.onnx: same>"


class Modulated(nn.Module):
    """A filter for each sample, by as many groups as there are samples."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))

    def forward(self, x, style):
        weight = (self.weight * style[:, None, :, None, None]).flatten(0, 1)
        found = nn.functional.conv2d(x.flatten(0, 1)[None], weight, padding=1, groups=x.shape[0])
        return found.unflatten(1, (-1, 4))[0]


class Middle(nn.Module):
    def forward(self, x):
        return x.median(1).values


def refusal_of(module, **more):
    with pytest.raises(ExportError) as caught:
        to_onnx(targets.resolve(Request.of(module, **more)))
    return str(caught.value)


def test_an_operator_without_a_form_in_onnx_is_named():
    said = refusal_of(Middle(), input_shapes=[(7,)])
    assert said == (
        "Middle cannot be exported to ONNX (torch.onnx knows no ONNX operators for aten.median); "
        "write it with other operators, of which ONNX has a form"
    )


def test_a_parametrization_without_a_form_in_onnx_can_be_removed():
    net = nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(6, 4)))
    said = refusal_of(net, input_shapes=[(6,)])
    assert "aten.linalg_householder_product" in said
    assert "remove_parametrizations(layer, name)" in said


def test_groups_that_follow_from_the_batch_ask_for_a_fixed_one():
    net = Modulated()
    net.example_inputs = {"x": torch.randn(2, 3, 8, 8), "style": torch.randn(2, 3)}
    assert "leave that axis out of --dynamic" in refusal_of(net)
    assert to_onnx(targets.resolve(Request.of(net)), dynamic=()) is not None
