"""OpenVINO on an ONNX file, on the CPU (the extra `openvino`); float32 means float32 unless another precision is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from deploykit.backends._types import Arrays, Engine, Source, TensorSpec, own
from deploykit.errors import DeviceUnavailable, InputError
from deploykit.runtime import openvino, providers
from deploykit.runtime.onnx_bytes import check_external_data, read_model
from deploykit.runtime.openvino import OpenVinoModel, Precision

SOURCE: Source = "onnx"


def start(file: Path, device: str, threads: int | None, precision: Precision = "f32", fixed_batch: str | None = None) -> Engine:
    """See `deploykit.backends.start`. Raises `DeviceUnavailable` for CUDA, `DependencyMissing` without the library."""
    if providers.parse_device(device)[0] == "cuda":
        raise DeviceUnavailable(device, "OpenVINO runs on the CPU", "choose --device cpu, or another engine")
    check_external_data(read_model(file), file)
    return OpenVinoEngine(OpenVinoModel(file, file.name, threads, precision, None if fixed_batch is None else int(fixed_batch)))


class OpenVinoEngine(Engine):
    """One compiled file; its threads end with it."""

    def __init__(self, model: OpenVinoModel) -> None:
        self._model: OpenVinoModel | None = model
        specs = [TensorSpec(name, shape, dtype, str(dtype)) for name, shape, dtype in model.inputs]
        super().__init__(specs, "cpu", model.threads, {"version": model.version, "computes": model.precision})

    def _run(self, arrays: Sequence[NDArray[Any]]) -> Arrays:
        if self._model is None:
            raise InputError("the model is closed", "start another engine")
        feeds = {spec.name: array for spec, array in zip(self.inputs, arrays, strict=True)}
        try:
            return [own(array, arrays) for array in self._model.run(None, feeds)]
        except Exception as error:  # OpenVINO's exceptions are RuntimeErrors of many lines
            shapes = [array.shape for array in arrays]
            reason = openvino.reason(error)
            raise InputError.of_shapes("the model", shapes, reason, "choose another --input-shape or batch") from error

    def _close(self) -> None:
        self._model = None
