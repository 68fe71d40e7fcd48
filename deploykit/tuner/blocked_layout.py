"""A graph, with gates of channels in operators that onnxruntime's blocked layout knows.

On a CPU onnxruntime keeps what convolutions hand to each other in blocks of channels (NCHWc; Liu et al., "Optimizing CNN Model
Inference on CPUs", 2019, section 3.1). An operator that is not made for blocks costs a reordering before it and one behind it. A
gate, as in squeeze and excitation (Hu et al., 2018, section 3), has two: the mean over the sides (ReduceMean), and the product of
(N, C, H, W) with one number per channel (N, C, 1, 1). Both are written here as what is made for blocks: GlobalAveragePool, and a
product of equal shapes, for which Resize (nearest) repeats the number over H x W. The product is the same number, bit by bit.

What is repeated has to be written and read, which may cost as much as the reordering where a core's own cache no longer holds
it: so the small gates alone can be asked for. Which is faster is for a measurement to say: of efficientnet_b0 with some layers in
int8, 80 s in turns gave 1.12 (1.07 to 1.14) for the small ones and 1.04 (0.98 to 1.08) for all; two tunings since could not tell
them apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count

import numpy as np
import onnx
from onnx import helper, numpy_helper

from deploykit import onnx_file
from deploykit.onnx_file import walk
from deploykit.onnx_file.walk import STANDARD
from deploykit.profiler.onnx.inputs import FixedInput
from deploykit.profiler.onnx.shapes import slim

OLDEST = 13  # opset from which on Resize need not be given regions
SMALL = 1 << 18  # numbers of one sample, 1 MB
Dims = tuple[int | str, ...]


def gates(model: onnx.ModelProto, most: float = math.inf) -> int:
    """How many products `blocked` would write anew."""
    return len(_gates(model, _shapes(model), most))


def blocked(model: onnx.ModelProto, most: float = math.inf) -> onnx.ModelProto:
    """A copy in which the gates of at most `most` numbers per sample are written so, and means; without any, a plain copy."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    shapes = _shapes(model)
    found = _gates(model, shapes, most)
    if not found:
        return result
    taken, graph = set(walk.names(model)), result.graph
    axes: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for place, node in enumerate(graph.node):
        if place in found:
            nodes.append(_repeated(graph, node, found[place], shapes, taken))
        elif _is_mean(model, node, shapes):
            axes.update(node.input[1:])
            del node.input[1:], node.attribute[:]
            node.op_type = "GlobalAveragePool"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _drop(graph, axes)
    return result


def _drop(graph: onnx.GraphProto, stored: set[str]) -> None:
    """Leave out those of the stored tensors that nobody reads any more: onnxruntime would warn about them."""
    ends = {value.name for value in (*graph.input, *graph.output)}
    unread = stored - ends - {name for node in walk.nodes(graph) for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name not in unread]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _gates(model: onnx.ModelProto, shapes: Mapping[str, Dims], most: float) -> dict[int, int]:
    """By place of a product among the nodes: which of its inputs is the gate."""
    if onnx_file.opset(model) < OLDEST:
        return {}
    into_int8 = _only_converted(model.graph)
    found = {}
    for place, node in enumerate(model.graph.node):
        if node.op_type == "Mul" and node.domain in STANDARD and node.output[0] not in into_int8:
            inputs = [shapes.get(name, ()) for name in node.input]
            for gate, values in ((0, inputs[1]), (1, inputs[0])):
                if _opens(inputs[gate], values, most):
                    found[place] = gate
    return found


def _only_converted(graph: onnx.GraphProto) -> set[str]:
    """The values that nothing but a conversion to int8 reads, for which they have to leave the layout in any case."""
    readers: dict[str, set[str]] = {}
    for node in walk.nodes(graph):
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    return {name for name, types in readers.items() if types == {"QuantizeLinear"}}


def _opens(gate: Dims, values: Dims, most: float) -> bool:
    """Whether these are (N, C, 1, 1) and (N, C, H, W) with known H and W, of at most `most` numbers for a sample."""
    if len(gate) != 4 or len(values) != 4 or gate[:2] != values[:2] or gate[2:] != (1, 1):
        return False
    channels, height, width = values[1:]
    if not isinstance(height, int) or not isinstance(width, int) or height * width <= 1:
        return False
    return most == math.inf or (isinstance(channels, int) and channels * height * width <= most)


def _repeated(
    graph: onnx.GraphProto, product: onnx.NodeProto, gate: int, shapes: Mapping[str, Dims], taken: set[str]
) -> onnx.NodeProto:  # fmt: skip
    """The node that repeats the gate of a product over the sides; the product reads it."""
    values = shapes[product.input[1 - gate]]
    repeated, scales = (_new(f"{product.output[0]}_{what}", taken) for what in ("gate", "gate_scales"))
    node = helper.make_node(
        "Resize", [product.input[gate], "", scales], [repeated], name=repeated,
        mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, *values[2:]], np.float32), scales))
    # onnxruntime must see that the shapes are equal, and infers none for an open batch here.
    graph.value_info.append(helper.make_tensor_value_info(repeated, onnx.TensorProto.FLOAT, values))
    product.input[gate] = repeated
    return node


def _is_mean(model: onnx.ModelProto, node: onnx.NodeProto, shapes: Mapping[str, Dims]) -> bool:
    """Whether the node takes the mean of (N, C, H, W) over H and W, and keeps both axes."""
    if node.op_type != "ReduceMean" or node.domain not in STANDARD or len(shapes.get(node.input[0], ())) != 4:
        return False
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    axes = given.get("axes")
    if axes is None and len(node.input) > 1:
        axes = next((numpy_helper.to_array(t).tolist() for t in model.graph.initializer if t.name == node.input[1]), None)
    return axes is not None and sorted(axis % 4 for axis in axes) == [2, 3] and given.get("keepdims", 1) == 1


def _shapes(model: onnx.ModelProto) -> dict[str, Dims]:
    """By name, the sizes of float32 values, a name for each that is open.

    Left out is what has a size of which nothing is known, and what comes from a conversion: there an operator computes in int8.
    """
    stored = walk.stored(model.graph)
    open_sizes = [FixedInput(value.name, None, None) for value in model.graph.input if value.name not in stored]
    try:
        inferred = onnx.shape_inference.infer_shapes(slim(model, open_sizes))
    except Exception:  # native code; what it cannot say is not written anew
        return {}
    found: dict[str, Dims] = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type == onnx.TensorProto.FLOAT and tensor.HasField("shape"):
            sizes = tuple(max(0, dim.dim_value) if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim)
            if all(sizes):  # no zero and no empty name
                found[value.name] = sizes
    for node in inferred.graph.node:
        if node.op_type == "DequantizeLinear":
            found.pop(node.output[0], None)
    return found


def _new(name: str, taken: set[str]) -> str:
    """The name, or one like it that no value and no node has."""
    found = next(each for n in count() if (each := f"{name}_{n}" if n else name) not in taken)
    taken.add(found)
    return found
