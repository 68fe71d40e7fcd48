"""Samples of any sizes -> one answer each, through a network that takes them in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from deploykit.errors import DeploykitError
from deploykit.runtime.contract import Contract
from deploykit.runtime.prediction import Prediction, answers
from deploykit.runtime.samples import batch_of, sample_of
from deploykit.runtime.session import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray


def is_plain(contract: Contract) -> bool:
    """Whether one array in and the first output out are all there is, which `RunWithContract` answers with less ado."""
    return not contract.inputs and contract.output.names == (None,) and contract.output.task in ("classification", "raw")


@dataclass(frozen=True)
class RunWithContract:
    """A network in a file with a contract: `run` takes a batch for `input` and gives `output`, the first one."""

    run: Callable[[NDArray[Any]], NDArray[Any]]
    input: TensorSpec
    output: TensorSpec
    contract: Contract

    def prepare(self, source: Any, max_pixels: int, channels: Literal["rgb", "bgr"] = "rgb") -> NDArray[Any]:
        """What an app hands over, as a sample."""
        return sample_of(source, self.contract, max_pixels, channels)

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size the graph takes, `None` where any goes."""
        return self.input.shape[0] if self.input.shape else None

    @property
    def in_rows(self) -> bool:
        """Whether the output has one row per sample. Where it has not (a sum over the batch), samples go one by one."""
        shape = self.output.shape
        return shape is not None and len(shape) > 0 and shape[0] == self.fixed_batch

    def answer(self, samples: list[NDArray[Any]], top: int) -> list[Prediction]:
        """Samples of one shape, as many as go into one run -> their answers. Raises what `run` raises."""
        count = len(samples)
        fixed = self.fixed_batch
        padded = samples if fixed is None else samples + [samples[-1]] * (fixed - count)
        dtype = self.input.dtype or np.dtype(np.float32)
        raw = np.asarray(self.run(batch_of(padded, self.contract, dtype)))
        if raw.ndim and len(raw) == len(padded):
            return answers(raw[:count], self.contract.output, top)
        if count == 1:
            return answers(raw[None], self.contract.output, top)  # one answer for the whole batch, which is one sample
        return [self.answer([sample], top)[0] for sample in samples]


class Answering(Protocol):
    """What answers samples: `RunWithContract`, or `RunOfTask` where there are several inputs or another task."""

    @property
    def contract(self) -> Contract:
        """The file's."""

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size the graph takes, `None` where any goes."""

    @property
    def in_rows(self) -> bool:
        """Whether several samples may share a run."""

    def prepare(self, source: Any, max_pixels: int, channels: Literal["rgb", "bgr"] = "rgb") -> Any:
        """What an app hands over, as a sample. Raises `InputError`, `ImageError`."""

    def answer(self, samples: list[Any], top: int) -> list[Prediction]:
        """Samples of one shape, as many as go into one run -> their answers. Raises what the run raises."""


def answer_all(samples: list[Any], network: Answering, top: int, batch_size: int) -> list[Prediction]:
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


def answer_batch(samples: list[Any], network: Answering, top: int) -> list[Prediction]:
    """Samples of one shape, as many as go into one run -> their answers. Raises what the run raises."""
    return network.answer(samples, top)


def _groups(samples: list[Any], size: int) -> Iterator[list[int]]:
    """Places of samples that can share a batch: the same shape, at most `size`."""
    by_shape: dict[tuple[Any, ...], list[int]] = {}
    for place, sample in enumerate(samples):
        by_shape.setdefault(sample.shape, []).append(place)
    for places in by_shape.values():
        for start in range(0, len(places), size):
            yield places[start : start + size]
