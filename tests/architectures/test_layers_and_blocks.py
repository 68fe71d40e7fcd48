"""The networks of layers and blocks: each proves the one thing that it is there for."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from deploykit import architectures, datasets
from deploykit.architectures.fixed_hidden_mlp import halve_while_large

SIZES = (0.0, 1e-30, 1e-3, 1.0, 50.0, 1e6, 1e30)


def fresh(name, seed=0):
    torch.manual_seed(seed)
    return architectures.get(name).create().eval()


def textbook(network, x):
    """The textbook's forward pass for a whole batch, as it is printed there."""
    x = network.linear(x)
    x = torch.relu(torch.mm(x, network.fixed) + 1)
    x = network.linear(x)
    while x.abs().sum() > 1:
        x = x / 2
    return x.sum()


def test_a_perceptrons_weights_loaded_into_a_clone_give_the_same_outputs():
    network, clone = fresh("mlp", 0), fresh("mlp", 1)
    x = torch.randn(2, 20)
    assert not torch.equal(network(x), clone(x))
    clone.load_state_dict(network.state_dict())
    assert torch.equal(network(x), clone(x))


def test_the_handwritten_container_is_the_same_network():
    network, sequential = fresh("mlp"), fresh("mlp-sequential")
    renamed = {"hidden": "0", "out": "2"}
    sequential.load_state_dict({renamed[k.split(".")[0]] + "." + k.split(".")[1]: v for k, v in network.state_dict().items()})
    x = torch.randn(3, 20)
    torch.testing.assert_close(sequential(x), network(x), rtol=0, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_for_one_sample_the_loop_is_the_textbooks(size):
    network = fresh("fixed-hidden-mlp").double()
    for seed in range(5):
        x = size * torch.randn(1, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = network(x)
        assert found.shape == (1, 1)
        torch.testing.assert_close(found[0, 0], textbook(network, x))


def test_a_sample_does_not_depend_on_its_batch():
    network = fresh("fixed-hidden-mlp").double()
    x = torch.tensor(SIZES, dtype=torch.float64)[:, None] * torch.randn(len(SIZES), 20, dtype=torch.float64)
    torch.testing.assert_close(network(x), torch.cat([network(row[None]) for row in x]))


def test_halving_stops_at_one_and_leaves_small_rows_alone():
    x = torch.tensor([[0.25, -0.75], [0.5, 0.75], [-64.0, 0.0], [0.0, 0.0]])
    assert halve_while_large(x).tolist() == [[0.25, -0.75], [0.25, 0.375], [-1.0, 0.0], [0.0, 0.0]]


def test_values_that_are_not_finite_end_the_loop_and_stay_visible():
    x = torch.tensor([[math.inf, 1.0], [math.nan, 1.0], [-math.inf, math.inf], [3.0, 1.0], [3e38, 3e38]])
    found = halve_while_large(x)
    assert not torch.isfinite(found[:3].sum(dim=1)).any()
    assert found[3].tolist() == [0.75, 0.25]
    assert torch.isfinite(found[4]).all(), "finite numbers whose sum overflows are still halved"
    assert float(found[4].sum()) <= 1


@pytest.mark.parametrize("name", ["fixed-hidden-mlp", "chimera"])
def test_gradients_flow_through_the_loop(name):
    network = fresh(name).double().train()
    x = 30 * torch.randn(4, 20, dtype=torch.float64)
    weight = next(network.parameters())
    network(x).square().sum().backward()
    step = 1e-7
    found, expected = float(weight.grad[0, 0]), []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0] += sign * step
            expected.append(float(network(x).square().sum()))
            weight[0, 0] -= sign * step
    assert found == pytest.approx((expected[0] - expected[1]) / (2 * step), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("name", ["fixed-hidden-mlp", "chimera"])
def test_the_loop_survives_export_and_agrees_for_inputs_of_very_different_size(name, tmp_path):
    network = fresh(name)
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(network, (torch.randn(2, 20),), dynamo=True, dynamic_shapes=dynamic, verbose=False)
    program.save(tmp_path / "model.onnx")
    assert "Loop" in [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 2, 7):
        for size in SIZES:
            x = size * torch.randn(batch, 20)
            (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            with torch.no_grad():
                np.testing.assert_allclose(found, network(x).numpy(), atol=2e-6)
    x = torch.full((2, 20), math.inf)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})  # and it comes back
    assert found.shape == (2, 1)


def test_the_exported_program_is_the_function_that_was_trained():
    network = fresh("fixed-hidden-mlp").double()
    example = torch.randn(2, 20, dtype=torch.float64)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert any("while_loop" in str(node.target) for node in program.graph.nodes)
    x = torch.tensor(SIZES, dtype=torch.float64)[:, None] * torch.randn(len(SIZES), 20, dtype=torch.float64)
    torch.testing.assert_close(program.module()(x), network(x))


def test_the_fixed_matrix_is_saved_but_not_trained():
    network = fresh("fixed-hidden-mlp")
    assert "fixed" in network.state_dict()
    assert "fixed" not in dict(network.named_parameters())
    assert network.fixed.min() >= 0
    assert network.fixed.max() < 1


def test_a_shared_layer_has_one_name_and_learns_from_both_places():
    network = fresh("shared-mlp").double()
    assert sum("shared" in name for name in network.state_dict()) == 2
    x = torch.rand(5, 4, dtype=torch.float64)
    network(x).sum().backward()
    shared = network.shared.weight.grad.clone()
    parts = []
    for place in (0, 1):
        copies = [nn.Linear(8, 8).double(), nn.Linear(8, 8).double()]
        for copy in copies:
            copy.load_state_dict(network.shared.state_dict())
        h = torch.relu(copies[0](torch.relu(network.first(x))))
        network.last(torch.relu(copies[1](h))).sum().backward()
        parts.append(copies[place].weight.grad)
    torch.testing.assert_close(shared, parts[0] + parts[1])
    assert all(float(part.abs().max()) > 0 for part in parts)


def test_a_shared_layer_is_stored_once_in_the_onnx_file():
    program = torch.onnx.export(fresh("shared-mlp"), (torch.rand(2, 4),), dynamo=True, verbose=False)
    stored = [tuple(tensor.dims) for tensor in program.model_proto.graph.initializer]
    assert stored.count((8, 8)) == 1


def test_nested_blocks_are_found_by_path():
    network = fresh("rgnet")
    assert network.state_dict()["0.block2.0.bias"].shape == (8,)
    assert len(network[0]) == 4


def test_the_centered_layer_gives_rows_of_mean_zero():
    with torch.no_grad():
        found = fresh("centered")(torch.randn(3, 8))
    assert found.shape == (3, 128)
    assert float(found.mean(dim=1).abs().max()) < 1e-6


def test_handwritten_linear_layers_compute_relu_of_x_w_plus_b():
    network = fresh("my-linear")
    x = torch.rand(2, 64)
    first, second = network
    expected = torch.relu(torch.relu(x @ first.weight + first.bias) @ second.weight + second.bias)
    torch.testing.assert_close(network(x), expected)
    assert first.weight.shape == (64, 8)


def test_handwritten_linear_layers_never_start_dead():
    x = torch.from_numpy(np.stack(datasets.load("digit-vectors").train.samples))
    with torch.no_grad():
        assert all(bool((fresh("my-linear", seed)(x) > 0).all()) for seed in range(50))


def test_the_laplacian_is_the_kernel_and_has_nothing_to_learn():
    network = fresh("laplacian")
    assert network.conv.weight[0, 0].tolist() == [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]
    assert [p for p in network.parameters() if p.requires_grad] == []
    flat = network(torch.full((1, 1, 5, 6), 0.25))
    assert flat.shape == (1, 1, 3, 4)
    assert float(flat.abs().max()) == 0
    dot = torch.zeros(1, 1, 3, 3)
    dot[0, 0, 1, 1] = 1
    assert network(dot).item() == 8


def test_the_laplacian_of_the_photographs_is_what_its_dataset_computed():
    architecture = architectures.get("laplacian")
    split = datasets.load(architecture.recipe.dataset).test
    found = fresh("laplacian")(torch.from_numpy(split.arrays(architecture.input)))
    np.testing.assert_allclose(found.numpy(), split.targets, atol=2e-6)
    assert float(np.abs(split.targets).max()) > 1
