"""What is in a network, what it costs, and how long it takes, in PyTorch and in ONNX Runtime: one report.

`profile` for all of it, `compare_latency` for the times of two networks or files alone, `list_architectures` for the totals of
every shipped network. A name loads its module on first use: a process that times an ONNX file must not hold PyTorch as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploykit.lazy import attach

if TYPE_CHECKING:
    from deploykit.profiler.benchmark.latency import Comparison as Comparison
    from deploykit.profiler.benchmark.latency import Latency as Latency
    from deploykit.profiler.benchmark.latency import LatencyReport as LatencyReport
    from deploykit.profiler.benchmark.latency import compare_latency as compare_latency
    from deploykit.profiler.layer_table import Layer as Layer
    from deploykit.profiler.layer_table import LayerTable as LayerTable
    from deploykit.profiler.layer_table import Totals as Totals
    from deploykit.profiler.listing import list_architectures as list_architectures
    from deploykit.profiler.profiling import profile as profile
    from deploykit.profiler.result import Profile as Profile
    from deploykit.profiler.subjects import Subject as Subject

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "benchmark.latency": ["Comparison", "Latency", "LatencyReport", "compare_latency"],
        "layer_table": ["Layer", "LayerTable", "Totals"],
        "listing": ["list_architectures"],
        "profiling": ["profile"],
        "result": ["Profile"],
        "subjects": ["Subject"],
    },
)
