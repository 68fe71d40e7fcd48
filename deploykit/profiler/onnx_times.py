"""How long each node takes in ONNX Runtime, charged to the nodes of the file that was given.

The runtime rewrites the graph before it runs it. In its profile a fused node has the name of a value that it produces, with
a mark of the optimizer (``relu_1_nchwc``); from there the way back through the original graph leads to the node whose
operator it still is. Nodes that the runtime adds for itself (changes of the memory layout) belong to nobody.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from deploykit.profiler import onnx_run, statistics

SECONDS = 1.5
STEPS_BACK = 8
_MARKS = re.compile(r"^fused |_nchwc$|_nhwc$|_token_\d+$|/\w*Fusion/?\w*$|_transformed$")


@dataclass(frozen=True)
class NodeTimes:
    """`charged`: milliseconds by node of the file; `uncharged`: by operator, for nodes that belong to none of them.

    `total_ms`: the whole run in the same session.
    """

    charged: dict[str, float]
    uncharged: dict[str, float] = field(default_factory=dict)
    total_ms: float = 0.0


def measure(
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
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        run = bisect_right(begins, event["ts"]) - 1
        if event.get("cat") == "Node" and event["name"].endswith(onnx_run.ENDING) and run in kept:
            # The profile cuts times down to whole microseconds: half of one is missing on average.
            label = event["name"].removesuffix(onnx_run.ENDING)
            spent[label, str(event["args"].get("op_name", ""))] += (event["dur"] + 0.5) / 1000 / len(kept)
    origins = _Origins(graph)
    charged: dict[str, float] = defaultdict(float)
    uncharged: dict[str, float] = defaultdict(float)
    for (label, operator), milliseconds in spent.items():
        node = origins.of(label, operator)
        if node is None:
            uncharged[operator] += milliseconds
        else:
            charged[node] += milliseconds
    total = sum(runs[index][1] for index in kept) / 1000 / len(kept)
    return NodeTimes(dict(charged), dict(uncharged), total)


class _Origins:
    """From a name in the runtime's profile to a node of the file."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = {node.name or (node.output[0] if node.output else ""): node for node in _all_nodes(graph)}
        self.names = {id(node): name for name, node in self.nodes.items()}
        self.makers = {output: node for node in self.nodes.values() for output in node.output}

    def of(self, label: str, operator: str) -> str | None:
        start = self._find(label)
        if start is None:
            return None
        if _matches(start, operator):
            return self.names[id(start)]
        value = self.makers.get(_plain(label)) if _plain(label) in self.makers else None
        for beginning in (start, value):
            found = self._back_from(beginning, operator) if beginning is not None else None
            if found is not None:
                return self.names[id(found)]
        return self.names[id(start)]

    def _find(self, label: str) -> onnx.NodeProto | None:
        for name in (label, _plain(label)):
            found = self.nodes.get(name) or self.makers.get(name)
            if found is not None:
                return found
        return None

    def _back_from(self, start: onnx.NodeProto, operator: str) -> onnx.NodeProto | None:
        """The nearest node before `start`, at most a few steps away, whose operator this is."""
        waiting, seen = deque([(start, 0)]), {id(start)}
        while waiting:
            node, steps = waiting.popleft()
            if _matches(node, operator):
                return node
            for name in node.input if steps < STEPS_BACK else ():
                maker = self.makers.get(name)
                if maker is not None and id(maker) not in seen:
                    seen.add(id(maker))
                    waiting.append((maker, steps + 1))
        return None


def _plain(label: str) -> str:
    """Without the optimizer's marks."""
    before = ""
    while before != label:
        before, label = label, _MARKS.sub("", label)
    return label


def _matches(node: onnx.NodeProto, operator: str) -> bool:
    """`FusedConv` is still a Conv."""
    return node.op_type == operator or operator.removeprefix("Fused") == node.op_type


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Those in the bodies of loops and branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attribute.g)
