"""`of`: the type of number that most weights of an ONNX file have, such as "float32" or "int8". `stored_bytes`: of all of them.

Loads no PyTorch.
"""

from __future__ import annotations

from collections import Counter
from math import prod

import onnx

from deploykit.onnx_file import walk

_NAMES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "int8",
    onnx.TensorProto.INT4: "int4",
    onnx.TensorProto.UINT4: "int4",
}


def of(model: onnx.ModelProto) -> str:
    """Such as "float32", or "int8" where most weights are stored so; of a file without weights, what its inputs are."""
    found: Counter[str] = Counter()
    for tensor in walk.tensors(model):
        if tensor.data_type in _NAMES:
            found[_NAMES[tensor.data_type]] += prod(tensor.dims)
    if not found:
        found.update(_NAMES[kind] for v in model.graph.input if (kind := v.type.tensor_type.elem_type) in _NAMES)
    return found.most_common(1)[0][0] if found else "unknown"


def stored_bytes(model: onnx.ModelProto) -> int:
    """The bytes of all stored numbers, wherever they lie, inside the file and beside it; two of four bits share one."""
    return sum(_bytes(tensor) for tensor in walk.tensors(model))


def _bytes(tensor: onnx.TensorProto) -> int:
    numbers, name = prod(tensor.dims), onnx.TensorProto.DataType.Name(tensor.data_type)
    if name.startswith(("INT4", "UINT4", "FLOAT4")):
        return (numbers + 1) // 2
    try:
        return numbers * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError, ValueError):  # texts, and types that a newer onnx knows
        return 0
