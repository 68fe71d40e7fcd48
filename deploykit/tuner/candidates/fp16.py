"""float16: on a GPU the file with halved weights; no engine for the CPU computes in it, but OpenVINO on ARM."""

from __future__ import annotations

from deploykit.exporter.float16 import to_float16
from deploykit.tuner.candidates._types import Proposal, Steps, Task

PRECISION = "fp16"


def propose(task: Task) -> Steps:
    """One candidate per engine that computes in it."""
    if task.device != "cpu":
        candidate = task.like_baseline("fp16 onnxruntime", precision="fp16", build="fp16")
        yield [Proposal(candidate, lambda: to_float16(task.model))]
    elif "openvino" in task.engines and "fphp" in task.instructions:
        yield [Proposal(task.like_baseline("fp16 openvino", engine="openvino", precision="fp16", options={"precision": "f16"}))]
