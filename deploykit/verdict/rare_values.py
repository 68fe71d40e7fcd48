"""Is the file right at values that made-up inputs hardly hold: every row of a table, whole numbers of all sizes, NaN?

Each input is given them in turn, beside usual values of the others. Where the network refuses them, or answers with NaN itself,
they are no evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from deploykit.errors import InputError
from deploykit.network.input_specs import InputSpec
from deploykit.onnx_file import walk
from deploykit.verdict import file_constants
from deploykit.verdict.batches import Batch
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.result import Check, Parting

NAME = "rare values"
MOST_BATCHES = 32  # that are asked to reach every row of a table
WHOLE = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 17, 31, 64, 100, 255, 1000)
NEGATIVE = (-1, -2, -7)
STEP = 13  # from one number to the next, so that neighbours differ in kind; prime, so that all are met
MOST_CONSTANTS = 32
COMPARING = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Mod", "Clip", "Min", "Max")

Compared = Callable[[Batch], Parting | None]


def check(
    specs: Sequence[InputSpec], usual: Batch, compared: Compared, constants: Sequence[int] = (), *, with_nan: bool = True
) -> tuple[Check | None, Batch | None]:
    """The answer, and the batch on which the file is wrong; `None` where nothing rare could be asked.

    `usual`: values for all inputs. `compared` tells how the file differs on a batch, if it does; it raises
    `InputError` where the network refuses the batch or answers NaN. `constants`: whole numbers to ask about, see `compared_with`.
    `with_nan`: whether NaN is asked about; where it sorts is nobody's word, so that outputs of whole numbers may differ.
    """
    agreed = 0
    for place, spec in enumerate(specs):
        for tries in _tries(spec, usual.tensors[place], constants, with_nan):
            for what, tensor in tries:
                tensors = (*usual.tensors[:place], tensor, *usual.tensors[place + 1 :])
                batch = replace(usual, name=f"{what} in {spec.name}", tensors=tensors)
                try:
                    how = compared(batch)
                except InputError:
                    break
                if how:
                    return Check(NAME, False, f"{batch.name}: {how.detail}"), batch
                agreed += 1
    return (Check(NAME, True, f"{agreed} batches agree") if agreed else None), None


def compared_with(deployed: Deployed) -> tuple[int, ...]:
    """Whole numbers that a file compares something with, one less and one more."""
    stored = file_constants.small(deployed)
    found: dict[int, None] = {}
    for node in walk.nodes(deployed.model):
        for name in node.input if node.op_type in COMPARING else ():
            for value in _whole(stored.get(name)):
                found |= dict.fromkeys(each for each in (value - 1, value, value + 1) if abs(each) < 1 << 31)
    return tuple(found)[:MOST_CONSTANTS]


def _whole(array: NDArray[Any] | None) -> list[int]:
    """The whole numbers of a constant, also of those that are stored as float."""
    if array is None or array.dtype.kind not in "iuf":
        return []
    return [int(number) for number in array.flatten().tolist() if math.isfinite(number) and number == int(number)]


def _tries(spec: InputSpec, usual: Tensor, constants: Sequence[int], with_nan: bool) -> Iterator[Iterator[tuple[str, Tensor]]]:
    """Series of values for one input; a series ends where the network refuses."""
    if spec.dtype.is_floating_point:
        if with_nan and usual.numel() > 1:
            yield iter([("NaN", _with_nan(usual))])
    elif spec.below > 2 and spec.dtype in (torch.int64, torch.int32):
        yield _every_row(spec, usual)
    elif spec.dtype in (torch.int64, torch.int32, torch.int16, torch.int8) and not spec.telling:
        largest = torch.iinfo(spec.dtype).max
        numbers = [number for number in (*WHOLE, *constants) if 0 <= number <= largest]
        below_zero = [number for number in (*NEGATIVE, *constants) if number < 0]
        yield (("whole numbers", tensor) for tensor in _in_turn(usual, numbers))
        yield (("whole numbers below zero", tensor) for tensor in _in_turn(usual, [*below_zero, *numbers[:2]]))


def _with_nan(usual: Tensor) -> Tensor:
    found = usual.clone()
    found.view(-1)[found.numel() // 2] = torch.nan
    return found


def _every_row(spec: InputSpec, usual: Tensor) -> Iterator[tuple[str, Tensor]]:
    """All numbers below `below`, in as many tensors of the usual shape as hold them; nothing for too many."""
    size = usual.numel()
    if size and spec.below <= MOST_BATCHES * size:
        for start in range(0, spec.below, size):
            yield "every row of the table", (torch.arange(start, start + size) % spec.below).reshape(usual.shape).to(usual.dtype)


def _in_turn(usual: Tensor, numbers: Sequence[int]) -> Iterator[Tensor]:
    """Tensors of the usual shape in which every number stands somewhere, at most `MOST_BATCHES`."""
    size = max(1, usual.numel())
    step = STEP if len(numbers) % STEP else 1
    for start in range(0, min(len(numbers), MOST_BATCHES * size), size):
        which = (torch.arange(start, start + size) * step) % len(numbers)
        yield torch.tensor(numbers)[which].reshape(usual.shape).to(usual.dtype)
