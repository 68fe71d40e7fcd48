"""Settings of a GPU that any precision may be run with; each is an option of onnxruntime, and none is sure to pay."""

from __future__ import annotations

from deploykit.runtime import providers
from deploykit.tuner.candidates._types import Proposal, Task
from deploykit.tuner.result import Candidate

BINDING = ("IO binding", {"io_binding": "on"})
GRAPH = ("CUDA graph", {"cuda_graph": "on"})
NHWC = ("NHWC", {"layout": "nhwc"})
NHWC_GRAPH = ("NHWC, CUDA graph", {"layout": "nhwc", "cuda_graph": "on"})


def variants(first: Candidate, settings: tuple[tuple[str, dict[str, str]], ...]) -> list[Candidate]:
    """The candidate with each of these settings."""
    return [first.but(f"{first.name}, {title}", options={**first.options, **options}) for title, options in settings]


def tensorrt(task: Task, precision: str) -> list[Proposal]:
    """The file as it is, compiled by TensorRT; nothing where its provider does not load."""
    if providers.tensorrt_obstacle() is not None:
        return []
    options = {"provider": f"tensorrt-{precision}"}
    return [Proposal(task.like_baseline(f"{precision} TensorRT", precision=precision, options=options))]
