"""Who did it? Each step that could have broken the file is tried apart, in the order in which they are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deploykit.onnx_file import sessions
from deploykit.runtime.providers import name_of
from deploykit.verdict.deployed import Deployed

Judge = Callable[[Deployed, sessions.Level, str], bool]


def blamed_step(steps: Sequence[tuple[str, Deployed]], agrees: Judge, provider: str = sessions.CPU) -> str:
    """The first step after which the network is no longer the same: "export", "simplify", "precision", an optimization level
    of onnxruntime such as "optimizer:extended", or "provider:CUDAExecutionProvider".

    `steps`: (name, model after that step). `agrees(model, level, provider)`: whether outputs and layers are within tolerance.
    Every step is tried without optimization on the CPU first, then the last model level by level, then the provider.
    """
    for name, model in steps:
        if not agrees(model, "disabled", sessions.CPU):
            return name
    last = steps[-1][1]
    for level in sessions.LEVELS[1:]:
        if not agrees(last, level, sessions.CPU):
            return f"optimizer:{level}"
    if provider != sessions.CPU and not agrees(last, "all", provider):
        return f"provider:{name_of(provider)}"
    return "unknown"
