"""What a checkpoint from a stranger must pass: an archive that is no bomb, dense tensors, and a network no larger than they are."""

from __future__ import annotations

import struct
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook, register_module_parameter_registration_hook

from deploykit.errors import CheckpointError

MAX_DIRECTORY = 32 << 20  # bytes of the list of records in a .pt file, which is a zip archive
MAX_PICKLE = 16 << 20  # bytes of its pickle; 200 a tensor are usual
SPARE_MODULES = 1000  # layers without weights, beside the ones that the tensors account for

_END, _END_64, _LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_END_SIZE, _LOCATOR_SIZE, _LONGEST_COMMENT = 22, 20, 0xFFFF


def require_bearable_archive(path: Path) -> list[str]:
    """The names of the records of a zip archive. Raises `CheckpointError` for one that unpacks to much more than it is.

    `torch.save` does not compress.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        if _directory_size(stream, size) > MAX_DIRECTORY:
            raise CheckpointError(f"{path} was refused: it lists too many records", "save model.state_dict() with torch.save")
        try:
            records = zipfile.ZipFile(stream).infolist()
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, struct.error, UnicodeError) as error:
            reason = f"cannot be read as a PyTorch checkpoint ({type(error).__name__}: {error})"
            raise CheckpointError(f"{path} {reason}", "is the file whole?") from error
    unpacked = sum(record.file_size for record in records)
    if unpacked > 2 * size + (1 << 20):
        raise CheckpointError(
            f"{path} was refused: {size:,} bytes would unpack to {unpacked:,}", "save model.state_dict() with torch.save"
        )
    if any(record.filename.endswith(".pkl") and record.file_size > MAX_PICKLE for record in records):
        raise CheckpointError(f"{path} was refused: its pickle is too large", "save model.state_dict() with torch.save")
    return [record.filename for record in records]


def require_dense(name: str, tensor: Tensor, source: str) -> None:
    """Raise `CheckpointError` for a tensor that is sparse, quantized, complex, or has no values."""
    if not is_dense(tensor):
        raise CheckpointError(
            f"{source} holds {name[:80]!r}, which is no dense tensor of real numbers",
            "save model.state_dict() of the plain network",
        )


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor has values in memory, one real number per element."""
    odd = tensor.is_quantized or tensor.is_complex() or tensor.is_nested
    return tensor.layout is torch.strided and not odd and tensor.device.type == "cpu"


@contextmanager
def building_within(tensors: Mapping[str, Tensor], source: str, spare: int = 0) -> Iterator[None]:
    """Within the block a network may be built that has no more parameters, elements and modules than `tensors` account for.

    `spare`: elements of a layer that is built, too, and then replaced.

    The arguments in a checkpoint's header are a stranger's: a width of a billion must be refused before memory is asked for.
    Raises `CheckpointError` from the module that is one too many. Only modules built by this thread are looked at.
    """
    thread = threading.get_ident()
    left = {
        "parameters": len(tensors) + 1 + 2 * (spare > 0),
        "elements": sum(tensor.numel() for tensor in tensors.values()) + 1 + spare,
        "modules": 4 * len(tensors) + SPARE_MODULES,
    }

    def take(kind: str, count: int) -> None:
        left[kind] -= count
        if threading.get_ident() == thread and left[kind] < 0:
            raise CheckpointError(
                f"{source} describes a network with more {kind} than its {len(tensors)} tensors have",
                "is the file damaged or forged?",
            )

    def parameter(_module: nn.Module, _name: str, value: Any) -> None:
        if isinstance(value, Tensor) and threading.get_ident() == thread:
            take("parameters", 1)
            take("elements", value.numel())

    def module(_module: nn.Module, _name: str, _child: Any) -> None:
        if threading.get_ident() == thread:
            take("modules", 1)

    hooks = [register_module_parameter_registration_hook(parameter), register_module_module_registration_hook(module)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _directory_size(stream: Any, size: int) -> int:
    """The bytes of the archive's central directory by its own account (APPNOTE.TXT 4.3.14 to 4.3.16); 0 where it has no end."""
    start = max(0, size - _END_SIZE - _LONGEST_COMMENT - _LOCATOR_SIZE)
    stream.seek(start)
    tail: bytes = stream.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) - end < _END_SIZE:
        return 0
    (found,) = struct.unpack_from("<L", tail, end + 12)
    locator = end - _LOCATOR_SIZE
    if locator >= 0 and tail[locator : locator + 4] == _LOCATOR_64:
        (offset,) = struct.unpack_from("<Q", tail, locator + 8)
        if offset + 56 <= size:
            stream.seek(offset)
            wide: bytes = stream.read(56)
            if wide[:4] == _END_64:
                (found,) = struct.unpack_from("<Q", wide, 40)
    return int(found)
