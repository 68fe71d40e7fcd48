"""Faults of every kind, planted in networks of several families: each must be found, and in the layer where it is."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

from deploykit import onnx_file
from deploykit.exporter import contract_of, to_onnx
from deploykit.network import target as targets
from deploykit.verdict import judge

NETWORKS = ("lenet5", "cnn4", "resnet18", "nest-mlp", "fixed-hidden-mlp")


@dataclass(frozen=True)
class Fault:
    """`plant(module)` changes a copy of the network in place; gives the path of the layer, `None` if it has no single one."""

    name: str
    plant: object


def layers(module, kind):
    return [(path, m) for path, m in module.named_modules() if isinstance(m, kind)]


def middle(found):
    return found[len(found) // 2]


def one_weight(module):
    path, layer = middle(layers(module, (nn.Conv2d, nn.Linear)))
    layer.weight.data.view(-1)[7] += 1e-3 * layer.weight.data.abs().max()
    return path


def half_deviation(module):
    path, layer = middle(layers(module, (nn.Conv2d, nn.Linear)))
    layer.weight.data.view(-1)[5] += 0.5 * layer.weight.data.std()
    return path


def bias_dropped(module):
    path, layer = middle([(p, m) for p, m in layers(module, (nn.Conv2d, nn.Linear)) if m.bias is not None])
    layer.bias = None
    return path


def eps_changed(module):
    path, layer = middle(layers(module, nn.BatchNorm2d))
    layer.eps = 1e-3
    return path


def running_mean_stale(module):
    path, layer = middle(layers(module, nn.BatchNorm2d))
    layer.running_mean += 0.1
    return path


def channels_swapped(module):
    path, layer = middle(layers(module, (nn.Conv2d, nn.Linear)))
    layer.weight.data[[0, 1]] = layer.weight.data[[1, 0]].clone()
    return path


class Rolled(nn.Conv2d):
    """Pads everything on the right and below instead of around."""

    def forward(self, x):
        p = self.padding[0]
        return F.conv2d(F.pad(x, (0, 2 * p, 0, 2 * p)), self.weight, self.bias, self.stride)


def wrong_padding(module):
    path, layer = middle([(p, m) for p, m in layers(module, nn.Conv2d) if m.padding != (0, 0) and m.stride == (1, 1)])
    layer.__class__ = Rolled
    return path


def swap(module, path, new):
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent) if parent else module, name, new)


def max_for_average(module):
    path, layer = middle(layers(module, (nn.AvgPool2d, nn.MaxPool2d)))
    other = nn.MaxPool2d if isinstance(layer, nn.AvgPool2d) else nn.AvgPool2d
    swap(module, path, other(layer.kernel_size, layer.stride, layer.padding))
    return path


def relu6_for_relu(module):
    path, _ = middle(layers(module, nn.ReLU))
    swap(module, path, nn.Hardtanh(0.0, 0.5))
    return path


class Half(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).half().float()


def fp16_rounding_of_one_layer(module):
    path, layer = middle(layers(module, (nn.Conv2d, nn.Linear)))
    layer.weight.data = layer.weight.data.half().float()
    return path


class Softmaxed(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return F.softmax(self.inner(x), dim=-1)


def softmax_once_more(module):
    path, layer = layers(module, nn.Linear)[-1]
    swap(module, path, Softmaxed(layer))
    return


def softmax_over_the_batch(module):
    path, layer = layers(module, nn.Linear)[-1]
    layer.register_forward_hook(lambda _m, _i, out: out - out.mean(dim=0, keepdim=True))
    return


def stale_weights(module):
    torch.manual_seed(99)
    for _, layer in layers(module, (nn.Conv2d, nn.Linear)):
        layer.weight.data += 0.01 * layer.weight.data.std() * torch.randn_like(layer.weight)
    return layers(module, (nn.Conv2d, nn.Linear))[0][0]


def weight_transposed(module):
    path, layer = middle([(p, m) for p, m in layers(module, nn.Linear) if m.in_features == m.out_features])
    layer.weight.data = layer.weight.data.T.contiguous()
    return path


class Turned(nn.Module):
    """Takes width for height."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.transpose(2, 3)).transpose(2, 3)


def axis_off_by_one(module):
    path, layer = middle(layers(module, nn.Conv2d))
    swap(module, path, Turned(layer))
    return


FAULTS = {
    "lenet5": (one_weight, half_deviation, bias_dropped, channels_swapped, max_for_average, fp16_rounding_of_one_layer, softmax_once_more,
               softmax_over_the_batch, stale_weights, axis_off_by_one),
    "cnn4": (one_weight, half_deviation, bias_dropped, eps_changed, running_mean_stale, channels_swapped, wrong_padding, max_for_average,
             fp16_rounding_of_one_layer, softmax_once_more, stale_weights),
    "resnet18": (one_weight, half_deviation, eps_changed, running_mean_stale, channels_swapped, wrong_padding, max_for_average, relu6_for_relu,
                 fp16_rounding_of_one_layer, softmax_over_the_batch, stale_weights),
    "fixed-hidden-mlp": (weight_transposed, one_weight),
    "nest-mlp": (one_weight, half_deviation, bias_dropped, channels_swapped, relu6_for_relu, fp16_rounding_of_one_layer, stale_weights),
}  # fmt: skip


@pytest.fixture(scope="module")
def clean():
    """Each network with settled BatchNorm statistics, as a trained one has them."""
    found = {}
    for name in NETWORKS:
        network = targets.resolve(name, untrained=True, seed=5)
        torch.manual_seed(5)
        for m in network.module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.normal_(0, 0.1)
                m.running_var.uniform_(0.5, 1.5)
                m.bias.data.normal_(0, 0.1)
        found[name] = network
    return found


@pytest.mark.parametrize(
    ("name", "plant"), [(n, f) for n, faults in FAULTS.items() for f in faults], ids=lambda v: getattr(v, "__name__", v)
)
def test_a_planted_fault_is_found_in_its_layer(clean, name, plant):
    network = clean[name]
    faulty = copy.deepcopy(network.module)
    with torch.no_grad():
        path = plant(faulty)
    model = to_onnx(replace(network, module=faulty.eval()))
    verdict = judge(model, network)
    assert verdict.verdict == "different", verdict.checks
    assert verdict.blamed_step == "export"
    if path is not None:
        assert verdict.first_divergent_layer == path


@pytest.mark.parametrize("name", NETWORKS)
def test_the_clean_network_is_the_same(clean, name):
    verdict = judge(to_onnx(clean[name]), clean[name])
    assert verdict.same, verdict.checks
    assert verdict.layers_compared >= 2


def test_a_frozen_batch_is_found(clean):
    network = clean["lenet5"]
    model = to_onnx(network, dynamic=())
    assert judge(model, network).same, "a file that says so is asked for its own batch"
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    verdict = judge(model, network)
    assert verdict.verdict == "different"
    assert any("batch" in check.detail for check in verdict.checks if not check.passed)


def test_nan_never_passes(clean):
    network = clean["lenet5"]
    model = to_onnx(network)
    tensor = next(t for t in model.graph.initializer if t.name == "linear7.weight")
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    verdict = judge(model, network)
    assert verdict.verdict == "invalid"
    assert "linear7.weight" in next(c.detail for c in verdict.checks if not c.passed)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"mean": (0.25,)}, "mean"),
        ({"std": (1.0,)}, "std"),
        ({"interpolation": "nearest"}, "interpolation"),
        ({"scale": 1.0}, "scale"),
    ],
)
def test_a_wrong_contract_is_as_bad_as_a_wrong_weight(clean, change, word):
    network = clean["lenet5"]
    model = to_onnx(network)
    contract = contract_of(network, 20)
    onnx_file.set_contract(model, replace(contract, input=replace(contract.input, **change)))
    verdict = judge(model, network)
    assert verdict.verdict == "different"
    assert [c.name for c in verdict.checks if not c.passed] == ["contract"]
    assert word in next(c.detail for c in verdict.checks if not c.passed)


class Silent(nn.Module):
    """A head of zeros: its outputs agree with anything."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(20, 8)
        self.head = nn.Linear(8, 4)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(torch.relu(self.body(x)))


def test_outputs_that_are_all_zero_prove_nothing_but_the_layers_do(clean):
    torch.manual_seed(0)
    network = replace(clean["nest-mlp"], module=Silent().eval())
    verdict = judge(to_onnx(network), network)
    assert verdict.same
    assert any("prove nothing" in check.detail for check in verdict.checks)
    faulty = copy.deepcopy(network.module)
    faulty.body.weight.data[0, 0] += 0.1
    verdict = judge(to_onnx(replace(network, module=faulty)), network)
    assert verdict.verdict == "different"
    assert verdict.first_divergent_layer == "body"


@pytest.mark.parametrize(("op", "legal"), [("Less", True), ("Mul", False)])
def test_infinity_may_be_compared_with_but_not_multiplied_by(op, legal):
    from onnx import TensorProto, helper

    from deploykit.verdict import legal as checks
    from deploykit.verdict.deployed import Deployed

    value = helper.make_tensor_value_info
    infinity = helper.make_tensor("inf", TensorProto.FLOAT, [1], [float("inf")])
    kind = TensorProto.BOOL if op == "Less" else TensorProto.FLOAT
    nodes = [helper.make_node(op, ["x", "inf"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, ["n", 3])], [value("y", kind, ["n", 3])], [infinity])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert all(check.passed for check in checks.checks(Deployed(model))) is legal
