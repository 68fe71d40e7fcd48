"""Does the file switch where the network does, where a computed number crosses another one, such as a score its threshold?

The inputs are made larger and smaller until a comparison, of the network's or of the file's, comes out otherwise, and then the
place where it does so is narrowed down. On both of its sides, close to it, network and file must agree: a threshold of 0.35 in
place of 0.3 parts them nowhere else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from deploykit.errors import InputError
from deploykit.network.input_specs import InputSpec
from deploykit.verdict.batches import Batch
from deploykit.verdict.margins import Sides
from deploykit.verdict.result import Check, Parting

NAME = "thresholds"
FACTORS = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # times the usual numbers, and times their negatives
USUAL = 3.0  # the largest factor for a network that must not be asked for larger numbers
HALVINGS = 11  # of the way between two factors
NEAR = 3e-3  # relative to the factor at which a comparison comes out otherwise; more than rounding, and than the last halving
MOST_CROSSINGS = 8  # that are looked for in either

Ask = Callable[[Batch], Sides]
Compared = Callable[[Batch], Parting | None]


def check(
    specs: Sequence[InputSpec], usual: Batch, asks: Sequence[Ask], compared: Compared, *, far: bool = True
) -> tuple[Check | None, Batch | None]:
    """The answer, and the batch on which the file is wrong; `None` where nothing that is compared ever comes out otherwise.

    `asks`: what the network and the file compare on a batch, see `margins`; they and `compared` raise `InputError` where the
    network refuses. `far`: whether numbers far larger than usual may be asked.
    """
    if not any(_is_scaled(spec) for spec in specs):
        return None, None
    agreed = 0
    for ask in asks:
        for factor in _crossings(specs, usual, ask, far):
            for side in (1 - NEAR, 1 + NEAR):
                batch = _scaled(specs, usual, factor * side)
                try:
                    how = compared(batch)
                except InputError:
                    continue
                if how:
                    return Check(NAME, False, f"{batch.name}, where a comparison changes sides: {how.detail}"), batch
                agreed += 1
    return (Check(NAME, True, f"{agreed} batches beside a change of sides agree") if agreed else None), None


def _is_scaled(spec: InputSpec) -> bool:
    return spec.dtype.is_floating_point and not spec.mask


def _scaled(specs: Sequence[InputSpec], usual: Batch, factor: float) -> Batch:
    tensors = (tensor * factor if _is_scaled(spec) else tensor for spec, tensor in zip(specs, usual.tensors, strict=True))
    return replace(usual, name=f"numbers {factor:.4g} times as large", tensors=tuple(tensors))


def _crossings(specs: Sequence[InputSpec], usual: Batch, ask: Ask, far: bool) -> Iterator[float]:
    """The factors at which a comparison comes out otherwise than a bit before, at most one for each on either ray."""

    def sides(factor: float) -> Sides | None:
        try:
            return ask(_scaled(specs, usual, factor))
        except InputError:
            return None

    if not sides(1.0):
        return
    count = 0
    for sign in (1.0, -1.0):
        factors = [sign * factor for factor in FACTORS if far or factor <= USUAL]
        seen = [(factor, sides(factor)) for factor in factors]
        done: set[int] = set()
        for (low, before), (high, after) in itertools.pairwise(seen):
            for place, element in _changed(before, after, done):
                done.add(place)
                count += 1
                if count > MOST_CROSSINGS:
                    return
                yield _narrowed(low, high, place, element, sides, before)


def _changed(before: Sides | None, after: Sides | None, done: set[int]) -> Iterator[tuple[int, int]]:
    """The comparisons not `done` that come out otherwise: their place and that of the first number that does."""
    for place, (left, right) in enumerate(zip(before or (), after or (), strict=False)):
        if place not in done and left.shape == right.shape and (left != right).any():
            yield place, int(np.argmax(left.reshape(-1) != right.reshape(-1)))


def _narrowed(
    low: float, high: float, place: int, element: int, sides: Callable[[float], Sides | None], before: Sides | None
) -> float:
    first = bool(before[place].reshape(-1)[element]) if before else False
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = sides(middle)
        if not found or place >= len(found) or element >= found[place].size:
            break
        low, high = (middle, high) if bool(found[place].reshape(-1)[element]) == first else (low, middle)
    return (low + high) / 2
