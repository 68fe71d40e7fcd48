"""The inputs on which two networks are compared: real samples, noise, and the corners where faults like to hide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploykit import datasets, onnx_file
from deploykit.datasets import Split
from deploykit.errors import DatasetError, InputError, UnknownName
from deploykit.network.input_specs import BYTES, InputSpec
from deploykit.runtime.contract import MAX_AREA, ArrayInput, Contract, ImageInput, Output
from deploykit.verdict.deployed import Deployed

LARGE = 100.0
REAL = 4
BATCHES = (1, 2, 5)
CORNERS = "zeros, ones and large values"
WITH_LARGE_VALUES = (CORNERS, "large values")
FREE = 64  # pixels: few networks shrink an image by more


@dataclass(frozen=True)
class Batch:
    """One feed for every input of the network; `name` says what it holds."""

    name: str
    tensors: tuple[Tensor, ...]

    def feeds(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """As onnxruntime takes them."""
        return {name: tensor.numpy() for name, tensor in zip(names, self.tensors, strict=True)}


class Described(Protocol):
    """What must be known of a network to make inputs for it."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Each without the batch."""

    @property
    def rules(self) -> ImageInput | ArrayInput | None:
        """How a sample becomes the input, `None` where nobody says."""

    @property
    def output(self) -> Output | None:
        """What its first output means, `None` where nobody says."""

    @property
    def dataset(self) -> str | None:
        """The name of the dataset it was trained on."""

    @property
    def data(self) -> str | None:
        """Where that dataset was read, if it was a folder."""

    @property
    def trained(self) -> bool:
        """Whether its weights are more than random numbers."""


def batches_for(network: Described, split: Split | None = None, sizes: Sequence[int] = BATCHES, seed: int = 0) -> list[Batch]:
    """Noise at every one of `sizes`; zeros, ones and large values as one batch of three; real samples where there are some."""
    generator = torch.Generator().manual_seed(seed)
    found = [Batch(f"noise, batch {size}", tuple(spec.random(size, generator) for spec in network.inputs)) for size in sizes]
    found.append(Batch(CORNERS, tuple(torch.cat(_corners(spec, generator)) for spec in network.inputs)))
    if split is not None and network.rules is not None and len(network.inputs) == 1 and len(split):
        real = torch.from_numpy(split.take(REAL).arrays(network.rules))
        found.append(Batch("real samples", (real,)))
    return found


def batches_of_one_size(network: Described, size: int, seed: int = 0) -> list[Batch]:
    """For a file that takes one batch size only: noise twice, and zeros, ones and large values as a batch each."""
    generator = torch.Generator().manual_seed(seed)
    found = [Batch(f"noise {n}, batch {size}", tuple(spec.random(size, generator) for spec in network.inputs)) for n in ("A", "B")]
    corners = [_corners(spec, generator) for spec in network.inputs]
    for kind, parts in zip(("zeros", "ones", "large values"), zip(*corners, strict=True), strict=True):
        found.append(Batch(kind, tuple(part.expand(size, *part.shape[1:]).contiguous() for part in parts)))
    return found


def batches_of_other_sizes(network: Described, values: Sequence[onnx.ValueInfoProto], seed: int = 1) -> list[Batch]:
    """Noise, half as large again along every axis besides the batch that the graph leaves open, and noise half as large.

    The first one that the network takes is enough. `[]` if the graph leaves no axis open.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for change in (lambda size: size + size // 2, lambda size: max(1, size // 2)):
        specs = [_resized(spec, value, change) for spec, value in zip(network.inputs, values, strict=True)]
        if [spec.shape for spec in specs] != [spec.shape for spec in network.inputs]:
            sizes = ", ".join("x".join(map(str, spec.shape)) for spec in specs)
            found.append(Batch(f"noise of another size ({sizes})", tuple(spec.random(2, generator) for spec in specs)))
    return found


def _resized(spec: InputSpec, value: onnx.ValueInfoProto, change: Callable[[int], int]) -> InputSpec:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(spec.shape) + 1:
        return spec
    sizes = zip(spec.shape, dims[1:], strict=True)
    return replace(spec, shape=tuple(size if dim.HasField("dim_value") else change(size) for size, dim in sizes))


def specs_of(deployed: Deployed, contract: Contract | None) -> tuple[InputSpec, ...]:
    """The inputs of a graph without the batch; free sizes are the contract's, else `FREE` for images and 8 for the rest.

    Whole numbers that pick rows of a table are tried up to its last row. Raises `InputError` for an input for which no values
    can be made up.
    """
    examples = contract.example_shapes() if contract else {}
    rules = contract.input if contract else None
    image = (rules.channels, rules.height, rules.width) if isinstance(rules, ImageInput) else ()
    rows = _rows_picked(deployed.model.graph)
    found = []
    for value in deployed.inputs:
        dims = value.type.tensor_type.shape.dim
        if not dims:
            raise InputError(f"the input {value.name[:80]!r} has no batch, so the files cannot be compared at several sizes")
        known = image or examples.get(value.name, ())
        usual = known if len(known) == len(dims) - 1 else (FREE if len(dims) == 4 else 8,) * (len(dims) - 1)
        shape = tuple(d.dim_value if d.HasField("dim_value") else u for d, u in zip(dims[1:], usual, strict=True))
        if math.prod(shape) > MAX_AREA:
            raise InputError(f"a sample for the input {value.name[:80]!r} would have {math.prod(shape):,} elements")
        numbers = onnx_file.number_type(value.type.tensor_type.elem_type)
        if numbers is None:
            raise InputError(f"the input {value.name[:80]!r} takes no numbers that numpy has", "no values can be made up for it")
        dtype = torch.from_numpy(np.zeros(0, numbers)).dtype
        found.append(InputSpec(value.name, shape, dtype, rows.get(value.name, BYTES.get(dtype, 2))))
    return tuple(found)


def _rows_picked(graph: onnx.GraphProto) -> dict[str, int]:
    """Inputs that are indices of a stored table, as they are or in another type or shape -> its number of rows."""
    tables = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    origin = {value.name: value.name for value in graph.input}
    found: dict[str, int] = {}
    for node in graph.node:
        first, second = (*node.input, "", "")[:2]
        if node.op_type in ("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze") and first in origin:
            origin.update((output, origin[first]) for output in node.output)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if node.op_type == "Gather" and axis == 0 and first in tables and second in origin:
            found[origin[second]] = max(1, min(found.get(origin[second], 1 << 31), tables[first]))
    return found


def labelled_split(network: Described, data: str | None = None) -> tuple[Split, bool] | None:
    """The labelled test samples to judge decisions on, and whether labels mean classes; `None` where there are none.

    `data` must be usable: raises `UnknownName`, `DatasetError`. Without it, the network's own dataset is looked for.
    """
    if data is not None:
        dataset = datasets.load(data)
        return dataset.test, dataset.classes is not None
    for known in dict.fromkeys(filter(None, (network.data, network.dataset))):
        try:
            dataset = datasets.load(known)
        except (DatasetError, UnknownName):
            continue  # a folder of the machine that trained it, or a download without a network
        labels = network.output.labels if network.output else None
        if dataset.classes == labels or None in (dataset.classes, labels):
            return dataset.test, dataset.classes is not None
    return None


def absent_dataset(network: Described) -> str | None:
    """A remark, where a network was trained on samples that `labelled_split` did not find."""
    if not network.trained or network.dataset is None:
        return None
    return (
        f"the dataset it was trained on ({network.dataset[:40]}) is not here, so decisions were not compared; "
        "`deploykit validate FILE --data NAME_OR_DIR` does it"
    )


def photographs(network: Described) -> Split | None:
    """scikit-learn's two photographs, for image networks that come without a dataset."""
    if not isinstance(network.rules, ImageInput):
        return None
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    return Split(list(images), np.zeros(len(images), np.int64))


def sample_batches(network: Described, sizes: Sequence[int] = (1, 3)) -> list[dict[str, NDArray[Any]]]:
    """Noise at each of `sizes`, as feeds, for comparing two ONNX files of the network."""
    names = [spec.name for spec in network.inputs]
    return [batch.feeds(names) for batch in batches_for(network, None, sizes)[: len(sizes)]]


def _corners(spec: InputSpec, generator: torch.Generator) -> list[Tensor]:
    noise = spec.random(1, generator)
    if spec.dtype.is_floating_point:
        return [torch.zeros_like(noise), torch.ones_like(noise), noise * LARGE]
    return [torch.full_like(noise, min(value, spec.below - 1)) for value in (0, 1, spec.below - 1)]
