"""Runs a file with ONNX Runtime's profiler on: its events, and from them the shapes of the values that nodes make."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from deploykit import files
from deploykit.errors import ModelFileError
from deploykit.profiler.layer_table import Shape
from deploykit.profiler.onnx.inputs import FixedInput
from deploykit.runtime.onnx_bytes import read_model
from deploykit.runtime.session import Level, SessionSettings, open_session, reason

MAX_RUNS, MIN_RUNS = 200, 10
ENDING = "_kernel_time"


def events(
    file: Path,
    arrays: Sequence[NDArray[Any]],
    seconds: float,
    *,
    threads: int = 0,
    device: str = "cpu",
    optimized: bool = True,
    runs: int = MIN_RUNS,
) -> list[dict[str, Any]]:
    """The profiler's events of as many runs as fit in `seconds`, at least `runs`. `threads`: 0 is the runtime's own choice.

    The session is the one that times the whole network (`backends.onnxruntime`), with the profiler on. Raises
    `ModelFileError` where the file cannot be run on these arrays, `DeviceUnavailable`.
    """
    with files.scratch_folder() as folder:
        level: Level = "all" if optimized else "disabled"
        settings = SessionSettings(device, threads or None, level=level, profile=folder / "profile")
        session = open_session(read_model(file), file.name, file.resolve().parent, settings).session
        try:
            feeds = dict(zip([spec.name for spec in session.get_inputs()], arrays, strict=True))
            until, done = time.monotonic() + seconds, 0
            while done < runs or (done < MAX_RUNS and time.monotonic() < until):
                session.run(None, feeds)
                done += 1
            path = session.end_profiling()
        except Exception as error:  # onnxruntime's exceptions have no base of their own
            raise ModelFileError(f"{file.name} cannot be profiled: {reason(error)}") from error
        found: list[dict[str, Any]] = json.loads(Path(path).read_text())
        return found


def shapes(file: Path, graph: onnx.GraphProto, inputs: Sequence[FixedInput]) -> dict[str, Shape]:
    """The shapes of the values in one run on zeros, by value name; none where the file cannot be run."""
    if any(entry.dtype is None for entry in inputs):
        return {}
    try:
        arrays = [np.zeros(entry.shape, entry.dtype) for entry in inputs]
        told = events(file, arrays, 0.0, optimized=False, runs=1)
    except (ModelFileError, MemoryError):
        return {}
    outputs = {node.name: list(node.output) for node in graph.node if node.name}
    found: dict[str, Shape] = {}
    for event in told:
        name = str(event.get("name", "")).removesuffix(ENDING)
        if event.get("cat") == "Node" and name in outputs:
            for value, described in zip(outputs[name], event["args"].get("output_type_shape", ()), strict=False):
                found[value] = tuple(int(size) for sizes in described.values() for size in sizes)
    return found
