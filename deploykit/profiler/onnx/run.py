"""Runs a file with ONNX Runtime's profiler on: its events, and from them the shapes of the values that nodes make."""

from __future__ import annotations

import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from deploykit import files
from deploykit.errors import ModelFileError
from deploykit.onnx_file import walk
from deploykit.profiler.layer_table import Shape
from deploykit.profiler.onnx.flow import is_control
from deploykit.runtime.onnx_bytes import read_model
from deploykit.runtime.session import Level, SessionSettings, open_session, reason

MAX_RUNS, MIN_RUNS = 200, 10
ENDING = "_kernel_time"
MOST_SECONDS = 60
MOST_EVENTS = 1_000_000  # the profiler of onnxruntime keeps no more
_CALLED = "deploykit_node_"
_MARK = "deploykit_body_"
# A SequenceMap runs as a Loop that onnxruntime makes of it, and what lies in it has a prefix.
_NUMBER = re.compile(rf'"name" ?: ?"(?:_inlfunc_SequenceMap_)*(?:{_CALLED}(\d+)|{_MARK}(\d+)_(\d+)){ENDING}"')

Shapes = tuple[tuple[Shape, ...], ...]  # of the inputs and of the outputs of one call, as far as they are told


def events(
    file: Path,
    arrays: Sequence[NDArray[Any]],
    seconds: float,
    *,
    threads: int = 0,
    device: str = "cpu",
    optimized: bool = True,
    runs: int = MIN_RUNS,
) -> list[dict[str, Any]]:
    """The profiler's events of as many runs as fit in `seconds`, at least `runs`. `threads`: 0 is the runtime's own choice.

    The session is the one that times the whole network (`backends.onnxruntime`), with the profiler on. Raises
    `ModelFileError` where the file cannot be run on these arrays, `DeviceUnavailable`.
    """
    with files.scratch_folder() as folder:
        level: Level = "all" if optimized else "disabled"
        settings = SessionSettings(device, threads or None, level=level, profile=folder / "profile")
        session = open_session(read_model(file), file.name, file.resolve().parent, settings).session
        try:
            feeds = dict(zip([spec.name for spec in session.get_inputs()], arrays, strict=True))
            until, done = time.monotonic() + seconds, 0
            while done < runs or (done < MAX_RUNS and time.monotonic() < until):
                session.run(None, feeds)
                done += 1
            path = session.end_profiling()
        except Exception as error:  # onnxruntime's exceptions have no base of their own
            raise ModelFileError(f"{file.name} cannot be profiled: {reason(error)}") from error
        found: list[dict[str, Any]] = json.loads(Path(path).read_text())
        return found


@dataclass(frozen=True)
class Run:
    """What one run has shown.

    `calls`: by the place of a node in `walk.nodes(graph)`, how often it ran on which shapes; a node that did not run is not there.
    `bodies`: by the place of a node and the number of one of its bodies how often that ran, if at all.
    `values`: those of the graph itself, with type and shape. `failure`: why there was no run, or why it is not whole; else "".
    """

    calls: Mapping[int, Counter[Shapes]] = field(default_factory=dict)
    bodies: Mapping[tuple[int, int], int] = field(default_factory=dict)
    values: Sequence[onnx.ValueInfoProto] = ()
    failure: str = ""


def observe(model: onnx.ModelProto, file: Path, feeds: Mapping[str, NDArray[Any]], forced: Mapping[int, bool] | None = None) -> Run:
    """Run the graph of `model` once as it is written, every node watched, the nodes in bodies too. Never raises for a file.

    `model` is that of `file`, or made of it; its weights may lie beside the file. `forced`: conditions of nodes of the graph, by
    index, in place of what it computes. A run that takes longer than `MOST_SECONDS` is stopped.
    """
    with _numbered(model.graph), _marked(model.graph), _forced(model.graph, forced or {}):
        data = model.SerializeToString()
    with files.scratch_folder() as folder:
        settings = SessionSettings("cpu", level="disabled", profile=folder / "profile", arena=False)
        options = onnxruntime.RunOptions()
        timer = Timer(MOST_SECONDS, setattr, (options, "terminate", True))
        timer.daemon = True
        failure = ""
        try:
            session = open_session(data, file.name, file.resolve().parent, settings).session
            del data
            timer.start()
            try:
                session.run(None, dict(feeds), options)
            except Exception as error:  # onnxruntime's exceptions have no base of their own
                failure = f"it takes longer than {MOST_SECONDS} s" if options.terminate else reason(error)
            told = Path(session.end_profiling())
        except ModelFileError as error:
            return Run(failure=error.problem)
        except MemoryError:
            return Run(failure="it does not fit into memory")
        finally:
            timer.cancel()
        calls, bodies, outputs, cut = _calls(told)
    if cut and not failure:
        failure = f"it runs more than {MOST_EVENTS:,} nodes"
    return Run(calls, bodies, tuple(_values(model.graph, outputs)), failure)


_Outputs = dict[int, Sequence[Mapping[str, Any]]]


def _calls(told: Path) -> tuple[dict[int, Counter[Shapes]], Counter[tuple[int, int]], _Outputs, bool]:
    """From the file that the profiler wrote, one event a line: the calls by node, how often each body ran, the outputs of nodes.

    Last, whether the profiler stopped before the end.
    """
    found: dict[int, Counter[Shapes]] = defaultdict(Counter)
    bodies: Counter[tuple[int, int]] = Counter()
    outputs: _Outputs = {}
    events = 0
    with told.open() as lines:
        for line in lines:
            events += 1
            match = _NUMBER.search(line)
            if match is not None and match[2] is not None:
                bodies[int(match[2]), int(match[3])] += 1
            elif match is not None:
                place, arguments = int(match[1]), json.loads(line.strip().rstrip(",").rstrip("]"))["args"]
                inputs, outputs[place] = (arguments.get(f"{side}_type_shape", ()) for side in ("input", "output"))
                found[place][_sizes(inputs), _sizes(outputs[place])] += 1
    return dict(found), bodies, outputs, events >= MOST_EVENTS


def _sizes(described: Sequence[Mapping[str, Sequence[int]]]) -> tuple[Shape, ...]:
    return tuple(tuple(int(size) for size in sizes) for entry in described for sizes in entry.values())


def _values(graph: onnx.GraphProto, outputs: Mapping[int, Sequence[Mapping[str, Any]]]) -> Iterator[onnx.ValueInfoProto]:
    """By value of the graph itself; the profiler leaves out outputs that are no tensors, so only whole lists are believed."""
    place = 0
    for node in graph.node:
        names, told = [name for name in node.output if name], outputs.get(place, ())
        if len(names) == len(told):
            for name, described in zip(names, told, strict=True):
                kind, sizes = next(iter(described.items()))
                yield onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind.upper(), 0), sizes)
        place += 1 + sum(1 for body in walk.bodies(node) for _ in walk.nodes(body))


@contextmanager
def _numbered(graph: onnx.GraphProto) -> Iterator[None]:
    """Every node is called after its place while this lasts: names may be missing, or occur twice."""
    nodes = list(walk.nodes(graph))
    names = [node.name if node.HasField("name") else None for node in nodes]
    try:
        for place, node in enumerate(nodes):
            node.name = f"{_CALLED}{place}"
        yield
    finally:
        for node, name in zip(nodes, names, strict=True):
            if name is None:
                node.ClearField("name")
            else:
                node.name = name


@contextmanager
def _marked(graph: onnx.GraphProto) -> Iterator[None]:
    """Every body has two more nodes while this lasts, one of which shows how often it runs: none of its own need be seen.

    onnxruntime replaces some nodes by what their definition says, under other names.
    """
    made = [
        (f"{_MARK}{place}_{number}", body)
        for place, node in enumerate(walk.nodes(graph))
        if is_control(node)
        for number, body in enumerate(walk.bodies(node))
    ]
    try:
        for name, body in made:
            body.node.append(onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(np.array(True))))
            body.node.append(onnx.helper.make_node("Identity", [name], [f"{name}_seen"], name=name))
        yield
    finally:
        for _, body in made:
            del body.node[-2:]


@contextmanager
def _forced(graph: onnx.GraphProto, forced: Mapping[int, bool]) -> Iterator[None]:
    """The conditions of some nodes are constants while this lasts."""
    before = {index: graph.node[index].input[0] for index in forced}
    stored = len(graph.initializer)
    try:
        for index, value in forced.items():
            graph.node[index].input[0] = f"{_CALLED}{index}_goes"
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), graph.node[index].input[0]))
        yield
    finally:
        for index, name in before.items():
            graph.node[index].input[0] = name
        del graph.initializer[stored:]
