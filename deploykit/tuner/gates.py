"""What a gate of channels consists of, as in squeeze and excitation (Hu et al., 2018, section 3), where it is found in a graph."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper, numpy_helper

from deploykit.onnx_file.walk import STANDARD
from deploykit.tuner.shapes import Dims, planes


def gate_of(node: onnx.NodeProto, known: Mapping[str, Dims]) -> int | None:
    """Which input of a product of (N, C, H, W) with one number per channel, (N, C, 1, 1), is the latter; `None` for all else."""
    if node.op_type != "Mul" or node.domain not in STANDARD:
        return None
    inputs = [known.get(name, ()) for name in node.input]
    for gate, values in ((0, inputs[1]), (1, inputs[0])):
        if planes(values) and len(inputs[gate]) == 4 and inputs[gate][:2] == values[:2] and inputs[gate][2:] == (1, 1):
            return gate
    return None


def is_mean(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether the node takes the mean over the places of (N, C, H, W) and gives (N, C, 1, 1)."""
    if node.domain not in STANDARD or node.op_type != "ReduceMean":
        return node.op_type == "GlobalAveragePool" and node.domain in STANDARD
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    axes = given.get("axes")
    if axes is None and len(node.input) > 1:
        axes = next((numpy_helper.to_array(t).tolist() for t in model.graph.initializer if t.name == node.input[1]), None)
    return axes is not None and sorted(axis % 4 for axis in axes) == [2, 3] and given.get("keepdims", 1) == 1
