"""The shared libraries that the file of an execution provider links against, and which of them this machine cannot load.

The provider's own file lists what it links against (the DT_NEEDED entries of an ELF file, see elf(5)). Each one is loaded
from NVIDIA's wheels or from the system, so the first error of the loader does not hide the second. The provider itself is
never loaded here: it must be onnxruntime that does so.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import onnxruntime

DRIVER = "libcuda.so.1"

_PROGRAM_DYNAMIC, _PROGRAM_LOAD = 2, 1
_TAG_NEEDED, _TAG_STRING_TABLE = 1, 5


def cuda_major() -> str | None:
    """The CUDA major version this onnxruntime was built for, `None` for the CPU wheel."""
    return (getattr(onnxruntime, "cuda_version", None) or "").split(".")[0] or None


def load_driver() -> str | None:
    """Why NVIDIA's driver library cannot be loaded, or `None` if it can (or this is not Linux)."""
    return _load(DRIVER) if sys.platform == "linux" else None


def missing(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the shared libraries `names` that cannot be loaded. What can be loaded stays loaded."""
    return tuple(name for name in names if _load(name) is not None)


def package_of(library: str) -> str | None:
    """The package that brings a library: "libcurand.so.10" -> "nvidia-curand" (CUDA 13) or "nvidia-curand-cu12"."""
    stem = library.split(".")[0].removeprefix("lib").lower()
    known = {
        "cublas": "cublas", "cublaslt": "cublas", "curand": "curand", "cudart": "cuda-runtime", "cufft": "cufft",
        "nvrtc": "cuda-nvrtc", "cudnn": "cudnn", "nvinfer": "", "nvonnxparser": "",
    }  # fmt: skip
    part = known.get(stem)
    if part is None:
        return None
    major = cuda_major() or "13"
    if not part:
        return f"tensorrt-cu{major}"
    return f"nvidia-{part}" if int(major) >= 13 and part != "cudnn" else f"nvidia-{part}-cu{major}"


@cache
def needed(provider: str) -> tuple[str, ...]:
    """The libraries the provider's file names, in its order; () where there is no such file or it cannot be read."""
    short = provider.removesuffix("ExecutionProvider").lower()
    file = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{short}.so"
    try:
        return _needed_of(file)
    except (OSError, ValueError, struct.error, UnicodeDecodeError):
        return ()


def _load(library: str) -> str | None:
    """Load it, NVIDIA's wheels first; the loader's complaint where that fails."""
    # onnxruntime and NVIDIA's wheels are installed side by side.
    packages = Path(onnxruntime.__file__).parent.parent / "nvidia"
    complaint = ""
    for candidate in [*packages.glob(f"*/lib/{library}"), Path(library)]:
        try:
            ctypes.CDLL(str(candidate))
        except OSError as error:
            complaint = str(error)
        else:
            return None
    return complaint or library


def _needed_of(file: Path) -> tuple[str, ...]:
    """The DT_NEEDED names of a 64-bit little-endian ELF file."""
    with file.open("rb") as stream:

        def read(offset: int, size: int) -> bytes:
            stream.seek(offset)
            data = stream.read(size)
            if len(data) != size:
                raise ValueError("the file is truncated")
            return data

        header = read(0, 64)
        if header[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit little-endian ELF file")
        table, size, count = struct.unpack_from("<Q", header, 32)[0], *struct.unpack_from("<HH", header, 54)
        segments = [struct.unpack("<IIQQQQQQ", read(table + i * size, 56)) for i in range(count)]
        loads = [(s[3], s[2], s[5]) for s in segments if s[0] == _PROGRAM_LOAD]  # address, offset, size in the file
        dynamic = next(s for s in segments if s[0] == _PROGRAM_DYNAMIC)
        entries = list(struct.iter_unpack("<qQ", read(dynamic[2], dynamic[5] // 16 * 16)))
        strings = dict(entries)[_TAG_STRING_TABLE]
        start = next(strings - address + offset for address, offset, size in loads if address <= strings < address + size)
        names = [_text(read(start + value, 256)) for tag, value in entries if tag == _TAG_NEEDED]
    return tuple(names)


def _text(data: bytes) -> str:
    """Bytes up to the first zero, as ASCII."""
    return data.split(b"\0", 1)[0].decode("ascii")
