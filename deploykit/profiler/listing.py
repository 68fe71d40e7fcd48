"""`list_architectures`: the totals of every shipped network, counted as `profile` counts them."""

from __future__ import annotations

from typing import Any

import torch

from deploykit import architectures
from deploykit.architectures import Architecture
from deploykit.errors import InputError
from deploykit.network import checkpoint
from deploykit.profiler.layer_table import Totals
from deploykit.profiler.pytorch.layers import count_layers


def list_architectures() -> list[dict[str, Any]]:
    """One dict per architecture: name, input_shape (no batch), params, macs, dataset, trained, summary.

    params: elements of all parameters, trained or fixed, a shared one once. macs: multiply-accumulates of convolutions, linear
    layers, matrix products and attention for one sample. trained: whether the current folder has a checkpoint of it where
    `train` writes by default. No weights are allocated, but for networks whose path depends on their values.
    """
    return [_row(architectures.get(name)) for name in architectures.names()]


def _row(architecture: Architecture) -> dict[str, Any]:
    totals = _totals(architecture)
    return {
        "name": architecture.name,
        "input_shape": list(architecture.input_shape),
        "params": totals.params,
        "macs": totals.ops,
        "dataset": architecture.recipe.dataset,
        "trained": (checkpoint.folder_of(architecture.name) / checkpoint.NAME).is_file(),
        "summary": architecture.summary,
    }


def _totals(architecture: Architecture) -> Totals:
    """Counted on the meta device; for real where the path through a network depends on its values, which that device has not."""
    try:
        return _totals_on(architecture, "meta")
    except (InputError, RuntimeError):
        return _totals_on(architecture, "cpu")


def _totals_on(architecture: Architecture, device: str) -> Totals:
    with torch.random.fork_rng(devices=[]):  # fresh weights are random numbers; the caller's generator stays as it was
        with torch.device(device):
            network, sample = architecture.create().eval(), torch.zeros(1, *architecture.input_shape)
        return count_layers(network, [sample]).totals
