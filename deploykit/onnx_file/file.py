"""Read and write ONNX files, with the contract inside: checked before they are read, written whole or not at all."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError

from deploykit import files
from deploykit.errors import ExportError, ModelFileError
from deploykit.onnx_file import external_data, walk
from deploykit.onnx_file import guard as onnx_guard
from deploykit.runtime import contract as contracts
from deploykit.runtime.bounds import survey
from deploykit.runtime.contract import Contract
from deploykit.runtime.onnx_bytes import read_model


def read(path: Path) -> onnx.ModelProto:
    """Load a model without its external data. Raises `ModelFileError` for what is missing, truncated or no ONNX file."""
    if not path.is_file() and not path.is_dir():
        raise ModelFileError(f"there is no file {path}", "export it first, or check the path")
    data = onnx_guard.read(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ModelFileError(f"{path} is not a whole ONNX file", "export it again") from error
    if not model.opset_import or not model.ir_version or not model.HasField("graph"):
        raise ModelFileError(f"{path} is not a whole ONNX file: it has no graph or no opset", "export it again")
    return model


def read_whole(path: Path) -> tuple[onnx.ModelProto, Path | None]:
    """A model with its weights inside, also where they lay beside it; gives the folder of those that are too many for that.

    Raises `ModelFileError`, also for external data that are missing, cut short or outside the model's folder.
    """
    model = read(path)
    if not external_data.locations(model):
        return model, None
    external_data.check(model, path)
    if external_data.bytes_outside(model, path) > external_data.LIMIT:
        return model, path.parent
    return external_data.inlined(model, path), None


def opset(model: onnx.ModelProto) -> int:
    """The version of the standard operator set that the file asks for (0 if it asks for none)."""
    versions: list[int] = [entry.version for entry in model.opset_import if entry.domain in walk.STANDARD]
    return max(versions, default=0)


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The model as the bytes of its file: equal models are equal bytes. Raises `ExportError` above the limit of one file."""
    try:
        data: bytes = model.SerializeToString(deterministic=True)
    except (ValueError, EncodeError) as error:
        raise ExportError(
            f"the model does not fit in one ONNX file of {external_data.LIMIT / 1e9:.0f} GB ({type(error).__name__})"
        ) from error
    if len(data) > external_data.LIMIT:
        raise ExportError(f"the model does not fit in one ONNX file: it has {len(data):,} bytes")
    return data


def write(model: onnx.ModelProto, path: Path, weights: Path | None = None) -> int:
    """Write the model, whole or not at all; gives the size in bytes of all that was written. Raises `OutputError`.

    `weights`: the temporary file in the same folder in which the model's external data lie. It gets a name that its content
    decides, so the old model and its weights stay together until the new model takes their place.
    """
    path = files.real_path(path)  # weights lie beside the file, not beside a link to it
    size = 0
    before = _weights_of(path)
    if weights is not None and external_data.locations(model):
        final = path.with_name(f"{path.stem}.{files.sha256(weights)[:12]}.data")
        external_data.rename(model, final.name)
        size = weights.stat().st_size
        files.publish(weights, final)
    data = to_bytes(model)
    files.write_bytes(path, data)
    for name in before - external_data.locations(model):
        if re.fullmatch(re.escape(path.stem) + r"\.[0-9a-f]{12}\.data", name):
            path.with_name(name).unlink(missing_ok=True)
    return size + len(data)


def _weights_of(path: Path) -> set[str]:
    """The names of the files that hold weights of the model now at `path`; none where that is no model."""
    try:
        return set(survey(read_model(path), str(path)).locations) if path.is_file() else set()
    except ModelFileError:
        return set()


def get_contract(model: onnx.ModelProto) -> Contract | None:
    """The contract inside, `None` for a file that somebody else made. Raises `ContractError` for a bad one."""
    for entry in model.metadata_props:
        if entry.key == contracts.KEY:
            return contracts.loads(entry.value)
    return None


def has_contract(model: onnx.ModelProto) -> bool:
    """Whether the file says that deploykit made it."""
    return any(entry.key == contracts.KEY for entry in model.metadata_props)


def set_contract(model: onnx.ModelProto, contract: Contract) -> None:
    """Put the contract into the file, in place of the one it has."""
    kept = [(e.key, e.value) for e in model.metadata_props if e.key != contracts.KEY]
    del model.metadata_props[:]
    for key, value in sorted([*kept, (contracts.KEY, contract.dumps())]):
        model.metadata_props.add(key=key, value=value)


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each operator, bodies of loops and branches included, sorted by name."""
    return dict(sorted(Counter(walk.operator(node) for node in walk.nodes(model.graph)).items()))


def number_type(elem_type: int) -> np.dtype[Any] | None:
    """The type that numpy has for a type of ONNX, `None` for texts, for types that it does not have, and for what is no type."""
    try:
        found = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
    except (KeyError, TypeError, ValueError):
        return None
    # onnx borrows bfloat16, float8 and int4 from ml_dtypes; numpy knows them as strangers, and nobody else takes them.
    return found if found.kind in "fiub" and found.isbuiltin == 1 else None
