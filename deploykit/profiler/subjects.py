"""`Subject`, a network or file on a backend, and inputs for it as arrays; PyTorch is imported only where a network is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import InputError
from deploykit.network.request import Request
from deploykit.runtime import values as values_module
from deploykit.runtime.values import Values

if TYPE_CHECKING:
    import torch

    from deploykit.network.target import Network


@dataclass(frozen=True)
class Subject(Request):
    """What is timed: a network or file as it is asked for, on a backend.

    `backend`: `None` is "onnxruntime" for an ONNX file and "torch" for anything else. `label`: how the report calls it.
    `threads`: of its own, where it does not have those of all. `options`: of the backend, see `backends.start`. `rows`: it is
    run on so many of the first samples, where not on all.
    """

    backend: str | None = None
    label: str = ""
    threads: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None

    @property
    def engine(self) -> str:
        """The backend, where none was named the usual one."""
        return self.backend or ("onnxruntime" if self.is_file else "torch")

    @property
    def title(self) -> str:
        """The label, where none was given the target and its backend."""
        return self.label or f"{self.target} on {self.engine}"


def network(subject: Subject) -> Network:
    """The PyTorch network of a subject. Raises what `deploykit.network.target.resolve` raises."""
    from deploykit.network import target as targets

    return targets.resolve(subject)


def random_arrays(subject: Subject, batch: int | None, seed: int = 0) -> list[NDArray[Any]]:
    """Standard normal values, or whole numbers where it takes those; one array (batch, ...) per input, the same for a seed."""
    if subject.is_file:
        return arrays_of_file(Path(subject.target), batch, subject.input_shapes, seed, given=subject.inputs)
    return arrays_of_network(network(subject), batch, seed)


def arrays_of_network(network: Network, batch: int | None, seed: int = 0, values: bool = True) -> list[NDArray[Any]]:
    """Inputs for a network; without `values` only their shapes are real, and they take no memory."""
    import torch

    if not values:
        shapes = [spec.full_shape(batch or 1) for spec in network.inputs]
        return [np.broadcast_to(np.zeros((), np.uint8), shape) for shape in shapes]
    strange = next((spec for spec in network.inputs if spec.dtype == torch.bfloat16), None)
    if strange is not None:
        raise InputError(f"the input {strange.name!r} takes bfloat16, which numpy does not have", "add --no-latency")
    return [tensor.numpy() for tensor in tensors_of_network(network, batch, seed)]


def tensors_of_network(network: Network, batch: int | None, seed: int = 0) -> list[torch.Tensor]:
    """The same as tensors, of any type that torch has. Raises `InputError` for a batch that does not fit into memory."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    values = [(spec, spec.given(batch or 1) if spec.telling else None) for spec in network.inputs]
    return [spec.random(batch or 1, generator) if given is None else given for spec, given in values]


def arrays_of_file(
    file: Path,
    batch: int | None,
    shapes: Sequence[tuple[int, ...]] | None = None,
    seed: int = 0,
    values: bool = True,
    given: Values | Path | None = None,
) -> list[NDArray[Any]]:
    """Inputs for an ONNX file. Raises `InputError` for a free size, other than the batch, that `shapes` does not fix.

    Without `values` they take no memory, and an input of which no values can be made up is no error; else it raises `Unmade`.
    """
    from deploykit import onnx_file
    from deploykit.onnx_file import inputs as graph_inputs
    from deploykit.profiler.onnx import inputs as onnx_inputs

    arrays = values_module.of_inputs(given)
    model = onnx_file.read(file)
    if arrays is not None:
        return list(graph_inputs.given_feeds(model.graph, arrays, str(file)).values())
    found = onnx_inputs.fixed(model, batch, shapes)
    if not values:
        return [np.broadcast_to(np.zeros((), entry.dtype or np.uint8), entry.shape or ()) for entry in found]
    return list(onnx_inputs.values(found, seed).values())
