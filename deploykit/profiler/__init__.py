"""What is in a network, what it costs, and how long it takes, in PyTorch and in ONNX Runtime: one report.

`profile` for all of it, `compare_latency` for the times of two networks or files alone, `list_architectures` for the totals of
every shipped network. A name loads its module on first use:
a process that times an ONNX file must not hold PyTorch as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploykit.profiler.benchmark.latency import Comparison, Latency, LatencyReport, compare_latency
    from deploykit.profiler.layer_table import Layer, LayerTable, Totals
    from deploykit.profiler.listing import list_architectures
    from deploykit.profiler.profiling import profile
    from deploykit.profiler.result import Profile
    from deploykit.profiler.subjects import Subject

# Where each public name lives; resolved on first use (PEP 562).
_HOME = {
    "Comparison": "benchmark.latency",
    "Latency": "benchmark.latency",
    "LatencyReport": "benchmark.latency",
    "Layer": "layer_table",
    "LayerTable": "layer_table",
    "Profile": "result",
    "Subject": "subjects",
    "Totals": "layer_table",
    "compare_latency": "benchmark.latency",
    "list_architectures": "listing",
    "profile": "profiling",
}

__all__ = [
    "Comparison",
    "Latency",
    "LatencyReport",
    "Layer",
    "LayerTable",
    "Profile",
    "Subject",
    "Totals",
    "compare_latency",
    "list_architectures",
    "profile",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'deploykit.profiler' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"deploykit.profiler.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
