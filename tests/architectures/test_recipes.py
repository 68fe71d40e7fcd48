"""The recipes really learn: each network, trained by its own recipe, reaches what it is shipped for."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit import architectures, datasets
from deploykit.network.checkpoint import load_checkpoint
from deploykit.training import train


def explained(name, result):
    """The share of the targets' variance that the network explains on the test split: 0 for the mean, 1 for all of it."""
    targets = datasets.load(architectures.get(name).recipe.dataset).test.targets
    return 1 - result.metrics["test"] / float(targets.var(axis=0).mean())


def test_edge_kernel_finds_the_kernel_from_its_one_image(tmp_path):
    result = train("edge-kernel", out=tmp_path, device="cpu")
    kernel = load_checkpoint(result.checkpoint).tensors["conv.weight"]
    np.testing.assert_allclose(kernel.flatten().tolist(), [1, -1], atol=0.01)
    assert result.metrics["test"] < 1e-4, "and it finds the edges of bars that it has not seen"


def test_laplacian_has_nothing_to_learn_and_is_exact(tmp_path):
    result = train("laplacian", out=tmp_path, device="cpu")
    assert result.epochs == 0
    assert result.metrics["test"] < 1e-10
    assert load_checkpoint(result.checkpoint).tensors["conv.weight"].flatten().tolist() == [-1] * 4 + [8] + [-1] * 4


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("fixed-hidden-mlp", 0.8),
        ("nest-mlp", 0.9),
        ("chimera", 0.9),
        ("shared-mlp", 0.9),
        ("rgnet", 0.8),
        ("centered", 0.99),
        ("my-linear", 0.9),
    ],
)
@pytest.mark.slow
def test_regressions_explain_the_variance(name, least, tmp_path):
    assert explained(name, train(name, out=tmp_path, device="cpu")) > least


@pytest.mark.parametrize("name", ["mlp", "mlp-sequential"])
def test_perceptrons_do_what_a_straight_cut_cannot(name, tmp_path):
    assert train(name, out=tmp_path, device="cpu").metrics["test"] > 0.93  # a linear classifier gets 0.82


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"), [("lenet", 0.95), ("lenet5", 0.97), ("lenet5-handwritten", 0.97), ("cnn2", 0.97), ("cnn4", 0.97)]
)
def test_small_networks_read_digits(name, least, tmp_path):
    assert train(name, out=tmp_path, device="cpu").metrics["test"] >= least
