"""`peak`: the GFLOP/s of a large matrix product and the GB/s of a large copy on this machine, measured once per process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from deploykit.network.tf32 import without_tf32

SIDE = 1536  # rows and columns of the matrices
COPY_BYTES = 1 << 28  # far more than any cache holds
REPEATS = 7  # of which the fastest counts


@dataclass(frozen=True)
class Peak:
    """`gflops`: float32 GFLOP/s of a square matrix product, without TF32; `gigabytes`: GB/s read plus written by a copy."""

    gflops: float
    gigabytes: float


@cache
def peak(device: str, threads: int) -> Peak:
    """Measured with `threads` threads on the first call of the process, about a second; remembered for the rest of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        numbers = torch.Generator(device).manual_seed(0)  # the caller's own random numbers go on
        a, b = (torch.rand(SIDE, SIDE, device=device, generator=numbers) for _ in range(2))
        with without_tf32():
            product = _best(lambda: torch.mm(a, b), device)
        source = torch.zeros(COPY_BYTES // 4, device=device)
        target = torch.empty_like(source)
        copy = _best(lambda: target.copy_(source), device)
    finally:
        torch.set_num_threads(before)
    return Peak(2 * SIDE**3 / product / 1e9, 2 * COPY_BYTES / copy / 1e9)


def _best(work: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of a few runs: the peak is what is possible, not what is usual."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times)
