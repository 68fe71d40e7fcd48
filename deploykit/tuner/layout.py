"""How the float32 part of a graph is written for onnxruntime's convolutions on a CPU: which of the ways there are for a graph."""

from __future__ import annotations

import math
from typing import NamedTuple

import onnx

from deploykit.tuner import blocked_layout, parts


class Layout(NamedTuple):
    """`gates`: the most numbers of one that is in blocks, see `blocked_layout`. `parts`: whether wide layers are in such."""

    gates: float = 0
    parts: bool = False

    @property
    def name(self) -> str:
        """In words; empty for the graph as it is."""
        gates = "" if not self.gates else "gates in blocks" if self.gates == math.inf else "small gates in blocks"
        return ", ".join(each for each in (gates, "wide layers in parts" if self.parts else "") if each)


def layouts(model: onnx.ModelProto) -> list[Layout]:
    """What may be worth a try: all gates, or the small ones where those are fewer; wide layers in parts, with gates and without."""
    count, small = blocked_layout.gates(model), blocked_layout.gates(model, blocked_layout.SMALL)
    gates = ([blocked_layout.SMALL] if 0 < small < count else []) + ([math.inf] if count else [])
    if not parts.wide(model):
        return [Layout(most) for most in gates]
    divided = [Layout(most, parts=True) for most in (*gates, 0)]
    return divided + [Layout(most) for most in gates[:1]]


def written(model: onnx.ModelProto, layout: Layout) -> onnx.ModelProto:
    """The graph in that layout: a copy, unless there is nothing to do."""
    found = blocked_layout.blocked(model, layout.gates) if layout.gates else model
    return parts.in_parts(found) if layout.parts else found
