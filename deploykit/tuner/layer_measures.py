"""What a task can ask about the layers of a file that was made, kept in the journal like every answer."""

from __future__ import annotations

import onnx

from deploykit.errors import DeploykitError
from deploykit.profiler.onnx import times
from deploykit.tuner import layers
from deploykit.tuner.bench import Bench
from deploykit.tuner.candidates.int8 import fixed_batch
from deploykit.tuner.journal import Journal
from deploykit.tuner.result import Candidate
from deploykit.tuner.samples import Parts

LAYER_SECONDS = 0.5  # of running a file with the runtime's profiler on


def layer_times(bench: Bench, journal: Journal, parts: Parts, baseline: Candidate, build: str) -> dict[str, float]:
    """See `Task.layer_times`; nothing where the file cannot be profiled."""
    key = ["layer_times", build]
    kept = journal.get(key)
    if kept is None:
        try:
            arrays = parts.calibration.cycled(baseline.batch)
            measured = times.node_times(bench.path(build), arrays, baseline.threads, LAYER_SECONDS)
            kept = measured.charged
        except DeploykitError:
            kept = {}
        journal.put(key, kept, bench.now())
    return dict(kept)


def layer_errors(bench: Bench, journal: Journal, model: onnx.ModelProto, parts: Parts, build: str) -> dict[str, float]:
    """See `Task.layer_errors`; nothing where values inside cannot be seen."""
    key = ["layer_errors", build]
    kept = journal.get(key)
    if kept is None:
        size = fixed_batch(model) or min(layers.SAMPLES, len(parts.calibration))
        feeds = dict(zip(parts.calibration.inputs, parts.calibration.cycled(size), strict=True))
        try:
            kept = layers.errors(model, layers.read(bench.path(build)), feeds)
        except DeploykitError:
            kept = {}
        journal.put(key, kept, bench.now())
    return dict(kept)
