"""What a file is compared with: a PyTorch network, or another ONNX file. Both answer the same questions."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploykit import onnx_file
from deploykit.errors import InputError, ModelFileError
from deploykit.network import capturing, input_specs
from deploykit.network import outputs as network_outputs
from deploykit.network.capturing import Guard
from deploykit.network.input_specs import InputSpec
from deploykit.network.running import run
from deploykit.network.target import Network
from deploykit.onnx_file import external_data, sessions, walk
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput, Output
from deploykit.runtime.values import Values as InputValues
from deploykit.verdict import attention, blame, margins, moved_names, open_sizes, rare_values, twins
from deploykit.verdict.batches import Batch
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.guard_sides import Sizes
from deploykit.verdict.inputs import fixed_batch, specs_of
from deploykit.verdict.margins import Sides
from deploykit.verdict.naming import Naming, name_layers
from deploykit.verdict.open_sizes import Axes
from deploykit.verdict.precision import Precision
from deploykit.verdict.reference import Answers, Observation, Reference
from deploykit.verdict.result import Check
from deploykit.verdict.values import Values
from deploykit.verdict.weights import compare_weights

VALUES_AT_ONCE = 64  # fetched in one run of the other file


class Original(Protocol):
    """The network that a file is meant to be."""

    name: str
    precision: Precision
    inputs: tuple[InputSpec, ...]
    rules: ImageInput | ArrayInput | None
    rules_of_inputs: tuple[ImageInput | ArrayInput, ...]
    declared: bool
    output: Output | None
    dataset: str | None
    data: str | None
    trained: bool
    note: str
    weights_notes: tuple[str, ...]
    fixed_batch: int | None
    changed: set[str]
    files: tuple[Deployed, ...]

    @property
    def output_names(self) -> tuple[str, ...]:
        """How its outputs are called, in order, once it was asked; `()` where they have no names of their own."""

    def observe(self, batches: Sequence[Batch], with_layers: Container[str]) -> list[Observation]:
        """Its own answers; the values of its layers for the batches named."""

    def shaken(self, observation: Observation) -> Observation | None:
        """The same with the tolerance that magnified rounding asks for, see `Reference.shaken`; `None` where it asks for none."""

    def again(self, batch: Batch) -> list[NDArray[Any]]:
        """Its outputs in float32, asked once more: a network that draws random numbers gives others."""

    def constants(self, batch: Batch) -> Sequence[float]:
        """Numbers that it compares something with on a batch."""

    def sides(self, batch: Batch) -> Sides:
        """On which side of each other the numbers lie that it compares on a batch, see `margins`."""

    def attends_to_nothing(self, batch: Batch) -> bool:
        """Whether some row of an attention is hidden as a whole on a batch, see `attention`."""

    def guards(self, axes: Axes, sizes: Sizes) -> Sequence[Guard]:
        """The conditions on open axes under which the network does what it does at `sizes`; raises whatever tracing raises."""

    def line_of(self, guard: Guard, axes: Axes, sizes: Sizes) -> str:
        """The line of code that asks for the sizes of a guard, empty where nobody knows."""

    def naming(self, deployed: Deployed) -> Naming:
        """Which values of the file are which layers of the network."""

    def weights(self, deployed: Deployed, proven: Container[str], moved: AbstractSet[str]) -> tuple[Check, str | None]:
        """The stored weights compared, and the path of the first module whose weights differ; see `compare_weights`.

        `moved`: values that mean something else under the old name, see `moved_names`.
        """

    def culprit(self, deployed: Deployed, path: str) -> str:
        """The module whose fault it is that the value called `path` differs."""

    def logits(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Its first output, for deciding beside the file."""


class TorchOriginal:
    """A PyTorch network."""

    def __init__(self, network: Network, precision: Precision) -> None:
        for spec in network.inputs:
            spec.require_numpy()
        self.network = network
        self.name = network.target
        self.precision = precision
        self.inputs = network.inputs
        self.rules: ImageInput | ArrayInput | None = network.rules
        self.rules_of_inputs = network.rules_of_inputs
        self.declared = network.declared
        self.output: Output | None = network.output
        self.dataset = network.dataset
        self.data = network.data
        self.trained = network.trained
        self.note = ""
        self.weights_notes = (*network.notes, *network.remarks)
        self.fixed_batch: int | None = None
        self.files: tuple[Deployed, ...] = ()
        self._reference = Reference(network.module, precision)
        self.changed = self._reference.changed

    def observe(self, batches: Sequence[Batch], with_layers: Container[str]) -> list[Observation]:
        """PyTorch in float64 and float32, and rounded to float16 where the file is."""
        found = self._reference.observe(batches, with_layers)
        self.note = self._reference.note
        return found

    def shaken(self, observation: Observation) -> Observation | None:
        """By PyTorch in float32."""
        return self._reference.shaken(observation)

    def again(self, batch: Batch) -> list[NDArray[Any]]:
        """PyTorch in float32."""
        return self._reference.ask(batch.tensors).outputs

    def constants(self, batch: Batch) -> Sequence[float]:
        """Lone numbers in PyTorch's own comparisons."""
        return tuple(self._compared(batch).constants)

    def sides(self, batch: Batch) -> Sides:
        """Of PyTorch in float32."""
        return self._compared(batch).sides

    def _compared(self, batch: Batch) -> margins.Comparing:
        with margins.Comparing() as seen:
            self._reference.ask(batch.tensors)
        return seen

    def attends_to_nothing(self, batch: Batch) -> bool:
        """In PyTorch."""
        with attention.Attending() as seen:
            self._reference.ask(batch.tensors)
        return seen.to_nothing

    @property
    def output_names(self) -> tuple[str, ...]:
        """The keys of a dict, the fields of a named tuple."""
        return self._reference.output_names

    def guards(self, axes: Axes, sizes: Sizes) -> Sequence[Guard]:
        """By tracing the network there."""
        return capturing.capture(self.network.module, self._examples(axes, sizes), axes).guards

    def line_of(self, guard: Guard, axes: Axes, sizes: Sizes) -> str:
        """By tracing the network once more."""
        return capturing.line_of(guard, self.network.module, self._examples(axes, sizes), axes)

    def _examples(self, axes: Axes, sizes: Sizes) -> tuple[Tensor, ...]:
        return open_sizes.at(self.inputs, axes, sizes, torch.Generator().manual_seed(0))

    def naming(self, deployed: Deployed) -> Naming:
        """By what the file says of its nodes and values."""
        return name_layers(deployed, self.network.module)

    def weights(self, deployed: Deployed, proven: Container[str], moved: AbstractSet[str]) -> tuple[Check, str | None]:
        """By name, with BatchNorm folded where the exporter folded it."""
        return compare_weights(deployed, self.network.module, self.naming(deployed), proven, moved)

    def culprit(self, deployed: Deployed, path: str) -> str:
        """A folded BatchNorm's fault is told from its convolution's."""
        return blame.culprit(deployed, self.network.module, self.naming(deployed), path)

    def logits(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Float32."""
        return network_outputs.arrays(run(self.network.module, [torch.from_numpy(inputs)], self.name))[0]


class OnnxOriginal:
    """Another ONNX file.

    There is no float64 for it: its answers without any of onnxruntime's optimizations stand in for float64, and those with all
    of them for float32. How far the two are apart sets the tolerance.
    """

    note = "two files were compared: onnxruntime without optimizations stands in for float64"
    weights_notes: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        deployed: Deployed,
        candidate: Deployed,
        input_shapes: Sequence[tuple[int, ...]] | None = None,
        values: InputValues | None = None,
    ) -> None:
        self.name = name
        self.deployed = deployed
        self.precision = deployed.precision
        self.comparable = _comparable(deployed, candidate)
        contract = onnx_file.get_contract(deployed.model)
        self.rules: ImageInput | ArrayInput | None = contract.input if contract else None
        self.rules_of_inputs = _rules_of_inputs(contract, deployed)
        self.declared = True
        self.output: Output | None = contract.output if contract else None
        dataset = contract.provenance.get("dataset") if contract else None
        self.dataset = dataset if isinstance(dataset, str) else None
        self.data: str | None = None
        self.trained = bool(contract and contract.provenance.get("checkpoint_sha256"))
        self.inputs = input_specs.changed(specs_of(deployed, contract), input_shapes, None, name)
        if values is not None:
            self.inputs = input_specs.with_values(self.inputs, values, name)
        self.fixed_batch: int | None = fixed_batch(deployed.inputs, self.inputs)
        self.changed: set[str] = set()
        self.files: tuple[Deployed, ...] = (deployed,)
        self._session = deployed.answering()

    def observe(self, batches: Sequence[Batch], with_layers: Container[str]) -> list[Observation]:
        """The file without optimizations in place of float64, with all of them in place of float32."""
        plain, optimized = (self._ask(level, batches, with_layers) for level in ("disabled", "all"))
        return [Observation(batch, p, o, o) for batch, p, o in zip(batches, plain, optimized, strict=True)]

    def shaken(self, observation: Observation) -> Observation | None:
        """None: without float64 a jump cannot be told from rounding."""
        del observation
        return None

    def again(self, batch: Batch) -> list[NDArray[Any]]:
        """With all of onnxruntime's optimizations."""
        return self._ask("all", [batch], ())[0].outputs

    def constants(self, batch: Batch) -> Sequence[float]:
        """Those that stand in the file."""
        del batch
        return rare_values.compared_with(self.deployed)

    def sides(self, batch: Batch) -> Sides:
        """Of onnxruntime."""
        return self._sides(batch) if self._sides is not None else []

    @cached_property
    def _sides(self) -> Callable[[Batch], Sides] | None:
        return margins.of_file(self.deployed)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Those of the file."""
        return tuple(value.name for value in self.deployed.model.graph.output)

    def attends_to_nothing(self, batch: Batch) -> bool:
        """Never: both files are run by the same engine, which does the same there."""
        del batch
        return False

    def guards(self, axes: Axes, sizes: Sizes) -> Sequence[Guard]:
        """None: what a graph asks of sizes stands in its operators; see `file_sizes`."""
        del axes, sizes
        return ()

    def line_of(self, guard: Guard, axes: Axes, sizes: Sizes) -> str:
        """None: there is no code."""
        del guard, axes, sizes
        return ""

    def naming(self, deployed: Deployed) -> Naming:
        """Values of one name."""
        suspects = moved_names.suspects(self.deployed.model.graph, deployed.model.graph)
        return Naming({name: name for name in deployed.values()}, True, suspects=suspects)

    def weights(self, deployed: Deployed, proven: Container[str], moved: AbstractSet[str]) -> tuple[Check, str | None]:
        """Constants of one name and shape in both files, then those of other names, see `twins`.

        One that makes nothing but moved values may differ.
        """
        own = {tensor.name: tensor for tensor in self.deployed.model.graph.initializer}
        compared = 0
        renamed: dict[str, NDArray[Any]] = {}
        for tensor in deployed.model.graph.initializer:
            right = external_data.array(tensor, deployed.folder)
            other = own.get(tensor.name)
            if right is None:
                continue
            if other is None or list(other.dims) != list(tensor.dims) or other.data_type != tensor.data_type:
                renamed[tensor.name] = right
                continue
            del own[tensor.name]
            left = external_data.array(other, self.deployed.folder)
            if left is None:
                continue
            owner = tensor.name.rpartition(".")[0]
            if not np.array_equal(left, right) and owner not in proven:
                if moved and _made_with(tensor.name, deployed) <= moved:
                    continue
                return Check("weights", False, f"{tensor.name} differs between the files"), owner or tensor.name
            compared += 1
        rest = {name: array for name, t in own.items() if (array := external_data.array(t, self.deployed.folder)) is not None}
        equal, changed = twins.compare(renamed, rest)
        if changed is not None:
            return Check("weights", False, changed.told("the other file's")), changed.own.rpartition(".")[0] or changed.own
        count = len(self.deployed.model.graph.initializer)
        return Check("weights", True, f"{compared + equal} of {count} tensors compared with the other file's"), None

    def culprit(self, deployed: Deployed, path: str) -> str:
        """The value's own name: both files call it so."""
        del deployed
        return path

    def logits(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """The other file's first output."""
        return sessions.run(self._session, {self._session.get_inputs()[0].name: inputs})[0]

    def _ask(self, level: sessions.Level, batches: Sequence[Batch], with_layers: Container[str]) -> list[Answers]:
        plain = self.deployed.answering() if level == "all" else self.deployed.session(level)
        looking = self.deployed.session(level, also=self.comparable)
        names = [entry.name for entry in plain.get_inputs()]
        found = []
        for batch in batches:
            feeds = batch.feeds(names)
            try:
                answers = sessions.run(plain, feeds)
            except ModelFileError as error:
                raise InputError(f"{self.name} cannot take {batch.name}: {error.problem}", "choose other --batches") from error
            layers = Values()
            for start in range(0, len(self.comparable) if batch.name in with_layers else 0, VALUES_AT_ONCE):
                group = self.comparable[start : start + VALUES_AT_ONCE]
                for name, value in zip(group, sessions.answers(looking, feeds, group), strict=True):
                    if isinstance(value, np.ndarray) and value.dtype.kind == "f":  # others are sequences
                        layers[name] = value
            found.append(Answers(answers, layers))
        return found


def _rules_of_inputs(contract: Contract | None, deployed: Deployed) -> tuple[ImageInput | ArrayInput, ...]:
    """As far as the contract says them, in the order of the graph's inputs."""
    if contract is None:
        return ()
    names = [value.name for value in deployed.inputs]
    return tuple(contract.inputs[name] for name in names if name in contract.inputs) or (contract.input,)


def _comparable(left: Deployed, right: Deployed) -> list[str]:
    """Values that mean the same in both files: of one name, and made by one operator or named by deploykit in both.

    Tools that rewrite a graph may give a name to another value, such as a convolution's to the BatchNorm folded into it.
    """
    ours, theirs = left.values(), right.values()
    named = all(onnx_file.has_contract(side.model) for side in (left, right))
    return [name for name, kind in ours.items() if name in theirs and (named or theirs[name] == kind)]


def _made_with(name: str, deployed: Deployed) -> set[str]:
    """The values that are made by the nodes which take a constant, those in bodies of loops and branches included."""
    return {output for node in walk.nodes(deployed.model.graph) if name in node.input for output in node.output}
