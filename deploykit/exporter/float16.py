"""A float16 file: half the size, the same inputs and outputs in float32, so that applications need not change."""

from __future__ import annotations

import onnx

from deploykit.errors import DependencyMissing, ExportError, first_line


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in float16, by onnxruntime's own converter; operators that have no float16 keep float32.

    Inputs and outputs stay float32, with a cast behind and before them. Raises `ExportError` where there is nothing to convert.
    """
    try:
        from onnxruntime.transformers import float16
    except ImportError as error:
        raise DependencyMissing.of("onnxruntime", "gpu") from error
    if not any(tensor.data_type == onnx.TensorProto.FLOAT for tensor in model.graph.initializer):
        raise ExportError("the network has no float32 weights to store as float16", "leave out --precision fp16")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        half: onnx.ModelProto = float16.convert_float_to_float16(copy, keep_io_types=True)
    except Exception as error:  # the converter asserts, indexes and infers shapes in native code
        raise ExportError(
            f"the network cannot be converted to float16 ({type(error).__name__}: {first_line(error, 200)})"
        ) from error
    return _tidied(half)


def _tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The converter appends its casts and counts them; here they stand where they belong: ``input/Cast``, ``logits/Cast``."""
    import onnx_ir as ir

    # The converter leaves types of values behind that are no longer true; they are inferred anew.
    del model.graph.value_info[:]
    found = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(model, data_prop=True))
    for node in found.graph:
        if node.op_type != "Cast" or node.name is None or not node.inputs or not node.outputs or node.inputs[0] is None:
            continue
        before, after = node.inputs[0], node.outputs[0]
        if node.name.startswith("graph_input_cast"):
            node.name, after.name = f"{before.name}/Cast", f"{before.name}/float16"
        elif node.name.startswith("graph_output_cast"):
            node.name, before.name = f"{after.name}/Cast", f"{after.name}/float16"
    found.graph.sort()
    return ir.serde.serialize_model(found)
