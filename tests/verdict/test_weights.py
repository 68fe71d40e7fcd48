"""Stored weights of files that others made: what folding explains is excused, a row that nobody asked for is not."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from deploykit.verdict import twins
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.naming import Naming
from deploykit.verdict.weights import compare_weights


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 8)
        self.linear = nn.Linear(8, 8)
        self.conv = nn.Conv2d(4, 6, 3)


def stored(net, rename=lambda name: name, **changed):
    arrays = {name: tensor.detach().numpy() for name, tensor in net.named_parameters()} | changed
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array), rename(name)) for name, array in arrays.items()]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value], tensors)
    return Deployed(helper.make_model(graph))


def checked(net, deployed, trusted=False):
    return compare_weights(deployed, net, Naming({}, trusted), {"table", "linear", "conv"})


def row_negated(net):
    table = net.table.weight.detach().numpy().copy()
    table[7] *= -1
    return {"table.weight": table}


def channels_scaled(net):
    factors = np.linspace(0.5, 2, 6, dtype=np.float32)[:, None, None, None]
    return {"conv.weight": net.conv.weight.detach().numpy() * factors, "conv.bias": np.ones(6, np.float32)}


def inputs_scaled(net):
    return {"linear.weight": net.linear.weight.detach().numpy() * np.linspace(0.5, 2, 8, dtype=np.float32)}


def turned(net):
    return {"linear.weight": net.linear.weight.detach().numpy().T}


def one_element(net):
    weight = net.conv.weight.detach().numpy().copy()
    weight[0, 0, 0, 0] += 0.01
    return {"conv.weight": weight}


@pytest.mark.parametrize(
    ("change", "culprit"),
    [(row_negated, "table"), (one_element, "conv"), (channels_scaled, None), (inputs_scaled, None), (turned, None)],
)
def test_a_proven_module_is_excused_for_what_folding_makes_and_for_nothing_else(change, culprit):
    net = Net()
    check, first = checked(net, stored(net, **change(net)))
    assert (check.passed, first) == (culprit is None, culprit)
    check, first = checked(net, stored(net, **change(net)), trusted=True)
    assert not check.passed


@pytest.mark.parametrize(("change", "culprit"), [(row_negated, "table"), (one_element, "conv"), (channels_scaled, None)])
def test_a_tensor_under_another_name_is_known_by_its_numbers(change, culprit):
    net = Net()
    check, first = checked(net, stored(net, lambda name: f"v_{len(name)}_{name[0]}", **change(net)))
    assert (check.passed, first) == (culprit is None, culprit)
    if culprit:
        assert "but for" in check.detail


def test_tensors_without_numbers_of_their_own_are_nobodys_twin():
    zeros, some = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    some[0, 0] = 1
    assert twins.compare({"a": some}, {"b": zeros}) == (0, None)
    random = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    assert twins.compare({"a": random.T.copy()}, {"b": random}) == (1, None)
    rounded = np.where(np.arange(random.size).reshape(random.shape) % 3 == 0, random * np.float32(1 + 2e-7), random)
    assert twins.compare({"a": rounded}, {"b": random}) == (0, None), "a weight that weight norm multiplied out"
    assert twins.compare({"a": random * 2}, {"b": random}) == (0, None)
    assert twins.compare({"a": random[0]}, {"b": random[0]}) == (0, None), "vectors say too little"


def test_numbers_that_are_none_are_equal_to_nothing():
    net = Net()
    with torch.no_grad():
        net.table.weight[3, 2] = torch.nan
    assert checked(net, stored(net), trusted=True)[1] == "table"


def test_equal_numbers_of_another_type_are_equal():
    net = Net()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.half())
    halves = {name: tensor.detach().numpy().astype(np.float16) for name, tensor in net.named_parameters()}
    check, culprit = checked(net, stored(net, **halves), trusted=True)
    assert culprit is None
    assert check.passed
    halves["conv.bias"][0] *= 2
    assert checked(net, stored(net, **halves), trusted=True)[1] == "conv"
