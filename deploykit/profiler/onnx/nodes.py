"""The layer table of an ONNX file: one row per node, in the order of execution, under the same conventions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from deploykit.onnx_file import walk
from deploykit.profiler import conventions
from deploykit.profiler.conventions import Convention
from deploykit.profiler.layer_table import Layer, LayerTable, Shape, Totals
from deploykit.profiler.onnx import bodies
from deploykit.profiler.onnx.bodies import Places, Seen
from deploykit.profiler.onnx.flow import Flow, is_control
from deploykit.profiler.onnx.inputs import FixedInput, Unmade, as_given, batch_of, fixed, values
from deploykit.profiler.onnx.microsoft import FREE
from deploykit.profiler.onnx.operators import FORMULAS, NOT_KNOWN, Node, full_name, is_known, node_ops
from deploykit.profiler.onnx.run import Run, observe
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
    feeds: Mapping[str, NDArray[Any]] | None = None,
    made_up: bool = False,
) -> LayerTable:
    """Count the graph for one batch size (`None`: what the file fixes, else 1); weights are not needed, only their shapes.

    `shapes`: per input, without the batch, for sizes that the file leaves free. `feeds`: arrays by input, whose shapes stand in
    place of both; `made_up`: nobody gave their values. `file`: where the model came from; it is run once, on `feeds` or on made-up
    values, if a size that matters cannot be inferred, such as one that the graph computes by arithmetic, or if only a run tells
    which branch is taken and how often a loop runs. Never raises for an operator or a shape that it does not know: those
    are listed. Raises `UnknownName` for the convention, `InputError` for a size that nobody knows.
    """
    rules = conventions.get(convention)
    inputs = fixed(model, batch, shapes) if feeds is None else as_given(feeds, model)
    graph = Graph(model, inputs)
    flow = Flow(graph.model)
    assumed = flow if feeds is None or made_up else None
    counter = _Counter(rules, graph, flow)
    rows = tuple(counter.rows())
    if counter.needs_run and file is not None:
        first, run = counter, _run_of(graph, file, inputs, feeds)
        graph = Graph(graph.model, inputs, run.values)
        counter = _Counter(rules, graph, flow, Seen(run, flow=assumed), first.unshaped)
        rows = tuple(counter.rows())
        if counter.untold:
            other = _run_of(graph, file, inputs, feeds, counter.untold)
            counter = _Counter(rules, graph, flow, Seen(run, other, assumed), first.unshaped)
            rows = tuple(counter.rows())
    totals = Totals(sum(row.params for row in rows), None, None, sum(row.ops for row in rows))
    uncounted, excluded = dict(sorted(counter.uncounted.items())), dict(sorted(counter.excluded.items()))
    unknown = tuple(sorted({name for names in counter.weights.unsure.values() for name in names}))
    return LayerTable(
        rules.name, batch_of(inputs, batch), rows, totals, uncounted, excluded, tuple(counter.all_notes()), unknown,
        made_up=tuple(counter.made_up),
    )  # fmt: skip


def _run_of(
    graph: Graph,
    file: Path,
    inputs: Sequence[FixedInput],
    feeds: Mapping[str, NDArray[Any]] | None,
    forced: Mapping[int, bool] | None = None,
) -> Run:
    try:
        return observe(graph.model, file, values(inputs) if feeds is None else feeds, forced)
    except Unmade as error:
        return Run(failure=error.problem)
    except MemoryError:
        return Run(failure="its inputs do not fit into memory")


class _Counter:
    """The rows of a graph; `seen` is what runs have shown, `unshaped` the nodes whose shapes nothing else told, by index.

    `untold`: conditions of branches of which a run in which they are turned round would tell, by the index of their node.
    """

    def __init__(
        self, rules: Convention, graph: Graph, flow: Flow, seen: Seen | None = None, unshaped: Mapping[int, str] | None = None
    ) -> None:
        self.rules, self.graph, self.flow, self.seen, self.before = rules, graph, flow, seen or Seen(), unshaped or {}
        self.untold: dict[int, bool] = {}
        self.uncounted: Counter[str] = Counter()
        self.excluded: Counter[str] = Counter()
        self.notes: list[str] = []
        self.unshaped: dict[int, str] = {}
        self.made_up: list[str] = []
        self.needs_run = False
        self.weights = Weights(flow, statistics=rules.name == "paddle")

    def rows(self) -> Iterator[Layer]:
        """One per node but the Constants."""
        places = Places(self.graph.protos)
        for index, (node, proto) in enumerate(zip(self.graph.nodes, self.graph.protos, strict=True)):
            if node.op_type == "Constant" and node.domain in walk.STANDARD:
                continue
            ops, macs = (0, 0) if is_control(proto) else (self._ops(index, node), _macs(node))
            if index in self.before and index not in self.unshaped:
                self._note_made_up(node, places.of(index))
            if walk.has_bodies(proto):
                inside = self._body(index, node, proto, places)
                ops, macs = ops + inside[0], macs + inside[1]
            yield Layer(
                path=node.name,
                type=full_name(node),
                input_shape=next((shape for shape in node.inputs if shape is not None), None),
                output_shape=node.outputs[0] if node.outputs else None,
                kernel=_ints(node, "kernel_shape") or _kernel_of_weight(node),
                stride=_ints(node, "strides"),
                padding=_padding(node),
                params=self.weights.of(index),
                ops=ops,
                macs=macs,
            )
        self.needs_run |= bool(self.unshaped)

    def all_notes(self) -> Iterator[str]:
        """What the rows do not say."""
        yield from self.notes
        if self.unshaped:
            yield f"not counted, because a shape is not known without running the file: {_some(self.unshaped.values())}"
        if self.made_up:
            yield f"rests on made-up values of the inputs (give your own with --inputs): {_some(self.made_up)}"
        for reason, names in sorted(self.weights.unsure.items()):
            yield f"{reason}: {', '.join(sorted(names))}"
        run = self.seen.run
        if run is not None and run.failure and (self.unshaped or self.uncounted):
            yield f"the run that would show the rest failed: {run.failure}"

    def _note_made_up(self, node: Node, place: int) -> None:
        """Note a node whose shapes only a run on made-up values has shown, if the values decide them and it has a cost."""
        if self.seen.flow is not None and full_name(node) in FORMULAS:
            call, (_, shapes) = self.flow.calls[place], self.flow.on_inputs
            if not shapes.isdisjoint((*call.inputs, *call.outputs)):
                self.made_up.append(node.name)

    def _ops(self, index: int, node: Node) -> int:
        try:
            found = node_ops(node, self.rules)
        except NOT_KNOWN:
            self.uncounted[full_name(node)] += 1
            self.unshaped[index] = node.name
            return 0
        if found is not None:
            return found
        if self._is_product(node) or not (is_known(node) or full_name(node) in FREE):
            self.uncounted[full_name(node)] += 1
        elif node.op_type not in MOVEMENT:
            self.excluded[full_name(node)] += 1
        return 0

    def _is_product(self, node: Node) -> bool:
        """Whether the convention leaves out what another one counts: paddle knows no product of two activations."""
        return self.rules.per_mac is None and full_name(node) in FORMULAS

    def _body(self, index: int, node: Node, proto: onnx.NodeProto, places: Places) -> tuple[int, int]:
        """(operations, MACs) of a loop or branch: what a run has shown; without one, what all branches have in common."""
        if not bodies.costly(proto):
            if is_control(proto):
                self.excluded[node.op_type] += 1
            return 0, 0
        self.needs_run = True
        found = bodies.count(proto, places.of(index), self.graph, index, self.seen, self.rules)
        if found.untold is not None:
            self.untold[index] = found.untold
        if found.made_up:
            self.made_up.append(node.name)
        self.uncounted.update(found.uncounted)
        self.notes.append(f"{node.name} ({node.op_type}): {'; '.join(found.notes)}")
        return found.ops, found.macs


def _some(names: Iterable[str]) -> str:
    """The first five of them."""
    found = list(names)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def _macs(node: Node) -> int:
    """Multiply-accumulates whatever the convention; 0 where they are not known, which `_ops` has reported."""
    try:
        return node_ops(node, conventions.get("macs")) or 0
    except NOT_KNOWN:
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
