"""Who did it? Each step that could have broken the file is tried apart, in the order in which they are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from deploykit import ort

Judge = Callable[[onnx.ModelProto, ort.Level], bool]


def blamed_step(steps: Sequence[tuple[str, onnx.ModelProto]], agrees: Judge) -> str:
    """The first step after which the network is no longer the same.

    `steps`: (name, model after that step). `agrees(model, level)`: whether the outputs are within tolerance at an
    optimization level of onnxruntime. Every step is tried without optimization first, then the last model level by level.
    """
    for name, model in steps:
        if not agrees(model, "disabled"):
            return name
    last = steps[-1][1]
    for level in ort.LEVELS[1:]:
        if not agrees(last, level):
            return f"optimizer:{level}"
    return "unknown"
