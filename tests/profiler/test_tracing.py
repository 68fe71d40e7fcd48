"""A forward pass is watched on the meta device where that works, and with values only where a network needs them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deploykit.errors import InputError
from deploykit.profiler.pytorch.tracing import trace


class MakesTensors(nn.Module):
    """Its positions are made on the default device."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(4, 4)

    def forward(self, x):
        return self.line(x + torch.arange(4.0))


class NeedsValues(MakesTensors):
    """Where its forward pass goes depends on what it is given."""

    def forward(self, x):
        return self.line(x) if float(x.sum()) > 0 else x


class Plain(MakesTensors):
    """Knows shapes alone."""

    def forward(self, x):
        return self.line(x)


@pytest.mark.parametrize(("kind", "on_meta"), [(Plain, True), (MakesTensors, True), (NeedsValues, False)])
def test_no_value_is_computed_where_none_is_needed(kind, on_meta):
    network = kind().eval()
    weight = network.line.weight
    found = trace(network, [torch.ones(2, 4)])
    assert found.on_meta is on_meta
    assert network.line.weight is weight
    assert weight.device.type == "cpu"
    assert [call.macs for call in found.calls] == [0, 2 * 4 * 4]
    assert found.users.keys() == {"line.weight", "line.bias"}
    assert all(call is found.calls[1] for call in found.users.values())


def test_the_default_device_is_as_before():
    trace(MakesTensors().eval(), [torch.ones(2, 4)])
    assert torch.zeros(1).device.type == "cpu"


def test_what_the_network_itself_refuses_is_told():
    with pytest.raises(InputError):
        trace(Plain().eval(), [torch.ones(2, 5)])
    with pytest.raises(InputError, match="'line.weight' has no shape yet"):
        lazy = Plain()
        lazy.line = nn.LazyLinear(4)
        trace(lazy, [torch.ones(2, 4)])


def test_a_module_that_is_there_twice_keeps_its_weights():
    """And so do weights that two modules share, and a buffer that has two names."""
    shared = nn.Linear(4, 4)
    network = nn.Sequential(nn.BatchNorm1d(4), shared, nn.Sequential(shared), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    network[3].weight = shared.weight
    network[0].register_buffer("again", network[0].running_mean)
    kept = {name: (tensor, tensor.clone()) for name, tensor in network.state_dict(keep_vars=True).items()}
    found = trace(network, [torch.zeros(2, 4)])
    assert found.on_meta
    for name, tensor in network.state_dict(keep_vars=True).items():
        assert tensor is kept[name][0], name
        assert torch.equal(tensor, kept[name][1]), name
    assert shared.weight.requires_grad
    assert network(torch.zeros(2, 4)).shape == (2, 2)
    assert found.users.keys() == {name for name, _ in (*network.named_parameters(), *network.named_buffers())} - {
        "0.num_batches_tracked"
    }
