"""Simplify: a smaller ONNX file that gives the same answers, or the same file and the reason.

onnxsim says "True" without having compared anything; here the simplified model replaces the original only after both
were run on real inputs at two batch sizes and agreed.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from deploykit import files, onnx_file
from deploykit.errors import DependencyMissing, ModelFileError, first_line
from deploykit.onnx_file import external_data, sessions
from deploykit.onnx_file import guard as onnx_guard
from deploykit.runtime.isolation import isolated

Feeds = Mapping[str, NDArray[Any]]

ULPS = 64  # of float32, at the scale of the output: folding constants may round once more per layer


@dataclass(frozen=True)
class Simplified:
    """The model to go on with. `applied`: whether it is the simplified one; `reason` says why, or why not."""

    model: onnx.ModelProto = field(repr=False)
    applied: bool
    reason: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    compared: int = 0

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


def simplify(file: Path, out: Path | None = None) -> Simplified:
    """Simplify an ONNX file into `out` (default: beside it, ``<stem>.simplified.onnx``).

    Where simplifying fails or changes an answer, the original is written and `reason` says so. Raises `ModelFileError`,
    `OutputError`.
    """
    model, folder = onnx_file.read_whole(file)
    if folder is not None:
        raise ModelFileError(
            f"{file} cannot be simplified: its weights take more than {external_data.LIMIT / 1e9:.0f} GB",
            "onnxsim takes models that fit into one file",
        )
    out = out or default_out(file)
    files.writable_file(out)
    result = simplified(model, random_batches(model), file)
    onnx_file.write(result.model, out)
    return result


def default_out(file: Path) -> Path:
    """``model.onnx`` -> ``model.simplified.onnx``, beside it."""
    return file.with_name(f"{file.stem}.simplified.onnx")


def untouched(model: onnx.ModelProto, reason: str = "not asked for") -> Simplified:
    """The model as it is."""
    operators = onnx_file.operators(model)
    return Simplified(model, False, reason, operators, operators)


def simplified(model: onnx.ModelProto, batches: Sequence[Feeds], file: Path | None = None) -> Simplified:
    """The simplified model if it gives the original's answers on every one of `batches`, else the original.

    `file`: where a stranger's model came from; onnxsim is then let loose on it in a process of its own.
    """
    before = onnx_file.operators(model)
    try:
        candidate = _onnxsim(model) if file is None else _onnxsim_apart(model, file)
    except DependencyMissing:
        raise
    except Exception as error:  # native code with many ways to fail; the original stays good
        return untouched(model, f"onnxsim failed: {type(error).__name__}: {first_line(error, 200)}")
    after = onnx_file.operators(candidate)
    if [o.name for o in candidate.graph.output] != [o.name for o in model.graph.output]:
        return untouched(model, "onnxsim changed the outputs' names")
    if after == before:
        return untouched(model, "nothing to simplify")
    difference = _differs(model, candidate, batches)
    if difference:
        return untouched(model, difference)
    return Simplified(candidate, True, f"same answers on {len(batches)} batches", before, after, len(batches))


def random_batches(model: onnx.ModelProto, sizes: Sequence[int] = (1, 3)) -> list[dict[str, NDArray[Any]]]:
    """Standard normal inputs by the declared shapes; a free first axis becomes the batch, other free axes 8."""
    stored = {tensor.name for tensor in model.graph.initializer}
    found = []
    for size in sizes:
        generator = np.random.Generator(np.random.PCG64(size))
        feeds = {}
        for value in model.graph.input:
            if value.name in stored:
                continue
            dims = value.type.tensor_type.shape.dim
            shape = [d.dim_value if d.HasField("dim_value") else (size if i == 0 else 8) for i, d in enumerate(dims)]
            onnx_guard.require_bearable(value, shape)
            dtype = _dtype(value)
            values = generator.standard_normal(shape)
            feeds[value.name] = (values if np.issubdtype(dtype, np.floating) else np.abs(np.round(values))).astype(dtype)
        found.append(feeds)
    return found


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    dtype = onnx_file.number_type(value.type.tensor_type.elem_type)
    if dtype is None:
        raise ModelFileError(f"the input {str(value.name)[:80]!r} takes no numbers that numpy has", "it cannot be tried out")
    return dtype


def _onnxsim(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        import onnxsim
    except ImportError as error:
        raise DependencyMissing.of("onnxsim", "export") from error
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


def _differs(model: onnx.ModelProto, candidate: onnx.ModelProto, batches: Sequence[Feeds]) -> str:
    """Empty if both give the same answers, else what differs."""
    left = sessions.open_session(onnx_file.to_bytes(model))
    right = sessions.open_session(onnx_file.to_bytes(candidate))
    for feeds in batches:
        try:
            expected, found = sessions.run(left, feeds), sessions.run(right, feeds)
        except ModelFileError as error:
            return f"the models could not be compared: {error.problem}"
        for output, a, b in zip(model.graph.output, expected, found, strict=True):
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            scale = float(np.max(np.abs(a), initial=0.0))
            if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
                return f"{output.name} changed its shape or became NaN"
            error_ = float(np.max(np.abs(a - b), initial=0.0))
            if error_ > ULPS * np.finfo(np.float32).eps * scale:
                return f"{output.name} changed by {error_ / scale:.1e} of its scale"
    return ""
