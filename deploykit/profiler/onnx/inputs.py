"""`fixed`: the inputs of an ONNX file with a number for every axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from deploykit.errors import InputError, ModelFileError, with_article
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.onnx_file import walk
from deploykit.onnx_file.inputs import GraphInput
from deploykit.profiler.layer_table import Shape
from deploykit.runtime import open_axes
from deploykit.runtime.open_axes import Axes, Sizes

MOST_ELEMENTS = 1 << 40


@dataclass(frozen=True)
class FixedInput:
    """One input: its shape includes the batch. `dtype`: `None` for texts and types that numpy does not have.

    `kind`: "tensor", "text" for a tensor of texts, else "sequence", "optional" and the like, whose shape is `None`. `batch_axis`:
    which of its axes is the batch, if any.
    """

    name: str
    shape: Shape | None
    dtype: np.dtype[Any] | None
    kind: str = "tensor"
    batch_axis: int | None = 0


class Unmade(InputError):
    """Values cannot be made up for an input: it is no tensor, or of a type that onnxruntime cannot be given from Python."""


def fixed(model: onnx.ModelProto, batch: int | None, shapes: Sequence[Shape] | None = None) -> list[FixedInput]:
    """The inputs for one batch size (`None`: 1) and, for other open axes, `shapes`: per tensor, without the batch.

    What those leave open has the size that `open_axes.known_sizes` finds: that of the contract, or of an axis of the same name.
    Raises `InputError` naming the axis whose size nobody knows (a count at a made-up size would be worth nothing), or the size that
    the file fixes otherwise.
    """
    require_text(model)
    inputs = graph_inputs.described(model.graph)
    tensors = [entry for entry in inputs if entry.kind == "tensor"]
    if shapes is not None and len(shapes) != len(tensors):
        raise InputError(f"the file has {len(tensors)} inputs, {len(shapes)} shapes were given", "give one --input-shape per input")
    wanted: Sequence[Shape | None] = shapes if shapes is not None else [None] * len(tensors)
    axes = {entry.name: _axes(entry, shape) for entry, shape in zip(tensors, wanted, strict=True)}
    contract = graph_inputs.contract_if_legal(model)
    places = open_axes.batch_axes(axes, contract)
    asked = {name: shape for name, shape in zip(axes, wanted, strict=True) if shape is not None}
    given = {name: _whole(name, axes[name], places[name], shape) for name, shape in asked.items()}
    _require_batch(axes, places, batch)
    sizes = open_axes.known_sizes(axes, batch or 1, given, contract)
    texts = {v.name for v in model.graph.input if v.type.tensor_type.elem_type == onnx.TensorProto.STRING}
    return [
        FixedInput(entry.name, _complete(entry.name, axes[entry.name], sizes[entry.name]), entry.dtype,
                   "text" if entry.name in texts else "tensor", places[entry.name])
        if entry.name in axes
        else FixedInput(entry.name, None, None, entry.kind or "value without a type")
        for entry in inputs
    ]  # fmt: skip


def batch_of(inputs: Sequence[FixedInput], asked: int | None) -> int:
    """Samples per run: what was asked for, else the size of the first batch axis, else that of the first axis, else 1."""
    shaped = [(entry.batch_axis, entry.shape) for entry in inputs if entry.shape]
    return asked or next((shape[axis] for axis, shape in shaped if axis is not None), next((shape[0] for _, shape in shaped), 1))


def as_given(arrays: Mapping[str, NDArray[Any]], model: onnx.ModelProto) -> list[FixedInput]:
    """The inputs of a model that these arrays are for, in their order."""
    axes = {entry.name: entry.axes for entry in graph_inputs.described(model.graph) if entry.axes is not None}
    places = open_axes.batch_axes(axes, graph_inputs.contract_if_legal(model))
    return [
        FixedInput(name, array.shape, array.dtype, "text" if array.dtype == object else "tensor", places.get(name, 0))
        for name, array in arrays.items()
    ]


def values(inputs: Sequence[FixedInput], seed: int = 0) -> dict[str, NDArray[Any]]:
    """Made-up values by input, the same for one seed: random numbers as `random_values` draws them, and the text "a".

    An input too large for random numbers is all zeros. Raises `Unmade` for an input of which there can be none.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    found: dict[str, NDArray[Any]] = {}
    for entry in inputs:
        if entry.shape is not None and entry.kind == "text":
            found[entry.name] = np.full(entry.shape, "a", object)
        elif entry.shape is None or entry.dtype is None:
            what = "takes no numbers that numpy has" if entry.kind == "tensor" else f"is {with_article(entry.kind)}, not a tensor"
            raise Unmade(f"the input {entry.name!r} {what}, so no values can be made up for it", "add --no-latency")
        elif prod(entry.shape) > graph_inputs.MOST_ELEMENTS:
            found[entry.name] = np.zeros(entry.shape, entry.dtype)
        else:
            found[entry.name] = graph_inputs.random_values(entry.shape, entry.dtype, generator)
    return found


def _axes(entry: GraphInput, wanted: Shape | None) -> Axes:
    """The axes of an input; where the file does not say how many there are, those of the shape that was given."""
    if entry.axes is not None:
        return entry.axes
    if wanted is None:
        raise InputError(f"the input {entry.name!r} has no shape in the file", "give --input-shape, without the batch")
    return (None, *wanted)


def _whole(name: str, axes: Axes, place: int | None, wanted: Shape) -> Sizes:
    """The shape that was given without the batch, with `None` in its place; also a whole one, for an input without a batch."""
    if not axes or (place is None and len(wanted) == len(axes)):
        whole: Sizes = tuple(wanted) if axes else ()
    else:
        at = place or 0
        whole = (*wanted[:at], None, *wanted[at:])
    if len(whole) != len(axes):
        raise InputError(f"the input {name!r} has {len(axes)} axes with the batch, --input-shape gives {len(wanted)} without it")
    for index, (each, size) in enumerate(zip(axes, whole, strict=True)):
        if isinstance(each, int) and size not in (None, each):
            raise InputError(
                f"axis {index} of the input {name!r} is {each} in the file, not {size}",
                "leave it out, or export the network with that axis dynamic",
            )
    return whole


def _require_batch(axes: Mapping[str, Axes], places: Mapping[str, int | None], batch: int | None) -> None:
    """Raise `InputError` for a batch that no input takes: none has an open one, and the first axis of none is of that size."""
    firsts = {name: each[0] for name, each in axes.items() if each}
    if batch is None or not firsts or batch in firsts.values():
        return
    if all(place is None or isinstance(axes[name][place], int) for name, place in places.items()):
        name, size = next(iter(firsts.items()))
        raise InputError(
            f"the batch of the input {name!r} is {size} in the file, not {batch}",
            f"{f'give --batch {size}' if size else 'leave out --batch'}, or export the network with that axis dynamic",
        )


def _complete(name: str, axes: Axes, sizes: Sizes) -> Shape:
    for index, (each, size) in enumerate(zip(axes, sizes, strict=True)):
        if size is None:
            raise InputError(
                f"axis {index} of the input {name!r} is free ({each or '?'}) and has no size",
                "give --input-shape, without the batch",
            )
    found = tuple(size for size in sizes if size is not None)
    if prod(found) > MOST_ELEMENTS:
        raise InputError(f"the input {name!r} would have {prod(found):,} elements", "is it the right file, and the right shape?")
    return found


def require_text(model: onnx.ModelProto) -> None:
    """Raise `ModelFileError` for names that are not UTF-8: protobuf hands them out as bytes."""
    axes = (d.dim_param for g in walk.graphs(model) for v in g.input for d in v.type.tensor_type.shape.dim)
    nodes = (text for n in walk.nodes(model) for text in (n.op_type, n.domain, *(a.name for a in n.attribute)))
    titles = (graph.name for graph in walk.graphs(model))
    if any(not isinstance(text, str) for text in chain(walk.names(model), axes, nodes, titles)):
        raise ModelFileError("the file is damaged: a name in it is no text", "export it again")
