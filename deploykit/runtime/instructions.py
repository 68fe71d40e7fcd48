"""Which instruction sets this machine has, of those that decide how fast int8 and half precision are."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

# As Linux names them: vector units of x86, its dot products of bytes, its matrix tiles; and the same of ARM.
KNOWN = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "bf16", "fphp", "sve",
)  # fmt: skip
BYTES = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"})
BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@cache
def instruction_sets() -> tuple[str, ...]:
    """Those of `KNOWN` that the processor has; `()` where the system does not tell."""
    return _known(Path("/proc/cpuinfo"))


def is_arm() -> bool:
    """Whether the processor is a 64-bit ARM."""
    return platform.machine().lower() in ("aarch64", "arm64")


def _known(file: Path) -> tuple[str, ...]:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    flags = next((line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))), [])
    return tuple(name for name in KNOWN if name in flags)
