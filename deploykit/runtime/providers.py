"""Device -> the execution providers of onnxruntime that serve it, with their options; and why CUDA cannot be used.

No other module knows the names of providers or their options. What stands here is a request: a provider that cannot be loaded
is dropped without an exception, so whether it is really used is known only from the session (see `session`).
"""

from __future__ import annotations

import re
from typing import Any

import onnxruntime

from deploykit.errors import InputError

CUDA, CPU, TENSORRT = "CUDAExecutionProvider", "CPUExecutionProvider", "TensorrtExecutionProvider"
NO_CUDA = "the installed onnxruntime has no CUDA provider (it is not the package onnxruntime-gpu)"
# Not linked against but opened by the CUDA provider at its first convolution; its own message asks for "cuDNN 9.*".
_OPENED_LATER = {CUDA: ("libcudnn.so.9",)}


def parse_device(device: str) -> tuple[str, int]:
    """Such as "cuda:1" -> ("cuda", 1). Raises `InputError` for anything but "cpu", "cuda", "cuda:N", "auto"."""
    match = re.fullmatch(r"(cpu|auto|cuda)|cuda:(\d{1,3})", device) if isinstance(device, str) else None
    if match is None:
        raise InputError(f"unknown device {device!r:.80}", "choose cpu, cuda, cuda:1 or auto")
    return match[1] or "cuda", int(match[2] or 0)


def name_of(device: str) -> str:
    """The execution provider that computes on "cpu", "cuda" or "cuda:1", such as "CUDAExecutionProvider"."""
    return CPU if parse_device(device)[0] == "cpu" else CUDA


def request(
    kind: str, number: int = 0, tf32: bool = False, cuda_graph: bool = False, nhwc: bool = False, tensorrt: str = ""
) -> list[Any]:
    """What `onnxruntime.InferenceSession` takes as `providers` to run on "cpu", or on the CUDA device `number`.

    On CUDA float32 means float32, unless `tf32`; what CUDA has no kernel for runs on the CPU. `nhwc`: convolutions with the
    channels last. `tensorrt`: "tf32" or "fp16" lets TensorRT compile what it can, in that precision; CUDA runs the rest.
    """
    if kind == "cpu":
        return [CPU]
    cuda = {"device_id": number, "use_tf32": int(tf32), "enable_cuda_graph": int(cuda_graph)} | ({"prefer_nhwc": 1} if nhwc else {})
    first = [(TENSORRT, {"device_id": number, "trt_fp16_enable": int(tensorrt == "fp16")})] if tensorrt else []
    return [*first, (CUDA, cuda), CPU]


def tensorrt_obstacle() -> str | None:
    """Why a session on TensorRT would surely fail, or `None` if one is worth trying; the libraries are then loaded."""
    if TENSORRT not in onnxruntime.get_available_providers():
        return "the installed onnxruntime has no TensorRT provider"
    missing = missing_libraries(TENSORRT)
    return f"{' and '.join(missing)} cannot be loaded" if missing else None


def cuda_obstacle(thorough: bool) -> str | None:
    """Why a CUDA session would surely fail, or `None` if one is worth trying; the libraries are then loaded.

    `thorough` names every missing library; otherwise the search ends, fast, at a missing driver.
    """
    if CUDA not in onnxruntime.get_available_providers():
        return NO_CUDA
    from deploykit.runtime import libraries

    if not thorough and libraries.load_driver() is not None:
        return f"{libraries.DRIVER}, the NVIDIA driver's library, cannot be loaded"
    missing = missing_libraries(CUDA)
    if missing:
        names = [f"{n} (the NVIDIA driver)" if n == libraries.DRIVER else n for n in missing]
        return f"{' and '.join(names)} cannot be loaded"
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # what is linked is there; this adds what the provider opens later, such as cuDNN
    return None


def has_driver() -> bool:
    """Whether NVIDIA's driver is there for an onnxruntime that could use it."""
    from deploykit.runtime import libraries

    return libraries.load_driver() is None and CUDA in onnxruntime.get_available_providers()


def missing_libraries(provider: str) -> tuple[str, ...]:
    """The shared libraries that this provider needs and that cannot be loaded. What can be loaded stays loaded."""
    from deploykit.runtime import libraries

    names = libraries.needed(provider)
    later = [name for name in _OPENED_LATER.get(provider, ()) if not any(n.startswith(name.split(".")[0] + ".") for n in names)]
    return libraries.missing([*names, *later] if names else [])
