"""The bytes of an ONNX file -> a session of onnxruntime whose device is known. Every session of deploykit is opened here.

`get_available_providers()` lists what a wheel was compiled with. Whether CUDA is used is known only from
`session.get_providers()` after the session was made: a provider that cannot be loaded is dropped without an exception.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import onnxruntime

from deploykit.errors import DeviceUnavailable, InputError, ModelFileError
from deploykit.runtime import providers
from deploykit.runtime.cores import cores

Level = Literal["disabled", "basic", "extended", "all"]
_LEVEL_NAMES = {"disabled": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}
# Runs that follow each other at once find the threads awake. By default onnxruntime's spin for many milliseconds, and take the
# cores from whatever the application does between two runs, such as decoding the next image.
SPIN_MICROSECONDS = 200
_FATAL = 4  # what goes wrong becomes an exception; nothing is printed
_SECURE_FOLDER = "session.model_external_initializers_file_folder_path"
_PREFIX = re.compile(r"^\s*\[ONNXRuntimeError\] : \d+ : (\w+) : ")
_SOURCE = re.compile(r"\S+\.(?:cc|cpp|cu|cuh|h|hpp):\d+ (?=\S)")


@dataclass(frozen=True)
class SessionSettings:
    """How a session runs.

    `device`: "cpu"; "cuda" or "cuda:1" (raises where CUDA is not really used); "auto" (CUDA if it works, else the CPU).
    `threads`: within one run; `None` takes onnxruntime's choice, or the container's limit where that is lower.
    `spinning`: threads wait for the next run in a busy loop, for `SPIN_MICROSECONDS`; without, they sleep at once.
    `tf32`: let CUDA round float32 to 10 bits of mantissa in matrix products. `cuda_graph`: replay one recorded graph per
    input shape (every node must be on CUDA). `nhwc`: let CUDA keep images with the channels last. `tensorrt`: "tf32" or "fp16" lets
    TensorRT compile what it can. `level`: how much onnxruntime may rewrite the graph. `arena`: keep the memory
    of a run on the CPU for the next one (it grows by doubling). `profile`: the path, without its ending, of the file into
    which onnxruntime's profiler writes; `None` leaves it off.
    """

    device: str = "auto"
    threads: int | None = None
    spinning: bool = True
    tf32: bool = False
    cuda_graph: bool = False
    level: Level = "all"
    arena: bool = True
    profile: Path | None = None
    nhwc: bool = False
    tensorrt: Literal["", "tf32", "fp16"] = ""

    def with_options(self, options: Mapping[str, str]) -> SessionSettings:
        """The same with an engine's `options`, as a tuned file has them; `io_binding` is about runs and says nothing here."""
        given = options.get("provider", "")
        return replace(
            self,
            level=cast(Level, options.get("level", self.level)),
            tf32=self.tf32 or options.get("tf32") == "on",
            cuda_graph=self.cuda_graph or options.get("cuda_graph") == "on",
            nhwc=self.nhwc or options.get("layout") == "nhwc",
            tensorrt=cast(Any, given.removeprefix("tensorrt-")) if given else self.tensorrt,
        )


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
class OpenSession:
    """A session and what it really runs on: `device` is "cpu" or "cuda", `number` which CUDA device.

    `note` says why it is not CUDA where "auto" was asked for. `cuda_lost`: the machine has NVIDIA's driver, and still CUDA is
    not used. `cpu_nodes`: (name, operator) of the nodes that a CUDA session left to the CPU.
    """

    session: onnxruntime.InferenceSession
    device: str
    note: str = ""
    cuda_lost: bool = False
    cpu_nodes: tuple[tuple[str, str], ...] = ()
    number: int = 0


def open_session(model: bytes, name: str, folder: Path | None, settings: SessionSettings) -> OpenSession:
    """Make a session from the bytes of an ONNX file; `folder` is where its external data lie, `name` is for messages.

    Raises `DeviceUnavailable` where "cuda" was asked for and would not be used, `ModelFileError` for a model that cannot be
    loaded, `InputError` for settings that make no sense.
    """
    kind, number = providers.parse_device(settings.device)
    _check_settings(settings)
    if kind == "cpu":
        return OpenSession(_loaded(model, name, folder, settings, providers.request("cpu")), "cpu")
    obstacle = providers.cuda_obstacle(thorough=kind == "cuda") or (providers.tensorrt_obstacle() if settings.tensorrt else None)
    if obstacle is None:
        found = _open_on_cuda(model, name, folder, settings, number)
        if isinstance(found, OpenSession):
            return found
        obstacle = found
    if kind == "cuda":
        raise DeviceUnavailable(settings.device, obstacle)
    session = _loaded(model, name, folder, settings, providers.request("cpu"))
    return OpenSession(session, "cpu", f"CUDA is not used: {obstacle}", cuda_lost=providers.has_driver())


def working_device(device: str) -> str:
    """The device that a session for `device` really runs on: "cpu", "cuda" or "cuda:1"; "auto" becomes one of them.

    Found out by opening a session on a small model. Raises `DeviceUnavailable`, and `InputError` for no device at all.
    """
    if providers.parse_device(device)[0] == "cpu":
        return "cpu"
    from deploykit.runtime.identity import IDENTITY_MODEL

    found = open_session(IDENTITY_MODEL, "the test model", None, SessionSettings(device, threads=1))
    return f"cuda:{found.number}" if found.number else found.device


def specs(nodes: Any) -> tuple[TensorSpec, ...]:
    """`session.get_inputs()` or `get_outputs()` as plain data."""
    return tuple(TensorSpec(node.name, _shape(node.shape), dtype_of(node.type), node.type) for node in nodes)


def reason(error: BaseException) -> str:
    """The message of onnxruntime without its prefix and the places in its source, in one line of bearable length."""
    text = _without_source(" ".join(_PREFIX.sub("", str(error)).split()))
    return text if len(text) <= 300 else text[:297] + "..."


def _without_source(text: str) -> str:
    """Without ``/a/b.cc:12 type space::function(types) const`` in front of what went wrong; all of it if nothing else is there."""
    kept = text
    while match := _SOURCE.search(kept):
        after, depth = kept[match.end() :], 0
        for place, sign in enumerate(after):
            depth += (sign == "(") - (sign == ")")
            if sign == ")" and not depth:
                after = after[place + 1 :].removeprefix(" const").lstrip()
                break
        kept = kept[: match.start()] + after
    return kept.strip() or text


def make_session(
    model: bytes, settings: SessionSettings, providers_wanted: list[Any], folder: Path | None = None
) -> onnxruntime.InferenceSession:
    """A session on these providers, or on those of them that could be loaded. Raises whatever onnxruntime raises."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{_LEVEL_NAMES[settings.level]}")
    options.intra_op_num_threads = _threads(settings.threads)
    options.enable_cpu_mem_arena = settings.arena
    if settings.spinning:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_MICROSECONDS))
    else:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if settings.profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(settings.profile)
    if folder is not None:
        options.add_session_config_entry(_SECURE_FOLDER, str(folder))
    if len(providers_wanted) > 1:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Without enable_fallback=0 a failure is printed on stdout and another provider is taken.
    session = onnxruntime.InferenceSession(model, options, providers=providers_wanted, enable_fallback=0)
    session.disable_fallback()
    session._model_bytes = None  # kept by onnxruntime for the fallback that was just disabled; it can be half a gigabyte
    return session


def _open_on_cuda(model: bytes, name: str, folder: Path | None, settings: SessionSettings, number: int) -> OpenSession | str:
    """The session, or why there is none."""
    wanted = providers.request("cuda", number, settings.tf32, settings.cuda_graph, settings.nhwc, settings.tensorrt)
    from deploykit.runtime.quiet import held_stderr

    failure = ""
    session = None
    with held_stderr() as held:
        try:
            session = _loaded(model, name, folder, settings, wanted)
        except ModelFileError as error:
            failure = error.problem
    if session is None:
        _loaded(model, name, folder, settings, providers.request("cpu"))  # raises if the model itself is at fault
        return failure
    expected = providers.TENSORRT if settings.tensorrt else providers.CUDA
    if session.get_providers()[0] != expected:
        return (
            from_log(held.text) or f"onnxruntime dropped its {expected.removesuffix('ExecutionProvider')} provider without a reason"
        )
    return OpenSession(session, "cuda", cpu_nodes=nodes_on_cpu(session), number=number)


def _loaded(
    model: bytes, name: str, folder: Path | None, settings: SessionSettings, providers_wanted: list[Any]
) -> onnxruntime.InferenceSession:
    """`make_session`. Raises `ModelFileError` in one line."""
    try:
        return make_session(model, settings, providers_wanted, folder)
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        from deploykit.runtime.load_errors import explain

        status = _PREFIX.match(str(error))
        problem, hint = explain(status[1] if status else "", str(error), reason(error))
        raise ModelFileError(f"{name} cannot be loaded: {problem}", hint) from error


def _threads(wanted: int | None) -> int:
    """0 is onnxruntime's own choice: as many as there are physical cores, whatever this process may use of them."""
    if wanted is not None:
        return wanted
    found = cores()
    return found.usable if found.usable < found.machine else 0


def _check_settings(settings: SessionSettings) -> None:
    threads = settings.threads
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024):
        raise InputError(f"threads cannot be {threads!r:.80}", "give a whole number from 1 to 1024")
    if settings.cuda_graph and providers.parse_device(settings.device)[0] != "cuda":
        raise InputError(f"a CUDA graph cannot be recorded on device {settings.device!r}", "ask for device='cuda'")


def nodes_on_cpu(session: onnxruntime.InferenceSession) -> tuple[tuple[str, str], ...]:
    """(name, operator) of the nodes a session of another provider left to the CPU; () where onnxruntime cannot tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return ()
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name == providers.CPU]
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
    return tuple(s if isinstance(s, int) and s >= 0 else None for s in sizes) if sizes else None


def dtype_of(text: str) -> np.dtype[Any] | None:
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
