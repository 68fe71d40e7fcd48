"""The inputs of an ONNX file with every size known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import onnx

from deploykit import onnx_file
from deploykit.errors import ContractError, InputError, ModelFileError
from deploykit.onnx_file import walk
from deploykit.profiler.layer_table import Shape
from deploykit.runtime.contract import ImageInput

MOST_ELEMENTS = 1 << 40


@dataclass(frozen=True)
class FixedInput:
    """One input: its shape includes the batch; `dtype` is `None` for texts and types that numpy does not have."""

    name: str
    shape: Shape
    dtype: np.dtype[Any] | None


def fixed(model: onnx.ModelProto, batch: int | None, shapes: Sequence[Shape] | None = None) -> list[FixedInput]:
    """The inputs for one batch size: a free first axis takes `batch` (`None`: 1), other free axes take `shapes`.

    `shapes`: per input, without the batch. By default free axes are as the contract has them: the size of the images, or the
    sizes that the network was exported with.
    Raises `InputError` naming the axis whose size nobody knows, or the size that the file fixes otherwise.
    """
    require_text(model)
    stored = walk.stored(model.graph)
    values = [value for value in model.graph.input if value.name not in stored]
    if shapes is not None and len(shapes) != len(values):
        raise InputError(f"the file has {len(values)} inputs, {len(shapes)} shapes were given", "give one --input-shape per input")
    wanted = shapes if shapes is not None else _contract_shapes(model, values)
    return [_fixed(value, batch, shape) for value, shape in zip(values, wanted, strict=True)]


def _contract_shapes(model: onnx.ModelProto, values: Sequence[onnx.ValueInfoProto]) -> list[Shape | None]:
    """Per input; `None` where the contract says nothing that the graph would take."""
    try:
        contract = onnx_file.get_contract(model)
    except ContractError:
        contract = None
    if contract is None:
        return [None] * len(values)
    if contract.preprocessing_in_graph and isinstance(contract.input, ImageInput) and len(values) == 1:
        rules = contract.input
        return [(rules.height, rules.width, rules.channels)]
    examples = contract.example_shapes()
    return [_fitting(value, examples.get(value.name)) for value in values]


def _fitting(value: onnx.ValueInfoProto, example: Shape | None) -> Shape | None:
    dims = value.type.tensor_type.shape.dim[1:]
    if example is None or len(example) != len(dims):
        return None
    return tuple(dim.dim_value if dim.dim_value > 0 else size for dim, size in zip(dims, example, strict=True))


def require_text(model: onnx.ModelProto) -> None:
    """Raise `ModelFileError` for names that are not UTF-8: protobuf hands them out as bytes."""
    axes = (d.dim_param for g in walk.graphs(model) for v in g.input for d in v.type.tensor_type.shape.dim)
    nodes = (text for n in walk.nodes(model) for text in (n.op_type, n.domain, *(a.name for a in n.attribute)))
    titles = (graph.name for graph in walk.graphs(model))
    if any(not isinstance(text, str) for text in chain(walk.names(model), axes, nodes, titles)):
        raise ModelFileError("the file is damaged: a name in it is no text", "export it again")


def _fixed(value: onnx.ValueInfoProto, batch: int | None, wanted: Shape | None) -> FixedInput:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise InputError(f"the input {value.name!r} is a {(kind or 'value without a type').removesuffix('_type')}, not a tensor")
    tensor = value.type.tensor_type
    dtype = onnx_file.number_type(tensor.elem_type)
    if not tensor.HasField("shape"):
        if wanted is None:
            raise InputError(f"the input {value.name!r} has no shape in the file", "give --input-shape, without the batch")
        return FixedInput(value.name, (batch or 1, *wanted), dtype)
    axes: list[int | str] = [d.dim_value if d.dim_value > 0 else (d.dim_param or "?") for d in tensor.shape.dim]
    if not axes:
        return FixedInput(value.name, (), dtype)
    if wanted is not None and len(wanted) != len(axes) - 1:
        raise InputError(
            f"the input {value.name!r} has {len(axes)} axes with the batch, --input-shape gives {len(wanted)} without it"
        )
    return FixedInput(value.name, _sizes(value.name, axes, batch, wanted), dtype)


def _sizes(name: str, axes: list[int | str], batch: int | None, wanted: Shape | None) -> Shape:
    found = []
    for index, axis in enumerate(axes):
        asked = batch if index == 0 else wanted[index - 1] if wanted is not None else None
        if isinstance(axis, int):
            if asked not in (None, axis):
                what = "batch" if index == 0 else f"axis {index}"
                problem = f"the {what} of the input {name!r} is {axis} in the file, not {asked}"
                hint = f"give --batch {axis}" if index == 0 else "leave it out"
                raise InputError(problem, f"{hint}, or export the network with that axis dynamic")
            found.append(axis)
        elif asked is not None or index == 0:
            found.append(asked or 1)
        else:
            problem = f"axis {index} of the input {name!r} is free ({axis}) and has no size"
            raise InputError(problem, "give --input-shape, without the batch")
    if prod(found) > MOST_ELEMENTS:
        raise InputError(f"the input {name!r} would have {prod(found):,} elements", "is it the right file, and the right shape?")
    return tuple(found)
