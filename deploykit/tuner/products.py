"""A graph, with chosen 1x1 convolutions as products of matrices: a row for each place, a column for each channel.

A 1x1 convolution in int8 that stands between float32 layers costs onnxruntime more conversions than it need: what comes in blocks
of channels (see `blocked_layout`) is put into planes, converted, put into rows; what it gives, back the same way. As a product
(Gemm) it takes rows, which the blocks give at once, and what it gives need not be rounded to eight bits (QGemm with an output in
float32). The gate before it (Hu et al., 2018, section 3) is applied to rows as well, where the numbers of the gate lie in the order
of those that they multiply. What joins such rows number by number (the sum around a block, an activation) stays in rows, and so
does the mean over all places.

In float32 the answers are the same but for the order in which a product adds up.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from deploykit import onnx_file
from deploykit.onnx_file import walk
from deploykit.onnx_file.walk import STANDARD
from deploykit.tuner import shapes
from deploykit.tuner.gates import gate_of, is_mean
from deploykit.tuner.shapes import Dims, planes

OPEN_AXES = 18  # opset from which on ReduceMean takes its axes as an input


def pointwise(model: onnx.ModelProto) -> list[str]:
    """The names of the convolutions that can be written so: 1x1, at every place, not in groups, weights stored, sides known."""
    known, weights = shapes.of_floats(model), shapes.float_weights(model.graph)
    return [node.name for node in model.graph.node if _is_pointwise(node, known, weights)]


def cheap(model: onnx.ModelProto) -> dict[str, float]:
    """Those of them that rows cost little, and how many multiplications each does for a number that goes in or out of it.

    Cheap are those behind a gate that nothing else reads, and those of which, number by number, only the mean over places is taken.
    """
    known, weights, names = shapes.of_floats(model), shapes.float_weights(model.graph), set(pointwise(model))
    readers, makers = walk.readers(model.graph), {output: node for node in model.graph.node for output in node.output}
    found = {}
    for place, node in enumerate(model.graph.node):
        if node.name in names:
            before = makers.get(node.input[0])
            is_gated = before is not None and gate_of(before, known) is not None and len(readers[node.input[0]]) == 1
            if is_gated or _ends_in_mean(model, place, known, readers):
                outputs, inputs = weights[node.input[1]].dims[:2]
                found[node.name] = outputs * inputs / (outputs + inputs)
    return found


def matrices(model: onnx.ModelProto) -> dict[str, float]:
    """The layers that are products of matrices, and how many multiplications each does for a number that goes in or out of it."""
    weights, found = shapes.float_weights(model.graph), {}
    for node in model.graph.node:
        if node.op_type in ("Gemm", "MatMul") and node.domain in STANDARD and len(node.input) > 1 and node.input[1] in weights:
            sizes = list(weights[node.input[1]].dims)
            if len(sizes) == 2 and all(sizes):
                found[node.name] = sizes[0] * sizes[1] / sum(sizes)
    return found


def _ends_in_mean(
    model: onnx.ModelProto, place: int, known: Mapping[str, Dims], readers: Mapping[str, list[onnx.NodeProto]]
) -> bool:
    """Whether of what the node at this place makes, number by number, nothing but the mean over places is taken."""
    nodes, single = model.graph.node, shapes.single_numbers(model.graph)
    values = {nodes[place].output[0]}
    for node in nodes[place + 1 :]:
        if shapes.is_elementwise(node, values, known, single):
            values.add(node.output[0])
    ends = [node for value in values for node in readers.get(value, []) if values.isdisjoint(node.output)]
    outputs = {value.name for value in model.graph.output}
    return bool(ends) and not outputs & values and all(is_mean(model, node) for node in ends)


def as_products(model: onnx.ModelProto, chosen: Set[str]) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A copy in which the `chosen` of `pointwise` are Gemm, under the names that they had.

    And by each new value, the value of the given graph of which it holds the numbers in another order.
    """
    return _Rows(model, chosen).written()


def _is_pointwise(node: onnx.NodeProto, known: Mapping[str, Dims], weights: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Conv" or node.domain not in STANDARD or not node.name:
        return False
    stored = [name for name in node.input[1:] if name]
    if not all(name in weights for name in stored) or list(weights[stored[0]].dims)[2:] != [1, 1]:
        return False
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    plain = given.get("group", 1) == 1 and not any(given.get("pads", [])) and all(each == 1 for each in given.get("strides", []))
    before, after = (planes(known.get(name, ())) for name in (node.input[0], node.output[0]))
    return plain and before is not None and after is not None and before[1:] == after[1:]


class _Rows:
    """The copy while it is written, node by node.

    `rows`, `last`: by value, where its numbers are as (N * H * W, C) and as (N, H, W, C). `ours`: the values that are made so,
    `waiting`: those of them that are not there as (N, C, H, W).
    """

    def __init__(self, model: onnx.ModelProto, chosen: Set[str]) -> None:
        self.model, self.known, self.weights = model, shapes.of_floats(model), shapes.float_weights(model.graph)
        self.chosen = {
            node.name for node in model.graph.node if node.name in chosen and _is_pointwise(node, self.known, self.weights)
        }
        self.single, self.readers = shapes.single_numbers(model.graph), walk.readers(model.graph)
        self.taken = set(walk.names(model))
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.rows: dict[str, str] = {}
        self.last: dict[str, str] = {}
        self.held: dict[str, str] = {}
        self.ours: set[str] = set()
        self.waiting: set[str] = set()

    def written(self) -> tuple[onnx.ModelProto, dict[str, str]]:
        """See `as_products`."""
        gates = self._gates()
        for node in self.model.graph.node:
            if node.name in self.chosen:
                self._product(node)
            elif gates.keys() & set(node.output):
                self._gate(node, gates[node.output[0]])
            elif shapes.is_elementwise(node, self.ours, self.known, self.single):
                inputs = [self._channels_last(name) if name in self.ours else name for name in node.input]
                self.last[node.output[0]] = self._like(node, node.op_type, inputs, node.output[0], "last")
                self._put(node)
            elif self._is_mean(node):
                self._mean(node)
            else:
                self._plain(walk.read_by(node))
                self.nodes.append(node)
        self._plain({value.name for value in self.model.graph.output})
        return self._model(), self.held

    def _gates(self) -> dict[str, int]:
        """By output of a gate that only chosen ones read: which input is the gate."""
        found = {}
        for node in self.model.graph.node:
            gate = gate_of(node, self.known)
            reading = self.readers.get(node.output[0], [])
            if gate is not None and reading and all(each.name in self.chosen for each in reading):
                found[node.output[0]] = gate
        return found

    def _product(self, node: onnx.NodeProto) -> None:
        weight = numpy_helper.to_array(self.weights[node.input[1]])
        flat = self._store(f"{node.input[1]}_rows", weight.reshape(weight.shape[:2]))
        inputs = [self._as_rows(node.input[0]), flat, *(name for name in node.input[2:] if name)]
        self.rows[node.output[0]] = self._like(node, "Gemm", inputs, node.output[0], "rows", transB=1)
        self._put(node)

    def _gate(self, node: onnx.NodeProto, gate: int) -> None:
        channels, *_ = self._sides(node.output[0])
        self._plain({node.input[gate]})
        inputs = [self._channels_last(node.input[1 - gate])]
        inputs.insert(gate, self._reshaped(node.input[gate], (-1, 1, 1, channels), node.input[gate], "last"))
        self.last[node.output[0]] = self._like(node, "Mul", inputs, node.output[0], "last")
        self._put(node)

    def _mean(self, node: onnx.NodeProto) -> None:
        """The mean over the places of each sample."""
        given, output = [self._channels_last(node.input[0])], node.output[0]
        if onnx_file.opset(self.model) < OPEN_AXES:
            mean = self._like(node, "ReduceMean", given, output, "mean", axes=[1, 2])
        else:
            mean = self._like(node, "ReduceMean", [*given, self._store(f"{output}_axes", np.array([1, 2]))], output, "mean")
        shape = self._store(f"{output}_shape", np.array([-1, self._sides(node.input[0])[0], 1, 1]))
        self.nodes.append(helper.make_node("Reshape", [mean, shape], [output], name=self._unused(f"{output}_sides")))

    def _is_mean(self, node: onnx.NodeProto) -> bool:
        return bool(node.input) and node.input[0] in self.ours and is_mean(self.model, node)

    def _as_rows(self, name: str) -> str:
        """The value as (N * H * W, C)."""
        if name not in self.rows:
            self.rows[name] = self._reshaped(self._channels_last(name), (-1, self._sides(name)[0]), name, "rows")
        return self.rows[name]

    def _channels_last(self, name: str) -> str:
        """The value as (N, H, W, C).

        What comes from a product is taken so, too, by what is none: with an activation right behind a Gemm, onnxruntime makes one
        node of the two, which it does not have for int8.
        """
        if name not in self.last and name in self.rows:
            channels, height, width = self._sides(name)
            self.last[name] = self._reshaped(self.rows[name], (-1, height, width, channels), name, "last")
        if name not in self.last:
            self.last[name] = self._new("Transpose", [name], name, "last", perm=[0, 2, 3, 1])
        return self.last[name]

    def _plain(self, names: Set[str]) -> None:
        """Write those of the values as (N, C, H, W), under their names, that are not there so."""
        for name in sorted(self.waiting & names):
            self.waiting.discard(name)
            last = self._channels_last(name)
            node = helper.make_node("Transpose", [last], [name], name=self._unused(f"{name}_planes"), perm=[0, 3, 1, 2])
            self.nodes.append(node)

    def _put(self, node: onnx.NodeProto) -> None:
        self.ours.add(node.output[0])
        self.waiting.add(node.output[0])

    def _reshaped(self, value: str, shape: tuple[int, ...], source: str, what: str) -> str:
        return self._new("Reshape", [value, self._store(f"{source}_{what}_shape", np.array(shape))], source, what)

    def _like(self, node: onnx.NodeProto, op: str, inputs: list[str], source: str, what: str, **attributes: Any) -> str:
        """A node in the place of another: its name and, where it is the same operator, its attributes."""
        output = self._new(op, inputs, source, what, **attributes)
        self.nodes[-1].name = node.name
        self.nodes[-1].metadata_props.extend(node.metadata_props)
        if op == node.op_type and not attributes:
            self.nodes[-1].attribute.extend(node.attribute)
        return output

    def _new(self, op: str, inputs: list[str], source: str, what: str, **attributes: Any) -> str:
        output = self._unused(f"{source}_{what}")
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        self.held[output] = source
        return output

    def _store(self, name: str, array: NDArray[Any]) -> str:
        name = self._unused(name)
        self.stored.append(numpy_helper.from_array(array, name))
        return name

    def _sides(self, name: str) -> tuple[int, int, int]:
        found = planes(self.known[name])
        if found is None:
            raise ValueError(f"{name} is no image of several places")
        return found

    def _unused(self, name: str) -> str:
        return walk.unused(name, self.taken)

    def _model(self) -> onnx.ModelProto:
        """The copy, without stored tensors and notes on values that are no longer there."""
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        graph = result.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        walk.drop_unread(graph, set(self.weights))
        graph.initializer.extend(self.stored)
        made = {output for node in self.nodes for output in node.output}
        kept = [value for value in graph.value_info if value.name in made]
        del graph.value_info[:]
        graph.value_info.extend(kept)
        return result
