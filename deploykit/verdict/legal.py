"""Is the file a legal ONNX model that the runtime can load, with nothing broken inside?"""

from __future__ import annotations

import re

import numpy as np
import onnx
from onnx import numpy_helper

from deploykit import onnx_file, ort
from deploykit.errors import ExportError, ModelFileError
from deploykit.verdict._types import Check

_MULTIPLYING = frozenset({"BatchNormalization", "Conv", "ConvTranspose", "Einsum", "Gemm", "LayerNormalization", "MatMul", "Mul"})


def checks(model: onnx.ModelProto) -> list[Check]:
    """Structure and types, finite weights, and whether onnxruntime loads it."""
    return [_structure(model), _finite(model), _loads(model)]


def traces(model: onnx.ModelProto) -> str:
    """A remark if the file tells strangers about the machine that made it, else empty. Files of deploykit never do."""
    for node in model.graph.node:
        if any("stack_trace" in entry.key for entry in node.metadata_props):
            return f"{node.name} carries a stack trace of the exporting machine"
        if re.search(r"(^|[\s\"'])(/(home|root|Users)/|[A-Z]:\\)", node.doc_string):
            return f"{node.name} carries a path of the exporting machine"
    return ""


def _structure(model: onnx.ModelProto) -> Check:
    try:
        onnx.checker.check_model(onnx_file.to_bytes(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ExportError, ValueError) as error:
        return Check("legal", False, _first_line(error))
    return Check("legal", True, f"onnx checker and strict shape inference, opset {onnx_file.opset(model)}")


def _finite(model: onnx.ModelProto) -> Check:
    """NaN nowhere; infinity only where nothing is multiplied by it, as in a comparison or a mask."""
    multiplied = {name for node in model.graph.node if node.op_type in _MULTIPLYING for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.issubdtype(values.dtype, np.floating):
            continue
        if np.isnan(values).any():
            return Check("finite weights", False, f"{tensor.name} holds NaN")
        if tensor.name in multiplied and not np.isfinite(values).all():
            return Check("finite weights", False, f"{tensor.name} holds infinity")
    return Check("finite weights", True, f"{len(model.graph.initializer)} tensors")


def _loads(model: onnx.ModelProto) -> Check:
    try:
        session = ort.open_session(onnx_file.to_bytes(model))
    except (ModelFileError, ExportError) as error:
        return Check("loads", False, error.problem)
    return Check("loads", True, f"onnxruntime, {session.get_providers()[0]}")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
