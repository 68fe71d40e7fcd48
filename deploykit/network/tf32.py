"""TF32, the shortened float32 of NVIDIA's tensor cores: off while deploykit works, and as it was afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


class _Switch:
    """One setting of the whole process, which several blocks may want off at a time."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a forgotten engine may end in the middle of another one
        self._blocks = 0
        self._restore: Callable[[], None] = lambda: None

    @contextmanager
    def off(self) -> Iterator[None]:
        """Products and convolutions on CUDA in plain float32 within the block, as in onnxruntime's sessions.

        Blocks may overlap in any way: the first that begins remembers the caller's setting, the last that ends puts it back.
        """
        with self._lock:
            if not self._blocks:
                self._restore = _switch_off()
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._restore()


without_tf32 = _Switch().off


def _switch_off() -> Callable[[], None]:
    """Switch it off; the result puts back what was before.

    torch has two interfaces to this, `allow_tf32` and `fp32_precision`. The caller may have used either; both must agree while
    deploykit works, because torch refuses to read the first, and to compile, where they do not.
    """
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    places: list[Any] = [cuda, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]
    precisions = [place.fp32_precision for place in places]
    allowed: tuple[bool, bool] | None
    try:
        allowed = cuda.allow_tf32, cudnn.allow_tf32
    except RuntimeError:  # the two disagree; then only the newer one counts
        allowed = None

    def put(flags: tuple[bool, bool] | None, each: list[str]) -> None:
        if flags is not None:
            cuda.allow_tf32, cudnn.allow_tf32 = flags
        for place, precision in zip(places, each, strict=True):
            place.fp32_precision = precision

    put((False, False), ["ieee"] * len(places))
    return lambda: put(allowed, precisions)
