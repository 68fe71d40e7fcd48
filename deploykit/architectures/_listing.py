"""What `deploykit list architectures` shows: parameters and multiply-accumulates, counted without allocating weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from deploykit.architectures._registry import Architecture


def rows(architectures: list[Architecture]) -> list[dict[str, Any]]:
    """One dict per architecture: name, input_shape (no batch), params, macs, dataset, trained, summary.

    params: trainable ones, a shared one counted once. macs: multiply-accumulates of convolutions, linear layers and
    matrix products for one sample. trained: whether the current folder has a checkpoint of it where `train` writes by
    default.
    """
    return [_row(architecture) for architecture in architectures]


def _row(architecture: Architecture) -> dict[str, Any]:
    params, macs = _count(architecture)
    return {
        "name": architecture.name,
        "input_shape": list(architecture.input_shape),
        "params": params,
        "macs": macs,
        "dataset": architecture.recipe.dataset,
        "trained": Path("trained", architecture.name, "model.safetensors").is_file(),
        "summary": architecture.summary,
    }


def _count(architecture: Architecture) -> tuple[int, int]:
    """(params, macs). Where the path through a network depends on its values, which the meta device has not, it runs for real."""
    try:
        return _count_on(architecture, "meta")
    except RuntimeError:
        return _count_on(architecture, "cpu")


def _count_on(architecture: Architecture, device: str) -> tuple[int, int]:
    with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
        network = architecture.create().eval()
        counter = FlopCounterMode(display=False)
        with counter:
            network(torch.zeros(1, *architecture.input_shape))
    params = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return params, counter.get_total_flops() // 2  # the counter takes a multiply-accumulate for two operations
