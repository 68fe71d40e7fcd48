"""The keywords of `tune` that are not about the network, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploykit import arguments as read
from deploykit import backends
from deploykit.errors import DependencyMissing, InputError, UnknownName
from deploykit.progress import Progress
from deploykit.runtime import openvino
from deploykit.tuner import candidates as kinds
from deploykit.tuner.result import Goal
from deploykit.verdict.same_decisions import Budget


@dataclass(frozen=True)
class Options:
    """See `tune`. `engines` and `precisions`: those to choose from."""

    data: str | None
    budget: Budget
    goal: Goal
    batch: int | None
    threads: int | None
    engines: tuple[str, ...]
    precisions: tuple[str, ...]
    device: str
    seconds: float
    seed: int
    out: Path | None
    progress: Progress


def engines(asked: Sequence[str] | None) -> tuple[str, ...]:
    """The engines to choose from, onnxruntime first; all that run ONNX files and are there, for `None`."""
    known = [name for name in backends.names() if name in ("onnxruntime", "openvino")]
    if asked is None:
        return tuple(name for name in known if name != "openvino" or openvino.installed())
    for name in asked:
        if name not in known:
            raise UnknownName.among("engine", name, known)
    if "openvino" in asked and not openvino.installed():
        raise DependencyMissing.of(openvino.PACKAGE, openvino.PACKAGE)
    if not asked:
        raise InputError("no engine was chosen", f"choose from {', '.join(known)}")
    return tuple(sorted(set(asked)))


def precisions(asked: Sequence[str] | None) -> tuple[str, ...]:
    """The precisions to choose from; all that there are, for `None`."""
    known = kinds.precisions()
    for name in asked or ():
        if name not in known:
            raise UnknownName.among("precision", name, known)
    if asked is not None and not asked:
        raise InputError("no precision was chosen", f"choose from {', '.join(known)}")
    return known if asked is None else tuple(dict.fromkeys(asked))


def share(value: float, name: str) -> float:
    """A number from 0 to 1. Raises `InputError`."""
    found = read.real(value, name)
    if found > 1:
        raise InputError(f"{name} cannot be {value!r:.40}", "give a number from 0 to 1")
    return found
