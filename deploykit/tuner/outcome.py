"""What was found -> the result of a tuning: its verdict, its words, its notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from deploykit.network.request import Request
from deploykit.profiler.benchmark import conditions
from deploykit.tuner.batches import fixed_batch
from deploykit.tuner.candidates import Task
from deploykit.tuner.marking import contract_of
from deploykit.tuner.options import Options
from deploykit.tuner.result import LayerChoice, TuneResult
from deploykit.tuner.search import Found
from deploykit.verdict import guarantee
from deploykit.verdict.same_decisions import Rule


def result(
    request: Request,
    options: Options,
    task: Task,
    found: Found,
    rows: tuple[LayerChoice, ...],
    out: Path,
    seconds: float,
    rule: Rule,
) -> TuneResult:
    """All that was found, and what is to be said of it."""
    faster = found.chosen is not found.baseline
    verdict: Any = "faster" if faster and not found.unproven else "not proven" if found.unproven else "float32"
    labelled = task.parts.labelled
    decides = all(entry.judged is None or entry.judged.drop is not None for entry in found.candidates) or not labelled
    by_drop = labelled and decides
    return TuneResult(
        target=request.target,
        file=out,
        goal=options.goal,
        verdict=verdict,
        baseline=found.baseline,
        chosen=found.chosen,
        candidates=found.candidates,
        layers=rows,
        data=task.parts.words(),
        labelled=labelled,
        budget=options.budget.words(by_drop, _decides(task.model, rule), len(task.model.graph.output) > 1),
        test=guarantee.DROP_TEST if by_drop else guarantee.AGREEMENT_TEST,
        notes=tuple(_notes(task, found)),
        conditions={**conditions.of_machine(), "instructions": " ".join(task.instructions)},
        seconds=seconds,
    )


def _decides(model: onnx.ModelProto, rule: Rule) -> bool:
    """Whether the output that is meant is one number per class or label, as far as the file says."""
    meant = next((value for value in model.graph.output if value.name == rule.name), model.graph.output[0])
    axes = len(meant.type.tensor_type.shape.dim)
    return rule.kind != "values" and (axes == 2 or (axes == 1 and fixed_batch(model) == 1))


def _notes(task: Task, found: Found) -> list[str]:
    notes = list(task.notes)
    if task.parts.noise:
        notes.append("calibrated and proven on random numbers, not on samples: on real ones the decisions may differ")
    whole = task.given
    if whole is not None and len(task.parts.proof) < whole:
        notes.append(
            f"the proof has {len(task.parts.proof):,} of {whole:,} samples, for which the time is enough; --seconds gives more"
        )
    if found.cut:
        notes.append("the time was over before everything was tried; --seconds gives more")
    if found.chosen.candidate.build != "fp32" and contract_of(task.model) is None:
        notes.append("the file has no contract and takes what none can describe, so it does not say what it was tuned for")
    if found.unproven is not None:
        reason = found.unproven.reason
        notes.append(f"{found.unproven.candidate.name} was faster and could not be proven to keep the decisions: {reason}")
    return notes
