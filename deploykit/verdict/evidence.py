"""What the network's own answers prove: on which batches a file can be held against them, and whether they tell files apart.

These questions decide together; the first that fails is the answer of the check "outputs" (2, 3) or "evidence" (1, 4, 5):

1. `repeatable`: does the network give the same answer when asked twice? Random answers cannot be compared.
2. `comparable`: which batches count? None: nothing is proven.
3. `all_outputs_finite_somewhere`: does every output hold a finite number on a usual batch? One of NaN alone proves nothing.
4. Is the tolerance small enough? Per output, the batch that leaves it the smallest tolerance counts; over the outputs, the
   largest of these. Above `MAX_TELLING_TOLERANCE` a wrong file could hide in it, and the verdict is no, unless the outputs are
   zero but for rounding (`outputs_negligible`): then they prove nothing, as outputs that are all zero.
5. Where the outputs prove nothing, does a layer's own output? One that is not empty and has a small enough tolerance does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import counted
from deploykit.verdict.batches import WITH_LARGE_VALUES
from deploykit.verdict.comparison import NEGLIGIBLE_SCALE, TOLERANCE_FACTOR
from deploykit.verdict.layers import LayerDifference
from deploykit.verdict.precision import Precision
from deploykit.verdict.reference import Observation, has_numbers
from deploykit.verdict.result import Check
from deploykit.verdict.scales import finite_scale

# Largest tolerance, relative to the scale of an output or layer, at which being within it says something.
MAX_TELLING_TOLERANCE = 0.5
# Largest difference between two answers to one batch, relative to the value and to the scale, that the order of sums explains.
REPEATABILITY = 1e-4


def repeatable(first: Sequence[NDArray[Any]], second: Sequence[NDArray[Any]]) -> bool:
    """Whether two answers of the network to one batch are the same, but for the order in which threads add up."""
    return len(first) == len(second) and all(
        a.shape == b.shape and np.allclose(a, b, REPEATABILITY, REPEATABILITY * finite_scale(a), equal_nan=True)
        for a, b in zip(first, second, strict=True)
    )


def comparable(observation: Observation) -> bool:
    """Whether a file can be held against the network's answers to a batch.

    Infinities and NaN at the same places in float64 and in the file's precision, as behind a mask of -inf, are part of the
    answer; the file must have them too. A batch is left out where no output is finite anywhere, where infinities or NaN are not
    the same in float64, and where large values overflow in the file's precision. Overflow on any other batch is not left out: it
    makes the tolerance infinite, so that no file passes.
    """
    large = observation.batch.name in WITH_LARGE_VALUES
    return observation.has_numbers and not observation.undefined and not (large and observation.overflows)


def usual_outputs(observations: Sequence[Observation]) -> list[list[NDArray[Any]]]:
    """The outputs in float64 on every batch but those with large values, beside which all others could vanish."""
    return [o.float64.outputs for o in observations if o.batch.name not in WITH_LARGE_VALUES]


def all_outputs_finite_somewhere(observations: Sequence[Observation]) -> bool:
    """Whether each output holds a finite number on some usual batch."""
    found = usual_outputs(observations)
    return bool(found) and all(any(map(has_numbers, arrays)) for arrays in zip(*found, strict=False))


def outputs_negligible(observations: Sequence[Observation]) -> bool:
    """Whether the outputs are zero but for rounding, beside most of the layers that they were computed from."""
    watched = [o for o in observations if len(o.float64.layers)]
    return bool(watched) and all(
        max(map(finite_scale, o.float64.outputs)) <= NEGLIGIBLE_SCALE * median(map(finite_scale, o.float64.layers.values()))
        for o in watched
    )


def check(
    observations: Sequence[Observation],
    layers: Sequence[LayerDifference],
    *,
    is_repeatable: bool,
    changed: Collection[str],
    tolerance: float | None,
    precision: Precision,
) -> Check:
    """The check "evidence": whether being within tolerance says anything.

    `observations`: the comparable ones. `changed`: buffers and parameters that the forward pass itself writes to. `tolerance`: of
    the outputs, relative to their scale, as question 4 has it; `None` where it was not derived but given by the user.
    `precision`: of the file.
    """
    if changed:
        names = ", ".join(sorted(changed)[:3])
        told = "make it an input and an output; where the first call alone does so, make that with your own data before"
        answer = f"the forward pass changes {names}, and a file remembers nothing: {told}"
        return Check("evidence", False, answer)
    if not is_repeatable:
        answer = "the network gives another answer each time it is asked: random numbers or dropout in its forward pass?"
        return Check("evidence", False, answer)
    too_large = tolerance is not None and MAX_TELLING_TOLERANCE < tolerance < np.inf
    if tolerance is not None and too_large and not outputs_negligible(observations):
        off = tolerance / TOLERANCE_FACTOR
        return Check("evidence", False, f"PyTorch's own answers in {precision} are {off:.0%} off: nothing can be told from them")
    zero = all(finite_scale(array) == 0 for o in observations for array in o.float64.outputs)
    if not observations or not (too_large or zero):
        return Check("evidence", True, "the outputs tell inputs apart")
    telling = sum(not layer.difference.empty and layer.difference.tolerance < MAX_TELLING_TOLERANCE for layer in layers)
    if telling:
        return Check("evidence", True, f"the outputs are all zero and prove nothing; {counted(telling, 'layer')} do")
    return Check("evidence", False, "the outputs are all zero and no layer can be compared: nothing is proven")
