"""`count`: operations inside a node's own graphs, the branches of an If and the bodies of Loop, Scan and SequenceMap.

A run shows how often each node inside ran, and on which shapes; that is counted. Of a branch that the run did not take the cost is
told beside. Without a run only an If is counted whose branches all cost the same, and a Scan, whose input says how often it runs.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from deploykit.onnx_file import opset, walk
from deploykit.profiler import conventions
from deploykit.profiler.conventions import Convention
from deploykit.profiler.layer_table import Shape
from deploykit.profiler.onnx import weights
from deploykit.profiler.onnx.microsoft import FREE
from deploykit.profiler.onnx.operators import FORMULAS, NOT_KNOWN, full_name, is_known, node_ops
from deploykit.profiler.onnx.run import Run, Shapes
from deploykit.profiler.onnx.shapes import Graph, known_shapes, node_of

MACS = conventions.get("macs")
FIRST_SCAN = 9  # opset; before, Scan had a batch
CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})  # operators that do nothing but run their bodies


@dataclass
class Inside:
    """The operations of what lies in one node. `uncounted`: operators without a formula or shapes. `notes`: parts of one line.

    `untold`: the condition of an If that would lead to the branch of which nobody knows the cost; `None` where there is none.
    """

    ops: int = 0
    macs: int = 0
    uncounted: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    untold: bool | None = None


class Places:
    """Where each node of a graph stands in `walk.nodes`, which counts those inside it too."""

    def __init__(self, protos: Sequence[onnx.NodeProto]) -> None:
        self._protos, self._found = protos, [0]

    def of(self, index: int) -> int:
        """The place of the node of that index in the graph itself."""
        while len(self._found) <= index:
            proto = self._protos[len(self._found) - 1]
            inside = sum(1 for body in walk.bodies(proto) for _ in walk.nodes(body)) if walk.has_bodies(proto) else 0
            self._found.append(self._found[-1] + 1 + inside)
        return self._found[index]


def costly(proto: onnx.NodeProto) -> list[str]:
    """The operators inside a node that may multiply and accumulate, sorted."""
    inner = {walk.operator(node) for body in walk.bodies(proto) for node in walk.nodes(body)}
    return sorted(name for name in inner if name in FORMULAS or ("." in name and name not in FREE))


def count(
    proto: onnx.NodeProto, place: int, graph: Graph, index: int, run: Run | None, rules: Convention, other: Run | None = None
) -> Inside:
    """What the `index`-th node of the graph, the `place`-th of `walk.nodes`, costs with all that it runs.

    `other`: a run in which an If took the other branch, where that was asked for.
    """
    if run is not None and not run.failure and place in run.calls:
        measured = _Measured(proto, place, graph, run, rules)
        if proto.op_type == "If":
            measured.tell_other(_by_name(proto, graph, index, rules) | _in_run(proto, place, graph, other, rules))
        return measured.found
    known = None
    if proto.op_type == "If":
        known = _alike(_by_name(proto, graph, index, rules))
    elif proto.op_type == "Scan":
        known = _scanned(proto, graph, index, rules)
    if known is not None:
        return known
    notes = [f"not counted, only a run would tell how often it runs {', '.join(costly(proto))}"]
    return Inside(uncounted=Counter({proto.op_type: 1}), notes=notes)


def _alike(branches: Mapping[str, Inside | None]) -> Inside | None:
    """What every branch costs; `None` where they differ, or one is not known."""
    first, *rest = branches.values()
    if first is None or any(other is None or (other.ops, other.macs) != (first.ops, first.macs) for other in rest):
        return None
    return Inside(first.ops, first.macs, notes=[f"both branches cost {first.ops:,}"])


def _scanned(proto: onnx.NodeProto, graph: Graph, index: int, rules: Convention) -> Inside | None:
    """A Scan runs its body for every slice of its scan inputs, which are the last ones; `None` where that is not known."""
    numbers = {a.name: a.i for a in proto.attribute if a.type == onnx.AttributeProto.INT}
    axes = next((list(a.ints) for a in proto.attribute if a.name == "scan_input_axes"), []) or [0]
    shape = graph.nodes[index].inputs[-numbers.get("num_scan_inputs", 1)]
    if opset(graph.model) < FIRST_SCAN or not shape or not -len(shape) <= axes[0] < len(shape):
        return None
    times, body = shape[axes[0]], _by_name(proto, graph, index, rules)["body"]
    if body is None:
        return None
    return Inside(times * body.ops, times * body.macs, notes=[f"its body runs {times} time{'' if times == 1 else 's'}"])


class _Measured:
    """Adds up the calls that a run has shown."""

    def __init__(self, proto: onnx.NodeProto, place: int, graph: Graph, run: Run, rules: Convention) -> None:
        self.graph, self.run, self.rules, self.found = graph, run, rules, Inside()
        self.taken: dict[str, int] = {}
        for name, body in _named_bodies(proto):
            before = self.found.ops
            first, place = place + 1, place + sum(1 for _ in walk.nodes(body))
            times = self._add(body, first, graph.scope)
            self.taken[name] = times
            if proto.op_type == "If" and times:
                self.found.notes.append(f"the run took {name}, which costs {self.found.ops - before:,}")
            elif proto.op_type != "If":
                self.found.notes.append(f"its body ran {times} time{'' if times == 1 else 's'} in the run")

    def _add(self, body: onnx.GraphProto, place: int, outer: weights.Scope) -> int:
        """Add the nodes of a body and of all in it, the first of which stands at `place`; gives how often the body ran."""
        scope = weights.Scope(weights.stored_in(body, ""), outer)
        times = 0
        for node in body.node:
            calls: Counter[Shapes] = Counter(self.run.calls.get(place, {}))
            times = max(times, calls.total())
            place += 1
            for inner in walk.bodies(node):
                self._add(inner, place, scope)
                place += sum(1 for _ in walk.nodes(inner))
            if calls and not walk.has_bodies(node):
                self._add_calls(node, calls, scope)
        return times

    def _add_calls(self, node: onnx.NodeProto, calls: Mapping[Shapes, int], scope: weights.Scope) -> None:
        constant = {name for name in node.input if scope.find(name)}
        for (told, outputs), times in calls.items():
            shaped = node_of(node, "", _placed(node, told, scope, self.graph.shapes), outputs, constant)
            try:
                ops, macs = node_ops(shaped, self.rules), node_ops(shaped, MACS)
            except NOT_KNOWN:
                self.found.uncounted[walk.operator(node)] += 1
                return
            if ops is None and ((macs and self.rules.per_mac is None) or not (is_known(shaped) or full_name(shaped) in FREE)):
                self.found.uncounted[walk.operator(node)] += 1
                return
            self.found.ops += times * (ops or 0)
            self.found.macs += times * (macs or 0)

    def tell_other(self, branches: Mapping[str, Inside | None]) -> None:
        """Note what the branches that did not run would cost, as far as that is known."""
        for name in (name for name, times in self.taken.items() if not times):
            cost = branches[name]
            if cost is None:
                self.found.untold = name == "then_branch"
            told = "has a cost that is not known" if cost is None else f"would cost {cost.ops:,}"
            self.found.notes.append(f"{name}, the other one, {told}")


def _in_run(proto: onnx.NodeProto, place: int, graph: Graph, run: Run | None, rules: Convention) -> dict[str, Inside | None]:
    """The cost of the branch that another run took; empty without one, or where it does not tell all."""
    if run is None or run.failure or place not in run.calls:
        return {}
    measured = _Measured(proto, place, graph, run, rules)
    ran = [name for name, times in measured.taken.items() if times]
    return {ran[0]: measured.found} if len(ran) == 1 and not measured.found.uncounted else {}


def _placed(
    node: onnx.NodeProto, told: Sequence[Shape], scope: weights.Scope, around: Mapping[str, Shape]
) -> Sequence[Shape | None]:
    """The shapes of a node's inputs in their places.

    The profiler leaves out inputs that are missing, that are no tensors, and some of those that are stored: a kernel that packs its
    weight in advance lets go of it. So what is told goes to the others, and to a stored one only where there is more of it.
    """
    stored = {name: found[0].dims for name in node.input if name and (found := scope.find(name))}
    present = [name for name in node.input if name]
    others, left, known = sum(name not in stored for name in present), list(told), dict(stored)
    for name in present:
        if name not in stored:
            others -= 1
            if left:
                known[name] = left.pop(0)
        elif len(left) > others and left[0] == stored[name]:
            left.pop(0)
    if left or any(name not in known for name in present):
        known = stored
    return [(known.get(name) or around.get(name)) if name else None for name in node.input]


def _by_name(proto: onnx.NodeProto, graph: Graph, index: int, rules: Convention) -> dict[str, Inside | None]:
    """The cost of each branch by the shapes that can be inferred; `None` for one of which that does not tell."""
    if index >= len(graph.inferred):
        return {name: None for name, _ in _named_bodies(proto)}
    return _branches(proto, graph.inferred[index], ChainMap(graph.shapes), graph.scope, rules)


def _branches(
    proto: onnx.NodeProto, inferred: onnx.NodeProto, around: ChainMap[str, Shape], outer: weights.Scope, rules: Convention
) -> dict[str, Inside | None]:
    pairs = zip(_named_bodies(proto), walk.bodies(inferred), strict=True)
    return {name: _static(body, again, around, outer, rules) for (name, body), again in pairs}


def _static(
    body: onnx.GraphProto, inferred: onnx.GraphProto, around: ChainMap[str, Shape], outer: weights.Scope, rules: Convention
) -> Inside | None:
    scope = weights.Scope(weights.stored_in(body, ""), outer)
    stored = {name: stored.dims for name, stored in scope.stored.items()}
    shapes = around.new_child(known_shapes(inferred) | stored)
    found = Inside()
    for place, node in enumerate(body.node):
        if walk.has_bodies(node) and costly(node):
            inner = _alike(_branches(node, inferred.node[place], shapes, scope, rules)) if node.op_type == "If" else None
            if inner is None:
                return None
            found.ops, found.macs = found.ops + inner.ops, found.macs + inner.macs
            continue
        constant = {name for name in node.input if scope.find(name)}
        sizes = [[shapes.get(name) if name else None for name in names] for names in (node.input, node.output)]
        shaped = node_of(node, "", sizes[0], sizes[1], constant)
        try:
            ops, macs = node_ops(shaped, rules), node_ops(shaped, MACS)
        except NOT_KNOWN:
            return None
        if ops is None and not (is_known(shaped) or full_name(shaped) in FREE):
            return None
        found.ops += ops or 0
        found.macs += macs or 0
    return found


def _named_bodies(proto: onnx.NodeProto) -> list[tuple[str, onnx.GraphProto]]:
    """The graphs of a node with the names of their attributes, in the order of `walk.bodies`."""
    return [(a.name, body) for a in proto.attribute for body in (*([a.g] if a.HasField("g") else []), *a.graphs)]
