"""Sizes that a file itself asks for: numbers with which it compares a size, and sizes at which two ways to round a scale part.

A graph may branch on a size without any word of the network, by Equal and Where, or by an If. And onnxruntime multiplies a size
by a scale in float32 where PyTorch does it in float64: ``floor(50 * 0.58)`` is 29 here and 28 there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from deploykit.errors import DeploykitError
from deploykit.network.batch_axes import BATCH
from deploykit.onnx_file import sessions, walk
from deploykit.verdict import file_constants
from deploykit.verdict.batches import Batch
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.guard_sides import FARTHEST, Sizes
from deploykit.verdict.sizes import Trial, bearable

MOST_SIZES = 32  # that are tried on every open axis
MOST_SCALES = 4
PARTED_BELOW = 1025  # sizes at which a scale is rounded in both ways
MOST_DENOMINATOR = 64  # of a fraction that a scale in float32 may stand for
PASSES = 4  # through the nodes: a function stands behind its calls

# The operators through which a size stays one, and the inputs that it comes by (all where there are none).
CARRIERS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Expand", "Split", "Flatten", "Tile", "GatherND"), (0,)),
    "Where": (1, 2),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Clip", "Sum", "Pow", "Concat", "Range"), ()),
    **dict.fromkeys(("Cast", "CastLike", "Identity", "Floor", "Ceil", "Round", "Neg", "Abs", "Sqrt", "Trunc"), (0,)),
    **dict.fromkeys(("ReduceProd", "ReduceSum", "ReduceMin", "ReduceMax", "ReduceMean"), (0,)),
}
COMPARE = frozenset({"Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Min", "Max", "Clip"})


@dataclass
class Asked:
    """What a file asks of sizes.

    `compared`: whole numbers that a size is compared with. `moduli`: those of Mod. `factors` and `offsets`: whole numbers by which
    sizes are multiplied, divided or moved before. `scales`: a broken factor, and the value that it scales -> whether
    that is a tensor whose sizes are scaled (by Resize), or a size itself.
    """

    compared: set[int] = field(default_factory=set)
    moduli: set[int] = field(default_factory=set)
    factors: set[int] = field(default_factory=set)
    offsets: set[int] = field(default_factory=set)
    scales: dict[tuple[float, str], bool] = field(default_factory=dict)


def trials(files: Sequence[Deployed], base: Sizes, batch: Batch) -> tuple[list[Trial], int]:
    """The trials that the files ask for beside `base`, and how many sizes were left out beyond `MOST_SIZES`.

    `batch`: inputs at `base`, with which a file is run to learn how large the values are that it scales.
    """
    wanted: dict[tuple[int, ...], Trial] = {}
    left_out = 0
    for deployed in files:
        asked = asked_by(deployed)
        numbers, more = _numbers(asked, base)
        left_out += more
        for size, reason in numbers.items():
            for sizes in _moved(base, dict.fromkeys(base, size)):
                wanted.setdefault(tuple(sizes.values()), Trial(sizes, reason=reason))
        for sizes, reason in _parting(deployed, asked, base, batch):
            wanted.setdefault(tuple(sizes.values()), Trial(sizes, reason=reason))
    return [trial for trial in wanted.values() if trial.sizes != base and bearable(trial.sizes, base)], left_out


def asked_by(deployed: Deployed) -> Asked:
    """What one file asks of sizes, also in the bodies of If, Loop and Scan, and in its functions."""
    model, found = deployed.model, Asked()
    nodes = list(walk.nodes(model))
    if not any(node.op_type in ("Shape", "Size", "Resize", "Upsample") for node in nodes):
        return found
    constants = file_constants.small(deployed)
    sizes = sizes_in(deployed)
    for node in nodes:
        if node.op_type == "Resize" and len(node.input) > 2:
            for scale in _scales(constants.get(node.input[2])):
                found.scales[scale, node.input[0]] = True
        elif any(name in sizes for name in node.input):
            _note(node, sizes, constants, found)
    return found


def parted(scale: float, near: int) -> list[int]:
    """Sizes below `PARTED_BELOW` that `scale` takes to another whole number in float32 than in float64.

    The two smallest, and the two nearest to `near`. In float64 the scale is what it was written as: its shortest decimal form, or a
    small fraction.
    """
    sizes = np.arange(1, PARTED_BELOW)
    single = sizes.astype(np.float32) * np.float32(scale)
    fraction = Fraction(scale).limit_denominator(MOST_DENOMINATOR)
    written = {float(str(np.float32(scale)))} | ({float(fraction)} if np.float32(float(fraction)) == np.float32(scale) else set())
    apart = np.zeros(sizes.shape, bool)
    for exact in written:
        double = sizes.astype(np.float64) * exact
        apart |= (np.floor(single) != np.floor(double)) | (np.ceil(single) != np.ceil(double))
    found = [int(size) for size in sizes[apart]]
    return list(dict.fromkeys([*found[:2], *sorted(found, key=lambda size: abs(size - near))[:2]]))


def sizes_in(deployed: Deployed) -> set[str]:
    """The values that are sizes or made of sizes alone and constants, by name."""
    functions = {(function.domain, function.name): function for function in deployed.model.functions}
    nodes = list(walk.nodes(deployed.model))
    found: set[str] = set()
    for _ in range(PASSES):
        before = len(found)
        for node in nodes:
            function = functions.get((node.domain, node.op_type))
            if function is not None:
                found |= {inner for outer, inner in zip(node.input, function.input, strict=False) if outer in found}
                found |= {outer for outer, inner in zip(node.output, function.output, strict=False) if inner in found}
            elif node.op_type in ("Shape", "Size"):
                found |= set(node.output)
            elif node.op_type in CARRIERS:
                places = CARRIERS[node.op_type] or range(len(node.input))
                if any(place < len(node.input) and node.input[place] in found for place in places):
                    found |= set(node.output)
        if len(found) == before:
            break
    return found - {""}


def _note(node: onnx.NodeProto, sizes: set[str], constants: Mapping[str, NDArray[Any]], found: Asked) -> None:
    """What one node does with a size and a constant, noted in `found`."""
    arrays = [constants[name] for name in node.input if name in constants and name not in sizes]
    whole = {number for array in arrays for number in _whole(array)}
    if node.op_type in COMPARE:
        found.compared |= whole
    elif node.op_type == "Mod":
        found.moduli |= {abs(number) for number in whole}
    elif node.op_type in ("Add", "Sub"):
        found.offsets |= {abs(number) for number in whole}
    elif node.op_type in ("Mul", "Div"):
        found.factors |= {abs(number) for number in whole}
    if node.op_type == "Mul":
        scaled = next(name for name in node.input if name in sizes)
        for array in arrays:
            for scale in _scales(array):
                found.scales[scale, scaled] = False


def _whole(array: NDArray[Any]) -> Iterator[int]:
    """The numbers of a constant as whole ones: both neighbours of a broken one."""
    if array.dtype.kind in "iuf":
        for number in array.flatten().tolist():
            if math.isfinite(number) and abs(number) <= FARTHEST:
                yield from {math.floor(number), math.ceil(number)}


def _scales(array: NDArray[Any] | None) -> Iterator[float]:
    """The numbers of a float32 constant by which a size is not multiplied exactly."""
    if array is not None and array.dtype == np.float32:
        yield from (float(n) for n in np.unique(array) if np.isfinite(n) and n > 0 and (float(n) * 4096) % 1)


def _numbers(asked: Asked, base: Sizes) -> tuple[dict[int, str], int]:
    """Sizes to try on every axis, each with the reason, and how many more there would be; the numbers themselves come first."""
    found: dict[int, str] = {}
    for number in sorted(asked.compared):
        for near in (number, number - 1, number + 1):
            found.setdefault(near, f"the file compares a size with {number}")
    for step in sorted(asked.moduli - {0}):
        largest = max(base.values())
        multiple = (largest // step + 1) * step
        rests = sorted(rest for rest in asked.compared if 0 <= rest < step)
        for size in (step, multiple, multiple + 1, step - 1, step + 1, *(multiple + rest for rest in rests)):
            found.setdefault(size, f"the file divides a size by {step} and asks for the rest")
    for number, other in itertools.product(sorted(asked.compared), sorted(asked.factors - {0, 1})):
        for size in (number * other, (number + 1) * other, number // other, -(-number // other)):
            found.setdefault(size, f"the file compares a size with {number}, after the factor {other}")
    for number, other in itertools.product(sorted(asked.compared), sorted(asked.offsets - {0})):
        for size in (number + other, number + other + 1, abs(number - other), other):
            found.setdefault(size, f"the file compares a size with {number}, moved by {other}")
    legal = {size: reason for size, reason in found.items() if 1 <= size <= FARTHEST}
    return dict(list(legal.items())[:MOST_SIZES]), max(0, len(legal) - MOST_SIZES)


def _moved(base: Sizes, to: Sizes) -> Iterator[dict[str, int]]:
    """One axis at its new size, then all together but the batch."""
    for name, size in to.items():
        yield {**base, name: size}
    yield {**base, **{name: size for name, size in to.items() if name != BATCH}}


def _parting(deployed: Deployed, asked: Asked, base: Sizes, batch: Batch) -> Iterator[tuple[dict[str, int], str]]:
    """Sizes at which the file's scales round otherwise than PyTorch's, and why.

    Where the scaled size is another than the input's, as behind a stride, it is taken to grow with it, or to stay as far from it.
    """
    scales = list(asked.scales.items())[:MOST_SCALES]
    known = _seen(deployed, {name for (_, name), _ in scales}, batch) if scales else {}
    for (scale, name), of_tensor in scales:
        inner = sorted({size for size in _extent(known.get(name), of_tensor) if size > 1}) or sorted(set(base.values()))
        reason = (
            f"onnxruntime multiplies a size by {np.float32(scale)!s} in float32, PyTorch in float64, and they round apart here: "
            "export with fixed sizes, take others, or compute size= in whole numbers in the network"
        )
        for axis, size in base.items():
            for own in [each for each in inner if each <= size] or inner:
                found = {near for number in parted(scale, own) for near in (round(number * size / own), number + size - own)}
                yield from (({**base, axis: near}, reason) for near in sorted(found) if axis != BATCH and 1 <= near <= FARTHEST)


def _seen(deployed: Deployed, names: Iterable[str], batch: Batch) -> dict[str, NDArray[Any]]:
    """The values called so in the main graph, in one run of the file; `{}` where it cannot be run so."""
    inputs = [value.name for value in deployed.inputs]
    found = {name: array for name, array in batch.feeds(inputs).items() if name in names}
    wanted = [name for name in names if name in deployed.values() or name in {v.name for v in deployed.model.graph.output}]
    if not wanted:
        return found
    try:
        session = deployed.session("all", also=[name for name in wanted if name in deployed.values()])
        return found | dict(zip(wanted, sessions.run(session, batch.feeds(inputs), wanted), strict=True))
    except DeploykitError:
        return found


def _extent(value: NDArray[Any] | None, of_tensor: bool) -> list[int]:
    """The sizes that a scale is applied to: those of a tensor but its first two, or the numbers in it."""
    if value is None:
        return []
    if of_tensor:
        return [int(size) for size in value.shape[2:]]
    return [int(number) for number in value.flatten()[: file_constants.MOST_ELEMENTS]]
