"""What is known of the inputs of a file or network: shapes and types, and the samples that it was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from deploykit import datasets
from deploykit.datasets import Split
from deploykit.errors import DatasetError, InputError, UnknownName
from deploykit.network.input_specs import BYTES, InputSpec
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.runtime import open_axes
from deploykit.runtime.contract import MAX_AREA, ArrayInput, Contract, ImageInput, Output
from deploykit.verdict import batches
from deploykit.verdict.deployed import Deployed


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


def specs_of(deployed: Deployed, contract: Contract | None) -> tuple[InputSpec, ...]:
    """The inputs of a graph without the batch; open axes have the sizes of `open_axes.sizes`.

    Whole numbers that pick rows of a table are tried up to its last row. Raises `InputError` for an input for which no values
    can be made up.
    """
    inputs = graph_inputs.described(deployed.model.graph)
    axes = {entry.name: graph_inputs.required_axes(entry) for entry in inputs}
    places = open_axes.batch_axes(axes, contract)
    sizes = open_axes.sizes(axes, contract=contract)
    rows = _rows_picked(deployed.model.graph)
    found = []
    for entry in inputs:
        place = places[entry.name]
        shape = tuple(size for at, size in enumerate(sizes[entry.name]) if at != place)
        if math.prod(shape) > MAX_AREA:
            raise InputError(f"a sample for the input {entry.name[:80]!r} would have {math.prod(shape):,} elements")
        dtype = torch.from_numpy(np.zeros(0, graph_inputs.require_numbers(entry))).dtype
        found.append(InputSpec(entry.name, shape, dtype, rows.get(entry.name, BYTES.get(dtype, 2)), place))
    return tuple(found)


def fixed_batch(values: Sequence[onnx.ValueInfoProto], specs: Sequence[InputSpec]) -> int | None:
    """The only batch size that a graph takes, `None` where any goes."""
    for value, spec in zip(values, specs, strict=True):
        axes = graph_inputs.axes_of(value) or ()
        if spec.batch_axis is not None and spec.batch_axis < len(axes):
            size = axes[spec.batch_axis]
            if isinstance(size, int):
                return size
    return None


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
        return dataset.test, dataset.task == "classification"
    for known in dict.fromkeys(filter(None, (network.data, network.dataset))):
        try:
            dataset = datasets.load(known)
        except (DatasetError, UnknownName):
            continue  # a folder of the machine that trained it, or a download without a network
        labels = network.output.labels if network.output else None
        if dataset.classes == labels or None in (dataset.classes, labels):
            return dataset.test, dataset.task == "classification"
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
    """Noise at each of `sizes`, or the examples where those tell, as feeds, for comparing two ONNX files of the network."""
    names = [spec.name for spec in network.inputs]
    generator = torch.Generator().manual_seed(0)
    found = batches.examples(network.inputs, sizes)[: len(sizes)]
    return [batch.feeds(names) for batch in found or [batches.noise(network.inputs, batches.NORMAL, n, generator) for n in sizes]]
