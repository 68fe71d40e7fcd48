"""`list_architectures`: every shipped network and its figures, which its file says; what no file says is counted.

PyTorch is loaded only for the counting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploykit import architectures
from deploykit.errors import InputError
from deploykit.network import places

if TYPE_CHECKING:
    from deploykit.architectures import Architecture
    from deploykit.profiler.layer_table import Totals


def list_architectures() -> list[dict[str, Any]]:
    """One dict per architecture: name, input_shape (no batch), params, macs, dataset, trained, summary.

    params: elements of all parameters, trained or fixed, a shared one once. macs: multiply-accumulates of convolutions, linear
    layers, matrix products and attention for one sample. trained: whether the current folder has a checkpoint of it where
    `train` writes by default.
    """
    return [_row(architectures.entry(name)) for name in architectures.names()]


def _row(entry: architectures.Entry) -> dict[str, Any]:
    params, macs = entry.params, entry.macs
    if params is None or macs is None:
        totals = count(architectures.get(entry.name))
        params, macs = totals.params, totals.ops
    return {
        "name": entry.name,
        "input_shape": list(entry.input_shape),
        "params": params,
        "macs": macs,
        "dataset": entry.recipe.dataset,
        "trained": (places.folder_of(entry.name) / places.NAME).is_file(),
        "summary": entry.summary,
    }


def count(architecture: Architecture) -> Totals:
    """The totals of a network, counted as `profile` counts them.

    On the meta device, which allocates no weights; for real where the path through a network depends on its values, which that
    device has not.
    """
    try:
        return _count_on(architecture, "meta")
    except (InputError, RuntimeError):
        return _count_on(architecture, "cpu")


def _count_on(architecture: Architecture, device: str) -> Totals:
    import torch

    from deploykit.profiler.pytorch.layers import count_layers

    with torch.random.fork_rng(devices=[]):  # fresh weights are random numbers; the caller's generator stays as it was
        with torch.device(device):
            network, sample = architecture.create().eval(), torch.zeros(1, *architecture.input_shape)
        return count_layers(network, [sample]).totals
