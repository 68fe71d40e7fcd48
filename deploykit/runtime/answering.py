"""Samples of any sizes -> one answer each, through a network that takes them in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import DeploykitError
from deploykit.runtime.contract import Contract
from deploykit.runtime.prediction import Prediction, answers
from deploykit.runtime.samples import batch_of
from deploykit.runtime.session import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class RunWithContract:
    """A network in a file with a contract: `run` takes a batch for `input` and gives `output`, the first one."""

    run: Callable[[NDArray[Any]], NDArray[Any]]
    input: TensorSpec
    output: TensorSpec
    contract: Contract

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size the graph takes, `None` where any goes."""
        return self.input.shape[0] if self.input.shape else None

    @property
    def in_rows(self) -> bool:
        """Whether the output has one row per sample. Where it has not (a sum over the batch), samples go one by one."""
        shape = self.output.shape
        return shape is not None and len(shape) > 0 and shape[0] == self.fixed_batch


def answer_all(samples: list[NDArray[Any]], network: RunWithContract, top: int, batch_size: int) -> list[Prediction]:
    """One `Prediction` per sample, in order. A sample the network refuses gets an error and spoils nothing else."""
    found: list[Prediction | None] = [None] * len(samples)
    for places in _groups(samples, network.fixed_batch or (batch_size if network.in_rows else 1)):
        part = [samples[place] for place in places]
        try:
            results = answer_batch(part, network, top)
        except DeploykitError as error:
            results = (
                [Prediction(error=str(error))] if len(part) == 1 else [r for s in part for r in answer_all([s], network, top, 1)]
            )
        for place, result in zip(places, results, strict=True):
            found[place] = result
    return [result for result in found if result is not None]


def answer_batch(samples: list[NDArray[Any]], network: RunWithContract, top: int) -> list[Prediction]:
    """Samples of one shape, as many as go into one run -> their answers. Raises what `run` raises."""
    count = len(samples)
    fixed = network.fixed_batch
    padded = samples if fixed is None else samples + [samples[-1]] * (fixed - count)
    dtype = network.input.dtype or np.dtype(np.float32)
    raw = np.asarray(network.run(batch_of(padded, network.contract, dtype)))
    if raw.ndim and len(raw) == len(padded):
        return answers(raw[:count], network.contract.output, top)
    if count == 1:
        return answers(raw[None], network.contract.output, top)  # one answer for the whole batch, which is one sample
    return [answer_batch([sample], network, top)[0] for sample in samples]


def _groups(samples: list[NDArray[Any]], size: int) -> Iterator[list[int]]:
    """Places of samples that can share a batch: the same shape, at most `size`."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for place, sample in enumerate(samples):
        by_shape.setdefault(sample.shape, []).append(place)
    for places in by_shape.values():
        for start in range(0, len(places), size):
            yield places[start : start + size]
