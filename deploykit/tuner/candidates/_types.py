"""What every kind of candidate is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

import onnx

from deploykit.tuner.batches import fixed_batch
from deploykit.tuner.layout import Layout, layouts
from deploykit.tuner.result import Candidate, Measured
from deploykit.tuner.samples import Parts


@dataclass(frozen=True)
class Proposal:
    """A candidate, and `how` its file is made where that is not the file that was given; raises `InputError` where it cannot be."""

    candidate: Candidate
    how: Callable[[], onnx.ModelProto] | None = None


MOST_FIXED = 1024  # rows, that the contract of a tuned file can say

Steps: TypeAlias = "Generator[list[Proposal], list[Measured], None]"


@dataclass(frozen=True)
class Task:
    """What is tuned: `file`, read as `model`, which `baseline` runs as it is; `name` is what messages call it.

    `engines`: that may be chosen. `threads`, `batches`: within a run, and samples per run, to choose from, the baseline's first.
    `device`: "cpu" or "cuda". `instructions`: of this machine. `layer_times`: milliseconds by node of a file that was made, run as
    the baseline is. `layer_errors`: by layer, what quantizing did to its output, relative to its size. `given`: the samples of the
    proof before those were left out for which the time is not enough.
    """

    file: Path
    model: onnx.ModelProto
    parts: Parts
    baseline: Candidate
    engines: tuple[str, ...]
    threads: tuple[int, ...]
    layer_times: Callable[[str], Mapping[str, float]]
    layer_errors: Callable[[str], Mapping[str, float]]
    device: str = "cpu"
    instructions: tuple[str, ...] = ()
    arm: bool = False
    batches: tuple[int, ...] = ()
    given: int | None = None
    name: str = ""
    notes: list[str] = field(default_factory=list)

    def like_baseline(self, name: str, **changes: object) -> Candidate:
        """The baseline with other values, under another name."""
        return self.baseline.but(name, **changes)


def with_threads(task: Task, best: Candidate) -> list[Candidate]:
    """The same with the other numbers of threads."""
    fewer = [threads for threads in task.threads if threads != best.threads]
    return [best.but(f"{best.name}, {threads} thread{'s' * (threads > 1)}", threads=threads) for threads in fewer]


def with_batches(task: Task, best: Candidate) -> list[Candidate]:
    """The same with the other numbers of samples per run."""
    others = [batch for batch in task.batches if batch != best.batch]
    known = {name: value for name, value in best.options.items() if name != "fixed_batch"}
    options = {batch: {**known, **options_of(task, best.engine, batch)} for batch in others}
    return [best.but(f"{best.name}, batch {batch}", batch=batch, options=options[batch]) for batch in others]


def options_of(task: Task, engine: str, batch: int | None = None) -> dict[str, str]:
    """OpenVINO plans better for a batch that it knows (`None`: the baseline's), where the file leaves that open."""
    rows = batch or task.baseline.batch
    return {"fixed_batch": str(rows)} if engine == "openvino" and fixed_batch(task.model) is None and rows <= MOST_FIXED else {}


def with_layouts(task: Task, best: Candidate, model: onnx.ModelProto) -> dict[Layout, Candidate]:
    """The same with `model` in other ways to write it for onnxruntime's convolutions."""
    if best.engine != "onnxruntime" or task.device != "cpu":
        return {}
    return {layout: best.but(f"{best.name}, {layout.name}") for layout in layouts(model)}


def fastest(measured: Sequence[Measured]) -> Measured | None:
    """The fastest that may be chosen, of those whose proof will probably hold, if there are such."""
    kept = [entry for entry in measured if entry.kept and entry.timing is not None]
    likely = [entry for entry in kept if entry.likely]
    return max(likely or kept, key=lambda entry: entry.timing.ratio if entry.timing else 0.0, default=None)


class Kind(Protocol):
    """A file of this package."""

    PRECISION: str

    def propose(self, task: Task) -> Steps:
        """See the package."""
        ...
