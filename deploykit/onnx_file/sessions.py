"""onnxruntime sessions for looking into models: any optimization level, chosen outputs, no memory kept between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from deploykit.errors import ModelFileError
from deploykit.runtime import session as runtime_session
from deploykit.runtime.session import Level, SessionSettings, working_device

__all__ = ["CPU", "CUDA", "LEVELS", "Level", "answers", "newest_opset", "open_session", "run", "working_device"]

CPU, CUDA = "cpu", "cuda"  # devices, as `Predictor` takes them
LEVELS: tuple[Level, ...] = get_args(Level)


def open_session(
    model: bytes,
    level: Level = "all",
    device: str = CPU,
    threads: int | None = None,
    folder: Path | None = None,
) -> onnxruntime.InferenceSession:
    """A session on a serialized model; `folder` is where its external weights lie.

    Raises `ModelFileError` with onnxruntime's reason in one line, `DeviceUnavailable`.
    """
    # These sessions run a few times and then make room.
    settings = SessionSettings(device, threads, spinning=False, level=level, arena=False)
    return runtime_session.open_session(model, "the model", None if folder is None else folder.resolve(), settings).session


@cache
def newest_opset() -> int:
    """The newest version of the standard operator set that the installed onnxruntime runs; onnx itself may know newer ones."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])], "probe", [value("x", 1, [1])], [value("y", 1, [1])]
    )
    for version in range(onnx.defs.onnx_opset_version(), 1, -1):
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)], ir_version=10)
        try:
            open_session(model.SerializeToString())
        except ModelFileError:
            continue
        return version
    return 1


def run(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
) -> list[NDArray[Any]]:
    """The outputs of one run, or those called `outputs`, as arrays. Raises `ModelFileError`, also for what is no array."""
    found = answers(session, feeds, outputs)
    try:
        return [np.asarray(value) for value in found]
    except ValueError as error:
        raise ModelFileError("an output of the model is a sequence of tensors that differ in shape") from error


def answers(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
) -> list[Any]:
    """What onnxruntime gives in one run, as it is: arrays, lists for sequences, dicts for maps.

    Raises `ModelFileError` with onnxruntime's reason in one line.
    """
    try:
        return list(session.run(list(outputs) if outputs else None, dict(feeds)))
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        raise ModelFileError(f"onnxruntime cannot run the model: {runtime_session.reason(error)}") from error
