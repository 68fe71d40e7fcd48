"""Is the file a legal ONNX model that the runtime can load, with nothing broken inside?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx

from deploykit import files, onnx_file
from deploykit.errors import ExportError, ModelFileError, OutputError, counted, first_line
from deploykit.onnx_file import external_data, walk
from deploykit.runtime.isolation import isolated
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.result import Check

_APART = "deploykit.apart"
_CHOOSING = frozenset({"Where", "Expand", "Identity", "Cast", "CastLike", "Reshape", "ConstantOfShape"})
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
    """The check "legal". Raises `OutputError` where there is no room to look at a file with weights outside the message.

    Operators that the file's opset does not have, but onnxruntime does, are left out of it: its own optimizer writes them. And so
    are those over whose definition ONNX's own inference stumbles.
    """
    illegal = _illegal(deployed)
    left_out = [*_beyond(deployed.model), *_stumbling(deployed.model)]
    if illegal and left_out and _loads(deployed).passed:
        with _set_apart(deployed.model, left_out):
            illegal = _illegal(deployed)
    if illegal:
        return Check("legal", False, illegal)
    return Check("legal", True, f"onnx checker and strict shape inference, opset {onnx_file.opset(deployed.model)}")


def _illegal(deployed: Deployed) -> str:
    """What ONNX's checker and shape inference say against the file; empty for nothing."""
    try:
        if deployed.folder is None:
            onnx.checker.check_model(onnx_file.to_bytes(deployed.model), full_check=True)
        else:
            _check_without_weights(deployed.model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ExportError, ValueError) as error:
        return first_line(error)
    return ""


def own_operators(model: onnx.ModelProto) -> str:
    """A remark that names operators of ONNX's own domain that the file's opset does not have; empty for none."""
    names = list(dict.fromkeys(node.op_type for node in _beyond(model)))
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"opset {onnx_file.opset(model)} has no {shown}: onnxruntime runs this file, other runtimes may not" if names else ""


def _beyond(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    opset = onnx_file.opset(model)
    return [node for node in walk.nodes(model) if node.domain in walk.STANDARD and not onnx.defs.has(node.op_type, opset)]


def _stumbling(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Operators that onnx 1.23 takes for illegal: it fills in their definition without the default of `axes`."""
    return [node for node in walk.nodes(model) if node.op_type == "MeanVarianceNormalization" and not node.attribute]


@contextmanager
def _set_apart(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> Iterator[None]:
    """These nodes are in a domain of their own within the block, which no checker knows."""
    beyond = [(node, node.HasField("domain"), node.domain) for node in nodes]
    model.opset_import.append(onnx.helper.make_opsetid(_APART, 1))
    try:
        for node, _, _ in beyond:
            node.domain = _APART
        yield
    finally:
        for node, said, domain in beyond:
            node.domain = domain
            if not said:
                node.ClearField("domain")
        del model.opset_import[-1]


def _check_without_weights(model: onnx.ModelProto) -> None:
    """Check a model whose weights lie outside the message, in a folder of its own beside empty files in their place.

    Only by a path does the checker look for weights in files, and then wants regular ones: links to the real files it refuses.
    It does not read them; that they are there, long enough and inside the model's folder was asked when the model was read.
    """
    with files.scratch_folder() as folder:
        try:
            for location in external_data.locations(model):
                stand_in = folder / "weights" / location
                stand_in.parent.mkdir(parents=True, exist_ok=True)
                stand_in.touch()
            path = folder / "weights" / "checked.onnx"
            while path.exists():
                path = path.with_name(f"_{path.name}")
            path.write_bytes(onnx_file.to_bytes(model))
        except OSError as error:
            raise OutputError(
                f"cannot write a copy to check in {folder}: {first_line(error)}", "free the space, or set TMPDIR"
            ) from error
        onnx.checker.check_model(str(path), full_check=True)


def _finite(deployed: Deployed) -> Check:
    """NaN nowhere but in a lone number that is only chosen; infinity only where nothing is multiplied by it, as in a comparison."""
    model = deployed.model
    multiplied = {name for node in model.graph.node if node.op_type in _MULTIPLYING for name in node.input}
    calculated = {name for node in walk.nodes(model) if node.op_type not in _CHOOSING for name in node.input}
    for tensor in model.graph.initializer:
        values = external_data.array(tensor, deployed.folder)
        if values is None or not np.issubdtype(values.dtype, np.floating):
            continue
        if np.isnan(values).any() and (values.size > 1 or tensor.name in calculated):
            return Check("finite weights", False, f"{tensor.name} holds NaN")
        if tensor.name in multiplied and not np.isfinite(values).all():
            return Check("finite weights", False, f"{tensor.name} holds infinity")
    return Check("finite weights", True, counted(len(model.graph.initializer), "tensor"))


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
        session = deployed.answering()
    except (ModelFileError, ExportError) as error:
        return Check("loads", False, error.problem)
    return Check("loads", True, f"onnxruntime, {session.get_providers()[0]}")
