"""torchvision's resnet18 and ours are one network: weights go from one to the other and give the same outputs."""

from __future__ import annotations

import pytest
import torch
from torchvision import models

from deploykit import architectures
from deploykit.architectures._torchvision_resnet18 import from_torchvision, to_torchvision
from deploykit.errors import CheckpointError

ARGUMENTS = {"in_channels": 3, "classes": 1000}


def randomized(network, seed):
    """Weights and running statistics as training would leave them: none is zero or one."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3 + (0.0 if "bias" in name else 1.0))
    return network.eval()


def same(one, other):
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    with torch.no_grad():
        expected = one.double()(x)
        torch.testing.assert_close(other.double()(x), expected, rtol=0, atol=1e-10 * float(expected.abs().max()))
    assert float(expected.std()) > 0


def test_torchvisions_weights_in_our_network():
    torch.manual_seed(0)
    theirs = randomized(models.resnet18(weights=None), 1)
    ours = architectures.get("resnet18").create(ARGUMENTS).eval()
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    assert float(ours.conv1.bias.detach().abs().max()) == 0
    same(theirs, ours)


def test_our_weights_in_torchvisions_network():
    torch.manual_seed(0)
    ours = randomized(architectures.get("resnet18").create(ARGUMENTS), 2)
    assert float(ours.conv1.bias.detach().abs().min()) > 0
    theirs = models.resnet18(weights=None).eval()
    theirs.load_state_dict(to_torchvision(ours.state_dict()))
    same(ours, theirs)


def test_there_and_back_changes_no_bit():
    state = randomized(models.resnet18(weights=None), 3).state_dict()
    back = to_torchvision(from_torchvision(state))
    assert set(back) == set(state)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "alexnet"])
def test_weights_of_another_network_are_refused(name):
    with torch.device("meta"):
        state = models.get_model(name, weights=None).state_dict()
    with pytest.raises(CheckpointError, match="not the weights of a resnet18"):
        from_torchvision(state)


def test_weights_without_shortcuts_or_of_the_wrong_side_are_refused():
    with torch.device("meta"):
        plain = architectures.get("resnet18-plain").create().state_dict()
        theirs = models.resnet18(weights=None).state_dict()
    for state in (plain, theirs):
        with pytest.raises(CheckpointError, match="no tensor 'layer2.0.shortcut"):
            to_torchvision(state)
