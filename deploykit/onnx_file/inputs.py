"""What an ONNX graph takes: its inputs without the weights that old files list among them, and made-up values for them.

The sizes of open axes are chosen by the one rule in `runtime.open_axes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from deploykit.errors import ContractError, InputError, ModelFileError, with_article
from deploykit.onnx_file import walk
from deploykit.onnx_file.file import get_contract, number_type
from deploykit.runtime import open_axes
from deploykit.runtime.contract import Contract
from deploykit.runtime.open_axes import Axes
from deploykit.runtime.values import require_names

Shape = tuple[int, ...]

MOST_ELEMENTS = 1 << 26  # of one input with made-up values


@dataclass(frozen=True)
class GraphInput:
    """One input of a graph.

    `axes`: `None` where the file does not say how many there are, and for what is no tensor. `dtype`: `None` for texts and for
    types that numpy does not have. `kind`: "tensor", "sequence", "map", "optional", "sparse_tensor"; "" without any type.
    """

    name: str
    axes: Axes | None
    dtype: np.dtype[Any] | None
    kind: str


def of_graph(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs of a graph that are no initializers, dense or sparse. Raises `ModelFileError` where two have one name."""
    stored = walk.stored(graph)
    inputs = [value for value in graph.input if value.name not in stored]
    twice = next((name for name, count in Counter(value.name for value in inputs).items() if count > 1), None)
    if twice is not None:
        raise ModelFileError(f"the file is damaged: two of its inputs are called {twice!r}", "export it again")
    return inputs


def put_in_order(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Let the graph list its inputs in the order of `names` where they are called so; else nothing is changed.

    Both orders are the same model: inputs are given by name.
    """
    own = {value.name: value for value in of_graph(graph)}
    if set(own) != set(names) or list(own) == list(names):
        return
    listed = [own[name] for name in names] + [value for value in graph.input if value.name not in own]
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in listed]
    del graph.input[:]
    graph.input.extend(copies)


def axes_of(value: onnx.ValueInfoProto) -> Axes | None:
    """The axes of a tensor; `None` where the file does not say how many there are."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(open_axes.axis(dim.dim_value if dim.HasField("dim_value") else None, dim.dim_param) for dim in tensor.shape.dim)


def fixed_batch(values: Sequence[onnx.ValueInfoProto]) -> int | None:
    """The only batch size that these inputs take: the first size that a first axis has, `None` where all of them are open."""
    firsts = (axes[0] for axes in map(axes_of, values) if axes)
    return next((size for size in firsts if isinstance(size, int)), None)


def described(graph: onnx.GraphProto) -> list[GraphInput]:
    """`of_graph` as plain data."""
    return [described_value(value) for value in of_graph(graph)]


def random_feeds(model: onnx.ModelProto, batch: int, larger: bool = False) -> dict[str, NDArray[Any]]:
    """Random values for every input, the same for the same `batch`; open axes by the rule, with the file's own contract.

    `larger`: open axes other than the batch are half as large again, which is not what every file takes. Raises `InputError` for
    an input of which no values can be made up: no tensor, no numbers, no known rank, or too large.
    """
    inputs = described(model.graph)
    axes = {entry.name: required_axes(entry) for entry in inputs}
    contract = contract_if_legal(model)
    shapes = open_axes.sizes(axes, batch, contract=contract)
    if larger:
        shapes = _larger(shapes, axes, open_axes.batch_axes(axes, contract))
    generator = np.random.Generator(np.random.PCG64(batch))
    found = {}
    for entry in inputs:
        shape = shapes[entry.name]
        if prod(shape) > MOST_ELEMENTS:
            raise InputError(f"the input {entry.name[:80]!r} would be {'x'.join(map(str, shape))}", "is it the right file?")
        found[entry.name] = random_values(shape, require_numbers(entry), generator)
    return found


def given_feeds(graph: onnx.GraphProto, values: Mapping[str, NDArray[Any]], file: str) -> dict[str, NDArray[Any]]:
    """The user's own arrays in the order of the graph's inputs.

    Raises `InputError` for an array that belongs to no input, for one that is missing, and for another rank or type.
    """
    inputs = described(graph)
    require_names(values, [entry.name for entry in inputs], file)
    for entry in inputs:
        array = values[entry.name]
        if entry.dtype != array.dtype or (entry.axes is not None and len(entry.axes) != array.ndim):
            wanted = f"{len(entry.axes)} axes of {entry.dtype}" if entry.axes is not None else str(entry.dtype)
            given = f"{array.ndim} axes of {array.dtype}"
            raise InputError(f"the values of {entry.name[:60]!r} have {given}, {file} takes {wanted}", "give them in that form")
    return {entry.name: values[entry.name] for entry in inputs}


def random_values(shape: Sequence[int], dtype: np.dtype[Any], generator: np.random.Generator) -> NDArray[Any]:
    """An array, also for no axes: standard normal numbers, all values of a byte, zeros and ones of other whole numbers."""
    if dtype.kind == "f":
        precise = np.float64 if dtype.itemsize > 4 else np.float32
        return np.asarray(generator.standard_normal(shape, precise), dtype)
    below = {"uint8": 256, "int8": 128}.get(dtype.name, 2)
    return np.asarray(generator.integers(0, below, shape), dtype)


def require_numbers(entry: GraphInput) -> np.dtype[Any]:
    """The type of an input. Raises `InputError` for one that takes no tensor, or no numbers that numpy has."""
    if entry.kind != "tensor":
        raise InputError(f"the input {entry.name[:80]!r} is {with_article(entry.kind or 'value without a type')}, not a tensor")
    if entry.dtype is None:
        raise InputError(f"the input {entry.name[:80]!r} takes no numbers that numpy has", "no values can be made up for it")
    return entry.dtype


def contract_if_legal(model: onnx.ModelProto) -> Contract | None:
    """The file's contract, `None` where it has none or a bad one: here it is a source of sizes only."""
    try:
        return get_contract(model)
    except ContractError:
        return None


def _larger(shapes: Mapping[str, Shape], axes: Mapping[str, Axes], places: Mapping[str, int | None]) -> dict[str, Shape]:
    return {
        name: tuple(
            size if at == places[name] or isinstance(each, int) else size + size // 2
            for at, (size, each) in enumerate(zip(shape, axes[name], strict=True))
        )
        for name, shape in shapes.items()
    }


def required_axes(entry: GraphInput) -> Axes:
    """The axes of an input. Raises `InputError` where the file does not say how many there are, or where it is no tensor."""
    require_numbers(entry)
    if entry.axes is None:
        raise InputError(f"the input {entry.name[:80]!r} has no shape in the file", "no values can be made up for it")
    return entry.axes


def described_value(value: onnx.ValueInfoProto) -> GraphInput:
    """One input, or one output, as plain data."""
    kind = (value.type.WhichOneof("value") or "").removesuffix("_type")
    if kind != "tensor":
        return GraphInput(value.name, None, None, kind)
    return GraphInput(value.name, axes_of(value), number_type(value.type.tensor_type.elem_type), kind)
