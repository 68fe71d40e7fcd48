"""The sizes of the values of a graph, as far as they are known before it runs, and what changes none of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from deploykit.onnx_file import walk
from deploykit.onnx_file.walk import STANDARD
from deploykit.profiler.onnx.inputs import FixedInput
from deploykit.profiler.onnx.shapes import slim

Dims = tuple[int | str, ...]
ELEMENTWISE = frozenset(
    {"Add", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Softplus", "Sub", "Tanh"}
)


def of_floats(model: onnx.ModelProto) -> dict[str, Dims]:
    """By name, the sizes of float32 values, a name for each that is open; what has a size of which nothing is known is left out."""
    stored = walk.stored(model.graph)
    open_sizes = [FixedInput(value.name, None, None) for value in model.graph.input if value.name not in stored]
    try:
        inferred = onnx.shape_inference.infer_shapes(slim(model, open_sizes))
    except Exception:  # native code; of what it cannot say nothing is known
        return {}
    found: dict[str, Dims] = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type == onnx.TensorProto.FLOAT and tensor.HasField("shape"):
            sizes = tuple(max(0, dim.dim_value) if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim)
            if all(sizes):  # no zero and no empty name
                found[value.name] = sizes
    return found


def planes(sizes: Dims) -> tuple[int, int, int] | None:
    """Channels, height and width of (N, C, H, W), where these are known and there is more than one place; else `None`."""
    if len(sizes) != 4:
        return None
    _, channels, height, width = sizes
    if not (isinstance(channels, int) and isinstance(height, int) and isinstance(width, int)) or height * width <= 1:
        return None
    return channels, height, width


def is_elementwise(node: onnx.NodeProto, values: Collection[str], known: Mapping[str, Dims], single: Collection[str]) -> bool:
    """Whether the node makes each number from those at the same place of some of the `values`, and from `single` numbers."""
    if node.op_type not in ELEMENTWISE or node.domain not in STANDARD or len(node.output) != 1:
        return False
    sizes = {known.get(name) if name in values else None for name in node.input if name and name not in single}
    return sizes == {known.get(node.output[0], ())}


def single_numbers(graph: onnx.GraphProto) -> set[str]:
    """The stored tensors of one float32 number."""
    return {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and list(t.dims) in ([], [1])}


def float_weights(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The stored tensors of float32 numbers, by name."""
    return {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
