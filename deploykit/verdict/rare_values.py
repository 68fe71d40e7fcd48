"""Is the file right at values that made-up inputs hardly hold?

Every row of a table, whole numbers of all sizes, halves, NaN, infinities, numbers far smaller and far larger than usual, and those
that the file itself compares something with. Each input is given them in turn, beside usual values of the others. Where the network
refuses them, or answers with NaN itself, they are no evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

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
from deploykit.verdict.value_limits import ALL, Limits

NAME = "rare values"
MOST_BATCHES = 32  # that are asked to reach every row of a table
WHOLE = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 17, 31, 64, 100, 255, 1000)
NEGATIVE = (-1, -2, -7)
HUGE = ((1 << 24) + 1, (1 << 31) + 5)  # the first that float32 does not hold, and one that int32 does not
HALVES = (0.5, -0.5, 1.5, 2.5, -1.5, -2.5, 0.0, -0.0, 1.0, -1.0, 2.0, 3.0, -3.0, 7.0)
SMALLER, LARGER = (1e-2, 1e-4), (30.0, 1e3, 1e5)  # times the usual
STEP = 13  # from one number to the next, so that neighbours differ in kind; prime, so that all are met
MOST_CONSTANTS = 32
COMPARING = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Mod", "Clip", "Min", "Max")

Compared = Callable[[Batch], Parting | None]


@dataclass(frozen=True)
class Compare:
    """How the file is held against the network on a batch. `exactly`: as everywhere. `steadily`: a batch is no evidence where the
    network answers otherwise to the last bit of its inputs, as it may do far from what it was made for. `attending`: nor where a
    mask hides everything from some row of an attention.
    """

    exactly: Compared
    steadily: Compared
    attending: Compared


@dataclass(frozen=True)
class Series:
    """Values for one input, one after the other; the rest is left out where the network refuses one.

    `how`: to compare, a field of `Compare`. `nan_is_wrong`: whether a file that answers NaN, where the network does not, is wrong.
    """

    tries: Iterable[tuple[str, Tensor]]
    usual: Batch
    how: Literal["exactly", "steadily", "attending"] = "exactly"
    nan_is_wrong: bool = True


def check(
    specs: Sequence[InputSpec],
    usual: Batch,
    compare: Compare,
    constants: Sequence[float] = (),
    *,
    few: Batch | None = None,
    limits: Limits = ALL,
) -> tuple[Check | None, Batch | None]:
    """The answer, and the batch on which the file is wrong; `None` where nothing rare could be asked.

    `usual`: values for all inputs. `few`: such with fewer rows, for what needs no more. `compare` tells how the file differs on a
    batch, if it does; it raises `InputError` where the network refuses the batch or answers NaN. `constants`: numbers to ask
    about, see `to_ask`.
    `limits`: what may be asked at all. Where NaN sorts is nobody's word, so that outputs of whole numbers may differ.
    """
    agreed = 0
    for place, spec in enumerate(specs):
        for series in _all_series(spec, place, usual, few or usual, constants, limits):
            for what, tensor in series.tries:
                tensors = (*series.usual.tensors[:place], tensor, *series.usual.tensors[place + 1 :])
                batch = replace(series.usual, name=f"{what} in {spec.name}", tensors=tensors)
                try:
                    how = getattr(compare, series.how)(batch)
                except InputError:
                    break
                if how and (series.nan_is_wrong or not how.has_nan):
                    return Check(NAME, False, f"{batch.name}: {how.detail}"), batch
                agreed += 1
    return (Check(NAME, True, f"{agreed} batches agree") if agreed else None), None


def compared_with(deployed: Deployed) -> list[float]:
    """Numbers that a file compares something with."""
    stored = file_constants.small(deployed)
    names = [name for node in walk.nodes(deployed.model) if node.op_type in COMPARING for name in node.input]
    return [value for name in names for value in _numbers(stored.get(name))]


def to_ask(constants: Iterable[float]) -> tuple[float, ...]:
    """The numbers that something is compared with; of whole ones also one less and one more."""
    found: dict[float, None] = {}
    for value in constants:
        found |= dict.fromkeys((value - 1, value, value + 1) if value == int(value) else (value,))
    return tuple(found)[:MOST_CONSTANTS]


def _numbers(array: NDArray[Any] | None) -> list[float]:
    """The finite numbers of a constant, below the largest whole number that an input of 32 bits holds."""
    if array is None or array.dtype.kind not in "iuf":
        return []
    return [float(number) for number in array.flatten().tolist() if math.isfinite(number) and abs(number) < 1 << 31]


def _all_series(
    spec: InputSpec, place: int, usual: Batch, few: Batch, constants: Sequence[float], limits: Limits
) -> Iterator[Series]:
    """Series of values for one input; a series ends where the network refuses."""
    tensor = usual.tensors[place]
    if not tensor.numel():
        return
    if spec.dtype.is_floating_point:
        small = few.tensors[place]
        if limits.nan and small.numel() > 1:
            yield Series([("NaN", _with_one(small, torch.nan))], few)
        if limits.infinity and small.numel() > 1:
            infinite = [("infinity", _with_one(small, torch.inf)), ("-infinity", _with_one(small, -torch.inf))]
            yield Series(infinite, few, "steadily", nan_is_wrong=False)
        if not spec.mask:
            yield Series([("positive numbers", small.abs())], few)
            yield Series([("negative numbers", -small.abs())], few)
            numbers = [*constants, *HALVES]
            yield Series([("halves and whole numbers", each) for each in _in_turn(small, numbers)], few)
            yield Series(((f"numbers {factor:g} times as large", small * factor) for factor in SMALLER), few, "steadily")
            larger = LARGER if limits.far else ()
            yield Series(((f"numbers {factor:g} times as large", small * factor) for factor in larger), few, "steadily")
    elif spec.mask:
        yield from (Series([each], usual, "attending") for each in _single(spec, tensor))
    elif not limits.whole:
        return
    elif spec.below > 2 and spec.dtype in (torch.int64, torch.int32):
        yield Series(_every_row(spec, tensor), usual)
        rows = dict.fromkeys([*(int(number) for number in constants if number == int(number)), 0, 1, 2, spec.below - 1])
        yield Series(_among_others(tensor, [row for row in rows if 0 <= row < spec.below]), usual, "attending")
    elif spec.dtype in (torch.int64, torch.int32, torch.int16, torch.int8) and not spec.telling:
        largest = torch.iinfo(spec.dtype).max
        whole = [int(number) for number in constants if number == int(number)]
        numbers = [number for number in (*WHOLE, *whole) if 0 <= number <= largest]
        lowest = [torch.iinfo(spec.dtype).min] if spec.dtype.itemsize < 4 else []
        below_zero = [number for number in (*NEGATIVE, *lowest, *whole) if number < 0]
        yield Series((("whole numbers", each) for each in _in_turn(tensor, numbers)), usual)
        yield Series((("whole numbers below zero", each) for each in _in_turn(tensor, [*below_zero, *numbers[:2]])), usual)
        huge = [number for number in HUGE if number <= largest and limits.far]
        yield Series((("large whole numbers", each) for each in _in_turn(tensor, huge)), usual)


def _with_one(usual: Tensor, value: float) -> Tensor:
    found = usual.clone()
    found.view(-1)[found.numel() // 2] = value
    return found


def _single(spec: InputSpec, usual: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A mask with a single one, and with a single zero, along its last axis; each row of a batch has it elsewhere.

    With the first one beside the single one, too: a network in which a place looks at those before it alone has something to see.
    """
    if not usual.ndim or usual.shape[-1] < 3 or spec.batch_axis == usual.ndim - 1:
        return
    rows = torch.arange(usual.numel() // usual.shape[-1]) % usual.shape[-1]
    one = torch.nn.functional.one_hot(rows, usual.shape[-1]).reshape(usual.shape).to(usual.dtype)
    first = one.clone()
    first[..., 0] = 1
    yield "the first and a single one in the mask", first
    yield "a single one in the mask", one
    yield "a single zero in the mask", (one == 0).to(usual.dtype)


def _every_row(spec: InputSpec, usual: Tensor) -> Iterator[tuple[str, Tensor]]:
    """All numbers below `below`, in as many tensors of the usual shape as hold them; nothing for too many."""
    size = usual.numel()
    if size and spec.below <= MOST_BATCHES * size:
        for start in range(0, spec.below, size):
            yield "every row of the table", (torch.arange(start, start + size) % spec.below).reshape(usual.shape).to(usual.dtype)


def _among_others(usual: Tensor, numbers: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
    """Rows that a network may treat apart, such as that of padding, at every third place: next to two that it does not."""
    places = torch.arange(1, usual.numel(), 3)
    for start in range(0, len(numbers) if len(places) else 0, max(1, len(places))):
        found = usual.clone()
        chosen = torch.tensor(numbers)[(torch.arange(len(places)) + start) % len(numbers)]
        found.view(-1)[places] = chosen.to(usual.dtype)
        yield "rows that something is compared with", found


def _in_turn(usual: Tensor, numbers: Sequence[float]) -> Iterator[Tensor]:
    """Tensors of the usual shape in which every number stands somewhere, at most `MOST_BATCHES`."""
    size = usual.numel()
    step = STEP if len(numbers) % STEP else 1
    for start in range(0, min(len(numbers), MOST_BATCHES * size), size):
        which = (torch.arange(start, start + size) * step) % len(numbers)
        yield torch.tensor(numbers)[which].reshape(usual.shape).to(usual.dtype)
