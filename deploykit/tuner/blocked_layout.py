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

import numpy as np
import onnx
from onnx import helper, numpy_helper

from deploykit import onnx_file
from deploykit.onnx_file import walk
from deploykit.tuner import shapes
from deploykit.tuner.gates import gate_of, is_mean
from deploykit.tuner.shapes import Dims, planes

OLDEST = 13  # opset from which on Resize need not be given regions
SMALL = 1 << 18  # numbers of one sample, 1 MB


def gates(model: onnx.ModelProto, most: float = math.inf) -> int:
    """How many gates `blocked` would write anew."""
    return len(_gates(model, _shapes(model), most))


def blocked(model: onnx.ModelProto, most: float = math.inf) -> onnx.ModelProto:
    """A copy in which the gates of at most `most` numbers per sample are written so, and means; without any, a plain copy."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    known = _shapes(model)
    found = _gates(model, known, most)
    if not found:
        return result
    taken, graph = set(walk.names(model)), result.graph
    axes: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for place, node in enumerate(graph.node):
        if place in found:
            nodes.append(_repeated(graph, node, found[place], known, taken))
        elif node.op_type == "ReduceMean" and is_mean(model, node) and len(known.get(node.input[0], ())) == 4:
            axes.update(node.input[1:])
            del node.input[1:], node.attribute[:]
            node.op_type = "GlobalAveragePool"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    walk.drop_unread(graph, axes)
    return result


def _gates(model: onnx.ModelProto, known: Mapping[str, Dims], most: float) -> dict[int, int]:
    """By place of a product among the nodes: which of its inputs is the gate."""
    if onnx_file.opset(model) < OLDEST:
        return {}
    into_int8, found = _only_converted(model.graph), {}
    for place, node in enumerate(model.graph.node):
        gate = gate_of(node, known)
        if gate is not None and node.output[0] not in into_int8:
            sizes = planes(known[node.input[1 - gate]])
            if sizes is not None and math.prod(sizes) <= most:
                found[place] = gate
    return found


def _shapes(model: onnx.ModelProto) -> dict[str, Dims]:
    """Without what comes from a conversion: there an operator computes in int8."""
    back = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {name: sizes for name, sizes in shapes.of_floats(model).items() if name not in back}


def _only_converted(graph: onnx.GraphProto) -> set[str]:
    """The values that nothing but a conversion to int8 reads, for which they have to leave the layout in any case."""
    return {name for name, nodes in walk.readers(graph).items() if all(node.op_type == "QuantizeLinear" for node in nodes)}


def _repeated(
    graph: onnx.GraphProto, product: onnx.NodeProto, gate: int, known: Mapping[str, Dims], taken: set[str]
) -> onnx.NodeProto:  # fmt: skip
    """The node that repeats the gate of a product over the sides; the product reads it."""
    values = known[product.input[1 - gate]]
    repeated, scales = (walk.unused(f"{product.output[0]}_{what}", taken) for what in ("gate", "gate_scales"))
    node = helper.make_node(
        "Resize", [product.input[gate], "", scales], [repeated], name=repeated,
        mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, *values[2:]], np.float32), scales))
    # onnxruntime must see that the shapes are equal, and infers none for an open batch here.
    graph.value_info.append(helper.make_tensor_value_info(repeated, onnx.TensorProto.FLOAT, values))
    product.input[gate] = repeated
    return node
