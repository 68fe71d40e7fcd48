"""The data of a tuning in three parts that have no sample in common: for calibration, for selection, and for the proof."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from deploykit import datasets, onnx_file
from deploykit.datasets import Split
from deploykit.errors import InputError, UnknownName
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.onnx_file.inputs import Shape
from deploykit.profiler.onnx import inputs as fixed_inputs
from deploykit.runtime import values
from deploykit.runtime.contract import Contract

NOISE = "noise"
LABELS = "labels"  # the array of an .npz file that holds the true classes
CALIBRATION, SELECTION, PROOF = 256, 1000, 4000  # the most samples of each part
MOST_BYTES = 1 << 28  # of the samples of one part, as the network takes them
LEAST = 12  # samples that can be divided into three at all
SHARES = (0.25, 0.25)  # of the samples that nobody divided: calibration, selection; the rest is the proof
NOISE_PARTS = (64, 128, 448)  # of random numbers: as many as prove an agreement of 99 %

HINT = "give samples as they occur: --data NAME_OR_DIR_OR_NPZ; --data noise tunes on random numbers, which proves little"


@dataclass(frozen=True)
class Part:
    """Samples: an array (samples, ...) per input, in the order of the graph. `labels`: their true classes, where known."""

    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def rows(self, begin: int, end: int) -> dict[str, NDArray[Any]]:
        """Samples from `begin` to before `end`."""
        return {name: array[begin:end] for name, array in self.inputs.items()}

    def only(self, kept: NDArray[Any]) -> Part:
        """Those samples."""
        return Part({name: a[kept] for name, a in self.inputs.items()}, None if self.labels is None else self.labels[kept])

    def cycled(self, count: int) -> list[NDArray[Any]]:
        """`count` samples per input, from the beginning again where there are fewer."""
        return [np.ascontiguousarray(array[np.arange(count) % len(array)]) for array in self.inputs.values()]


@dataclass(frozen=True)
class Parts:
    """The three parts, and in words what they are of. `noise`: they are random numbers. `digest`: tells them from others."""

    calibration: Part
    selection: Part
    proof: Part
    source: str
    noise: bool = False

    @property
    def labelled(self) -> bool:
        """Whether the true classes are known."""
        return self.proof.labels is not None and self.selection.labels is not None

    def without_labels(self) -> Parts:
        """The same samples, of which nothing is known."""
        return replace(self, selection=replace(self.selection, labels=None), proof=replace(self.proof, labels=None))

    def words(self) -> str:
        """What was measured on."""
        counts = f"{len(self.calibration):,} samples to calibrate, {len(self.selection):,} to select, {len(self.proof):,} to prove"
        return f"{self.source}: {counts}{', with labels' if self.labelled else ', without labels'}"

    def digest(self) -> str:
        """A text that other samples do not have."""
        found = hashlib.sha256()
        for part in (self.calibration, self.selection, self.proof):
            for array in (*part.inputs.values(), *(() if part.labels is None else (part.labels,))):
                found.update(f"{array.shape}{array.dtype}".encode())
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()


def read(
    file: Path, model: onnx.ModelProto, data: str | None, given: Mapping[str, NDArray[Any]] | None = None, seed: int = 0,
    shapes: Sequence[Shape] | None = None,
) -> Parts:  # fmt: skip
    """The samples for `file`, whose inputs they must fit.

    `data`: a dataset, a folder, an `.npz` file of arrays by the inputs' names (and `labels`), or "noise"; `None` is the dataset
    that the file says it was trained on. `given`: arrays that are at hand, in place of `data`. `shapes`: of the noise,
    per input and without the batch, where axes are open. Raises `InputError` where there is nothing, too little, or data of
    another shape.
    """
    contract = onnx_file.get_contract(model)
    if contract is not None and contract.preprocessing_in_graph:
        raise InputError(f"{file} prepares images itself, of any size", "tune the file without it, and put it in front afterwards")
    _require_batches(file, model)
    if given is not None:
        return _in_three(_fitting(model, given, str(file)), "the values given with --inputs", seed)
    if data is None:
        data = _own_dataset(contract)
        if data is None:
            raise InputError(f"there is nothing to calibrate {file} with", HINT)
    if data == NOISE:
        return _noise(model, seed, shapes)
    if data.lower().endswith(".npz"):
        return _in_three(_fitting(model, values.of_inputs(Path(data)) or {}, data), data, seed)
    return _of_dataset(file, model, contract, data)


def _require_batches(file: Path, model: onnx.ModelProto) -> None:
    """Raise `InputError` for an input that is not of samples: a run would have one of it, whatever the batch."""
    for entry in graph_inputs.described(model.graph):
        if not graph_inputs.required_axes(entry):
            raise InputError(f"{file} takes {entry.name[:60]!r}, which has no axis for the batch", "tune a file with samples alone")


def _own_dataset(contract: Contract | None) -> str | None:
    """The dataset that the contract names, if it is one that deploykit has."""
    named = None if contract is None else contract.provenance.get("dataset")
    return named if isinstance(named, str) and named in datasets.names() else None


def _of_dataset(file: Path, model: onnx.ModelProto, contract: Contract | None, data: str) -> Parts:
    """Calibration from the training split, selection from the validation split, the proof from the test split."""
    try:
        dataset = datasets.load(data)
    except UnknownName as error:
        raise UnknownName(error.problem, f"{error.hint}; or an .npz file of arrays by the inputs' names") from error
    names = [entry.name for entry in graph_inputs.described(model.graph)]
    if contract is None or len(names) != 1:
        what = "does not say how a sample becomes its input" if contract is None else f"takes {len(names)} inputs"
        raise InputError(f"{file} {what}, so the dataset {data} cannot be given to it", "give an .npz file of arrays by name")
    labelled = dataset.task == "classification"
    splits = (dataset.train, dataset.validation, dataset.test)
    if not all(len(split) for split in splits):
        raise InputError(f"{data} has no samples for one of calibration, selection and proof", "choose a larger dataset")
    mosts = (CALIBRATION, SELECTION, PROOF)
    found = [_part(names[0], split, contract, most, labelled) for split, most in zip(splits, mosts, strict=True)]
    parts = Parts(found[0], found[1], found[2], f"the dataset {dataset.name}")
    _require_fit(model, parts.calibration.inputs, data)
    return _without_common(parts)


def _part(name: str, split: Split, contract: Contract, most: int, labelled: bool) -> Part:
    first = split.array(0, contract.input)
    split = split.take(max(1, min(most, MOST_BYTES // max(1, first.nbytes))))
    return Part({name: split.arrays(contract.input)}, split.targets.astype(np.int64) if labelled else None)


def _noise(model: onnx.ModelProto, seed: int, shapes: Sequence[Shape] | None = None) -> Parts:
    """Random numbers in place of samples: what is proven on them holds for random numbers."""
    fixed = fixed_inputs.fixed(model, None, shapes)
    first = next((entry.shape for entry in fixed if entry.shape), None)
    batch = first[0] if first else 1
    single = sum(int(np.prod(entry.shape or ())) * 4 for entry in fixed) // max(1, batch)
    most = MOST_BYTES // max(1, single)
    sizes = [max(LEAST // 3, min(size, most)) for size in NOISE_PARTS]
    count = sum(sizes)
    drawn = [fixed_inputs.values(fixed, seed + place) for place in range(-(-count // max(1, batch)))]
    arrays = {name: np.concatenate([entry[name] for entry in drawn]) for name in drawn[0]}
    if len({len(array) for array in arrays.values()}) != 1:
        raise InputError("the inputs of the file do not have one batch", "give samples as they occur: --data FILE.npz")
    ends = np.cumsum(sizes)[:-1]
    found = [
        Part({name: array[rows] for name, array in arrays.items()})
        for rows in np.split(np.arange(len(arrays[next(iter(arrays))])), ends)
    ]
    return _without_common(Parts(found[0], found[1], found[2], "random numbers, not samples", noise=True))


def _fitting(model: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]], source: str) -> Part:
    """The arrays in the order of the graph's inputs, and the labels. Raises `InputError` for arrays that do not fit."""
    names = [entry.name for entry in graph_inputs.described(model.graph)]
    labels = arrays.get(LABELS) if LABELS not in names else None
    rest = {name: array for name, array in arrays.items() if name != LABELS or LABELS in names}
    if len(names) == 1 and list(rest) == [values.LONE]:
        rest = {names[0]: rest[values.LONE]}
    values.require_names(rest, names, source)
    ordered = {name: rest[name] for name in names}
    _require_fit(model, ordered, source)
    counts = {len(array) if array.ndim else 0 for array in ordered.values()} | ({len(labels)} if labels is not None else set())
    if len(counts) != 1:
        raise InputError(f"the arrays of {source} have different numbers of samples", "give one sample per row in each of them")
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        raise InputError(f"the labels of {source} are {labels.dtype} of {labels.ndim} axes", "give one whole number per sample")
    if labels is not None and len(labels) and int(labels.min()) < 0:
        raise InputError(
            f"a label of {source} is {int(labels.min())}", "give the place of the true class, from 0 on, for every sample"
        )
    return Part(ordered, None if labels is None else labels.astype(np.int64))


def require_classes(model: onnx.ModelProto, parts: Parts, output: str | None) -> None:
    """Raise `InputError` for a label that is no class of the network, as far as the file says how many that `output` has.

    `output`: the name of the one that decides; `None` for the first one.
    """
    meant = next((value for value in model.graph.output if value.name == output), model.graph.output[0])
    sizes = [axis.dim_value for axis in meant.type.tensor_type.shape.dim]
    for part in (parts.calibration, parts.selection, parts.proof):
        if part.labels is not None and len(part.labels) and len(sizes) == 2 and sizes[1] > 1 and part.labels.max() >= sizes[1]:
            raise InputError(
                f"a label of {parts.source} is {int(part.labels.max()):,}, and {meant.name[:60]!r} has {sizes[1]:,} classes",
                "give the place of the true class, from 0 on, for every sample",
            )


def _require_fit(model: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]], source: str) -> None:
    """Raise `InputError` for samples of another type or shape than the graph takes."""
    for entry in graph_inputs.described(model.graph):
        array = arrays[entry.name]
        axes = graph_inputs.required_axes(entry)
        fits = len(axes) == array.ndim and all(
            not isinstance(axis, int) or axis == size for axis, size in zip(axes[1:], array.shape[1:], strict=False)
        )
        if not fits or array.dtype != entry.dtype:
            wanted = "x".join(str(axis) if isinstance(axis, int) else "any" for axis in axes[1:]) or "a scalar"
            given = "x".join(map(str, array.shape[1:])) or "a scalar"
            raise InputError(
                f"the samples of {source} are {array.dtype} {given}, the input {entry.name[:60]!r} takes {entry.dtype} {wanted}",
                "give samples as the network takes them",
            )


def _in_three(part: Part, source: str, seed: int) -> Parts:
    """Shuffled and divided; equal samples all go to one part. Raises `InputError` for too few."""
    keys = _keys(part)
    distinct = list(dict.fromkeys(keys))
    if len(distinct) < LEAST:
        raise InputError(f"{source} has {len(distinct)} different samples, too few for three parts", f"give at least {LEAST}")
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(distinct))
    ends = np.cumsum([int(share * len(distinct)) for share in SHARES])
    room = max(1, sum(array.nbytes for array in part.inputs.values()) // len(part))
    found = []
    for chosen, most in zip(np.split(order, ends), (CALIBRATION, SELECTION, PROOF), strict=True):
        wanted = {distinct[place] for place in chosen}
        kept = draw.permutation(np.flatnonzero([key in wanted for key in keys]))  # a file may be sorted by class
        found.append(part.only(kept[: max(1, min(most, MOST_BYTES // room))]))
    return Parts(found[0], found[1], found[2], source)


def _without_common(parts: Parts) -> Parts:
    """Without samples of the selection that were calibrated with, and of the proof that were seen in either."""
    seen = set(_keys(parts.calibration))
    selection = _without(parts.selection, seen)
    proof = _without(parts.proof, seen | set(_keys(parts.selection)))
    if not len(selection) or not len(proof):
        raise InputError(f"{parts.source} has the same samples in its splits", "give data whose splits differ")
    return replace(parts, selection=selection, proof=proof)


def _without(part: Part, seen: set[bytes]) -> Part:
    keys = _keys(part)
    return part if seen.isdisjoint(keys) else part.only(np.flatnonzero([key not in seen for key in keys]))


def _keys(part: Part) -> Sequence[bytes]:
    """Per sample what equal samples have in common."""
    arrays = list(part.inputs.values())
    return [
        hashlib.blake2b(b"".join(np.ascontiguousarray(array[row]).tobytes() for array in arrays), digest_size=16).digest()
        for row in range(len(part))
    ]
