"""What a task can ask about the layers of a file that was made, kept in the journal like every answer."""

from __future__ import annotations

from pathlib import Path

import onnx

from deploykit.errors import DeploykitError
from deploykit.profiler.onnx import times
from deploykit.tuner import layers
from deploykit.tuner.batches import fixed_batch
from deploykit.tuner.bench import Bench
from deploykit.tuner.result import Candidate
from deploykit.tuner.samples import Parts

LAYER_SECONDS = 0.5  # of running a file with the runtime's profiler on


def layer_times(bench: Bench, parts: Parts, baseline: Candidate, file: Path, build: str) -> dict[str, float]:
    """See `Task.layer_times`; nothing where the file cannot be profiled. `file`: the given one, with names for its nodes."""

    def measured() -> dict[str, float]:
        try:
            arrays = parts.calibration.cycled(baseline.batch)
            return dict(
                times.node_times(file if build == "fp32" else bench.path(build), arrays, baseline.threads, LAYER_SECONDS).charged
            )
        except DeploykitError:
            return {}

    return dict(bench.remember(["layer_times", build], measured))


def layer_errors(bench: Bench, model: onnx.ModelProto, parts: Parts, build: str) -> dict[str, float]:
    """See `Task.layer_errors`; nothing where values inside cannot be seen."""

    def compared() -> dict[str, float]:
        size = fixed_batch(model) or min(layers.SAMPLES, len(parts.calibration))
        feeds = dict(zip(parts.calibration.inputs, parts.calibration.cycled(size), strict=True))
        try:
            return layers.errors(model, layers.read(bench.path(build)), feeds)
        except DeploykitError:
            return {}

    return dict(bench.remember(["layer_errors", build], compared))
