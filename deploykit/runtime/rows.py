"""Whether rows of several callers may share a run of a network: what its graph says, and what a trial shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import InputError
from deploykit.runtime import bfloat16, open_axes, trial_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploykit.runtime.predictor import Predictor

# Each in both orders. A loud row only disturbs: its own answer hangs on rounding (a sigmoid of a thousand, an overflow of float16).
PAIRS: tuple[tuple[trial_rows.Kind, trial_rows.Kind], ...] = (
    ("plain", "loud"),
    ("loud", "small"),
    ("small", "equal"),
    ("equal", "plain"),
)
# By which share two numbers may differ that are the same up to rounding, of types shorter than float32.
SHORT = {"tensor(float16)": 1e-2, bfloat16.TYPE: 4e-2}


def in_rows(model: Predictor) -> bool:
    """Whether every input and output has an open first axis that is the batch, as far as the graph and the contract tell."""
    places = open_axes.batch_axes(model.axes, model.contract)
    inputs = all(spec.shape is not None and spec.shape[:1] == (None,) and places[spec.name] == 0 for spec in model.inputs)
    outputs = all(spec.type.startswith("tensor") and (spec.shape is None or spec.shape[:1] == (None,)) for spec in model.outputs)
    return bool(model.inputs) and inputs and outputs


def together(model: Predictor) -> tuple[bool, str]:
    """Whether rows of several callers may share a run, and why not; a trial of some rows is part of it."""
    if not in_rows(model):
        return False, "its graph does not have one open first axis for the samples of every input and output"
    if not are_independent(model):
        return False, "on trial, rows did not get the same answers together as alone"
    return True, ""


def are_independent(model: Predictor) -> bool:
    """Whether rows get the same answers beside each other as alone, within rounding; also `False` where they get none.

    A first axis that is time, a mean over the batch, a division by its largest number show here: the graph does not tell them from
    samples. Rows of different scale and sign run alone and two at a time. One that the network does not take alone says nothing
    about it, such as a place beyond the end of a table.
    """
    try:
        rows = trial_rows.made(model)
    except InputError:
        return False
    alone = {kind: found for kind, row in rows.items() if (found := trial_rows.answer(model, row)) is not None}
    pairs = [each for pair in PAIRS if alone.keys() >= set(pair) for each in (pair, pair[::-1])]
    return "plain" in alone and bool(pairs) and all(_is_undisturbed(model, rows, alone, pair) for pair in pairs)


def _is_undisturbed(
    model: Predictor,
    rows: Mapping[trial_rows.Kind, trial_rows.Row],
    alone: Mapping[trial_rows.Kind, Mapping[str, Any]],
    pair: tuple[trial_rows.Kind, ...],
) -> bool:
    """Whether rows of these kinds get in one run what each of them got alone."""
    found = trial_rows.answer(model, {name: np.concatenate([rows[kind][name] for kind in pair]) for name in rows["plain"]})
    if found is None:
        return False
    for spec in model.outputs:
        whole, parts = found[spec.name], [alone[kind][spec.name] for kind in pair]
        if any(part.shape[:1] != (1,) or whole.shape != (2, *part.shape[1:]) for part in parts):
            return False
        usual = max(_scale(outputs[spec.name]) for kind, outputs in alone.items() if kind != "loud")
        for place, (kind, part) in enumerate(zip(pair, parts, strict=True)):
            if kind != "loud" and not _is_same(whole[place : place + 1], part, SHORT.get(spec.type, 1e-3), usual):
                return False
    return True


def _is_same(found: NDArray[Any], alone: NDArray[Any], share: float, usual: float) -> bool:
    """Rounding is measured by the row's own scale; where that is small by chance, by a tenth of what is usual for others."""
    if alone.dtype.kind != "f":
        return bool(np.array_equal(found, alone))
    with np.errstate(all="ignore"):
        least = share * max(_scale(alone), usual / 10)
        return bool(np.allclose(found, alone, rtol=share, atol=least, equal_nan=True))


def _scale(array: NDArray[Any]) -> float:
    """The largest finite absolute number of floats; 0 for anything else."""
    if array.dtype.kind != "f":
        return 0.0
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
