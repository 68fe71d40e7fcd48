"""`node_times`: milliseconds of each node of an ONNX file in ONNX Runtime, from the runtime's own profile.

The runtime rewrites the graph before it runs it. In its profile a fused node has the name of a value that it produces, with
a mark of the optimizer (``relu_1_nchwc``); from there the way back through the original graph leads to the node whose
operator it still is. Nodes that the runtime adds for itself (changes of the memory layout or precision) belong to nobody.
The time of a loop or branch is what it takes beyond the nodes that it runs.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from deploykit.onnx_file import walk
from deploykit.profiler import statistics
from deploykit.profiler.onnx import run as onnx_run

SECONDS = 1.5
WITH_BODIES = frozenset({"If", "Loop", "Scan", "SequenceMap"})
STEPS_BACK = 8  # nodes between the one that a fused kernel is called after and the one whose operator it has
_CAST = "InsertedPrecisionFreeCast_"  # around what has no kernel for its precision, such as float16 on a CPU
_MARKS = re.compile(rf"^fused |^{_CAST}|_nchwc$|_nhwc$|_token_\d+$|/\w*Fusion/?\w*$|_transformed$")


@dataclass(frozen=True)
class NodeTimes:
    """`charged`: milliseconds by node of the file; `uncharged`: by operator, for nodes that belong to none of them.

    `total_ms`: the whole run in the same session. `inside`: for nodes in the body of a loop or branch, the node of the graph
    that the body belongs to.
    """

    charged: dict[str, float]
    uncharged: dict[str, float] = field(default_factory=dict)
    total_ms: float = 0.0
    inside: Mapping[str, str] = field(default_factory=dict)


def node_times(
    file: Path, arrays: Sequence[NDArray[Any]], threads: int | None = None, seconds: float = SECONDS, device: str = "cpu"
) -> NodeTimes:
    """Run `file` on `arrays` with the runtime's profiler on. Raises `ModelFileError` where it cannot be run."""
    events = onnx_run.events(file, arrays, seconds, threads=threads or 0, device=device)
    return charge(events, onnx.load(str(file), load_external_data=False).graph)


def charge(events: Sequence[dict[str, Any]], graph: onnx.GraphProto) -> NodeTimes:
    """The runtime's events, by node of `graph`: means over the middle half of the runs, without the first two, which warm up."""
    runs = sorted((e["ts"], e["dur"]) for e in events if e.get("name") == "model_run")[2:]
    kept = set(statistics.middle_half([duration for _, duration in runs]))
    if not kept:
        return NodeTimes({})
    begins = [begin for begin, _ in runs]
    origins = _Origins(graph)
    charged: dict[str, float] = defaultdict(float)
    uncharged: dict[str, float] = defaultdict(float)
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith(onnx_run.ENDING)]
    for event, microseconds, around in _exclusive(kernels):
        if bisect_right(begins, event["ts"]) - 1 not in kept:
            continue
        node = origins.of(*_called(event))
        if node is None and around is not None:
            node = origins.of(*_called(around))
        operator = _called(event)[1]
        (uncharged if node is None else charged)[operator if node is None else node] += microseconds / 1000 / len(kept)
    total = sum(runs[index][1] for index in kept) / 1000 / len(kept)
    return NodeTimes(dict(charged), dict(uncharged), total, origins.inside)


def _exclusive(kernels: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], float, dict[str, Any] | None]]:
    """(event, microseconds without the events inside it, the event around it); only loops and branches have any inside.

    The profile cuts times down to whole microseconds: half of one is missing on average.
    """
    below: dict[int, float] = defaultdict(float)
    parents: list[dict[str, Any] | None] = []
    open_events: dict[Any, list[tuple[float, int]]] = defaultdict(list)  # per thread: (end, index), the innermost last
    ordered = sorted(kernels, key=lambda e: (e["ts"], -e["dur"]))
    for index, event in enumerate(ordered):
        stack = open_events[event.get("tid")]
        while stack and (stack[-1][0] + 1 < event["ts"] + event["dur"] or stack[-1][0] <= event["ts"]):
            stack.pop()
        nested = bool(stack) and _called(ordered[stack[-1][1]])[1] in WITH_BODIES
        parents.append(ordered[stack[-1][1]] if nested else None)
        if nested:
            below[stack[-1][1]] += event["dur"] + 0.5
        stack.append((event["ts"] + event["dur"], index))
    for index, event in enumerate(ordered):
        yield event, max(0.0, event["dur"] + 0.5 - below[index]), parents[index]


def _called(event: dict[str, Any]) -> tuple[str, str]:
    """(name, operator) of a kernel's event."""
    return str(event["name"]).removesuffix(onnx_run.ENDING), str(event["args"].get("op_name", ""))


class _Origins:
    """The way back from a kernel in the runtime's profile to the node of the file that it computes.

    1. The kernel's label is looked up: as the name of a node or of a value, as it is and without the optimizer's marks. Without
       a node there, the runtime added the kernel for itself.
    2. That node is it, if its operator is the kernel's.
    3. Else the kernel is a fused one, called after the last node in it: the nearest node before whose operator it has is it,
       first from the node that was found, then from the one that makes the value of that name.
    4. Else it is the node that was found.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = {_name(node): node for node in walk.nodes(graph)}
        self.makers = {output: node for node in self.nodes.values() for output in node.output}
        self.inside = {_name(inner): _name(node) for node in graph.node for body in walk.bodies(node) for inner in walk.nodes(body)}

    def of(self, label: str, operator: str) -> str | None:
        """The name of the node that a kernel computes; `None` for one that the runtime added for itself."""
        named = self._named(label)
        if named is None or (label.startswith(_CAST) and operator == "Cast"):
            return None
        if _matches(named, operator):
            return _name(named)
        maker = self.makers.get(_plain(label), named)
        fused = self._nearest_before(named, operator) or self._nearest_before(maker, operator)
        return _name(fused or named)

    def _named(self, label: str) -> onnx.NodeProto | None:
        """The node of that name, or the one that makes the value of that name."""
        plain = _plain(label)
        return self.nodes.get(label) or self.makers.get(label) or self.nodes.get(plain) or self.makers.get(plain)

    def _nearest_before(self, start: onnx.NodeProto, operator: str) -> onnx.NodeProto | None:
        """The nearest node before `start`, at most `STEPS_BACK` nodes away, whose operator this is; breadth first."""
        waiting, seen = deque([(start, 0)]), {_name(start)}
        while waiting:
            node, steps = waiting.popleft()
            if _matches(node, operator):
                return node
            makers = [self.makers[value] for value in node.input if value in self.makers] if steps < STEPS_BACK else []
            for maker in makers:
                if _name(maker) not in seen:
                    seen.add(_name(maker))
                    waiting.append((maker, steps + 1))
        return None


def _name(node: onnx.NodeProto) -> str:
    """The name of a node; of one without, that of its first output; "" without both."""
    return node.name or (node.output[0] if node.output else "")


def _plain(label: str) -> str:
    """Without the optimizer's marks."""
    before = ""
    while before != label:
        before, label = label, _MARKS.sub("", label)
    return label


def _matches(node: onnx.NodeProto, operator: str) -> bool:
    """`FusedConv` is still a Conv."""
    return node.op_type == operator or operator.removeprefix("Fused") == node.op_type
