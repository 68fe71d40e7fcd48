"""What is known of the inputs of a file or network: shapes and types, and the samples that it was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from deploykit import datasets, onnx_file
from deploykit.datasets import Split
from deploykit.errors import DatasetError, InputError, UnknownName
from deploykit.network.input_specs import BYTES, InputSpec
from deploykit.runtime.contract import MAX_AREA, ArrayInput, Contract, ImageInput, Output
from deploykit.verdict import batches
from deploykit.verdict.deployed import Deployed

FREE = 64  # pixels: few networks shrink an image by more


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
    """The inputs of a graph without the batch; free sizes are the contract's, else `FREE` for images and 8 for the rest.

    Whole numbers that pick rows of a table are tried up to its last row. Raises `InputError` for an input for which no values
    can be made up.
    """
    examples = contract.example_shapes() if contract else {}
    rules = contract.input if contract else None
    image = (rules.channels, rules.height, rules.width) if isinstance(rules, ImageInput) else ()
    rows = _rows_picked(deployed.model.graph)
    values = deployed.inputs
    found = []
    for value, axis in zip(values, batch_axes(values), strict=True):
        dims = value.type.tensor_type.shape.dim
        others = [dim for place, dim in enumerate(dims) if place != axis]
        known = image or examples.get(value.name, ())
        usual = known if len(known) == len(others) else (FREE if len(dims) == 4 else 8,) * len(others)
        shape = tuple(d.dim_value if _is_fixed(d) else u for d, u in zip(others, usual, strict=True))
        if math.prod(shape) > MAX_AREA:
            raise InputError(f"a sample for the input {value.name[:80]!r} would have {math.prod(shape):,} elements")
        numbers = onnx_file.number_type(value.type.tensor_type.elem_type)
        if numbers is None:
            raise InputError(f"the input {value.name[:80]!r} takes no numbers that numpy has", "no values can be made up for it")
        dtype = torch.from_numpy(np.zeros(0, numbers)).dtype
        found.append(InputSpec(value.name, shape, dtype, rows.get(value.name, BYTES.get(dtype, 2)), axis))
    return tuple(found)


def batch_axes(values: Sequence[onnx.ValueInfoProto]) -> list[int | None]:
    """Where the batch lies in each input of a graph: on the axis called like the first open first axis; `None` for no batch.

    Where no first axis is open, it is the first one if all have one size.
    """
    dims = [value.type.tensor_type.shape.dim for value in values]
    name = next((each[0].dim_param for each in dims if each and not _is_fixed(each[0])), None)
    if name is None:
        one = all(dims) and len({each[0].dim_value for each in dims}) == 1
        return [0 if one else None] * len(dims)
    found: list[int | None] = []
    for each in dims:
        called = [axis for axis, dim in enumerate(each) if name and dim.dim_param == name]
        found.append(called[0] if called else 0 if each and not _is_fixed(each[0]) else None)
    return found


def fixed_batch(values: Sequence[onnx.ValueInfoProto], specs: Sequence[InputSpec]) -> int | None:
    """The only batch size that a graph takes, `None` where any goes."""
    for value, spec in zip(values, specs, strict=True):
        dims = value.type.tensor_type.shape.dim
        if spec.batch_axis is not None and spec.batch_axis < len(dims) and _is_fixed(dims[spec.batch_axis]):
            return int(dims[spec.batch_axis].dim_value)
    return None


def _is_fixed(dim: onnx.TensorShapeProto.Dimension) -> bool:
    """Whether a size is given; some tools write -1 for an open one."""
    return bool(dim.HasField("dim_value") and dim.dim_value >= 0)


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
    """Noise at each of `sizes`, or the examples where those tell, as feeds, for comparing two ONNX files of the network."""
    names = [spec.name for spec in network.inputs]
    generator = torch.Generator().manual_seed(0)
    found = batches.examples(network.inputs, sizes)[: len(sizes)]
    return [batch.feeds(names) for batch in found or [batches.noise(network.inputs, batches.NORMAL, n, generator) for n in sizes]]
