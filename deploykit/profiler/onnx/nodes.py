"""The layer table of an ONNX file: one row per node, in the order of execution, under the same conventions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from deploykit.onnx_file import walk
from deploykit.profiler import conventions
from deploykit.profiler.conventions import Convention
from deploykit.profiler.layer_table import Layer, LayerTable, Shape, Totals
from deploykit.profiler.onnx import run as onnx_run
from deploykit.profiler.onnx.inputs import fixed
from deploykit.profiler.onnx.microsoft import FREE
from deploykit.profiler.onnx.operators import FORMULAS, Node, UnknownShape, full_name, is_standard, node_ops
from deploykit.profiler.onnx.shapes import Graph
from deploykit.profiler.onnx.weights import Weights

MOVEMENT = frozenset(
    """
    Cast CastLike Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace DequantizeLinear Expand EyeLike
    Flatten Gather GatherElements GatherND Identity NonZero OneHot Optional OptionalGetElement OptionalHasElement Pad Range
    Reshape ReverseSequence Scatter ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty SequenceErase
    SequenceInsert SequenceLength Shape Size Slice SpaceToDepth Split SplitToSequence Squeeze Tile Transpose Trilu Unsqueeze
    Where
    """.split()  # noqa: SIM905
)


def count_nodes(
    model: onnx.ModelProto,
    convention: str = "macs",
    batch: int | None = None,
    shapes: Sequence[Shape] | None = None,
    file: Path | None = None,
) -> LayerTable:
    """Count the graph for one batch size (`None`: what the file fixes, else 1); weights are not needed, only their shapes.

    `shapes`: per input, without the batch, for sizes that the file leaves free. `file`: where the model came from; it is run
    once if a size that matters cannot be inferred, such as one that the graph computes by arithmetic. Never raises for an
    operator or a shape that it does not know: those are listed. Raises `UnknownName` for the convention, `InputError` for a
    size that nobody knows.
    """
    rules = conventions.get(convention)
    inputs = fixed(model, batch, shapes)
    counter = _Counter(rules, Graph(model, inputs))
    rows = tuple(counter.rows())
    if counter.unshaped and file is not None:
        seen = onnx_run.shapes(file, model.graph, inputs)
        counter = _Counter(rules, Graph(model, inputs, seen))
        rows = tuple(counter.rows())
    totals = Totals(sum(row.params for row in rows), None, None, sum(row.ops for row in rows))
    size = inputs[0].shape[0] if inputs and inputs[0].shape else 1
    uncounted, excluded = dict(sorted(counter.uncounted.items())), dict(sorted(counter.excluded.items()))
    return LayerTable(rules.name, size, rows, totals, uncounted, excluded, tuple(counter.notes))


class _Counter:
    def __init__(self, rules: Convention, graph: Graph) -> None:
        self.rules, self.graph = rules, graph
        self.uncounted: Counter[str] = Counter()
        self.excluded: Counter[str] = Counter()
        self.notes: list[str] = []
        self.unshaped: list[str] = []
        self.weights = Weights(graph, statistics=rules.name == "paddle")

    def rows(self) -> Iterator[Layer]:
        for node, proto in zip(self.graph.nodes, self.graph.protos, strict=True):
            if node.op_type == "Constant" and node.domain in walk.STANDARD:
                continue
            yield Layer(
                path=node.name,
                type=full_name(node),
                input_shape=next((shape for shape in node.inputs if shape is not None), None),
                output_shape=node.outputs[0] if node.outputs else None,
                kernel=_ints(node, "kernel_shape") or _kernel_of_weight(node),
                stride=_ints(node, "strides"),
                padding=_padding(node),
                params=self.weights.of(proto),
                ops=self._ops(node, proto),
                macs=_macs(node),
            )
        if self.unshaped:
            shown = ", ".join(self.unshaped[:5]) + (f" and {len(self.unshaped) - 5} more" if len(self.unshaped) > 5 else "")
            self.notes.append(f"not counted, because a shape is not known without running the file: {shown}")

    def _ops(self, node: Node, proto: onnx.NodeProto) -> int:
        inside = list(walk.bodies(proto))
        if inside:
            return self._body(node, inside)
        try:
            found = node_ops(node, self.rules)
        except (UnknownShape, IndexError, KeyError, ValueError, TypeError):  # but for the first: a graph that contradicts itself
            self.uncounted[full_name(node)] += 1
            self.unshaped.append(node.name)
            return 0
        if found is not None:
            return found
        if self._is_product(node) or not (is_standard(node) or full_name(node) in FREE):
            self.uncounted[full_name(node)] += 1
        elif node.op_type not in MOVEMENT:
            self.excluded[full_name(node)] += 1
        return 0

    def _is_product(self, node: Node) -> bool:
        """Whether the convention leaves out what another one counts: paddle knows no product of two activations."""
        return self.rules.per_mac is None and full_name(node) in FORMULAS

    def _body(self, node: Node, inside: Sequence[onnx.GraphProto]) -> int:
        """A loop or branch: how often it runs, or which way it goes, is usually decided by values."""
        nodes = [inner for body in inside for inner in walk.nodes(body)]
        costly = sorted({walk.operator(n) for n in nodes if walk.operator(n) in FORMULAS or n.domain not in walk.STANDARD})
        if costly:
            self.uncounted[node.op_type] += 1
            self.notes.append(
                f"{node.name} ({node.op_type}) is not counted: only a run would tell how often it runs {', '.join(costly)}"
            )
        else:
            self.excluded[node.op_type] += 1
        return 0


def _macs(node: Node) -> int:
    """Multiply-accumulates whatever the convention; 0 where they are not known, which `_ops` has reported."""
    try:
        return node_ops(node, conventions.get("macs")) or 0
    except (UnknownShape, IndexError, KeyError, ValueError, TypeError):
        return 0


def _kernel_of_weight(node: Node) -> Shape | None:
    """A convolution may leave its kernel to the shape of its weight."""
    weight = node.inputs[1] if node.op_type in ("Conv", "ConvTranspose") and len(node.inputs) > 1 else None
    return tuple(weight[2:]) if weight else None


def _ints(node: Node, name: str) -> Shape | None:
    value = node.attributes.get(name)
    return tuple(int(v) for v in value) if isinstance(value, list) else None


def _padding(node: Node) -> Shape | None:
    """Begins only where both ends agree, as torch writes it; all of them otherwise."""
    pads = _ints(node, "pads") if node.op_type != "Pad" else None
    if pads is None:
        return None
    half = len(pads) // 2
    return pads[:half] if pads[:half] == pads[half:] else pads
