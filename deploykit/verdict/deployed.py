"""An ONNX graph that can be looked into: where its weights lie, its precision, sessions that also give inner values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
import onnxruntime

from deploykit import onnx_file
from deploykit.onnx_file import external_data, inputs, sessions, walk
from deploykit.verdict.precision import Precision

# Operators whose output holds numbers of their first input and no others.
SAME_NUMBERS = ("Cast", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Deployed:
    """`folder`: where weights lie that are not in the message, `None` where all are inside."""

    model: onnx.ModelProto
    folder: Path | None = None

    def session(
        self, level: sessions.Level = "all", device: str = sessions.CPU, also: Sequence[str] = ()
    ) -> onnxruntime.InferenceSession:
        """A session on the graph, with the values called `also` as more outputs. Raises `ModelFileError`."""
        with _more_outputs(self.model, also):
            data = onnx_file.to_bytes(self.model)
        return sessions.open_session(data, level, device, folder=self.folder)

    def answering(self, device: str = sessions.CPU) -> onnxruntime.InferenceSession:
        """The session on the graph as it is, fully optimized, which is opened once per device. Raises `ModelFileError`."""
        if device not in self._opened:
            self._opened[device] = self.session("all", device)
        return self._opened[device]

    @cached_property
    def _opened(self) -> dict[str, onnxruntime.InferenceSession]:
        return {}

    @property
    def inputs(self) -> list[onnx.ValueInfoProto]:
        """What it takes, without the weights that old files list among the inputs."""
        return inputs.of_graph(self.model.graph)

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size it takes, `None` where any goes."""
        return inputs.fixed_batch(self.inputs)

    @cached_property
    def precision(self) -> Precision:
        """What most of the weights are stored in, counted by their number; a few in another type change nothing.

        Of a file without floating weights: what its inputs are.
        """
        counts: Counter[int] = Counter()
        for tensor in self.model.graph.initializer:
            counts[tensor.data_type] += external_data.elements(tensor)
        if not counts[onnx.TensorProto.FLOAT16] and not counts[onnx.TensorProto.FLOAT]:
            types = {value.type.tensor_type.elem_type for value in self.inputs}
            return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"
        return "fp16" if counts[onnx.TensorProto.FLOAT16] > counts[onnx.TensorProto.FLOAT] else "fp32"

    @cached_property
    def operators(self) -> frozenset[str]:
        """The kinds of its nodes, also inside of bodies and functions."""
        return frozenset(node.op_type for node in walk.nodes(self.model))

    @cached_property
    def sigmoids(self) -> frozenset[str]:
        """The values of the main graph that a sigmoid makes, also in another shape or type, in parts, or beside others."""
        found: set[str] = set()
        for node in self.model.graph.node:
            kept = node.input[:1] if node.op_type in SAME_NUMBERS else node.input if node.op_type == "Concat" else ()
            if node.op_type == "Sigmoid" or not found.isdisjoint(kept):
                found.update(node.output)
        return frozenset(found)

    def values(self) -> dict[str, str]:
        """The values between inputs and outputs of the main graph -> the operator that makes them, in order."""
        outputs = {value.name for value in self.model.graph.output}
        return {name: node.op_type for node in self.model.graph.node for name in node.output if name and name not in outputs}


@contextmanager
def _more_outputs(model: onnx.ModelProto, names: Sequence[str]) -> Iterator[None]:
    """The same graph with more outputs, without a copy of the weights; taken back at the end."""
    count = len(model.graph.output)
    known = {value.name: value for value in model.graph.value_info} if names else {}
    for name in names:
        model.graph.output.append(known.get(name) or onnx.ValueInfoProto(name=name))
    try:
        yield
    finally:
        del model.graph.output[count:]
