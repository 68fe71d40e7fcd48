"""ONNX Runtime on an ONNX file, with its own defaults: every graph optimization, float32 without TF32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from deploykit.backends._types import Arrays, Engine, Source, own
from deploykit.errors import InputError, ModelFileError
from deploykit.runtime.cores import cores
from deploykit.runtime.onnx_bytes import check_external_data, read_model
from deploykit.runtime.session import SPIN_MICROSECONDS, Level, SessionSettings, open_session, reason, specs

SOURCE: Source = "onnx"


def start(file: Path, device: str, threads: int | None, level: Level = "all") -> Engine:
    """See `deploykit.backends.start`. `level`: how much onnxruntime may rewrite the graph."""
    model = read_model(file)
    check_external_data(model, file)
    return OnnxRuntimeEngine(model, file, device, threads or cores().usable, level)


class OnnxRuntimeEngine(Engine):
    """One session; its threads end with it."""

    def __init__(self, model: bytes, file: Path, device: str, threads: int, level: Level = "all") -> None:
        # As `Predictor` runs it. Its threads rest soon enough after a run to leave the cores to the engine whose turn it is.
        opened = open_session(model, file.name, file.resolve().parent, SessionSettings(device, threads, level=level))
        self._session: onnxruntime.InferenceSession | None = opened.session
        settings = {"version": onnxruntime.__version__, "optimization": level, "spinning": f"{SPIN_MICROSECONDS} us"}
        if opened.device != "cpu":
            settings["tf32"] = "off"
        device = f"cuda:{opened.number}" if opened.number else opened.device
        super().__init__(specs(opened.session.get_inputs()), device, threads, settings)

    def _run(self, arrays: Sequence[NDArray[Any]]) -> Arrays:
        feeds = {spec.name: array for spec, array in zip(self.inputs, arrays, strict=True)}
        if self._session is None:
            raise ModelFileError("the session is closed")
        try:
            return [own(np.asarray(value), arrays) for value in self._session.run(None, feeds)]
        except Exception as error:  # onnxruntime's exceptions have no base of their own
            shapes = [array.shape for array in arrays]
            raise InputError.of_shapes("the model", shapes, reason(error), "choose another --input-shape or batch") from error

    def _close(self) -> None:
        self._session = None
