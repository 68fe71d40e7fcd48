"""What became of a file's outputs, held against the network's: one comparison out of those of all batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import counted
from deploykit.verdict import evidence
from deploykit.verdict.batches import Batch
from deploykit.verdict.channels import Channels
from deploykit.verdict.comparison import Difference
from deploykit.verdict.precision import Precision
from deploykit.verdict.reference import Observation
from deploykit.verdict.result import Check, Errors


@dataclass(frozen=True)
class OutputComparison:
    """The outputs of one file on every batch.

    `errors`: of the batch and output that came closest to the tolerance; `None` where the file could not be compared.
    `tolerance`: relative to the scale of the outputs; per output the smallest over the batches, of these the largest; 0 where the
    file could not be compared. `batch`: the one on which the file is farthest off. `told`: whether the network itself said
    something that a file could be held against.
    """

    check: Check
    errors: Errors | None = None
    tolerance: float = 0.0
    told: bool = True
    batch: Batch | None = None


def incomparable(why: str, batch: Batch | None = None) -> OutputComparison:
    """The outcome where the outputs are not held against each other at all."""
    return OutputComparison(Check("outputs", False, why), batch=batch)


def summed_up(
    found: Sequence[tuple[str, Difference, Batch]], tolerance: float, observations: Sequence[Observation], precision: Precision
) -> OutputComparison:
    """The worst of what was `found`, as name, difference and batch, with what the `observations` say of all of it."""
    comparable = [o for o in observations if evidence.comparable(o)]
    if not found:
        answer = "the network's own outputs are not finite on any input; give examples of its inputs"
        return OutputComparison(Check("outputs", False, answer), told=False)
    where, worst, batch = max(found, key=lambda entry: _excess(entry[1]))
    where = f"{where}, sample {worst.worst[0]}, element {worst.worst[1]}"
    # All of one comparison: an error of one batch beside the tolerance of another would mean nothing.
    errors = Errors(worst.torch_error, worst.onnx_error, worst.onnx_vs_torch, worst.tolerance, worst.cosine, where)
    detail = f"error {worst.onnx_error:.1e} of a tolerated {worst.tolerance:.1e} ({where}), {counted(len(comparable), 'batch')}"
    left_out = [o.batch.name for o in observations if not evidence.comparable(o)]
    if left_out:
        detail += f"; the network itself is not finite in {precision} on: {', '.join(left_out)}"
    if worst.within and not evidence.all_outputs_finite_somewhere(comparable):
        answer = "an output of the network itself is not finite on any usual input"
        return OutputComparison(Check("outputs", False, answer), errors, tolerance, told=False)
    return OutputComparison(Check("outputs", worst.within, detail), errors, tolerance, batch=batch)


def by_channel(found: OutputComparison, outputs: Mapping[str, Channels]) -> OutputComparison:
    """The same, with the check failed where a channel of one of the `outputs` is wrong by its own scale."""
    wrong = [f"{label}: {said}" for label, seen in outputs.items() if (said := seen.worst())] if found.check.passed else []
    return replace(found, check=Check("outputs", False, wrong[0])) if wrong else found


def exchanged(labels: Sequence[str], own: Sequence[str]) -> str:
    """Where the file has the network's own names of outputs in another order, empty where it has not.

    An application asks for outputs by name or by place, and would get another one.
    """
    if set(labels) != set(own) or list(labels) == list(own):
        return ""
    place = next(place for place, (label, name) in enumerate(zip(labels, own, strict=True)) if label != name)
    return f"output {place} is called {labels[place]!r}, the network gives {own[place]!r} there"


def misfit(label: str, found: NDArray[Any], expected: NDArray[Any]) -> str:
    """Why two outputs cannot be compared number by number, empty where they can.

    How wide a number is, is no difference in kind: the file may hold int32 for int64, float16 for float32.
    """
    if expected.shape != found.shape:
        return f"{label} is {list(found.shape)}, the network gives {list(expected.shape)}"
    if _kind(expected) != _kind(found):
        return f"{label} holds {found.dtype}, the network gives {expected.dtype}"
    return ""


def _kind(array: NDArray[Any]) -> str:
    """Whether an output holds whole numbers, truth values or others."""
    return {"i": "whole", "u": "whole", "b": "truth"}.get(array.dtype.kind, "number")


def _excess(difference: Difference) -> float:
    """Error / tolerance; infinite for NaN and for a tolerance that is infinite."""
    if np.isnan(difference.onnx_error) or not np.isfinite(difference.tolerance):
        return float("inf")
    return difference.onnx_error / difference.tolerance if difference.tolerance else float(difference.onnx_error > 0) * np.inf
