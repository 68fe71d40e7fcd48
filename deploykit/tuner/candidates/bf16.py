"""float32 files that OpenVINO computes in bfloat16, where the machine has instructions for it."""

from __future__ import annotations

from deploykit.runtime.instructions import BFLOAT16
from deploykit.tuner.candidates._types import Proposal, Steps, Task, options_of

PRECISION = "bf16"


def propose(task: Task) -> Steps:
    """One candidate; none where the engine would not really compute in bfloat16."""
    if task.device == "cpu" and "openvino" in task.engines and BFLOAT16.intersection(task.instructions):
        options = {**options_of(task, "openvino"), "precision": "bf16"}
        yield [Proposal(task.like_baseline("bf16 openvino", engine="openvino", precision="bf16", options=options))]
