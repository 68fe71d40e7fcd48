"""Axes that may vary in an exported file, as a user names them.

`batch`, `height` and `width` are the axes 0, 2 and 3 of every input that has them. Any other is NAME=AXIS for all inputs, such as
`length=1`, or NAME=INPUT:AXIS for one of them. Axes of one name have one size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import nn

from deploykit.errors import ExportError, InputError
from deploykit.network import input_specs
from deploykit.network.input_specs import InputSpec

IMAGE_AXES = {"batch": 0, "height": 2, "width": 3}
HOW = f"choose from {', '.join(IMAGE_AXES)}, none, or name an axis: length=1, length=INPUT:1"


def of_inputs(wanted: Sequence[str], specs: Sequence[InputSpec]) -> list[dict[int, str]]:
    """Per input, the axes (0 is the batch) that may vary and their names. Raises `InputError` for an axis that no input has."""
    found: list[dict[int, str]] = [{} for _ in specs]
    for entry in wanted:
        name, only, axis = _read(entry, specs)
        places = [place for place, spec in enumerate(specs) if only in ("", spec.name) and axis <= len(spec.shape)]
        if not places:
            raise InputError(f"the dynamic axis {entry[:80]!r} is axis {axis}, and {only or 'every input'} has fewer axes", HOW)
        for place in places:
            if found[place].setdefault(axis, name) != name:
                both = f"{found[place][axis]!r} and {name!r}"
                raise InputError(f"axis {axis} of the input {specs[place].name!r} has two names: {both}", "give it one")
    return found


def for_torch(module: nn.Module, axes: Sequence[Mapping[int, str]]) -> tuple[Any, ...]:
    """As `torch.export` wants them, by the parameters of `forward`: those of ``*args`` are one tuple."""
    shapes: list[Any] = [{axis: torch.export.Dim(name) for axis, name in each.items()} for each in axes]
    by_name = len(input_specs.parameters(module))
    if len(shapes) > by_name and input_specs.takes_more(module):
        return (*shapes[:by_name], tuple(shapes[by_name:]))
    return tuple(shapes)


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


def _read(entry: str, specs: Sequence[InputSpec]) -> tuple[str, str, int]:
    """Name, the input that it is for (empty for all), axis."""
    if entry in IMAGE_AXES:
        return entry, "", IMAGE_AXES[entry]
    name, _, place = entry.partition("=")
    only, _, axis = place.rpartition(":")
    if not name.isidentifier() or not axis.isdecimal() or len(axis) > 2 or int(axis) == 0 or name in IMAGE_AXES:
        raise InputError(f"unknown dynamic axis {entry[:80]!r}", HOW)
    if only and only not in [spec.name for spec in specs]:
        names = ", ".join(spec.name for spec in specs)
        raise InputError(f"the network has no input {only[:40]!r} (dynamic axis {entry[:80]!r})", f"its inputs are {names}")
    return name, only, int(axis)
