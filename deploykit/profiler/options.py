"""`Options`: the keywords of `profile` that are not about the network; `checked` refuses impossible ones."""

from __future__ import annotations

from dataclasses import dataclass

from deploykit import backends as engines
from deploykit.errors import InputError, UnknownName
from deploykit.profiler import conventions
from deploykit.profiler.pytorch.layers import Depth
from deploykit.progress import Progress

BACKENDS = ("torch", "onnxruntime")


@dataclass(frozen=True)
class Options:
    """How to profile. `batch`: samples per run, `None` for 1 or what a file fixes. `latency`: whether to measure times.

    `seconds`: about how long each comparison may take. `threads`: of every engine. `device`: "cpu", "cuda", "cuda:1" or "auto".
    """

    batch: int | None
    convention: str
    depth: Depth
    backends: tuple[str, ...]
    latency: bool
    device: str
    threads: int
    seconds: float
    progress: Progress


def checked(options: Options) -> Options:
    """The options, unchanged. Raises `InputError` or `UnknownName` for one that is not possible."""
    conventions.get(options.convention)
    for backend in options.backends:
        if backend not in engines.names():
            raise UnknownName.among("backend", backend, engines.names())
    if not options.backends:
        raise InputError("no backend was chosen", f"choose from {', '.join(engines.names())}")
    if options.batch is not None and not 1 <= options.batch <= 1 << 20:
        raise InputError(f"a batch of {options.batch} is not possible", "choose 1 or more")
    if options.depth != "leaves" and options.depth < 0:
        raise InputError(f"a depth of {options.depth} is not possible", "choose leaves, or 0 or more levels")
    return options
