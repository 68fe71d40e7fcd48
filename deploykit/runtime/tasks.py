"""Networks with several inputs, several outputs, or answers that lie in an image: samples in, one result of the task each out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deploykit.errors import DeploykitError, InputError, ModelFileError, kind_of
from deploykit.runtime import values
from deploykit.runtime.contract import ArrayInput, Contract, DetectionOutput, ImageInput
from deploykit.runtime.geometry import Placed
from deploykit.runtime.prediction import Prediction
from deploykit.runtime.reading import shown
from deploykit.runtime.samples import array_of, pixels_of, stacked_of
from deploykit.runtime.session import TensorSpec
from deploykit.runtime.stream import Named
from deploykit.runtime.task_answers import task_answers

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rules = ImageInput | ArrayInput


@dataclass(frozen=True)
class Sample:
    """One array for each input of the graph, without the batch; `place`: where the first image lies in its input."""

    arrays: tuple[NDArray[Any], ...]
    place: Placed | None = None

    @property
    def nbytes(self) -> int:
        """Of all arrays."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """That of each array; samples with equal shapes may share a run."""
        return tuple(array.shape for array in self.arrays)


@dataclass(frozen=True)
class RunOfTask:
    """A network in a file with a contract: `run` takes names of outputs and arrays by input, and gives the outputs."""

    run: Callable[[list[str], dict[str, Any]], list[Any]]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    contract: Contract

    @cached_property
    def rules(self) -> tuple[Rules, ...]:
        """Of each input of the graph."""
        rules = self.contract.rules()
        return tuple(rules.get(spec.name) or self.contract.input for spec in self.inputs)

    @cached_property
    def batch_axes(self) -> tuple[int | None, ...]:
        """Where the batch lies in each input, `None` for an input without one."""
        sizes = self.contract.example_sizes()
        found: list[int | None] = []
        for spec, rules in zip(self.inputs, self.rules, strict=True):
            whole = sizes.get(spec.name)
            known = self.contract.inputs and whole is not None and not isinstance(rules, ImageInput)
            found.append((whole.index(None) if None in whole else None) if known and whole is not None else 0)
        return tuple(found)

    @cached_property
    def asked(self) -> tuple[TensorSpec, ...]:
        """The outputs that the answer is read from."""
        known = {spec.name: spec for spec in self.outputs}
        return tuple(self.outputs[0] if name is None else known[name] for name in self.contract.output.names)

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size the graph takes, `None` where any goes."""
        for spec, axis in zip(self.inputs, self.batch_axes, strict=True):
            if axis is not None and spec.shape is not None and len(spec.shape) > axis and spec.shape[axis] is not None:
                return spec.shape[axis]
        return None

    @property
    def in_rows(self) -> bool:
        """Whether several samples may share a run: every input has a batch, and every output one row per sample."""
        shapes = [spec.shape for spec in self.asked]
        rows = all(shape is not None and len(shape) > 0 and shape[0] == self.fixed_batch for shape in shapes)
        return rows and None not in self.batch_axes and not self._of_one_image(len(shapes[0] or ()))

    def prepare(self, source: Any, max_pixels: int, channels: Literal["rgb", "bgr"] = "rgb") -> Sample:
        """What an app hands over, as a sample: a mapping or an .npz file for several inputs. Raises `InputError`, `ImageError`."""
        if len(self.inputs) == 1 and not isinstance(source, Mapping):
            given: Mapping[str, Any] = {self.inputs[0].name: source}
        else:
            given = self._by_name(source)
        arrays, place = [], None
        for spec, rules in zip(self.inputs, self.rules, strict=True):
            try:
                if isinstance(rules, ArrayInput):
                    arrays.append(array_of(given[spec.name], rules))
                else:
                    pixels, at = pixels_of(given[spec.name], rules, self.contract.preprocessing_in_graph, max_pixels, channels)
                    arrays.append(pixels)
                    place = place or at
            except DeploykitError as error:
                if len(self.inputs) == 1:
                    raise
                raise type(error)(f"the input {spec.name!r:.80}: {error.problem}", error.hint) from error
        return Sample(tuple(arrays), place)

    def answer(self, samples: list[Sample], top: int) -> list[Prediction]:
        """Samples of one shape, as many as go into one run -> their answers. Raises what `run` raises."""
        count = len(samples)
        if None in self.batch_axes and count > 1:
            return [self.answer([sample], top)[0] for sample in samples]
        fixed = self.fixed_batch
        padded = samples if fixed is None else samples + [samples[-1]] * (fixed - count)
        feeds = {}
        for number, (spec, rules, axis) in enumerate(zip(self.inputs, self.rules, self.batch_axes, strict=True)):
            dtype = spec.dtype or np.dtype(np.float32)
            arrays = [sample.arrays[number] for sample in padded]
            embedded = self.contract.preprocessing_in_graph
            feeds[spec.name] = arrays[0].astype(dtype) if axis is None else stacked_of(arrays, rules, embedded, dtype, axis)
        raw = [np.asarray(array) for array in self.run([spec.name for spec in self.asked], feeds)]
        if self._of_one_image(raw[0].ndim):
            if count > 1:
                return [self.answer([sample], top)[0] for sample in samples]
            raw = [array[None] for array in raw]
        elif any(not array.ndim or len(array) != len(padded) for array in raw):
            shapes = ", ".join(str(array.shape) for array in raw)
            raise ModelFileError(
                f"the network's outputs have the shapes {shapes} for {len(padded)} samples", "export the file again"
            )
        return task_answers([array[:count] for array in raw], self.contract.output, top, [sample.place for sample in samples])

    def _of_one_image(self, rank: int) -> bool:
        """Whether boxes come without a batch, as torchvision's detectors give them."""
        return isinstance(self.contract.output, DetectionOutput) and rank == 2

    def _by_name(self, source: Any) -> Mapping[str, Any]:
        """An array or image for each input."""
        names = [spec.name for spec in self.inputs]
        if isinstance(source, (str, os.PathLike)):
            rows = list(self.rows(source))
            if len(rows) != 1:
                raise InputError(f"{shown(source)} holds {len(rows)} samples", "ask about several with predict_many")
            return rows[0]
        if not isinstance(source, Mapping):
            hint = "give a dict of arrays or images by name, or an .npz file of such"
            raise InputError(f"the inputs {', '.join(names)[:200]} cannot be {kind_of(source)}", hint)
        values.require_names({str(name): value for name, value in source.items()}, names, "the network")
        return source

    def rows(self, path: str | os.PathLike[str]) -> Iterator[Mapping[str, Any]]:
        """The samples in an .npz file: one where its arrays have no batch, else one per row. Raises `InputError`."""
        arrays = values.of_inputs(path) or {}
        values.require_names(arrays, [spec.name for spec in self.inputs], "the network")
        axes = {
            spec.name: axis if axis is not None and _has_batch(arrays[spec.name], rules) else None
            for spec, rules, axis in zip(self.inputs, self.rules, self.batch_axes, strict=True)
        }
        sizes = {arrays[name].shape[axis] for name, axis in axes.items() if axis is not None}
        if len(sizes) > 1:
            found = ", ".join(map(str, sorted(sizes)))
            raise InputError(f"the arrays in {shown(path)} have batches of different sizes ({found})", "give one size")
        for row in range(sizes.pop() if sizes else 1):
            yield {name: arrays[name] if axis is None else np.take(arrays[name], row, axis) for name, axis in axes.items()}

    def apart(self, sources: Iterable[Any]) -> Iterator[Any]:
        """The sources, with every .npz file that holds several samples taken apart; what cannot be read is given as it is."""
        for source in sources:
            path = source if isinstance(source, (str, os.PathLike)) else None
            if path is None or len(self.inputs) == 1:
                yield source
                continue
            try:
                rows = list(self.rows(path))
            except DeploykitError:
                yield source  # reading it again says why
                continue
            text = os.fsdecode(path)
            yield from (Named(text if len(rows) == 1 else f"{text}[{place}]", row) for place, row in enumerate(rows))


def _has_batch(array: NDArray[Any], rules: Rules) -> bool:
    if isinstance(rules, ArrayInput):
        return array.ndim == len(rules.shape) + 1
    return array.ndim == 4 or (array.ndim == 3 and array.shape[2] not in (1, 3, 4))
