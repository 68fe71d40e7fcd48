"""Every shape in an ONNX graph as plain numbers, as far as they can be known without running it.

Large weights are left out of what the shape inference sees: only their shapes matter, and a file may hold gigabytes.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import onnx
from onnx import shape_inference

from deploykit.onnx_file.walk import STANDARD, has_bodies
from deploykit.profiler.layer_table import Shape
from deploykit.profiler.onnx.functions import put_in
from deploykit.profiler.onnx.inputs import FixedInput
from deploykit.profiler.onnx.operators import Node
from deploykit.profiler.onnx.stored import Scope, stored_in

SMALL = 4096  # elements; a tensor that holds sizes or axes is smaller than this


class Graph:
    """Nodes in the order of execution, and what is stored.

    `model`: with its local functions put in. `stored`: shapes of the weights in the file by name, of any type; `scope`: the tensors
    themselves. `constant`: the names of values that depend on no input. `seen`: values as a run has shown them; they fill what
    cannot be inferred. `inferred`: the nodes again, with the shapes inside their bodies.
    """

    def __init__(self, model: onnx.ModelProto, inputs: Sequence[FixedInput], seen: Sequence[onnx.ValueInfoProto] = ()) -> None:
        self.model = put_in(model)
        graph = self.model.graph
        self.stored = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer if min(tensor.dims, default=0) >= 0}
        self.stored |= {s.values.name: tuple(s.dims) for s in graph.sparse_initializer}
        self._note_constants(graph)
        self.scope = Scope(stored_in(graph, ""))
        self.inferred, known = _infer(self.model, inputs, seen)
        fixed = {entry.name: entry.shape for entry in inputs if entry.shape is not None}
        shown = {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in seen}
        self.shapes = shown | known | self.stored | fixed
        self.constant = _constant_values(graph, self.stored)
        self.nodes = tuple(_nodes(graph, self.shapes, self.constant))
        self.protos = tuple(graph.node)

    def _note_constants(self, graph: onnx.GraphProto) -> None:
        for node in graph.node:
            if node.op_type == "Constant" and node.domain in STANDARD and node.output:
                for attribute in node.attribute:
                    if attribute.name == "value" and min(attribute.t.dims, default=0) >= 0:
                        self.stored[node.output[0]] = tuple(attribute.t.dims)


def _nodes(graph: onnx.GraphProto, shapes: Mapping[str, Shape], constant: Container[str]) -> Iterator[Node]:
    taken: set[str] = set()
    for index, proto in enumerate(graph.node):
        name = proto.name or next((o for o in proto.output if o), "") or f"{proto.op_type}_{index}"
        if name in taken:
            name = f"{name}#{index}"
        taken.add(name)
        inputs = [shapes.get(i) if i else None for i in proto.input]
        outputs = [shapes.get(o) if o else None for o in proto.output]
        yield node_of(proto, name, inputs, outputs, constant)


def node_of(
    proto: onnx.NodeProto, name: str, inputs: Sequence[Shape | None], outputs: Sequence[Shape | None], constant: Container[str]
) -> Node:
    """A node with its shapes; `constant`: the names of values that depend on no input."""
    return Node(
        name=name,
        op_type=proto.op_type,
        domain=proto.domain,
        inputs=inputs,
        outputs=outputs,
        attributes={a.name: _value(a) for a in proto.attribute if a.type in _PLAIN},
        input_names=tuple(proto.input),
        weight_stored=len(proto.input) > 1 and proto.input[1] in constant,
    )


def _constant_values(graph: onnx.GraphProto, stored: Mapping[str, Shape]) -> set[str]:
    """Values that do not depend on an input: what is stored, and what is made of nothing else (a dequantized weight)."""
    found = set(stored)
    for node in graph.node:
        alone = node.input and node.domain in STANDARD and "Random" not in node.op_type and not has_bodies(node)
        if alone and all(i in found for i in node.input if i):
            found.update(node.output)
    return found


_PLAIN = {onnx.AttributeProto.INT, onnx.AttributeProto.INTS, onnx.AttributeProto.STRING, onnx.AttributeProto.FLOAT}


def _value(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return list(value) if attribute.type == onnx.AttributeProto.INTS else value


def _infer(
    model: onnx.ModelProto, inputs: Sequence[FixedInput], seen: Sequence[onnx.ValueInfoProto]
) -> tuple[Sequence[onnx.NodeProto], dict[str, Shape]]:
    """The nodes with what is known inside their bodies, and shapes by value name; none for a graph that the inference refuses."""
    found = slim(model, inputs, seen)
    try:
        inferred = shape_inference.infer_shapes(found, check_type=False, strict_mode=False, data_prop=True)
    except Exception:  # native code; what it cannot say is reported as uncounted
        return (), {}
    return inferred.graph.node, known_shapes(inferred.graph)


def known_shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    """What a graph says of its values, where every size is a number."""
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type") and tensor.HasField("shape"):
            sizes = [d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in tensor.shape.dim]
            if None not in sizes:
                found[value.name] = tuple(int(s) for s in sizes if s is not None)
    return found


def slim(model: onnx.ModelProto, inputs: Sequence[FixedInput], seen: Sequence[onnx.ValueInfoProto] = ()) -> onnx.ModelProto:
    """The model with the inputs' sizes fixed, and inputs of the same shape in place of large weights.

    What the file says of values in between is dropped (it was for free sizes), except for values that only a custom operator
    makes, which nothing else describes.
    """
    # Before version 4 of the format every initializer had to be an input, too, and the inference looks for it there.
    found = onnx.ModelProto(ir_version=max(4, model.ir_version), opset_import=model.opset_import)
    graph = found.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    values = {value.name: value for value in model.graph.input}
    for entry in inputs:
        value = values[entry.name]
        if entry.shape is not None:
            value = onnx.helper.make_tensor_value_info(entry.name, value.type.tensor_type.elem_type, entry.shape)
        graph.input.append(value)
    for tensor in model.graph.initializer:
        size = 1
        for dim in tensor.dims:
            size *= dim
        if size > SMALL or tensor.data_location == onnx.TensorProto.EXTERNAL:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        else:
            graph.initializer.append(tensor)
    for sparse in model.graph.sparse_initializer:
        named = onnx.helper.make_tensor_value_info(sparse.values.name, sparse.values.data_type, list(sparse.dims))
        graph.input.append(named)
    for value in model.graph.output:
        graph.output.append(onnx.ValueInfoProto(name=value.name))
        if value.type.HasField("tensor_type"):
            graph.output[-1].type.tensor_type.elem_type = value.type.tensor_type.elem_type
    outputs = {value.name for value in graph.output}
    graph.value_info.extend(value for value in seen if value.name not in outputs)
    custom = {output for node in model.graph.node if node.domain not in STANDARD for output in node.output}
    custom -= {value.name for value in seen}
    graph.value_info.extend(value for value in model.graph.value_info if value.name in custom)
    return found
