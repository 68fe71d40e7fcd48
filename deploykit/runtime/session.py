"""An onnxruntime session whose device is known: asked for, made, looked at, and only then believed.

`get_available_providers()` lists what a wheel was compiled with. Whether CUDA is used is known only from
`session.get_providers()` after the session was made: a provider that cannot be loaded is dropped without an exception.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from deploykit.errors import DeviceUnavailable, InputError, ModelFileError
from deploykit.runtime.cores import cores

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
NO_CUDA = "the installed onnxruntime has no CUDA provider (it is not the package onnxruntime-gpu)"
# Runs that follow each other at once find the threads awake. By default onnxruntime's spin for many milliseconds, and take the
# cores from whatever the application does between two runs, such as decoding the next image.
SPIN_MICROSECONDS = 200
_FATAL = 4  # what goes wrong becomes an exception; nothing is printed
_SECURE_FOLDER = "session.model_external_initializers_file_folder_path"
_PREFIX = re.compile(r"^\s*\[ONNXRuntimeError\] : \d+ : \w+ : ")


@dataclass(frozen=True)
class Options:
    """How a session runs.

    `device`: "cpu"; "cuda" or "cuda:1" (raises where CUDA is not really used); "auto" (CUDA if it works, else the CPU).
    `threads`: within one run; `None` takes onnxruntime's choice, or the container's limit where that is lower.
    `spinning`: threads wait for the next run in a busy loop, for `SPIN_MICROSECONDS`; without, they sleep at once.
    `tf32`: let CUDA round float32 to 10 bits of mantissa in matrix products. `cuda_graph`: replay one recorded graph per
    input shape (every node must be on CUDA).
    """

    device: str = "auto"
    threads: int | None = None
    spinning: bool = True
    tf32: bool = False
    cuda_graph: bool = False


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph: sizes are `None` where any goes, `shape` is `None` where even the rank is unknown."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: np.dtype[Any] | None
    type: str

    def __str__(self) -> str:
        sizes = "any shape" if self.shape is None else "(" + ", ".join("any" if s is None else str(s) for s in self.shape) + ")"
        return f"{self.name[:80]!r} {self.dtype or self.type} {sizes}"


@dataclass(frozen=True)
class Opened:
    """A session and what it really runs on. `note` says why it is not CUDA where "auto" was asked for.

    `cuda_lost`: the machine has NVIDIA's driver, and still CUDA is not used. `cpu_nodes`: (name, operator) of the nodes that a
    CUDA session left to the CPU.
    """

    session: onnxruntime.InferenceSession
    device: str
    note: str = ""
    cuda_lost: bool = False
    cpu_nodes: tuple[tuple[str, str], ...] = ()


def open_session(model: bytes, name: str, folder: Path | None, options: Options) -> Opened:
    """Make a session from the bytes of an ONNX file; `folder` is where its external data lie, `name` is for messages.

    Raises `DeviceUnavailable` where "cuda" was asked for and would not be used, `ModelFileError` for a model that cannot be
    loaded, `InputError` for options that make no sense.
    """
    kind, number = parse_device(options.device)
    _check_options(options)
    if kind == "cpu":
        return Opened(_make(model, name, folder, options, [CPU]), "cpu")
    obstacle = cuda_obstacle(thorough=kind == "cuda")
    if obstacle is None:
        found = _make_on_cuda(model, name, folder, options, number)
        if isinstance(found, Opened):
            return found
        obstacle = found
    if kind == "cuda":
        raise DeviceUnavailable(
            f"device {options.device!r} was asked for, but CUDA cannot be used: {obstacle}", "`deploykit doctor` tells what to do"
        )
    return Opened(_make(model, name, folder, options, [CPU]), "cpu", f"CUDA is not used: {obstacle}", cuda_lost=_has_driver())


def parse_device(device: str) -> tuple[str, int]:
    """Such as "cuda:1" -> ("cuda", 1). Raises `InputError` for anything but "cpu", "cuda", "cuda:N", "auto"."""
    match = re.fullmatch(r"(cpu|auto|cuda)|cuda:(\d{1,3})", device) if isinstance(device, str) else None
    if match is None:
        raise InputError(f"unknown device {device!r:.80}", "choose cpu, cuda, cuda:1 or auto")
    return match[1] or "cuda", int(match[2] or 0)


def cuda_obstacle(thorough: bool) -> str | None:
    """Why a CUDA session would surely fail, or `None` if one is worth trying; the libraries are then loaded.

    `thorough` names every missing library; otherwise the search ends, fast, at a missing driver.
    """
    if CUDA not in onnxruntime.get_available_providers():
        return NO_CUDA
    from deploykit.runtime import libraries as _libraries

    if not thorough and _libraries.load_driver() is not None:
        return f"{_libraries.DRIVER}, the NVIDIA driver's library, cannot be loaded"
    missing = _libraries.missing(CUDA)
    if missing:
        names = [f"{n} (the NVIDIA driver)" if n == _libraries.DRIVER else n for n in missing]
        return f"{' and '.join(names)} cannot be loaded"
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # what is linked is there; this adds what the provider opens later, such as cuDNN
    return None


def _has_driver() -> bool:
    from deploykit.runtime import libraries as _libraries

    return _libraries.load_driver() is None and CUDA in onnxruntime.get_available_providers()


def specs(nodes: Any) -> tuple[TensorSpec, ...]:
    """`session.get_inputs()` or `get_outputs()` as plain data."""
    return tuple(TensorSpec(node.name, _shape(node.shape), _dtype(node.type), node.type) for node in nodes)


def reason(error: BaseException) -> str:
    """The message of onnxruntime without its prefix, in one line of bearable length."""
    text = " ".join(_PREFIX.sub("", str(error)).split())
    return text if len(text) <= 300 else text[:297] + "..."


def _make_on_cuda(model: bytes, name: str, folder: Path | None, options: Options, number: int) -> Opened | str:
    """The session, or why there is none."""
    cuda = {"device_id": number, "use_tf32": int(options.tf32), "enable_cuda_graph": int(options.cuda_graph)}
    from deploykit.runtime.quiet import held_stderr

    failure = ""
    session = None
    with held_stderr() as held:
        try:
            session = _make(model, name, folder, options, [(CUDA, cuda), CPU])
        except ModelFileError as error:
            failure = error.problem
    if session is None:
        _make(model, name, folder, options, [CPU])  # raises if the model itself is at fault
        return failure
    if session.get_providers()[0] != CUDA:
        return from_log(held.text) or "onnxruntime dropped its CUDA provider without a reason"
    return Opened(session, "cuda", cpu_nodes=nodes_on_cpu(session))


def _make(model: bytes, name: str, folder: Path | None, options: Options, providers: list[Any]) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL
    settings.intra_op_num_threads = _threads(options.threads)
    if options.spinning:
        settings.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_MICROSECONDS))
    else:
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if folder is not None:
        settings.add_session_config_entry(_SECURE_FOLDER, str(folder))
    if len(providers) > 1:
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        # Without enable_fallback=0 a failure is printed on stdout and another provider is taken.
        session = onnxruntime.InferenceSession(model, settings, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        raise ModelFileError(f"{name} cannot be loaded: {reason(error)}", "is it a whole ONNX file?") from error
    session.disable_fallback()
    session._model_bytes = None  # kept by onnxruntime for the fallback that was just disabled; it can be half a gigabyte
    return session


def _threads(wanted: int | None) -> int:
    """0 is onnxruntime's own choice: as many as there are physical cores, whatever this process may use of them."""
    if wanted is not None:
        return wanted
    found = cores()
    return found.usable if found.usable < found.machine else 0


def _check_options(options: Options) -> None:
    threads = options.threads
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024):
        raise InputError(f"threads cannot be {threads!r:.80}", "give a whole number from 1 to 1024")
    if options.cuda_graph and parse_device(options.device)[0] != "cuda":
        raise InputError(f"a CUDA graph cannot be recorded on device {options.device!r}", "ask for device='cuda'")


def nodes_on_cpu(session: onnxruntime.InferenceSession) -> tuple[tuple[str, str], ...]:
    """(name, operator) of the nodes a session of another provider left to the CPU; () where onnxruntime cannot tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return ()
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name == CPU]
    return tuple((node.name, node.op_type) for part in parts for node in part.get_nodes())


def from_log(text: str) -> str:
    """The reason within what onnxruntime printed: "Failed to load library ... with error: libx.so: cannot open ..."."""
    for pattern in (r"with error: (.*)", r"\[ONNXRuntimeError\] : \d+ : \w+ : (.*)", r"\] (.*)"):
        match = re.search(pattern, text)
        if match:
            return match[1].strip()[:300]
    return ""


def _shape(sizes: Any) -> tuple[int | None, ...] | None:
    """Sizes as plain data; [] stands both for a scalar and for an unknown rank, names and negative sizes mean "any"."""
    return tuple(s if isinstance(s, int) and s > 0 else None for s in sizes) if sizes else None


def _dtype(text: str) -> np.dtype[Any] | None:
    """Such as "tensor(float)" -> float32; `None` for what numpy does not have, and for texts."""
    names = {"float": "float32", "double": "float64"}
    match = re.fullmatch(r"tensor\((\w+)\)", text)
    if match is None:
        return None
    try:
        found = np.dtype(names.get(match[1], match[1]))
    except TypeError:
        return None
    return found if found.kind in "fiub" else None
