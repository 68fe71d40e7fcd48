"""What quantizing does to each layer: its time, from the runtime's own profile, and its error, from an instrumented run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from deploykit import onnx_file
from deploykit.onnx_file import sessions
from deploykit.tuner import quantizing
from deploykit.tuner.candidates.int8 import gains
from deploykit.tuner.result import LayerChoice

SAMPLES = 8  # in the instrumented run


def errors(original: onnx.ModelProto, changed: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """By layer: the root mean square of the difference of its output, divided by that of the output; where it first appears.

    What a layer only hands on is not its own: the largest error of the layers right before it is taken off.
    """
    nodes = {node.name: node for node in original.graph.node}
    names = quantizing.layers(original)
    outputs = [nodes[name].output[0] for name in names]
    made = {output for node in changed.graph.node for output in node.output}
    rows = {node.name: node.output[0] for node in changed.graph.node if node.op_type == "Gemm"}
    twins = [value if value in made else rows.get(name, value) for name, value in zip(names, outputs, strict=True)]
    a, b = _values(original, outputs, feeds), _values(changed, twins, feeds)
    total = {
        name: _relative(_like(a[value], b[twin]), b[twin])
        for name, value, twin in zip(names, outputs, twins, strict=True)
        if value in a and twin in b
    }
    owner = quantizing.following(original)
    makers = {output: node.name for node in original.graph.node for output in node.output}
    found = {}
    for name in total:
        before = {owner.get(makers[value], "") for value in nodes[name].input if value in makers}
        found[name] = max(0.0, total[name] - max((total.get(layer, 0.0) for layer in before), default=0.0))
    return found


def choices(
    original: onnx.ModelProto,
    chosen: onnx.ModelProto,
    fp32: Mapping[str, float],
    int8: Mapping[str, float],
    inexact: Mapping[str, float],
    floats: Mapping[str, str],
) -> tuple[LayerChoice, ...]:
    """A row per layer of `original`: what it was left in, in `chosen`, and why.

    `int8`: the times of the nodes of the file in which nothing was taken back. `floats`: why layers were, as the search has it.
    """
    twins = {node.name: node for node in chosen.graph.node}
    back = {node.output[0] for node in chosen.graph.node if node.op_type == "DequantizeLinear"}
    nodes = {node.name: node for node in original.graph.node}
    quantized = bool(back)
    saved = gains(original, fp32, int8)
    whole = _by_layer(original, fp32)
    found = []
    for name in quantizing.layers(original):
        is_int8 = name in twins and any(value in back for value in twins[name].input[1:])  # its weights
        before = whole.get(name) if fp32 else None
        after = before - saved[name] if before is not None and int8 else None
        found.append(LayerChoice(
            name, nodes[name].op_type, before, after, inexact.get(name), "int8" if is_int8 else "fp32",
            _reason(is_int8, before, after, floats.get(name, "")) if quantized else "the file that was chosen is not quantized",
        ))  # fmt: skip
    return tuple(found)


def _reason(is_int8: bool, before: float | None, after: float | None, taken_back: str) -> str:
    if not is_int8:
        return taken_back or "the quantizer leaves it in float"
    if before is None or after is None:
        return ""
    return "faster in int8" if after < before else "stays between layers in int8"


def _by_layer(model: onnx.ModelProto, times: Mapping[str, float]) -> dict[str, float]:
    return gains(model, times, {})


def _values(model: onnx.ModelProto, names: list[str], feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Values inside a graph, computed as they are written: QDQ rounds there, and nothing is fused."""
    known = {output for node in model.graph.node for output in node.output}
    wanted = [name for name in names if name in known]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted if name not in there)
    session = sessions.open_session(onnx_file.to_bytes(copy), level="basic")
    found = sessions.run(session, feeds, wanted)
    return {name: array.astype(np.float64) for name, array in zip(wanted, found, strict=True)}


def _like(values: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (N, C, H, W) as rows (N * H * W, C), where they are compared with such; see `products`."""
    return np.moveaxis(values, 1, -1).reshape(-1, values.shape[1]) if (values.ndim, rows.ndim) == (4, 2) else values


def _relative(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """The root mean square of the difference divided by that of `expected`; infinite where NaN or an infinity came or went.

    The same infinity or NaN on both sides is no difference and has no part in the size.
    """
    if expected.shape != found.shape:
        return np.inf
    changed = (expected != found) & ~(np.isnan(expected) & np.isnan(found))
    if not (np.isfinite(expected[changed]).all() and np.isfinite(found[changed]).all()):
        return np.inf
    size = float(np.sqrt(np.mean(np.where(np.isfinite(expected), expected, 0.0) ** 2)))
    error = float(np.sqrt(np.mean(np.subtract(found, expected, out=np.zeros_like(expected), where=changed) ** 2)))
    return error / size if size else float(error > 0)


def read(file: Path) -> onnx.ModelProto:
    """A file with its weights inside."""
    return onnx_file.read_whole(file)[0]
