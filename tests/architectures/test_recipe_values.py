"""The recipes as they are published: a change here changes every figure that they gave, and which runs can be resumed."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from deploykit import architectures
from deploykit.architectures import Recipe

ONE_CYCLE = {"schedule": "one-cycle"}
AFFINE = {"schedule": "one-cycle", "augment": "affine"}
SQUARED = {"loss": "mse"}
RECIPES = {
    "alexnet": {"lr": 3e-4, "epochs": 8, **AFFINE},
    "centered": {"dataset": "waveforms", "lr": 0.01, "epochs": 20, **SQUARED},
    "chimera": {"dataset": "tanh-sum", "lr": 5e-3, "epochs": 40, "clip_norm": 1.0, **ONE_CYCLE, **SQUARED},
    "cnn2": {"lr": 2e-3, "epochs": 15, **AFFINE},
    "cnn4": {"lr": 2e-3, "epochs": 15, **AFFINE},
    "edge-kernel": {
        "dataset": "edge-image",
        "optimizer": "sgd",
        "lr": 0.5,
        "momentum": 0.0,
        "schedule": "constant",
        "epochs": 100,
        "batch_size": 1,
        **SQUARED,
    },
    "fixed-hidden-mlp": {"dataset": "tanh-sum", "lr": 0.02, "epochs": 60, **SQUARED},
    "googlenet": {"lr": 5e-4, "batch_size": 32, **AFFINE},
    "laplacian": {"dataset": "photo-edges", "epochs": 0, "batch_size": 1, **SQUARED},
    "lenet": {"lr": 5e-3, "epochs": 40, **ONE_CYCLE},
    "lenet5": {"lr": 2e-3, "epochs": 25, **AFFINE},
    "lenet5-handwritten": {"lr": 2e-3, "epochs": 25, **AFFINE},
    "mlp": {"dataset": "blobs", "lr": 3e-3, "epochs": 20},
    "mlp-sequential": {"dataset": "blobs", "lr": 3e-3, "epochs": 20},
    "my-linear": {"dataset": "digit-vectors", "lr": 0.05, "epochs": 40, **SQUARED},
    "nest-mlp": {"dataset": "tanh-map", "lr": 3e-3, "epochs": 30, **SQUARED},
    "nin": {"lr": 5e-4, "epochs": 8, "batch_size": 8, "clip_norm": 1.0, **ONE_CYCLE},
    "resnet18": {"optimizer": "sgd", "lr": 0.01, "epochs": 6},
    "resnet18-cifar": {"optimizer": "sgd", "lr": 0.01, "epochs": 6},
    "resnet18-plain": {"optimizer": "sgd", "lr": 5e-3, "epochs": 6},
    "rgnet": {"dataset": "friedman", "lr": 0.01, "epochs": 60, "clip_norm": 0.5, **ONE_CYCLE, **SQUARED},
    "shared-mlp": {"dataset": "friedman", "lr": 0.03, "epochs": 60, **ONE_CYCLE, **SQUARED},
    "vgg11": {"lr": 2e-4, "epochs": 3, "batch_size": 32, **ONE_CYCLE},
    "vgg11-small": {"batch_size": 32, **AFFINE},
}


def test_what_a_recipe_does_not_say():
    assert asdict(Recipe()) == {
        "dataset": "digits",
        "loss": "cross-entropy",
        "optimizer": "adam",
        "lr": 1e-3,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "epochs": 10,
        "batch_size": 64,
        "augment": "none",
        "clip_norm": None,
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe(name):
    assert architectures.get(name).recipe == Recipe(**RECIPES[name])


def test_every_recipe_is_told_here():
    assert set(RECIPES) <= set(architectures.names())
    assert {name for name in architectures.names() if architectures.get(name).recipe is not None} == set(RECIPES)
