"""PyTorch as it is: every operator called as the forward pass comes to it (eager)."""

from __future__ import annotations

from deploykit.backends._pytorch import PyTorchEngine
from deploykit.backends._types import Engine, Source
from deploykit.network.target import Network

SOURCE: Source = "network"


def start(network: Network, device: str, threads: int | None) -> Engine:
    """See `deploykit.backends.start`."""
    return PyTorchEngine(network, network.module, device, threads, {})
