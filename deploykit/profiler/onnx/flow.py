"""`Flow`: every value of a model, in its graph and in the bodies and functions inside it, and which is made of which.

Values that pass through an If, a Loop, a Scan or a SequenceMap are followed through its bodies. Two questions are answered:
which stored integers a value is made of (`reached`), and what depends on the values of the inputs (`on_inputs`).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import onnx

from deploykit.onnx_file import walk
from deploykit.onnx_file.walk import STANDARD
from deploykit.profiler.onnx import roles
from deploykit.profiler.onnx.roles import CARRIED, COMPUTED, DECIDED, MEASURED, PLACED, UNPACKED
from deploykit.profiler.onnx.stored import Stored, stored_in

CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})  # operators that do nothing but run their bodies
FIRST_SCAN = 9  # opset; before, Scan had a batch, and the lengths of its sequences as first input
MANY = 1000  # pairs of an input and an output of one node
NONE = -1  # instead of a value that is left out
_SAME = COMPUTED | CARRIED

Ids = tuple[int, ...]


def is_control(node: onnx.NodeProto) -> bool:
    """Whether a node does nothing but run its bodies."""
    return node.op_type in CONTROL and node.domain in STANDARD


@dataclass(frozen=True)
class Call:
    """A node with the numbers of its values, `NONE` for one that is left out. `root`: its index in the graph, or that of the
    node around it. `bodies`: (inputs, outputs) of each graph inside.
    """

    proto: onnx.NodeProto
    root: int
    inputs: Ids
    outputs: Ids
    bodies: Sequence[tuple[Ids, Ids]] = ()


def deciding(call: Call) -> Ids:
    """What decides the branch that an If takes, and how often a Loop runs: its own inputs, and what its body gives."""
    match call.proto.op_type:
        case "If":
            found = call.inputs[:1]
        case "Loop":
            found = (*call.inputs[:2], *(outputs[0] for _, outputs in call.bodies if outputs))
        case _:
            found = ()
    return tuple(value for value in found if value != NONE)


@dataclass
class _Names:
    own: dict[str, int]
    outer: _Names | None = None

    def find(self, name: str) -> int | None:
        scope: _Names | None = self
        while scope is not None:
            if name in scope.own:
                return scope.own[name]
            scope = scope.outer
        return None


@dataclass
class Flow:
    """`calls`: by the place of a node in `walk.nodes(graph)`, and after those the nodes of functions that were not put in.

    `stored`: by value. `ends`: (root, value) for what a body gives back. `inputs`: of the graph itself.
    """

    model: onnx.ModelProto
    calls: list[Call] = field(default_factory=list)
    stored: dict[int, Stored] = field(default_factory=dict)
    ends: list[tuple[int, int]] = field(default_factory=list)
    inputs: Ids = ()

    def __post_init__(self) -> None:
        self._before: dict[int, list[tuple[int, int]]] = defaultdict(list)  # value -> (what it is made of, how)
        self._after: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._number, self._graphs = 0, 0
        self._functions = {(f.domain, f.name, f.overload): f for f in self.model.functions}
        self._entered: dict[tuple[str, str, str], list[Ids]] = {}
        self._waiting: list[tuple[onnx.FunctionProto, _Names, int]] = []
        self._version = next((entry.version for entry in self.model.opset_import if entry.domain in STANDARD), 0)
        self.inputs, self.outputs = self._graph(self.model.graph, None, None)
        self.inputs = tuple(value for value in self.inputs if value not in self.stored)
        while self._waiting:
            self._function(*self._waiting.pop())

    def live(self, value: int) -> bool:
        """Whether anything but shapes is made of a value in the end."""
        return value in self._live

    def reached(self, seeds: Iterable[tuple[int, int]]) -> dict[int, tuple[int, bool]]:
        """From (value, mark) backwards to all integers that those are made of: value -> (mark, whether it may be packed).

        Of several marks a value has that of the nearest seed.
        """
        found: dict[int, tuple[int, bool]] = {}
        waiting = deque((value, mark, False) for value, mark in seeds)
        while waiting:
            value, mark, packed = waiting.popleft()
            before = found.get(value)
            if before is not None and packed <= before[1]:
                continue
            mark = mark if before is None else before[0]
            found[value] = mark, packed
            waiting.extend((v, mark, packed or bool(how & UNPACKED)) for v, how in self._before.get(value, ()) if how & CARRIED)
        return found

    @cached_property
    def _live(self) -> set[int]:
        made = {value for call in self.calls for value in call.outputs}
        waiting = [value for value in (*self.outputs, *(v for v in made if not self._after.get(v))) if value != NONE]
        found = set(waiting)
        while waiting:
            for value, how in self._before.get(waiting.pop(), ()):
                if how & COMPUTED and value not in found:
                    found.add(value)
                    waiting.append(value)
        return found

    @cached_property
    def on_inputs(self) -> tuple[set[int], set[int]]:
        """Values whose numbers, and values whose shapes, depend on the numbers in the inputs, not only on their shapes."""
        numbers, shapes = set(self.inputs), set[int]()
        waiting = [(value, numbers) for value in self.inputs]
        while waiting:
            value, kind = waiting.pop()
            for made, how in self._after.get(value, ()):
                reached = []
                if how & MEASURED:
                    reached = [numbers] if kind is shapes else []
                elif kind is numbers:
                    reached = [numbers, shapes] if how & DECIDED else [numbers]
                else:
                    reached = [numbers, shapes]
                for each in reached:
                    if made not in each:
                        each.add(made)
                        waiting.append((made, each))
        return numbers, shapes

    def _graph(self, graph: onnx.GraphProto, outer: _Names | None, root: int | None) -> tuple[Ids, Ids]:
        """Note all values and nodes of a graph; gives its inputs and outputs."""
        names = _Names({}, outer)
        self._graphs += 1
        inputs = tuple(self._new(names, value.name) for value in graph.input)
        self._store(names, stored_in(graph, f"{self._graphs}" if outer else ""))
        self._nodes(graph.node, names, root)
        outputs = tuple(self._find(names, value.name) for value in graph.output)
        if root is not None:
            self.ends += [(root, value) for value in outputs]
        return inputs, outputs

    def _store(self, names: _Names, stored: Mapping[str, Stored]) -> None:
        for name, tensor in stored.items():
            value = names.own[name] if name in names.own else self._new(names, name)
            self.stored[value] = tensor

    def _nodes(self, nodes: Sequence[onnx.NodeProto], names: _Names, root: int | None) -> None:
        for node in nodes:
            for name in node.output:
                if name and name not in names.own:
                    self._new(names, name)
        for index, node in enumerate(nodes):
            self._node(node, names, index if root is None else root)

    def _node(self, node: onnx.NodeProto, names: _Names, root: int) -> None:
        place = len(self.calls)
        inputs, outputs = (tuple(self._find(names, name) if name else NONE for name in side) for side in (node.input, node.output))
        self.calls.append(Call(node, root, inputs, outputs))
        bodies = [self._graph(body, names, root) for body in walk.bodies(node)]
        call = self.calls[place] = Call(node, root, inputs, outputs, bodies)
        if self._enters(call):
            return
        if is_control(node):
            self._through(call)
        elif node.domain in STANDARD and len(inputs) * len(outputs) < MANY:
            for k, made in enumerate(outputs):
                for i, value in enumerate(inputs):
                    self._edge(value, made, roles.ways(node.op_type, i, k))
        else:
            self._number += 1
            for value in inputs:
                self._edge(value, self._number, COMPUTED)
            for made in outputs:
                self._edge(self._number, made, COMPUTED)

    def _through(self, call: Call) -> None:
        """Values that go into bodies and come out of them."""
        operator = call.proto.op_type
        for inner, outer in call.bodies:
            given, outs, carried = call.inputs, outer, 0
            if operator == "If":
                inner = ()
            elif operator == "Loop":
                inner, given, outs = inner[2:], given[2:], outer[1:]
                carried = len(inner)
                self._pairs(given, call.outputs[:carried], _SAME)  # where it does not run at all
            elif operator == "Scan":
                given = given[1:] if self._version < FIRST_SCAN else given
                carried = len(inner) - next((a.i for a in call.proto.attribute if a.name == "num_scan_inputs"), 0)
            self._pairs(given, inner, _SAME)
            self._pairs(outs[: max(0, carried)], inner, _SAME)
            self._pairs(outs, call.outputs, _SAME)
        for value in deciding(call):
            self._number += 1
            self._edge(value, self._number, COMPUTED)
            for made in call.outputs:
                self._edge(self._number, made, PLACED if operator == "If" else DECIDED)

    def _enters(self, call: Call) -> bool:
        """Whether it is the call of a local function that could not be put in its place; its nodes are noted once, at the end."""
        key = (call.proto.domain, call.proto.op_type, call.proto.overload)
        function = self._functions.get(key)
        if function is None:
            return False
        if key not in self._entered:
            names = _Names({})
            self._entered[key] = [tuple(self._new(names, name) for name in side) for side in (function.input, function.output)]
            self._waiting.append((function, names, call.root))
        inputs, outputs = self._entered[key]
        self._pairs(call.inputs, inputs, _SAME)
        self._pairs(outputs, call.outputs, _SAME)
        return True

    def _function(self, function: onnx.FunctionProto, names: _Names, root: int) -> None:
        self._graphs += 1
        self._store(names, stored_in(onnx.GraphProto(node=function.node), f"{self._graphs}"))
        self._nodes(function.node, names, root)

    def _pairs(self, values: Ids, made: Ids, how: int) -> None:
        for value, target in zip(values, made, strict=False):
            self._edge(value, target, how)

    def _edge(self, value: int, made: int, how: int) -> None:
        if NONE not in (value, made):
            self._before[made].append((value, how))
            self._after[value].append((made, how))

    def _new(self, names: _Names, name: str) -> int:
        self._number += 1
        names.own[name] = self._number
        return self._number

    def _find(self, names: _Names, name: str) -> int:
        found = names.find(name)
        return self._new(names, name) if found is None else found
