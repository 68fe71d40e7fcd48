"""float32: other engines, less or more rewriting of the graph, settings of a GPU, fewer threads, for throughput other batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from deploykit.tuner.blocked_layout import SMALL, blocked
from deploykit.tuner.candidates import _gpu
from deploykit.tuner.candidates._types import Proposal, Steps, Task, fastest, in_blocks, options_of, with_batches, with_threads
from deploykit.tuner.result import Candidate, Measured

PRECISION = "fp32"
LEVELS = ("extended", "basic")  # of onnxruntime, besides "all", which the baseline has: its own layout does not always pay
BLOCKED = {math.inf: "fp32-blocked", SMALL: "fp32-blocked-small"}  # builds, by the most numbers of a gate


def propose(task: Task) -> Steps:
    """Every engine with the baseline's threads, onnxruntime's levels, and gates as its layout knows them; then the best with fewer
    threads or another batch.
    """  # fmt: skip
    others = [engine for engine in task.engines if engine != task.baseline.engine]
    first = [task.like_baseline(f"fp32 {engine}", engine=engine, options=options_of(task, engine)) for engine in others]
    if task.baseline.engine == "onnxruntime" and task.device == "cpu":
        first += [task.like_baseline(f"fp32 onnxruntime, level {level}", options={"level": level}) for level in LEVELS]
    if task.device != "cpu":
        first += _gpu.variants(task.baseline, (_gpu.BINDING, _gpu.GRAPH, _gpu.NHWC, _gpu.NHWC_GRAPH))
    blocks = in_blocks(task, task.baseline, task.model)
    first += [each.but(each.name, build=BLOCKED[most]) for most, each in blocks.items()]
    measured = yield [_proposal(task, candidate) for candidate in first]
    measured += yield [_proposal(task, candidate) for candidate in with_threads(task, _best(task, measured))]
    batches = with_batches(task, _best(task, measured))
    if batches:
        yield [_proposal(task, candidate) for candidate in batches]


def _proposal(task: Task, candidate: Candidate) -> Proposal:
    most = next((most for most, build in BLOCKED.items() if build == candidate.build), None)
    return Proposal(candidate, None if most is None else partial(blocked, task.model, most))


def _best(task: Task, measured: Sequence[Measured]) -> Candidate:
    """The fastest, if that is sure; else the file as it is."""
    best = fastest(measured)
    return best.candidate if best is not None and best.timing is not None and best.timing.low > 1 else task.baseline
