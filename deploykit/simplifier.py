"""Simplify: a smaller ONNX file that gives the same answers, or the same file and the reason.

onnxsim says "True" without having compared anything, and may make a file larger. Here its result replaces the original only if it
is smaller, takes and gives what the original does, and both gave the same answers on the same inputs at several sizes. Smaller
means fewer nodes that compute something (the number in a Constant is stored, as an initializer is) in a file that is not much
larger: to save a node, onnxsim may store what it computes.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import onnx
from numpy.typing import NDArray

from deploykit import arguments as read
from deploykit import onnx_file
from deploykit.arguments import StrPath
from deploykit.errors import DependencyMissing, InputError, ModelFileError, counted, first_line
from deploykit.network.request import Inputs, arrays_of
from deploykit.onnx_file import answers, external_data, sessions, walk
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.runtime import values
from deploykit.runtime.isolation import isolated
from deploykit.shown import Shown

Feeds = Mapping[str, NDArray[Any]]

BATCHES = (1, 3)
GROWTH = 1.1  # how much larger the file may become, as a factor
SMALL_GROWTH = 1 << 16  # and in bytes beyond that: room for the shapes that onnxsim notes


@dataclass(frozen=True, repr=False)
class Simplified(Shown):
    """The model to go on with. `applied`: whether it is the simplified one; `reason` says why, or why not.

    `file` and `out`: where it was read and written by `simplify`; `None` for a model that never lay in a file.
    """

    _view: ClassVar[str] = "simplification"

    model: onnx.ModelProto = field(repr=False)
    applied: bool
    reason: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    compared: int = 0
    file: Path | None = None
    out: Path | None = None

    def __repr__(self) -> str:
        where = f" {self.file} -> {self.out}" if self.file else ""
        nodes = f"{sum(self.before.values())} -> {sum(self.after.values())} nodes"
        return f"<Simplified{where}: {nodes}, {self.reason}>"

    def document(self) -> dict[str, Any]:
        """The public JSON form: operators before and after, and how many comparisons were made."""
        return {
            "applied": self.applied,
            "reason": self.reason,
            "compared": self.compared,
            "nodes_before": sum(self.before.values()),
            "nodes_after": sum(self.after.values()),
            "operators_before": dict(self.before),
            "operators_after": dict(self.after),
        }


def simplify(file: StrPath, out: StrPath | None = None, inputs: Inputs | None = None) -> Simplified:
    """Simplify an ONNX file into `out` (default: beside it, ``<stem>.simplified.onnx``).

    Where simplifying fails, changes an answer or makes nothing smaller, or where no inputs can be made up to try it, the original
    is written and `reason` says so. Raises `ModelFileError` for a file that cannot be read or has more than fits into one.
    `inputs`: an array, several by input, or the `.npz` file that holds them, on which both are compared instead of made-up ones;
    `InputError` for those that do not fit.
    """
    file = read.path(file, "file")
    out = read.path_or_none(out, "out") or default_out(file)
    model, folder = onnx_file.read_whole(file)
    if folder is not None:
        raise ModelFileError(
            f"{file} cannot be simplified: its weights take more than {external_data.LIMIT / 1e9:.0f} GB",
            "onnxsim takes models that fit into one file",
        )
    given = values.of_inputs(arrays_of(inputs))
    feeds = None if given is None else graph_inputs.given_feeds(model.graph, given, str(file))
    try:
        batches = [graph_inputs.random_feeds(model, batch) for batch in BATCHES] if feeds is None else [feeds]
        larger = graph_inputs.random_feeds(model, BATCHES[0], larger=True) if feeds is None else feeds
    except InputError as error:
        result = untouched(model, f"it cannot be tried out: {error.problem}")
    else:
        result = simplified(model, batches, file, [larger] if _shapes(larger) != _shapes(batches[0]) else [])
    onnx_file.write(result.model, out)
    return replace(result, file=file, out=out)


def default_out(file: Path) -> Path:
    """``model.onnx`` -> ``model.simplified.onnx``, beside it."""
    return file.with_name(f"{file.stem}.simplified.onnx")


def untouched(model: onnx.ModelProto, reason: str = "not asked for") -> Simplified:
    """The model as it is."""
    operators = onnx_file.operators(model)
    return Simplified(model, False, reason, operators, operators)


def simplified(
    model: onnx.ModelProto, batches: Sequence[Feeds], file: Path | None = None, optional: Sequence[Feeds] = ()
) -> Simplified:
    """The simplified model if it is smaller and gives the original's answers on every one of `batches`, else the original.

    `file`: where a stranger's model came from; onnxsim is then let loose on it in a process of its own. `optional`: batches on
    which the answers must agree as well, if the original takes them.
    """
    _require_onnxsim()
    try:
        candidate = _onnxsim(model) if file is None else _onnxsim_apart(model, file)
    except Exception as error:  # native code with many ways to fail; the original stays good
        return untouched(model, f"onnxsim failed: {type(error).__name__}: {first_line(error, 200)}")
    del candidate.metadata_props[:]  # onnxsim notes there what it did
    candidate.metadata_props.extend(model.metadata_props)
    obstacle = _not_smaller(model, candidate) or _other_interface(model, candidate)
    compared = 0
    if not obstacle:
        compared, obstacle = _compared(model, candidate, batches, optional)
    if obstacle:
        return untouched(model, obstacle)
    before, after = onnx_file.operators(model), onnx_file.operators(candidate)
    return Simplified(candidate, True, f"same answers on {counted(compared, 'batch')}", before, after, compared)


def _nodes(model: onnx.ModelProto) -> int:
    """How many nodes compute something, those in bodies and local functions included."""
    return sum(walk.operator(node) != "Constant" for node in walk.nodes(model))


def _not_smaller(model: onnx.ModelProto, candidate: onnx.ModelProto) -> str:
    before, after = _nodes(model), _nodes(candidate)
    if onnx_file.operators(model) == onnx_file.operators(candidate):
        return "nothing to simplify"
    if after >= before:
        return f"onnxsim made it no smaller: {before} nodes before, {after} after"
    size, grown = model.ByteSize(), candidate.ByteSize()
    if grown > GROWTH * size + SMALL_GROWTH:
        return f"onnxsim made it larger: {size:,} bytes before, {grown:,} after, to save {before - after} of {before} nodes"
    return ""


def _other_interface(model: onnx.ModelProto, candidate: onnx.ModelProto) -> str:
    """What is different in what both take and give; empty where nothing is."""
    if graph_inputs.described(candidate.graph) != graph_inputs.described(model.graph):
        return "onnxsim changed the inputs"
    if [output.name for output in candidate.graph.output] != [output.name for output in model.graph.output]:
        return "onnxsim changed the outputs' names"
    if onnx_file.opset(candidate) != onnx_file.opset(model):
        return f"onnxsim changed the opset from {onnx_file.opset(model)} to {onnx_file.opset(candidate)}"
    return ""


def _compared(
    model: onnx.ModelProto, candidate: onnx.ModelProto, batches: Sequence[Feeds], optional: Sequence[Feeds]
) -> tuple[int, str]:
    """On how many batches both gave the same answers, and what is different, or why it cannot be told; "" where nothing is."""
    names = [output.name for output in model.graph.output]
    count = 0
    try:
        left, right = (sessions.open_session(onnx_file.to_bytes(each)) for each in (model, candidate))
        for place, feeds in enumerate([*batches, *optional]):
            try:
                expected = sessions.answers(left, feeds)
            except ModelFileError:
                if place < len(batches):
                    raise
                continue
            found = answers.difference(names, expected, sessions.answers(right, feeds))
            if found:
                return count, found
            count += 1
    except ModelFileError as error:
        return count, f"the models could not be compared: {error.problem}"
    return count, ""


def _shapes(feeds: Feeds) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in feeds.items()}


def _require_onnxsim() -> None:
    """Import onnxsim, and torch with it, which takes seconds: not in the child process, whose time is limited."""
    try:
        import onnxsim  # noqa: F401
    except ImportError as error:
        raise DependencyMissing.of("onnxsim", "export") from error


def _onnxsim(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxsim

    with _without_chatter():
        candidate, _ = onnxsim.simplify(model)
    return candidate


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Onnxsim prints in Python, and its native half on the process's own stdout and stderr; what matters is checked afterwards."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.ExitStack() as stack:
        for stream in (1, 2):
            with contextlib.suppress(OSError):  # a service or a window may have none
                kept = os.dup(stream)
                stack.callback(os.close, kept)
                stack.callback(os.dup2, kept, stream)
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, stream)
                os.close(nothing)
        yield


def _onnxsim_apart(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    data = onnx_file.to_bytes(model)
    answer = isolated(lambda: onnx_file.to_bytes(_onnxsim(model)), file.name, len(data))
    if answer is None:
        raise ModelFileError("it raised an error")
    return onnx.ModelProto.FromString(answer)
