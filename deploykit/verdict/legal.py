"""Is the file a legal ONNX model that the runtime can load, with nothing broken inside?"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import onnx

from deploykit import files, onnx_file
from deploykit.errors import ExportError, ModelFileError, OutputError, first_line
from deploykit.onnx_file import external_data
from deploykit.runtime.isolation import isolated
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.result import Check

_MULTIPLYING = frozenset({"BatchNormalization", "Conv", "ConvTranspose", "Einsum", "Gemm", "LayerNormalization", "MatMul", "Mul"})


def checks(deployed: Deployed) -> list[Check]:
    """Structure and types, finite weights, and whether onnxruntime loads it."""
    return [_structure(deployed), _finite(deployed), _loads(deployed)]


def traces(model: onnx.ModelProto) -> str:
    """A remark if the file tells strangers about the machine that made it, else empty. Files of deploykit never do."""
    for node in model.graph.node:
        if any("stack_trace" in entry.key for entry in node.metadata_props):
            return f"{node.name} carries a stack trace of the exporting machine"
        if re.search(r"(^|[\s\"'])(/(home|root|Users)/|[A-Z]:\\)", node.doc_string):
            return f"{node.name} carries a path of the exporting machine"
    return ""


def _structure(deployed: Deployed) -> Check:
    try:
        if deployed.folder is None:
            onnx.checker.check_model(onnx_file.to_bytes(deployed.model), full_check=True)
        else:
            # Only by a path does the checker know where to look for weights outside the message.
            with files.temporary(deployed.folder / "checked.onnx") as path:
                path.write_bytes(onnx_file.to_bytes(deployed.model))
                onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ExportError, OutputError, ValueError) as error:
        return Check("legal", False, first_line(error))
    return Check("legal", True, f"onnx checker and strict shape inference, opset {onnx_file.opset(deployed.model)}")


def _finite(deployed: Deployed) -> Check:
    """NaN nowhere; infinity only where nothing is multiplied by it, as in a comparison or a mask."""
    model = deployed.model
    multiplied = {name for node in model.graph.node if node.op_type in _MULTIPLYING for name in node.input}
    for tensor in model.graph.initializer:
        values = external_data.array(tensor, deployed.folder)
        if values is None or not np.issubdtype(values.dtype, np.floating):
            continue
        if np.isnan(values).any():
            return Check("finite weights", False, f"{tensor.name} holds NaN")
        if tensor.name in multiplied and not np.isfinite(values).all():
            return Check("finite weights", False, f"{tensor.name} holds infinity")
    return Check("finite weights", True, f"{len(model.graph.initializer)} tensors")


def _loading(deployed: Deployed) -> Callable[[], bytes]:
    def work() -> bytes:
        deployed.session()
        return b""

    return work


def _loads(deployed: Deployed) -> Check:
    try:
        if deployed.precision == "fp16":
            # onnxruntime 1.31 crashes on some float16 graphs on the CPU; a file from outside was tried when it was read.
            isolated(_loading(deployed), "the file", len(onnx_file.to_bytes(deployed.model)))
        session = deployed.session()
    except (ModelFileError, ExportError) as error:
        return Check("loads", False, error.problem)
    return Check("loads", True, f"onnxruntime, {session.get_providers()[0]}")
