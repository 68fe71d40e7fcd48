"""The batches on which two networks are compared: values as they occur, noise, and the corners where faults like to hide.

What is made up is made so that the network answers: a network that takes logarithms is not asked about negative numbers. Inputs
that it refuses, or answers with NaN, are no evidence against a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploykit.datasets import Split
from deploykit.errors import InputError
from deploykit.network.batch_axes import with_rows
from deploykit.network.input_specs import InputSpec
from deploykit.runtime.contract import ArrayInput, ImageInput

LARGE = 100.0
REAL = 4
BATCHES = (1, 2, 5)
CORNERS = "zeros, ones and large values"
WITH_LARGE_VALUES = (CORNERS, "large values")
KINDS = ("zeros", "ones", "large values")


@dataclass(frozen=True)
class Batch:
    """One tensor for every input of the network; `name` says what they hold."""

    name: str
    tensors: tuple[Tensor, ...]

    def feeds(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """As onnxruntime takes them."""
        return {name: tensor.numpy() for name, tensor in zip(names, self.tensors, strict=True)}


@dataclass(frozen=True)
class Range:
    """Where made-up floating-point numbers lie; `make` turns standard normal ones into them."""

    name: str
    make: Callable[[InputSpec, Tensor], Tensor]


Ask = Callable[[Batch], Sequence[NDArray[Any]]]

NORMAL = Range("standard normal", lambda _spec, noise: noise)
RANGES = (
    NORMAL,
    Range("between 0 and 1", lambda _spec, noise: torch.sigmoid(noise)),
    Range("positive", lambda _spec, noise: noise.abs() + 0.1),
    Range("small", lambda _spec, noise: noise * 0.01),
)


def _like_the_example(spec: InputSpec, noise: Tensor) -> Tensor:
    if spec.example is None or not spec.telling:
        return noise
    low, high = spec.example.min(), spec.example.max()
    return (low + (high - low) * torch.sigmoid(noise)).to(noise.dtype)


EXAMPLES = Range("between the smallest and the largest value of the examples", _like_the_example)


def range_for(specs: Sequence[InputSpec], ask: Ask, batch: int) -> tuple[Range, str]:
    """The first range in which the network answers without NaN, and a remark where it is not the standard normal one.

    `ask` gives the network's outputs. Raises what the network says of the first range where it refuses all of them.
    """
    if not any(spec.dtype.is_floating_point for spec in specs):
        return NORMAL, ""
    told = any(spec.telling and spec.dtype.is_floating_point for spec in specs)
    refusal: InputError | None = None
    for candidate in (NORMAL, *((EXAMPLES,) if told else ()), *RANGES[1:]):
        try:
            answers = ask(noise(specs, candidate, batch, torch.Generator().manual_seed(0)))
        except InputError as error:
            refusal = refusal or error
            continue
        if not any(array.dtype.kind == "f" and np.isnan(array).any() for array in answers):
            remark = f"the network answers with NaN on standard normal inputs: {candidate.name} ones were made up"
            return candidate, "" if candidate is NORMAL else remark
    if refusal is not None and not told:
        raise refusal
    return NORMAL, ""


def noise(specs: Sequence[InputSpec], chosen: Range, batch: int, generator: torch.Generator, name: str = "") -> Batch:
    """Random numbers in a range, and whole numbers as they occur in the examples where those tell."""
    return Batch(name or f"noise, batch {batch}", tuple(_random(spec, chosen, batch, generator) for spec in specs))


def examples(specs: Sequence[InputSpec], sizes: Sequence[int]) -> list[Batch]:
    """The examples at every one of `sizes`, their rows over and over; `[]` where they are mere shapes."""
    if not any(spec.telling for spec in specs):
        return []
    own = max(spec.example_batch for spec in specs)
    found = []
    for size in dict.fromkeys((*(size for size in sizes), *((own,) if own in sizes or len(sizes) > 1 else ()))):
        given = [spec.given(size) for spec in specs]
        if all(tensor is not None for tensor in given):
            found.append(Batch(f"the examples, batch {size}", tuple(tensor for tensor in given if tensor is not None)))
    return found


def telling_corners(specs: Sequence[InputSpec], chosen: Range, generator: torch.Generator, ask: Ask) -> list[Batch]:
    """The corners as one batch of three; where the network answers with NaN or refuses, those of them apart that it answers."""
    together = corners(specs, chosen, generator)
    if _answers(ask, together):
        return [together]
    return [batch for batch in corners_apart(specs, chosen, generator, 1) if _answers(ask, batch)]


def _answers(ask: Ask, batch: Batch) -> bool:
    """Whether the network takes a batch and answers without NaN."""
    try:
        return not any(array.dtype.kind == "f" and np.isnan(array).any() for array in ask(batch))
    except InputError:
        return False


def corners(specs: Sequence[InputSpec], chosen: Range, generator: torch.Generator) -> Batch:
    """Zeros, ones and large values, one row each; whole numbers that examples tell of are those."""
    parts = [_corners(spec, chosen, generator) for spec in specs]
    rows = [
        three[0] if spec.batch_axis is None else torch.cat(three, spec.batch_axis) for spec, three in zip(specs, parts, strict=True)
    ]
    return Batch(CORNERS, tuple(rows))


def corners_apart(specs: Sequence[InputSpec], chosen: Range, generator: torch.Generator, size: int) -> list[Batch]:
    """Zeros, ones and large values as a batch of `size` each."""
    parts = [_corners(spec, chosen, generator) for spec in specs]
    return [
        Batch(kind, tuple(with_rows(part, spec.batch_axis, size).contiguous() for spec, part in zip(specs, row, strict=True)))
        for kind, row in zip(KINDS, zip(*parts, strict=True), strict=True)
    ]


def real(rules: ImageInput | ArrayInput | None, specs: Sequence[InputSpec], split: Split | None, size: int = REAL) -> list[Batch]:
    """Samples of a dataset, prepared by the rules of a network with one input."""
    if split is None or rules is None or len(specs) != 1 or not len(split):
        return []
    prepared = torch.from_numpy(split.take(size).arrays(rules))
    return [Batch("real samples", (with_rows(prepared, 0, size).contiguous() if size != REAL else prepared,))]


def answered(batches: Sequence[Batch], ask: Ask) -> tuple[list[Batch], list[str]]:
    """The batches that the network answers, and the names of those that it refuses. Raises its refusal where that is all."""
    found, refused = [], []
    refusal: InputError | None = None
    for batch in batches:
        try:
            ask(batch)
            found.append(batch)
        except InputError as error:
            refusal = refusal or error
            refused.append(batch.name)
    if not found and refusal is not None:
        raise refusal
    return found, refused


def _random(spec: InputSpec, chosen: Range, batch: int, generator: torch.Generator) -> Tensor:
    if spec.dtype.is_floating_point:
        return chosen.make(spec, spec.random(batch, generator))
    given = spec.given(batch) if spec.telling else None
    return spec.random(batch, generator) if given is None else given


def _corners(spec: InputSpec, chosen: Range, generator: torch.Generator) -> list[Tensor]:
    if spec.dtype.is_floating_point:
        return [spec.filled(0, 1), spec.filled(1, 1), chosen.make(spec, spec.random(1, generator)) * LARGE]
    given = spec.given(3) if spec.telling else None
    if given is not None:
        return [given] * 3 if spec.batch_axis is None else list(given.split(1, spec.batch_axis))
    return [spec.filled(value, 1) for value in (0, 1, spec.below - 1)]
