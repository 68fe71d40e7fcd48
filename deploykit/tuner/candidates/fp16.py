"""float16: on a GPU the file with halved weights, or compiled so by TensorRT; on a CPU only OpenVINO on ARM computes in it."""

from __future__ import annotations

from deploykit.exporter.float16 import to_float16
from deploykit.tuner.candidates import _gpu
from deploykit.tuner.candidates._types import Proposal, Steps, Task, options_of

PRECISION = "fp16"


def propose(task: Task) -> Steps:
    """What computes in it; on a GPU also with its settings."""
    if task.device != "cpu":
        plain = task.like_baseline("fp16 onnxruntime", precision="fp16", build="fp16")
        several = (plain, *_gpu.variants(plain, (_gpu.GRAPH, _gpu.NHWC_GRAPH)))
        yield [Proposal(candidate, lambda: to_float16(task.model)) for candidate in several]
        compiled = _gpu.tensorrt(task, "fp16")
        if compiled:
            yield compiled
    elif "openvino" in task.engines and "fphp" in task.instructions:
        options = {**options_of(task, "openvino"), "precision": "f16"}
        yield [Proposal(task.like_baseline("fp16 openvino", engine="openvino", precision="fp16", options=options))]
