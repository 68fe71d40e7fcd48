"""Every layer's own output, compared: a wrong weight can vanish in the noise of the outputs, but not in its own layer.

The deployed file is not touched: a second session runs the same graph with the values of the modules as extra outputs. Those
keep onnxruntime from fusing some nodes, which is why the outputs are judged apart, on the file as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import onnx

from deploykit import onnx_file, ort
from deploykit.errors import ModelFileError
from deploykit.verdict.comparison import Difference, compare
from deploykit.verdict.inputs import Batch
from deploykit.verdict.reference import Reference, Values

BYTES_AT_ONCE = 512 << 20


@dataclass(frozen=True)
class LayerDifference:
    """How one module's output differs on one batch."""

    path: str
    batch: str
    difference: Difference


def compare_layers(
    model: onnx.ModelProto, reference: Reference, batches: Sequence[Batch], level: ort.Level = "all"
) -> list[LayerDifference]:
    """One entry per module whose output the graph still has under its name, in the order of execution, per batch."""
    found: list[LayerDifference] = []
    names = [value.name for value in model.graph.input]
    for batch in batches:
        wide, narrow = reference.layers(batch.tensors)
        paths = _in_order(model, wide)
        if not paths:
            return []
        with _with_outputs(model, paths):
            session = ort.open_session(onnx_file.to_bytes(model), level)
        feeds = batch.feeds([name for name in names if name in {i.name for i in session.get_inputs()}])
        try:
            for group in _groups(paths, narrow):
                values = ort.run(session, feeds, group)
                for path, value in zip(group, values, strict=True):
                    found.append(LayerDifference(path, batch.name, compare(wide[path], narrow[path], value)))
        except ModelFileError:
            # A batch that the file cannot take at all, such as another size than a frozen one: the outputs' check says so.
            continue
    return found


def first_divergent(layers: Sequence[LayerDifference]) -> LayerDifference | None:
    """The first layer that is out of tolerance, in the order of execution, on any batch."""
    order = {layer.path: position for position, layer in reversed(list(enumerate(layers)))}
    outside = [layer for layer in layers if not layer.difference.within]
    return min(outside, key=lambda layer: order[layer.path], default=None)


def _in_order(model: onnx.ModelProto, values: Values) -> list[str]:
    outputs = {value.name for value in model.graph.output}
    return [name for node in model.graph.node for name in node.output if name in values and name not in outputs]


@contextmanager
def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> Iterator[None]:
    """The same graph with more outputs, without a copy of the weights; taken back at the end."""
    count = len(model.graph.output)
    known = {value.name: value for value in model.graph.value_info}
    for name in names:
        model.graph.output.append(known.get(name) or onnx.ValueInfoProto(name=name))
    try:
        yield
    finally:
        del model.graph.output[count:]


def _groups(paths: Sequence[str], values: Values) -> Iterator[list[str]]:
    """Fetch so many values at once that they fit in memory."""
    group: list[str] = []
    size = 0
    for path in paths:
        if group and size + values[path].nbytes > BYTES_AT_ONCE:
            yield group
            group, size = [], 0
        group.append(path)
        size += values[path].nbytes
    if group:
        yield group
