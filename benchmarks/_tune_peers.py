"""The files and engines that `tune` is compared with: each peer's own default, made once, kept in a folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.profiler.subjects import Subject
from deploykit.runtime import openvino
from deploykit.tuner.samples import Parts


def peers(target: str, untrained: bool, file: Path, parts: Parts, folder: Path) -> tuple[list[Subject], list[str]]:
    """Every peer that is installed, ready to be timed; and why others are missing."""
    found = [
        Subject(target, "torch", label="torch eager", untrained=untrained),
        Subject(target, "torch-compile", label="torch.compile", untrained=untrained),
        Subject(str(file), "onnxruntime", label="onnxruntime fp32"),
    ]
    missing = []
    for kind in ("QUInt8", "QInt8"):
        try:
            made = folder / f"ort-{kind}.onnx"
            made.is_file() or onnxruntime_static(file, parts, made, kind)
            found.append(Subject(str(made), "onnxruntime", label=f"onnxruntime static {kind}"))
        except Exception as error:  # a peer's own failure is a result
            missing.append(f"onnxruntime static {kind}: {type(error).__name__}")
    if not openvino.installed():
        return found, [*missing, "OpenVINO is not installed"]
    found += [Subject(str(file), "openvino", label="OpenVINO fp32")]
    # As OpenVINO itself does: bfloat16 where the machine has instructions for it, else float32.
    found += [Subject(str(file), "openvino", label="OpenVINO default", options={"precision": "bf16"})]
    try:
        made = folder / "nncf.onnx"
        made.is_file() or nncf_default(file, parts, made)
        found.append(Subject(str(made), "openvino", label="NNCF default on OpenVINO", options={"precision": "bf16"}))
    except Exception as error:
        missing.append(f"NNCF: {type(error).__name__}")
    return found, missing


def onnxruntime_static(file: Path, parts: Parts, out: Path, kind: str) -> None:
    """Onnxruntime's `quantize_static` with nothing but the type of the activations chosen."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(_feeds(parts))

        def get_next(self) -> dict[str, Any] | None:
            return next(self.rows, None)

    logging.getLogger().setLevel(logging.ERROR)
    quantize_static(str(file), str(out), Reader(), activation_type=getattr(QuantType, kind), weight_type=QuantType.QInt8)


def nncf_default(file: Path, parts: Parts, out: Path) -> None:
    """`nncf.quantize` with its defaults."""
    import nncf
    import onnx

    onnx.save(nncf.quantize(onnx.load(str(file)), nncf.Dataset(list(_feeds(parts)))), str(out))


def _feeds(parts: Parts) -> list[Mapping[str, np.ndarray[Any, Any]]]:
    return [parts.calibration.rows(row, row + 1) for row in range(min(32, len(parts.calibration)))]
