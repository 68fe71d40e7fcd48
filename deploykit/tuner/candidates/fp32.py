"""The file as it is: other engines, fewer threads, less rewriting of the graph."""

from __future__ import annotations

from dataclasses import replace

from deploykit.tuner.candidates._types import Proposal, Steps, Task

PRECISION = "fp32"
LEVELS = ("extended", "basic")  # of onnxruntime, besides "all", which the baseline has: its own layout does not always pay


def propose(task: Task) -> Steps:
    """Every engine with the baseline's threads and onnxruntime's other levels; then the best of them with fewer threads."""
    first = [task.like_baseline(f"fp32 {engine}", engine=engine) for engine in task.engines if engine != task.baseline.engine]
    if task.baseline.engine == "onnxruntime":
        first += [task.like_baseline(f"fp32 onnxruntime, level {level}", options={"level": level}) for level in LEVELS]
    measured = yield [Proposal(candidate) for candidate in first]
    kept = [entry for entry in measured if entry.kept and entry.timing is not None]
    ranked = sorted(kept, key=lambda entry: -entry.timing.ratio if entry.timing else 0.0)
    best = ranked[0].candidate if ranked and ranked[0].timing and ranked[0].timing.low > 1 else task.baseline
    fewer = [threads for threads in task.threads if threads != task.baseline.threads]
    yield [
        Proposal(replace(best, name=f"{best.name}, {threads} thread{'s' * (threads > 1)}", threads=threads)) for threads in fewer
    ]
