"""`Options`: the keywords of `profile` that are not about the network; `checked` refuses impossible ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deploykit import arguments as read
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
    `tree`: whether to sum up per module.
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
    tree: bool = False


def checked(options: Options) -> Options:
    """The options, with Python's own numbers. Raises `InputError` or `UnknownName` for one that is not possible."""
    conventions.get(read.text(options.convention, "convention", "macs"))
    for backend in options.backends:
        if backend not in engines.names():
            raise UnknownName.among("backend", backend, engines.names())
    if not options.backends:
        raise InputError("no backend was chosen", f"choose from {', '.join(engines.names())}")
    depth: Depth = "leaves" if options.depth == "leaves" else read.whole(options.depth, "depth", 0, 1 << 20)
    return replace(
        options, batch=read.whole(options.batch, "batch", 1, 1 << 20), depth=depth, seconds=read.real(options.seconds, "seconds")
    )
