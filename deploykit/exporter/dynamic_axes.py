"""Axes that may vary in an exported file, as a user names them.

`batch` is the axis of each input on which its batch lies; `height` and `width` are the axes 2 and 3 of every input that has both.
Any other is NAME=AXIS for all inputs, such as `length=1`, or NAME=INPUT:AXIS for one of them; axes are counted from 0 in the
whole tensor. Axes of one name have one size. `batch=INPUT:AXIS` says where the batch of an input lies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import onnx
import onnx_ir as ir

from deploykit.errors import ExportError, InputError
from deploykit.network.batch_axes import BATCH
from deploykit.network.input_specs import InputSpec

IMAGE_AXES = {"height": 2, "width": 3}
HOW = f"choose from {BATCH}, {', '.join(IMAGE_AXES)}, none, or name an axis: length=1, length=INPUT:1"


def of_inputs(wanted: Sequence[str], specs: Sequence[InputSpec]) -> list[dict[int, str]]:
    """Per input, the axes of the whole tensor that may vary and their names.

    Raises `InputError` for an axis that no input has, and for one of two names.
    """
    found: list[dict[int, str]] = [{} for _ in specs]
    for entry in wanted:
        name, only, axis = _read(entry, specs)
        for place, spec in enumerate(specs):
            here = _axis(spec, name, axis)
            if only in ("", spec.name) and here is not None and found[place].setdefault(here, name) != name:
                both = f"{found[place][here]!r} and {name!r}"
                raise InputError(f"axis {here} of the input {spec.name!r} has two names: {both}", "give it one")
        if name != BATCH and name not in [other for axes in found for other in axes.values()]:
            place_of = f"axis {axis}" if axis is not None else f"axis {IMAGE_AXES[name]} of an image"
            raise InputError(f"the dynamic axis {entry[:80]!r} is {place_of}, and {only or 'every input'} has fewer axes", HOW)
    return found


def with_batches(wanted: Sequence[str], specs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The inputs with the batch where ``batch=INPUT:AXIS`` says; the shape of an input that had none loses that axis.

    Where `batch` itself is not wanted, an axis of an example that gets another name is no batch, such as the nodes of a graph: its
    size belongs to the shape. Raises `InputError` for an axis that the input does not have.
    """
    found = list(specs)
    for entry in wanted:
        name, only, axis = _read(entry, specs)
        if name != BATCH or axis is None:
            continue
        for place, spec in enumerate(found):
            if only in ("", spec.name):
                found[place] = _moved(spec, axis, entry)
    if BATCH in wanted:
        return tuple(found)
    return tuple(_without_batch(spec) if _renamed(spec, wanted, specs) else spec for spec in found)


def _renamed(spec: InputSpec, wanted: Sequence[str], specs: Sequence[InputSpec]) -> bool:
    """Whether the axis on which the batch was found has another name."""
    for entry in wanted:
        name, only, axis = _read(entry, specs)
        if name != BATCH and only in ("", spec.name) and axis is not None and axis == spec.batch_axis:
            return True
    return False


def _without_batch(spec: InputSpec) -> InputSpec:
    return spec if spec.example is None else replace(spec, shape=tuple(spec.example.shape), batch_axis=None)


def open_batch(wanted: Sequence[str], specs: Sequence[InputSpec]) -> bool:
    """Whether any input has a batch that may vary."""
    return any(BATCH in axes.values() for axes in of_inputs(wanted, specs))


def rename(model: ir.Model, names: Mapping[str, str]) -> None:
    """Give every open size of the model's values the name of its axis instead of torch's symbol, in place; also inside of sums."""

    def named(size: int | ir.SymbolicDim) -> int | str | None:
        if isinstance(size, int) or size.value is None:
            return size if isinstance(size, int) else None
        return re.sub(r"\bs\d+\b", lambda symbol: names.get(symbol[0], symbol[0]), str(size.value))

    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        for value in _values(graph):
            if value.shape is not None:
                value.shape = ir.Shape([named(size) for size in value.shape])


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in ir.traversal.RecursiveGraphIterator(graph):
        yield from node.outputs


def _moved(spec: InputSpec, axis: int, entry: str) -> InputSpec:
    if spec.batch_axis == axis:
        return spec
    rank = len(spec.full_shape(1))
    if axis >= rank:
        raise InputError(f"{entry[:80]!r}: the input {spec.name!r} has {rank} axes, counted from 0", HOW)
    if spec.example is not None:
        shape = tuple(size for place, size in enumerate(spec.example.shape) if place != axis)
    else:
        # The shape was given without the batch, and stays what it is wherever that lies.
        shape = spec.shape if spec.batch_axis is not None else spec.shape[:axis] + spec.shape[axis + 1 :]
    return replace(spec, shape=shape, batch_axis=axis)


def _axis(spec: InputSpec, name: str, axis: int | None) -> int | None:
    """Which axis of the input a name means, `None` where it has no such axis."""
    rank = len(spec.full_shape(1))
    if name == BATCH:
        return spec.batch_axis
    if axis is None:
        return IMAGE_AXES[name] if rank > max(IMAGE_AXES.values()) else None
    return axis if axis < rank else None


def require_dynamic(model: onnx.ModelProto, specs: Sequence[InputSpec], axes: Sequence[Mapping[int, str]], target: str) -> None:
    """Raise `ExportError` where the exporter took an axis for a constant, which it does without a word."""
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    for spec, wanted in zip(specs, axes, strict=True):
        for axis, name in wanted.items():
            if spec.name in shapes and shapes[spec.name][axis].HasField("dim_value"):
                size = shapes[spec.name][axis].dim_value
                raise ExportError(
                    f"{target} cannot be exported with a dynamic {name}: axis {axis} of {spec.name} became {size}",
                    "leave it out of --dynamic, or write the forward pass without int() and comparisons of sizes",
                )


def _read(entry: str, specs: Sequence[InputSpec]) -> tuple[str, str, int | None]:
    """Name, the input that it is for (empty for all), axis (`None` where the name says it)."""
    if entry == BATCH or entry in IMAGE_AXES:
        return entry, "", None
    name, _, place = entry.partition("=")
    only, _, axis = place.rpartition(":")
    if not name.isidentifier() or not axis.isdecimal() or len(axis) > 2 or name in IMAGE_AXES or (name == BATCH and not only):
        raise InputError(f"unknown dynamic axis {entry[:80]!r}", HOW)
    if only and only not in [spec.name for spec in specs]:
        names = ", ".join(spec.name for spec in specs)
        raise InputError(f"the network has no input {only[:40]!r} (dynamic axis {entry[:80]!r})", f"its inputs are {names}")
    return name, only, int(axis)
