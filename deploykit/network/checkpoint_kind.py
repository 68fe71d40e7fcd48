"""What kind of file a checkpoint is, by its content: endings say little (`.bin`, `.pth.tar`, `.ckpt`, `.pkl`, none at all)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from deploykit.errors import CheckpointError
from deploykit.network import checkpoint_guard, checkpoint_pickle
from deploykit.network.places import NAME
from deploykit.network.request import WEIGHTS as ENDINGS

Kind = Literal["safetensors", "pickle"]
HEAD = 512  # bytes that tell

_UNPACK = "unpack it, and give the checkpoint in it"
_SAVE = "save model.state_dict() with torch.save or safetensors"
# How a file begins that is no checkpoint: what it is, and what to do.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "the pointer that Git LFS leaves in place of a file", "run `git lfs pull`"),
    (b"<!doctype", "a web page", "the download went wrong: try it in a browser"),
    (b"<html", "a web page", "the download went wrong: try it in a browser"),
    (b"<?xml", "an XML document", "the download may have gone wrong: try it in a browser"),
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"bzh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zxz\0", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"rar!", "a RAR archive", _UNPACK),
    (b"\x89hdf\r\n", "an HDF5 file, as Keras writes it", "give weights of the PyTorch network"),
    (b"gguf", "a GGUF file", "give the weights that it was converted from"),
    (b"\x93numpy", "a NumPy array", _SAVE),
    (b"{", "JSON", "if it lists the parts of a checkpoint, put their tensors into one file"),
)  # fmt: skip
# What a zip archive holds that torch.save did not write.
_ARCHIVES: tuple[tuple[str, str, str], ...] = (
    ("/constants.pkl", "TorchScript, not weights", "torch.jit.load({}).state_dict()"),
    ("/extern_modules", "a package of torch.package, not weights", ""),
    ("/archive_format", "an exported program of torch.export, not weights", "dict(torch.export.load({}).state_dict)"),
    (".npy", "an archive of NumPy arrays", ""),
)


def kind_of(path: Path) -> Kind:
    """How the file is to be read. Raises `CheckpointError` for a file that is missing or known to be something else.

    What is not recognized is a "pickle", or "safetensors" if its name says so: the reader will say what is wrong with it.
    """
    require_file(path)
    with path.open("rb") as stream:
        head = stream.read(HEAD)
        size = stream.seek(0, 2)
    if not head:
        raise CheckpointError(f"{path} is empty", "was it written or downloaded to the end?")
    if head.startswith(b"PK\3\4"):
        _require_torch_archive(path)
        return "pickle"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, what, hint in _OTHERS:
        if begin.startswith(magic):
            raise CheckpointError(f"{path} is no checkpoint but {what}", hint)
    if head[257:262] == b"ustar":
        raise CheckpointError(f"{path} is a tar archive, whatever may lie in it", _UNPACK)
    if checkpoint_pickle.MAGIC in head[:32]:
        return "pickle"
    if path.suffix == ".safetensors":
        return "safetensors"
    if path.suffix not in ENDINGS and head[:1] not in b"\x80(c}]":  # as pickles begin
        raise CheckpointError(f"{path} is no checkpoint: it ends in {path.suffix!r}, and begins like none", _SAVE)
    return "pickle"


def is_safetensors(path: Path) -> bool:
    """Whether the file is to be read as safetensors, whatever its ending; by its ending where it is no file."""
    if not path.is_file():
        return path.suffix == ".safetensors"
    return kind_of(path) == "safetensors"


def require_file(path: Path) -> None:
    """Raise `CheckpointError` where there is no such file."""
    if path.is_file():
        return
    hint = "check the path, or train the network first"
    if path.is_dir():
        hint = f"give the checkpoint in it{': ' + str(path / NAME) if (path / NAME).is_file() else ''}"
    elif path.suffix not in ENDINGS:
        hint = f"check the path: it ends in {path.suffix!r}, checkpoints in {', '.join(ENDINGS)}"
    raise CheckpointError(f"there is no checkpoint {path}" + (": it is a folder" if path.is_dir() else ""), hint)


def _require_torch_archive(path: Path) -> None:
    names = checkpoint_guard.require_bearable_archive(path)
    for ending, what, weights in _ARCHIVES:
        if any(f"/{name}".endswith(ending) for name in names):
            line = f"python -c \"import torch; torch.save({weights.format(repr(str(path)))}, 'weights.pth')\""
            raise CheckpointError(f"{path} is {what}", f"save its weights anew: {line}" if weights else _SAVE)
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(f"{path} is a zip archive that cannot be read as a PyTorch checkpoint", _UNPACK)
