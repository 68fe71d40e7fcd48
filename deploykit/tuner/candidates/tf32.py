"""float32 files whose matrix products a GPU rounds to 10 bits of mantissa, by CUDA and by TensorRT, which does so of its own."""

from __future__ import annotations

from deploykit.tuner.candidates import _gpu
from deploykit.tuner.candidates._types import Proposal, Steps, Task

PRECISION = "tf32"


def propose(task: Task) -> Steps:
    """On a GPU alone."""
    if task.device == "cpu":
        return
    plain = task.like_baseline("tf32 onnxruntime", precision="tf32", options={"tf32": "on"})
    yield [Proposal(candidate) for candidate in (plain, *_gpu.variants(plain, (_gpu.GRAPH, _gpu.NHWC_GRAPH)))]
    compiled = _gpu.tensorrt(task, "tf32")
    if compiled:
        yield compiled
