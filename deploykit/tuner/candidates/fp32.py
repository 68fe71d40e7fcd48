"""The file as it is: other engines, less rewriting of the graph, settings of a GPU, fewer threads, for throughput other batches."""

from __future__ import annotations

from collections.abc import Sequence

from deploykit.tuner.candidates import _gpu
from deploykit.tuner.candidates._types import Proposal, Steps, Task, fastest, with_batches, with_threads
from deploykit.tuner.result import Candidate, Measured

PRECISION = "fp32"
LEVELS = ("extended", "basic")  # of onnxruntime, besides "all", which the baseline has: its own layout does not always pay


def propose(task: Task) -> Steps:
    """Every engine with the baseline's threads, and onnxruntime's levels; then the best with fewer threads or another batch."""
    first = [task.like_baseline(f"fp32 {engine}", engine=engine) for engine in task.engines if engine != task.baseline.engine]
    if task.baseline.engine == "onnxruntime" and task.device == "cpu":
        first += [task.like_baseline(f"fp32 onnxruntime, level {level}", options={"level": level}) for level in LEVELS]
    if task.device != "cpu":
        first += _gpu.variants(task.baseline, (_gpu.BINDING, _gpu.GRAPH, _gpu.NHWC, _gpu.NHWC_GRAPH))
    measured = yield [Proposal(candidate) for candidate in first]
    measured += yield [Proposal(candidate) for candidate in with_threads(task, _best(task, measured))]
    batches = with_batches(task, _best(task, measured))
    if batches:
        yield [Proposal(candidate) for candidate in batches]


def _best(task: Task, measured: Sequence[Measured]) -> Candidate:
    """The fastest, if that is sure; else the file as it is."""
    best = fastest(measured)
    return best.candidate if best is not None and best.timing is not None and best.timing.low > 1 else task.baseline
