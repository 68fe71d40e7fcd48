"""A graph, with wide layers in parts of their channels, so that what one hands to the next stays in the caches of the cores.

Inverted residuals (Sandler et al., "MobileNetV2", 2018, section 3.3, which proposes the same to save memory) make many channels by
one convolution, take each through an activation and a convolution of its own (depthwise), and only then join them. At large sides
what lies between is larger than the caches: each step writes it to memory and reads it again. Every channel of the last step needs
just one of the first, so all steps of some channels can be done before the next channels are begun. No number changes: each is
made from the same ones in the same order, as long as onnxruntime takes the same kernel for fewer channels.

Of efficientnet_b0 in float32, where the first such layer makes 1.2 million numbers, three parts are 1.03 times as fast (two 1.02,
six 1.01); dividing layers of less than half a million numbers takes more than it saves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import onnx
from onnx import helper, numpy_helper

from deploykit.onnx_file import walk
from deploykit.onnx_file.walk import STANDARD
from deploykit.tuner import shapes
from deploykit.tuner.shapes import planes

MOST = 1 << 19  # numbers of a part, of one sample: 2 MB, about what the second-level caches of two cores hold
BLOCK = 16  # channels in a block of onnxruntime's layout, at most


@dataclass(frozen=True)
class Wide:
    """A convolution that makes `channels`, and what follows until they are joined; `end`: the value that others read."""

    nodes: tuple[onnx.NodeProto, ...]
    channels: int
    parts: int

    @property
    def end(self) -> str:
        """The value that is joined from the parts."""
        return self.nodes[-1].output[0]


def wide(model: onnx.ModelProto) -> list[Wide]:
    """The layers that can be divided and are worth it."""
    finder = _Finder(model)
    found: list[Wide] = []
    for place, node in enumerate(model.graph.node):
        each = finder.at(place, node)
        if each is not None:
            found.append(each)
    return found


def in_parts(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which these layers are divided; without any, a plain copy."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    found = wide(result)
    if not found:
        return result
    weights, taken = shapes.float_weights(result.graph), set(walk.names(result))
    ends = {each.end: each for each in found}
    inside = {node.output[0] for each in found for node in each.nodes}
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        if ends.keys() & set(node.output):
            made, stored = _divided(ends[node.output[0]], weights, taken)
            nodes += made
            result.graph.initializer.extend(stored)
        elif inside.isdisjoint(node.output):
            nodes.append(node)
    _replace(result.graph, nodes, {name for each in found for node in each.nodes for name in node.input if name in weights})
    return result


class _Finder:
    """Looks for wide layers among the nodes of a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.known, self.weights = shapes.of_floats(model), shapes.float_weights(model.graph)
        self.single, self.readers = shapes.single_numbers(model.graph), walk.readers(model.graph)
        self.outputs = {value.name for value in model.graph.output}

    def at(self, place: int, first: onnx.NodeProto) -> Wide | None:
        """The wide layer that begins with this node, if one does."""
        sides = planes(self.known.get(first.output[0], ())) if first.output else None
        if sides is None or not self._is_convolution(first) or _attribute(first, "group", 1) != 1:
            return None
        parts = math.ceil(math.prod(sides) / MOST)
        if parts == 1 or sides[0] < BLOCK * parts:
            return None
        nodes = self._until_joined(place, first, sides[0])
        return None if nodes is None else Wide(tuple(nodes), sides[0], parts)

    def _until_joined(self, place: int, first: onnx.NodeProto, channels: int) -> list[onnx.NodeProto] | None:
        """The node and those behind it that work channel by channel, one a depthwise convolution; `None` with several ways out."""
        found, values, deep = [first], {first.output[0]}, 0
        for node in self.nodes[place + 1 :]:
            depthwise = self._is_depthwise(node, channels) and node.input[0] in values
            if depthwise and deep:
                break
            if depthwise or shapes.is_elementwise(node, values, self.known, self.single):
                deep += depthwise
                found.append(node)
                values.add(node.output[0])
            elif len(self._open(found, values)) == 1 and deep:
                break
        ways_out = self._open(found, values)
        return found if deep and ways_out == {found[-1].output[0]} else None

    def _open(self, nodes: list[onnx.NodeProto], values: set[str]) -> set[str]:
        """The values that others read, or the application."""
        own = {node.output[0] for node in nodes}
        return {v for v in values if v in self.outputs or any(own.isdisjoint(node.output) for node in self.readers.get(v, []))}

    def _is_convolution(self, node: onnx.NodeProto) -> bool:
        stored = [name for name in node.input[1:] if name]
        return node.op_type == "Conv" and node.domain in STANDARD and all(name in self.weights for name in stored)

    def _is_depthwise(self, node: onnx.NodeProto, channels: int) -> bool:
        return (
            self._is_convolution(node)
            and _attribute(node, "group", 1) == channels
            and list(self.weights[node.input[1]].dims)[:2] == [channels, 1]
            and planes(self.known.get(node.output[0], ())) is not None
        )


def _divided(
    each: Wide, weights: Mapping[str, onnx.TensorProto], taken: set[str]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes of all parts and the one that joins them, and what they store."""
    made: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []
    ends: list[str] = []
    for part, (begin, stop) in enumerate(_cuts(each.channels, each.parts)):
        names: dict[str, str] = {}
        for node in each.nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = node.name if part == 0 else walk.unused(f"{node.name}_part{part}", taken)
            for place, name in enumerate(node.input):
                if place and node.op_type == "Conv" and name and name not in names:
                    names[name] = walk.unused(f"{name}_part{part}", taken)
                    stored.append(numpy_helper.from_array(numpy_helper.to_array(weights[name])[begin:stop], names[name]))
                copy.input[place] = names.get(name, name)
            names[node.output[0]] = copy.output[0] = walk.unused(f"{node.output[0]}_part{part}", taken)
            for attribute in copy.attribute:
                if attribute.name == "group" and attribute.i == each.channels:
                    attribute.i = stop - begin
            made.append(copy)
        ends.append(names[each.end])
    joined = helper.make_node("Concat", ends, [each.end], name=walk.unused(f"{each.end}_joined", taken), axis=1)
    return [*made, joined], stored


def _cuts(channels: int, parts: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each part, in whole blocks but for the last."""
    edges = [round(channels * part / parts / BLOCK) * BLOCK for part in range(parts)] + [channels]
    return pairwise(edges)


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], weights: set[str]) -> None:
    """Give the graph these nodes, and drop what only those before them read or made."""
    made = {output for node in nodes for output in node.output} | {value.name for value in graph.output}
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    kept = [value for value in graph.value_info if value.name in made]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(copies)
    graph.value_info.extend(kept)
    walk.drop_unread(graph, weights)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)
