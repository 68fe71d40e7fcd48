"""How a network is executed: one engine per file; the name of the file is the name of the backend.

A new backend is one new file here with two names: ``SOURCE``, "network" or "onnx", says what it runs, and
``start(source, device, threads)`` gives an `Engine`. It may take further keywords, texts that decide its speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit import plugins
from deploykit.backends._types import Engine, Source, TensorSpec
from deploykit.errors import InputError, kind_of

if TYPE_CHECKING:
    from deploykit.network.target import Network

__all__ = ["Engine", "Source", "TensorSpec", "names", "source_of", "start"]


def names() -> tuple[str, ...]:
    """Every backend, sorted; imports none of them."""
    return plugins.names(__name__)


def source_of(backend: str) -> Source:
    """What a backend runs: "network" (a PyTorch network) or "onnx" (an ONNX file). Raises `UnknownName`."""
    found: Source = plugins.load(__name__, backend, "backend").SOURCE
    return found


def start(
    backend: str,
    source: Network | Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    options: Mapping[str, str] | None = None,
) -> Engine:
    """An engine that is ready to run `source`; close it, or use it as a context manager.

    `device`: "cpu", "cuda", "cuda:1" or "auto". `threads`: within one run, `None` for as many as the process may use.
    `options`: of this backend, such as ``{"level": "basic"}`` for onnxruntime.
    Raises `UnknownName` for the backend, `DeviceUnavailable`, and `InputError` or `ModelFileError` for what it cannot run.
    """
    module: Any = plugins.load(__name__, backend, "backend")
    if (module.SOURCE == "onnx") != isinstance(source, Path):
        wanted = "an ONNX file" if module.SOURCE == "onnx" else "a PyTorch network"
        raise InputError(f"the backend {backend!r} runs {wanted}, not {kind_of(source)}", "choose another backend")
    engine: Engine = module.start(source, device, threads, **(options or {}))
    return engine
