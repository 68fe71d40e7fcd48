"""ONNX files on disk: read with suspicion, written whole, with the contract inside."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError

from deploykit import files, onnx_guard
from deploykit.errors import ExportError, ModelFileError
from deploykit.runtime import contract as contracts
from deploykit.runtime.contract import Contract

LIMIT = 2_000_000_000  # bytes; a protobuf message ends at 2^31 - 1, and room is left for the contract


def read(path: Path) -> onnx.ModelProto:
    """Load a model without its external data. Raises `ModelFileError` for what is missing, truncated or no ONNX file."""
    if not path.is_file():
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


def opset(model: onnx.ModelProto) -> int:
    """The version of the standard operator set that the file asks for (0 if it asks for none)."""
    versions: list[int] = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=0)


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The file's bytes: equal models are equal bytes. Raises `ExportError` above the limit of one file."""
    try:
        data: bytes = model.SerializeToString(deterministic=True)
    except (ValueError, EncodeError) as error:
        raise ExportError(f"the model does not fit in one ONNX file of {LIMIT / 1e9:.0f} GB ({type(error).__name__})") from error
    if len(data) > LIMIT:
        raise ExportError(f"the model does not fit in one ONNX file: it has {len(data):,} bytes")
    return data


def write(model: onnx.ModelProto, path: Path) -> int:
    """Write the model, whole or not at all; gives its size in bytes. Raises `OutputError`."""
    data = to_bytes(model)
    files.write_bytes(path, data)
    return len(data)


def get_contract(model: onnx.ModelProto) -> Contract | None:
    """The contract inside, `None` for a file that somebody else made. Raises `ContractError` for a bad one."""
    for entry in model.metadata_props:
        if entry.key == contracts.KEY:
            return contracts.loads(entry.value)
    return None


def set_contract(model: onnx.ModelProto, contract: Contract) -> None:
    """Put the contract into the file, in place of the one it has."""
    kept = [(e.key, e.value) for e in model.metadata_props if e.key != contracts.KEY]
    del model.metadata_props[:]
    for key, value in sorted([*kept, (contracts.KEY, contract.dumps())]):
        model.metadata_props.add(key=key, value=value)


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each operator, bodies of loops and branches included, sorted by name."""
    found: Counter[str] = Counter()
    pending = [model.graph]
    while pending:
        for node in pending.pop().node:
            found[node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"] += 1
            for attribute in node.attribute:
                pending.extend(attribute.graphs)
                if attribute.type == onnx.AttributeProto.GRAPH:
                    pending.append(attribute.g)
    return dict(sorted(found.items()))
