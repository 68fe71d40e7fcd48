"""What a subject is made of: its network, and inputs for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import InputError
from deploykit.profiler.worker import Subject

if TYPE_CHECKING:
    from deploykit.target import Network


def network(subject: Subject) -> Network:
    """The PyTorch network of a subject. Raises what `deploykit.target.resolve` raises."""
    from deploykit import target as targets

    return targets.resolve(
        subject.target,
        weights=subject.checkpoint,
        untrained=subject.untrained,
        seed=subject.seed,
        arguments=subject.arguments or None,
        input_shapes=subject.input_shapes,
    )


def inputs(subject: Subject, batch: int, seed: int = 0) -> list[NDArray[Any]]:
    """Standard normal values, or 0 and 1 where it takes integers; one array (batch, ...) per input, the same for a seed."""
    if subject.is_file:
        return of_file(Path(subject.target), batch, subject.input_shapes, seed)
    import torch

    generator = torch.Generator().manual_seed(seed)
    return [spec.random(batch, generator).numpy() for spec in network(subject).inputs]


def of_file(
    file: Path, batch: int, shapes: Sequence[tuple[int, ...]] | None = None, seed: int = 0, required: bool = True
) -> list[NDArray[Any]]:
    """Inputs for an ONNX file. Raises `InputError` for a free size, other than the batch, that `shapes` does not fix.

    An input that takes no numbers is an error only where values are `required`.
    """
    from deploykit import onnx_file
    from deploykit.profiler import onnx_inputs

    generator = np.random.Generator(np.random.PCG64(seed))
    found: list[NDArray[Any]] = []
    for value in onnx_inputs.fixed(onnx_file.read(file), batch, shapes):
        if value.dtype is None and required:
            raise InputError(f"the input {value.name!r} takes no numbers, so it cannot be timed", "add --no-latency")
        if value.dtype is None:
            continue
        if value.dtype.kind == "f":
            found.append(generator.standard_normal(value.shape).astype(value.dtype))
        else:
            found.append(generator.integers(0, 2, value.shape).astype(value.dtype))
    return found
