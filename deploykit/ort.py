"""onnxruntime sessions for looking into models: any optimization level, chosen outputs, few threads, no chatter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from deploykit.errors import ModelFileError

Level = Literal["disabled", "basic", "extended", "all"]
LEVELS: tuple[Level, ...] = ("disabled", "basic", "extended", "all")

_LEVELS = {
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
ONLY_FATAL = 4


def open_session(
    model: bytes | str, level: Level = "all", provider: str = "CPUExecutionProvider", threads: int | None = None
) -> onnxruntime.InferenceSession:
    """A session on serialized bytes, or on a path where the weights lie outside the file.

    Raises `ModelFileError` with onnxruntime's reason in one line.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = _LEVELS[level]
    options.log_severity_level = ONLY_FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        # Without enable_fallback=0 a failure is printed on stdout and tried again.
        session = onnxruntime.InferenceSession(model, options, providers=[provider], enable_fallback=0)
    except Exception as error:  # the exceptions of the native module have no common base
        raise ModelFileError(
            f"onnxruntime cannot load the model: {_first_line(error)}", "is every operator and opset supported?"
        ) from error
    if provider not in session.get_providers():
        raise ModelFileError(f"onnxruntime did not load {provider}", "run `deploykit doctor`")
    return session


def run(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
) -> list[NDArray[Any]]:
    """Run once. Raises `ModelFileError` with onnxruntime's reason in one line."""
    try:
        return [np.asarray(value) for value in session.run(list(outputs) if outputs else None, dict(feeds))]
    except Exception as error:
        raise ModelFileError(f"onnxruntime cannot run the model: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__
