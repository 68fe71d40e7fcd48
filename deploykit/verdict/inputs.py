"""The inputs on which two networks are compared: real samples, noise, and the corners where faults like to hide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploykit import datasets
from deploykit.datasets import Split
from deploykit.errors import DatasetError, UnknownName
from deploykit.runtime.contract import ImageInput
from deploykit.target import InputSpec, Network

LARGE = 100.0
REAL = 4
BATCHES = (1, 2, 5)


@dataclass(frozen=True)
class Batch:
    """One feed for every input of the network; `name` says what it holds."""

    name: str
    tensors: tuple[Tensor, ...]

    def feeds(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """As onnxruntime takes them."""
        return {name: tensor.numpy() for name, tensor in zip(names, self.tensors, strict=True)}


def batches_for(network: Network, split: Split | None = None, sizes: Sequence[int] = BATCHES, seed: int = 0) -> list[Batch]:
    """Noise at every one of `sizes`; zeros, ones and large values as one batch of three; real samples where there are some."""
    generator = torch.Generator().manual_seed(seed)
    found = [Batch(f"noise, batch {size}", tuple(spec.random(size, generator) for spec in network.inputs)) for size in sizes]
    found.append(Batch("zeros, ones and large values", tuple(_corners(spec, generator) for spec in network.inputs)))
    if split is not None and len(network.inputs) == 1 and len(split):
        real = torch.from_numpy(split.take(REAL).arrays(network.rules))
        found.append(Batch("real samples", (real,)))
    return found


def labelled_split(network: Network, data: str | None = None) -> tuple[Split, bool] | None:
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
        if dataset.classes == network.output.labels or None in (dataset.classes, network.output.labels):
            return dataset.test, dataset.classes is not None
    return None


def absent_dataset(network: Network) -> str | None:
    """A remark, where a network was trained on samples that `labelled_split` did not find."""
    if not network.trained or network.dataset is None:
        return None
    return (
        f"the dataset it was trained on ({network.dataset[:40]}) is not here, so decisions were not compared; "
        "`deploykit validate FILE --data NAME_OR_DIR` does it"
    )


def photographs(network: Network) -> Split | None:
    """scikit-learn's two photographs, for image networks that come without a dataset."""
    if not isinstance(network.rules, ImageInput):
        return None
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    return Split(list(images), np.zeros(len(images), np.int64))


def sample_batches(network: Network) -> list[dict[str, NDArray[Any]]]:
    """Noise at a batch of 1 and of 3, as feeds, for comparing two ONNX files of the network."""
    names = [spec.name for spec in network.inputs]
    return [batch.feeds(names) for batch in batches_for(network, None, (1, 3))[:2]]


def _corners(spec: InputSpec, generator: torch.Generator) -> Tensor:
    noise = spec.random(1, generator)
    large = noise * LARGE if spec.dtype.is_floating_point else noise
    return torch.cat([torch.zeros_like(noise), torch.ones_like(noise), large])
