"""ONNX Runtime on an ONNX file, with its own defaults: every graph optimization, float32 without TF32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from deploykit.backends._types import Arrays, Engine, Source, own
from deploykit.errors import InputError, ModelFileError
from deploykit.runtime.cores import cores
from deploykit.runtime.onnx_bytes import check_external_data, read_model
from deploykit.runtime.session import SPIN_MICROSECONDS, SessionSettings, open_session, reason, specs

if TYPE_CHECKING:
    from deploykit.runtime.binding import BoundRunner

SOURCE: Source = "onnx"


def start(file: Path, device: str, threads: int | None, **options: str) -> Engine:
    """See `deploykit.backends.start`. `options`: those of onnxruntime that a tuned file may have; see `runtime.contract.tuned`."""
    model = read_model(file)
    check_external_data(model, file)
    return OnnxRuntimeEngine(model, file, device, threads or cores().usable, options)


class OnnxRuntimeEngine(Engine):
    """One session; its threads end with it."""

    def __init__(self, model: bytes, file: Path, device: str, threads: int, options: Mapping[str, str] | None = None) -> None:
        # As `Predictor` runs it. Its threads rest soon enough after a run to leave the cores to the engine whose turn it is.
        options = options or {}
        chosen = SessionSettings(device, threads).with_options(options)
        opened = open_session(model, file.name, file.resolve().parent, chosen)
        self._session: onnxruntime.InferenceSession | None = opened.session
        self._bound: BoundRunner | None = None
        if "io_binding" in options or chosen.cuda_graph:
            from deploykit.runtime.binding import BoundRunner

            self._bound = BoundRunner(opened.session, opened.device, opened.number, chosen.cuda_graph)
        self._outputs = [output.name for output in opened.session.get_outputs()]
        settings = {"version": onnxruntime.__version__, "optimization": chosen.level, "spinning": f"{SPIN_MICROSECONDS} us"}
        settings |= {name: value for name, value in options.items() if name != "level"}
        if opened.device != "cpu":
            settings |= {"tf32": "on" if chosen.tf32 or chosen.tensorrt else "off"}
        device = f"cuda:{opened.number}" if opened.number else opened.device
        super().__init__(specs(opened.session.get_inputs()), device, threads, settings)

    def _run(self, arrays: Sequence[NDArray[Any]]) -> Arrays:
        feeds = {spec.name: array for spec, array in zip(self.inputs, arrays, strict=True)}
        if self._session is None:
            raise ModelFileError("the session is closed")
        try:
            found = self._session.run(None, feeds) if self._bound is None else self._bound.run(self._outputs, feeds)
            return [own(np.asarray(value), arrays) for value in found]
        except Exception as error:  # onnxruntime's exceptions have no base of their own
            shapes = [array.shape for array in arrays]
            raise InputError.of_shapes("the model", shapes, reason(error), "choose another --input-shape or batch") from error

    def _close(self) -> None:
        self._session = self._bound = None
