"""Weights to start from: what fits is taken, a last layer of another number of classes starts fresh."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from deploykit.errors import CheckpointError
from deploykit.training.plan import initialize


def network(value, classes=3, width=4):
    module = nn.Sequential(nn.Linear(2, width), nn.Linear(width, classes))
    for parameter in module.parameters():
        nn.init.constant_(parameter, value)
    return module


def started(tmp_path, kept, wanted, classes):
    path = tmp_path / "w.pt"
    torch.save(kept.state_dict(), path)
    initialize(wanted, path, SimpleNamespace(arguments={"classes": classes}, own=False))
    return {name: sorted(set(tensor.flatten().tolist())) for name, tensor in wanted.state_dict().items()}


def test_all_of_it_where_all_fits(tmp_path):
    found = started(tmp_path, network(2.0), network(1.0), 3)
    assert found == {"0.weight": [2.0], "0.bias": [2.0], "1.weight": [2.0], "1.bias": [2.0]}


def test_a_last_layer_for_other_classes_starts_fresh(tmp_path):
    found = started(tmp_path, network(2.0, classes=10), network(1.0), 3)
    assert found == {"0.weight": [2.0], "0.bias": [2.0], "1.weight": [1.0], "1.bias": [1.0]}


@pytest.mark.parametrize(("kept", "classes"), [({"width": 5}, 3), ({"classes": 10}, 4), ({"classes": 10}, None)])
def test_anything_else_that_does_not_fit_is_refused(tmp_path, kept, classes):
    with pytest.raises(CheckpointError):
        started(tmp_path, network(2.0, **kept), network(1.0), classes)
