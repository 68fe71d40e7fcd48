"""Which nodes onnxruntime's quantizer must leave alone.

Those with infinite numbers, which have no scale; a Gemm whose product or bias is scaled, as its bias in int32 is not; a MatMul
whose weights come first or are several matrices, where no kernel takes a scale per column; a ConvTranspose in groups with a bias,
whose scales do not fit its weights; a Relu or Clip after an output of the graph, which would get the range of what that lets
through, and be cut off like it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx


def left_in_float(graph: onnx.GraphProto, ranges: Any) -> list[str]:
    """The names of the nodes that onnxruntime's quantizer would write as another function, or as none that can be run.

    `ranges`: of the values, as it found them.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    infinite = {name for name, tensor in stored.items() if not _is_finite(tensor)}
    infinite |= {name for name, each in ranges.items() if not np.isfinite(np.asarray(each.range_value, np.float64)).all()}
    ends = {value.name for value in graph.output}
    return [
        node.name
        for node in graph.node
        if infinite.intersection((*node.input, *node.output))
        or _is_unsound(node, stored)
        or (node.op_type in ("Relu", "Clip") and node.input[0] in ends)
    ]


def _is_finite(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
        return True
    return bool(np.isfinite(onnx.numpy_helper.to_array(tensor)).all())


def _is_unsound(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether nothing but its operator, attributes and weights speaks against it."""
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    has_bias = len(node.input) > 2 and bool(node.input[2])
    if node.op_type == "Gemm":
        return has_bias and (given.get("alpha", 1.0), given.get("beta", 1.0)) != (1.0, 1.0)
    if node.op_type == "ConvTranspose":
        return has_bias and given.get("group", 1) > 1
    if node.op_type == "MatMul":
        return node.input[0] in stored or (node.input[1] in stored and len(stored[node.input[1]].dims) != 2)
    return False
