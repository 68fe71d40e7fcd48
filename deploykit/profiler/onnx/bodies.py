"""`count`: operations inside a node's own graphs, the branches of an If and the bodies of Loop, Scan and SequenceMap.

A run shows how often each node inside ran, and on which shapes; that is counted. Of a branch that the run did not take the cost is
told beside. Without a run only an If is counted whose branches all cost the same, and a Scan, whose input says how often it runs.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

import onnx

from deploykit.onnx_file import opset, walk
from deploykit.profiler import conventions
from deploykit.profiler.conventions import Convention
from deploykit.profiler.layer_table import Shape
from deploykit.profiler.onnx.flow import Flow, deciding, is_control
from deploykit.profiler.onnx.microsoft import FREE
from deploykit.profiler.onnx.operators import FORMULAS, NOT_KNOWN, full_name, is_known, node_ops
from deploykit.profiler.onnx.run import Run, Shapes
from deploykit.profiler.onnx.shapes import Graph, known_shapes, node_of
from deploykit.profiler.onnx.stored import Scope, stored_in

MACS = conventions.get("macs")
FIRST_SCAN = 9  # opset; before, Scan had a batch


@dataclass
class Inside:
    """The operations of what lies in one node. `uncounted`: operators without a formula or shapes. `notes`: parts of one line.

    `untold`: the condition of an If that would lead to the branch of which nobody knows the cost; `None` where there is none.
    `made_up`: whether the values of the inputs decide it, and nobody gave those.
    """

    ops: int = 0
    macs: int = 0
    uncounted: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    untold: bool | None = None
    made_up: bool = False


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
    return sorted(filter(_may_cost, inner))


def _may_cost(operator: str) -> bool:
    return operator in FORMULAS or ("." in operator and operator not in FREE)


@dataclass(frozen=True)
class Seen:
    """What runs have shown of the nodes of a graph. `other`: a run in which an If took the other branch, where that was asked for.

    `flow`: of the graph; `None` where the values of the inputs were given, and none were made up.
    """

    run: Run | None = None
    other: Run | None = None
    flow: Flow | None = None


def count(proto: onnx.NodeProto, place: int, graph: Graph, index: int, seen: Seen, rules: Convention) -> Inside:
    """What the `index`-th node of the graph, the `place`-th of `walk.nodes`, costs with all that it runs."""
    if seen.run is not None and not seen.run.failure and is_control(proto):
        measured = _Measured(proto, place, graph, seen.run, rules, seen.flow)
        if proto.op_type == "If":
            measured.tell_other(_by_name(proto, graph, index, rules) | _in_run(proto, place, graph, seen.other, rules))
        return measured.found
    known = None
    if is_control(proto) and proto.op_type == "If":
        known = _alike(_by_name(proto, graph, index, rules))
    elif is_control(proto) and proto.op_type == "Scan":
        known = _scanned(proto, graph, index, rules)
    if known is not None:
        return known
    notes = [f"not counted, only a run would tell how often it runs {', '.join(costly(proto))}"]
    return Inside(uncounted=Counter({walk.operator(proto): 1}), notes=notes)


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
    """Adds up the calls that a run has shown. `flow`: of the graph, where the run was on made-up values."""

    def __init__(
        self, proto: onnx.NodeProto, place: int, graph: Graph, run: Run, rules: Convention, flow: Flow | None = None
    ) -> None:
        self.graph, self.run, self.rules, self.flow, self.found = graph, run, rules, flow, Inside()
        self.taken: dict[str, int] = {}
        self.decided = flow is not None and not flow.on_inputs[0].isdisjoint(deciding(flow.calls[place]))
        on = " on made-up values" if self.decided else ""
        names = [name for name, _ in walk.named_bodies(proto)]
        before = 0
        for name, times, costs in zip(names, *self._add_bodies(proto, place, graph.scope, graph.constant), strict=True):
            self.taken[name] = times
            if proto.op_type == "If" and times:
                self.found.notes.append(f"the run{on} took {name}, which costs {costs - before:,}")
            elif proto.op_type != "If":
                self.found.notes.append(f"its body ran {times} time{'' if times == 1 else 's'} in the run{on}")
            before = costs
        if proto.op_type != "If":
            self.found.made_up |= self._is_made_up(place)

    def _add_bodies(self, proto: onnx.NodeProto, place: int, outer: Scope, constant: Set[str]) -> tuple[list[int], list[int]]:
        """Add all that lies in the `place`-th node; gives how often each body ran, and the operations up to the end of each."""
        at, times, costs = place + 1, [], []
        for number, body in enumerate(walk.bodies(proto)):
            times.append(self.run.bodies.get((place, number), 0))
            self._add(body, at, times[-1], outer, constant)
            costs.append(self.found.ops)
            at += sum(1 for _ in walk.nodes(body))
        return times, costs

    def _add(self, body: onnx.GraphProto, place: int, times: int, outer: Scope, constant: Set[str]) -> None:
        """Add the nodes of a body that ran so often and of all in it; the first of them stands at `place`."""
        scope = Scope(stored_in(body, ""), outer)
        known = {*constant, *scope.stored}
        for node in body.node if times else ():
            calls: Counter[Shapes] = Counter(self.run.calls.get(place, {}))
            if node.input and not walk.has_bodies(node) and known.issuperset(filter(None, node.input)):
                known.update(node.output)
            if not is_control(node) and _may_cost(walk.operator(node)) and calls.total() < times:
                # onnxruntime has put other nodes in its place, of which nobody knows whose they are
                self.found.uncounted[walk.operator(node)] += 1
            elif not is_control(node) and calls:
                self._add_calls(node, calls, scope, known)
                self.found.made_up |= _may_cost(walk.operator(node)) and self._is_made_up(place)
            if walk.has_bodies(node):
                self._add_bodies(node, place, scope, known)
                self.found.made_up |= is_control(node) and bool(costly(node)) and self._is_made_up(place)
            place += 1 + sum(1 for inner in walk.bodies(node) for _ in walk.nodes(inner))

    def _is_made_up(self, place: int) -> bool:
        """Whether values that nobody gave decide how often a node runs its bodies, or how large its inputs and outputs are."""
        if self.flow is None:
            return False
        call, (numbers, shapes) = self.flow.calls[place], self.flow.on_inputs
        return not numbers.isdisjoint(deciding(call)) or not shapes.isdisjoint((*call.inputs, *call.outputs))

    def _add_calls(self, node: onnx.NodeProto, calls: Mapping[Shapes, int], scope: Scope, constant: Set[str]) -> None:
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
            self.found.made_up |= self.decided and (cost is None or cost.ops > self.found.ops)
            told = "has a cost that is not known" if cost is None else f"would cost {cost.ops:,}"
            self.found.notes.append(f"{name}, the other one, {told}")


def _in_run(proto: onnx.NodeProto, place: int, graph: Graph, run: Run | None, rules: Convention) -> dict[str, Inside | None]:
    """The cost of the branch that another run took; empty without one, or where it does not tell all."""
    if run is None or run.failure:
        return {}
    measured = _Measured(proto, place, graph, run, rules)
    ran = [name for name, times in measured.taken.items() if times]
    return {ran[0]: measured.found} if len(ran) == 1 and not measured.found.uncounted else {}


def _placed(node: onnx.NodeProto, told: Sequence[Shape], scope: Scope, around: Mapping[str, Shape]) -> Sequence[Shape | None]:
    """The shapes of a node's inputs in their places.

    The profiler leaves out inputs that are missing, that are no tensors, and some of those that are stored: a kernel that packs its
    weight in advance lets go of it. So what is told goes to the others, and to a stored one only where there is more of it.
    """
    stored = {name: found.dims for name in node.input if name and (found := scope.find(name))}
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
        return {name: None for name, _ in walk.named_bodies(proto)}
    return _branches(proto, graph.inferred[index], ChainMap(graph.shapes), graph.scope, rules)


def _branches(
    proto: onnx.NodeProto, inferred: onnx.NodeProto, around: ChainMap[str, Shape], outer: Scope, rules: Convention
) -> dict[str, Inside | None]:
    pairs = zip(walk.named_bodies(proto), walk.bodies(inferred), strict=True)
    return {name: _static(body, again, around, outer, rules) for (name, body), again in pairs}


def _static(
    body: onnx.GraphProto, inferred: onnx.GraphProto, around: ChainMap[str, Shape], outer: Scope, rules: Convention
) -> Inside | None:
    scope = Scope(stored_in(body, ""), outer)
    stored = {name: stored.dims for name, stored in scope.stored.items()}
    shapes = around.new_child(known_shapes(inferred) | stored)
    found = Inside()
    for place, node in enumerate(body.node):
        if walk.has_bodies(node) and costly(node):
            is_branch = is_control(node) and node.op_type == "If"
            inner = _alike(_branches(node, inferred.node[place], shapes, scope, rules)) if is_branch else None
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
