"""PyTorch compiled: `torch.compile` with its default compiler; the first run of each input shape compiles and is slow."""

from __future__ import annotations

import shutil

import torch

from deploykit.backends._pytorch import PyTorchEngine
from deploykit.backends._types import Engine, Source
from deploykit.errors import DependencyMissing
from deploykit.network.target import Network

SOURCE: Source = "network"


def start(network: Network, device: str, threads: int | None) -> Engine:
    """See `deploykit.backends.start`. Raises `DependencyMissing` where there is no C++ compiler."""
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++", "cl")):
        raise DependencyMissing("torch.compile needs a C++ compiler, and there is none", "install g++, or choose another backend")
    return PyTorchEngine(network, torch.compile(network.module.eval(), dynamic=False), device, threads, {"compiler": "inductor"})
