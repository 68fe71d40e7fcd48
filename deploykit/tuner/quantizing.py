"""int8 by onnxruntime's quantizer, for the whole graph: what its values range over, and the graph in QDQ.

`Ranges` are found by running the network on the calibration samples. `quantized` puts QuantizeLinear and DequantizeLinear (QDQ)
around every operator that the quantizer knows. What then is in float32 again is for `mixing` to say.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from deploykit import files, onnx_file
from deploykit.errors import InputError, first_line
from deploykit.onnx_file import walk
from deploykit.tuner.quantizable import left_in_float
from deploykit.tuner.readable import OPSET

Calibration = Literal["minmax", "percentile", "entropy"]
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # operators that are layers; others follow them
_LEVEL = logging.ERROR  # what the quantizer advises is nothing that a user could act on
_FOLDERS = re.compile(r"(?:/[^/\s]+)+/(?=\S)")


@dataclass(frozen=True)
class Scheme:
    """Which whole numbers: `signed` activations (for ARM) or unsigned ones; `reduced`: weights in 7 bits, for x86 without VNNI.

    `coarse`: one scale per weight instead of one per channel of it, and one for all that a Concat joins, which then is copied and
    not computed: faster, and less exact.
    """

    signed: bool = False
    reduced: bool = False
    coarse: bool = False


def calibrate(file: Path, feeds: Sequence[Mapping[str, NDArray[Any]]], method: Calibration, name: str = "") -> Any:
    """The range of every value of the network on these inputs; `name`: what messages call the file, which holds all its weights.

    Raises `InputError` for a graph that the quantizer cannot read.
    """
    from onnxruntime.quantization import CalibrationMethod, calibrate

    methods = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}
    options = {"symmetric": False} if method == "percentile" else {}
    with files.scratch_folder() as folder, _quiet(name or file.name):
        own, augmented = shutil.copyfile(file, folder / "model.onnx"), str(folder / "augmented.onnx")  # it writes beside it
        calibrator = calibrate.create_calibrator(
            own, _operators(), augmented, calibrate_method=methods[method], extra_options=options
        )
        for feed in feeds:  # it keeps every value of every layer of what it is given at once
            calibrator.collect_data(_Reader([feed]))
        return calibrator.compute_data()


def quantized(model: onnx.ModelProto, ranges: Any, scheme: Scheme, name: str = "the file") -> onnx.ModelProto:
    """The whole graph in QDQ; `name` as for `calibrate`. Raises `InputError` for a graph that the quantizer cannot read."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    if onnx_file.opset(model) < OPSET:
        raise InputError(
            f"{name} is of opset {onnx_file.opset(model)}, and onnx cannot convert it to {OPSET}, which int8 needs",
            "export it anew, or tune with --precisions fp32",
        )
    copied = onnx.ModelProto()
    copied.CopyFrom(model)  # the quantizer changes what it is given
    with _quiet(name):
        kind = QuantType.QInt8 if scheme.signed else QuantType.QUInt8
        ranges = copy.deepcopy(ranges)
        left_out = left_in_float(copied.graph, ranges)
        if scheme.coarse:
            _join(copied.graph, ranges)
        options = {"QDQKeepRemovableActivations": True, "ActivationSymmetric": scheme.signed, "WeightSymmetric": True}
        quantizer = QDQQuantizer(
            copied, not scheme.coarse, scheme.reduced, QuantType.QInt8, kind, ranges, [], left_out, _operators(), options
        )
        quantizer.quantize_model()
        found: onnx.ModelProto = quantizer.model.model
    return found


def with_ranges(ranges: Any, held: Mapping[str, str]) -> Any:
    """The ranges, and for each new value that of the one of which it holds the numbers."""
    found = copy.deepcopy(ranges)
    found.data.update({new: found.data[old] for new, old in held.items() if old in found.data})
    return found


def _join(graph: onnx.GraphProto, ranges: Any) -> None:
    """Give what a Concat joins the range of the whole; the last Concat comes first, as it may join another."""
    for node in reversed(graph.node):
        if node.op_type == "Concat" and node.output[0] in ranges:
            for value in node.input:
                if value in ranges:
                    ranges[value] = ranges[node.output[0]]


def layers(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that are layers (see `WEIGHTED`) with stored weights, in the order of the graph."""
    stored = walk.stored(model.graph)
    return [n.name for n in model.graph.node if n.op_type in WEIGHTED and any(name in stored for name in n.input[1:])]


def following(model: onnx.ModelProto) -> dict[str, str]:
    """By node, the layer that it belongs to: itself, or the nearest one before it; "" before the first one."""
    own = set(layers(model))
    makers = {output: node for node in model.graph.node for output in node.output}
    order = {node.name: place for place, node in enumerate(model.graph.node)}
    found: dict[str, str] = {}
    for node in model.graph.node:
        before = [found[makers[value].name] for value in node.input if value in makers and makers[value].name in found]
        nearest = max((name for name in before if name), key=order.__getitem__, default="")
        found[node.name] = node.name if node.name in own else nearest
    return found


class _Reader:
    """Calibration samples as onnxruntime wants them."""

    def __init__(self, feeds: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next ones, `None` at the end."""
        found = next(self._feeds, None)
        return None if found is None else dict(found)


def _operators() -> list[str]:
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted(set(QDQRegistry) | set(QLinearOpsRegistry))


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the quantizer's advice; whatever it raises becomes one line, which calls the file `name` and no folder of ours."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(_LEVEL)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of infinities; and of histograms it tells all on stdout
            yield
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's and onnx's have no base of their own, and its asserts are AssertionErrors
        told = _FOLDERS.sub("", first_line(error))
        raise InputError(f"onnxruntime's quantizer cannot read {name}: {told}", "tune with --precisions fp32") from error
    finally:
        root.setLevel(before)
