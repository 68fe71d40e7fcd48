"""Files that deploykit did not make: made by torch's own exporters, judged by what their nodes tell of the modules."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from deploykit.network import target as targets
from deploykit.verdict import judge


def network_with_norms():
    """cnn4: convolutions, BatchNorm folded into some of them, nested containers."""
    network = targets.resolve("cnn4", untrained=True, seed=1)
    torch.manual_seed(1)
    for module in network.module.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.fixture(scope="module", params=["dynamo", "torchscript"])
def foreign(request, tmp_path_factory):
    network = network_with_norms()
    file = tmp_path_factory.mktemp("foreign") / "model.onnx"
    example = torch.randn(2, *network.inputs[0].shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if request.param == "dynamo":
            shapes = ({0: torch.export.Dim("n")},)
            torch.onnx.export(network.module, (example,), file, dynamic_shapes=shapes, external_data=False, verbose=False)
        else:
            names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
            torch.onnx.export(network.module, (example,), str(file), dynamo=False, **names)
    return network, onnx.load(file)


def test_an_honest_file_is_the_same_network_and_its_layers_are_found(foreign):
    network, model = foreign
    verdict = judge(model, network)
    assert verdict.same, verdict.checks
    assert verdict.layers_compared >= 8


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_one_wrong_weight_is_found_in_its_layer(foreign, place):
    network, original = foreign
    model = onnx.ModelProto()
    model.CopyFrom(original)
    node = [n for n in model.graph.node if n.op_type == "Conv"][place]
    tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[5] += 0.05 * np.abs(values).max()
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    verdict = judge(model, network)
    assert verdict.verdict == "different"
    paths = [path for path, module in network.module.named_modules() if isinstance(module, nn.Conv2d)]
    assert verdict.first_divergent_layer == paths[place]


def test_a_value_that_only_happens_to_be_called_like_a_module_is_no_fault(foreign):
    network, original = foreign
    model = onnx.ModelProto()
    model.CopyFrom(original)
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.name = ""
    first = model.graph.node[0].output[0]
    for node in model.graph.node:  # the output of the first convolution gets the name of the pooling behind it
        for values in (node.input, node.output):
            for place, name in enumerate(values):
                values[place] = "blocks.0.2" if name == first else name
    verdict = judge(model, network)
    assert verdict.same, verdict.checks


def test_weights_that_a_tool_has_moved_within_a_layer_are_no_fault():
    """A scale of the convolution moved into a Mul behind it: another weight under the old name, the same layer."""
    torch.manual_seed(0)

    class Scaled(nn.Module):
        def __init__(self, folded):
            super().__init__()
            self.body = nn.Linear(20, 8)
            self.head = nn.Linear(8, 4)
            self.folded = folded

        def forward(self, x):
            inner = self.body(x)
            return self.head(torch.relu(inner * 4.0 if self.folded else inner))

    plain, moved = Scaled(False).eval(), Scaled(True).eval()
    moved.load_state_dict(plain.state_dict())
    moved.body.weight.data /= 4.0
    moved.body.bias.data /= 4.0
    network = replace(targets.resolve("mlp", untrained=True), module=plain)
    example = torch.randn(2, 20)
    program = torch.onnx.export(moved, (example,), dynamic_shapes=({0: torch.export.Dim("n")},), verbose=False)
    model = program.model_proto
    names = {o: "body" for n in model.graph.node if n.op_type == "Mul" for o in n.output}
    assert names
    for node in model.graph.node:
        if node.op_type == "Mul":
            for entry in node.metadata_props:
                if entry.key == "pkg.torch.onnx.name_scopes":
                    entry.value = "['', 'body', 'mul']"
    verdict = judge(model, network)
    assert verdict.same, verdict.checks
