"""float32: other engines, less or more rewriting of the graph, settings of a GPU, fewer threads, for throughput other batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from deploykit.tuner.candidates import _gpu
from deploykit.tuner.candidates._types import (
    Proposal,
    Steps,
    Task,
    fastest,
    options_of,
    with_batches,
    with_layouts,
    with_threads,
)
from deploykit.tuner.layout import Layout, written
from deploykit.tuner.result import Candidate, Measured

PRECISION = "fp32"
LEVELS = ("extended", "basic")  # of onnxruntime, besides "all", which the baseline has: its own layout does not always pay


def propose(task: Task) -> Steps:
    """Every engine with the baseline's threads, onnxruntime's levels, and other ways to write the graph for it; then the best with
    fewer threads or another batch.
    """  # fmt: skip
    others = [engine for engine in task.engines if engine != task.baseline.engine]
    first = [task.like_baseline(f"fp32 {engine}", engine=engine, options=options_of(task, engine)) for engine in others]
    if task.baseline.engine == "onnxruntime" and task.device == "cpu":
        first += [task.like_baseline(f"fp32 onnxruntime, level {level}", options={"level": level}) for level in LEVELS]
    if task.device != "cpu":
        first += _gpu.variants(task.baseline, (_gpu.BINDING, _gpu.GRAPH, _gpu.NHWC, _gpu.NHWC_GRAPH))
    ways = {_build(layout): (layout, each) for layout, each in with_layouts(task, task.baseline, task.model).items()}
    first += [each.but(each.name, build=build) for build, (_, each) in ways.items()]

    def proposals(candidates: Sequence[Candidate]) -> list[Proposal]:
        hows = {build: partial(written, task.model, layout) for build, (layout, _) in ways.items()}
        return [Proposal(candidate, hows.get(candidate.build)) for candidate in candidates]

    measured = yield proposals(first)
    measured += yield proposals(with_threads(task, _best(task, measured)))
    batches = with_batches(task, _best(task, measured))
    if batches:
        yield proposals(batches)


def _build(layout: Layout) -> str:
    """The name of the file in that layout."""
    return "fp32-" + layout.name.replace(", ", "-").replace(" ", "-")


def _best(task: Task, measured: Sequence[Measured]) -> Candidate:
    """The fastest, if that is sure; else the file as it is."""
    best = fastest(measured)
    return best.candidate if best is not None and best.timing is not None and best.timing.low > 1 else task.baseline
