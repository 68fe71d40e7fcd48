"""Weights that lie in a file beside the ONNX file, because one file cannot hold them: written, checked and read.

A protobuf message ends at 2^31 - 1 bytes. The ONNX specification (docs/ExternalData.md) lets a tensor name a file beside the
model instead; such a name is not trusted: it must lead to a regular file inside the model's own folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from deploykit.errors import ModelFileError
from deploykit.onnx_file import walk

if TYPE_CHECKING:
    import onnx_ir as ir

LIMIT = 2_000_000_000  # bytes in one file; room is left below protobuf's own limit for the graph and the contract
ALIGNMENT = 4096  # offsets that onnxruntime can map into memory
SMALL = 1024  # bytes of a tensor that stays in the graph: shape inference reads shapes and the like there


def weight_bytes(model: ir.Model) -> int:
    """The bytes that the initializers of the main graph take."""
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)


def move_out(model: ir.Model, file: Path) -> None:
    """Write the weights of `model` to `file`, one tensor at a time, and let the graph name that file."""
    import onnx_ir as ir

    with file.open("wb") as stream:
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < SMALL:
                continue
            stream.write(bytes(-stream.tell() % ALIGNMENT))
            offset = stream.tell()
            stream.write(tensor.tobytes())
            value.const_value = ir.ExternalTensor(
                file.name,
                offset,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=tensor.name or value.name or "",
                base_dir=file.parent,
            )


def rename(model: onnx.ModelProto, new: str) -> None:
    """Write the file name `new` into every tensor whose values lie outside the message, in place."""
    for tensor in external(model):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = new


def external(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The tensors whose values lie outside the message, those in nodes, loops and branches included."""
    return (tensor for tensor in walk.tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL)


def locations(model: onnx.ModelProto) -> set[str]:
    """The files that hold weights of the model, as it names them."""
    return {onnx.external_data_helper.ExternalDataInfo(tensor).location for tensor in external(model)}


def check(model: onnx.ModelProto, path: Path) -> None:
    """Raise `ModelFileError` where weights of the model at `path` end behind the end of their file.

    That the file is there, and inside the model's folder, was asked when the model was read.
    """
    for tensor in external(model):
        location, offset, length = _place(tensor, path)
        if offset + length > (path.parent / location).stat().st_size:
            raise ModelFileError(
                f"{path}: the weights of {tensor.name[:80]!r} end behind the end of {location[:80]!r}", "copy both files again"
            )


def inlined(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The model, changed in place so that all its weights are inside the message; `check` it first, and know that they fit."""
    for tensor in external(model):
        location, offset, length = _place(tensor, path)
        with (path.parent / location).open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return model


def bytes_outside(model: onnx.ModelProto, path: Path) -> int:
    """The bytes that the tensors outside the message take; see `external`. Raises `ModelFileError`."""
    return sum(_place(tensor, path)[2] for tensor in external(model))


def elements(tensor: onnx.TensorProto) -> int:
    """How many numbers a tensor has, by its shape."""
    return math.prod(int(d) for d in tensor.dims)


def array(tensor: onnx.TensorProto, folder: Path | None) -> NDArray[Any] | None:
    """The values of a tensor, mapped from its file where it lies outside the message; `None` where that file is not known."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    if folder is None:
        return None
    location, offset, _ = _place(tensor, folder / "model")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(folder / location, dtype, "r", offset, tuple(tensor.dims))


def _place(tensor: onnx.TensorProto, path: Path) -> tuple[str, int, int]:
    """Location, offset and length in bytes. Raises `ModelFileError` for numbers that make no sense."""
    try:
        info = onnx.external_data_helper.ExternalDataInfo(tensor)
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        needed = elements(tensor) * size
        offset, length = int(info.offset or 0), int(info.length or needed)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: {tensor.name[:80]!r} says in no legal way where its weights lie") from error
    if offset < 0 or length < 0 or length != needed or any(d < 0 for d in tensor.dims):
        raise ModelFileError(f"{path}: {tensor.name[:80]!r} needs {needed} bytes of weights and names {length}", "export it again")
    return info.location, offset, length
