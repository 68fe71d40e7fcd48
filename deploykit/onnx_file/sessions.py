"""onnxruntime sessions for looking into models: any optimization level, chosen outputs, few threads, no chatter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from deploykit.errors import DeviceUnavailable, ModelFileError, first_line
from deploykit.runtime import session as sessions

CPU, CUDA = sessions.CPU, sessions.CUDA

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
    model: bytes,
    level: Level = "all",
    provider: str = CPU,
    threads: int | None = None,
    folder: Path | None = None,
) -> onnxruntime.InferenceSession:
    """A session on a serialized model; `folder` is where its external weights lie.

    Raises `ModelFileError` with onnxruntime's reason in one line.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = _LEVELS[level]
    options.log_severity_level = ONLY_FATAL
    # The arena grows by doubling and keeps what one run needed; these sessions run a few times and then make room.
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    if threads is not None:
        options.intra_op_num_threads = threads
    # float32 is to mean float32 on a GPU too, not TF32.
    chosen = [(provider, {"use_tf32": 0}), CPU] if provider == CUDA else [provider]
    try:
        # Without enable_fallback=0 a failure is printed on stdout and tried again.
        session = onnxruntime.InferenceSession(model, options, providers=chosen, enable_fallback=0)
    except Exception as error:  # the exceptions of the native module have no common base
        raise ModelFileError(
            f"onnxruntime cannot load the model: {first_line(error)}", "is every operator and opset supported?"
        ) from error
    if provider not in session.get_providers():
        raise ModelFileError(f"onnxruntime did not load {provider}", "run `deploykit doctor`")
    return session


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


def provider_for(device: str) -> str:
    """The execution provider of "cpu", "cuda" or "auto" (CUDA where it works). Raises `DeviceUnavailable`, `InputError`."""
    kind, _ = sessions.parse_device(device)
    if kind == "cpu":
        return CPU
    obstacle = sessions.cuda_obstacle(thorough=kind == "cuda")
    if obstacle is None:
        return CUDA
    if kind == "cuda":
        raise DeviceUnavailable(
            f"device {device!r} was asked for, but CUDA cannot be used: {obstacle}", "`deploykit doctor` tells what to do"
        )
    return CPU


def run(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
) -> list[NDArray[Any]]:
    """Run once. Raises `ModelFileError` with onnxruntime's reason in one line."""
    try:
        return [np.asarray(value) for value in session.run(list(outputs) if outputs else None, dict(feeds))]
    except Exception as error:
        raise ModelFileError(f"onnxruntime cannot run the model: {first_line(error)}") from error
