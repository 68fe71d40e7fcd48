"""`doctor`: what this machine can really do, found out by doing it, and what to type where it cannot."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, ClassVar

import numpy as np
import onnxruntime

from deploykit.errors import DeploykitError, DeviceUnavailable
from deploykit.runtime import libraries
from deploykit.runtime.cores import cores
from deploykit.runtime.identity import IDENTITY_MODEL
from deploykit.runtime.providers import CPU, CUDA, NO_CUDA, missing_libraries, parse_device
from deploykit.runtime.quiet import held_stderr
from deploykit.runtime.session import SessionSettings, from_log, make_session, nodes_on_cpu, open_session, reason
from deploykit.shown import Shown

# One module in two wheels: whichever was installed last has overwritten the other.
_WHEELS = re.compile(r"onnxruntime([-_.].+)?|ort[-_.].+", re.IGNORECASE)
_PACKAGES = ("deploykit", "onnxruntime", "onnxruntime-gpu", "numpy", "Pillow", "torch", "torchvision", "onnx")
_VERSION_FILE = re.compile(r"^cuda\b[^=]*=\s*['\"](\d[\d.]*)['\"]", re.MULTILINE)


# What asks a server elsewhere is nothing that this machine can do or not.
_REMOTE = ("AzureExecutionProvider",)


@dataclass(frozen=True)
class Provider:
    """One of onnxruntime's providers: `usable` means that a session was made on it and computed; else `reason` says why not."""

    name: str
    usable: bool
    reason: str = ""


@dataclass(frozen=True, repr=False)
class Diagnosis(Shown):
    """What holds on this machine. `advice`: what to do, most important first; empty where nothing is wrong.

    `versions`: packages and CUDA majors by name, only what is there. `missing_libraries`: what the CUDA provider links against
    and this machine cannot load. `cores`, `threads`: logical cores of the machine, and how many this process may use.
    """

    _view: ClassVar[str] = "diagnosis"

    versions: Mapping[str, str]
    providers: tuple[Provider, ...]
    missing_libraries: tuple[str, ...]
    cores: int
    threads: int
    advice: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Diagnosis: {', '.join(p.name for p in self.providers if p.usable)} usable, advice: {len(self.advice)}>"

    def usable(self, provider: str) -> bool:
        """Whether "CUDAExecutionProvider" (or another) really works here."""
        return any(found.name == provider and found.usable for found in self.providers)

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return asdict(self)


def doctor() -> Diagnosis:
    """Look at packages, providers, libraries and cores. Takes about a second; changes nothing, never imports torch."""
    found_cores = cores()
    wheels = installed_wheels()
    providers = tuple(probe(name) for name in onnxruntime.get_available_providers() if name not in _REMOTE)
    missing = missing_libraries(CUDA) if CUDA in onnxruntime.get_available_providers() else ()
    versions = _versions()
    works = any(provider.name == CUDA and provider.usable for provider in providers)
    advice = [*_wheel_advice(wheels), *([] if works else _cuda_advice(missing, versions)), *_core_advice()]
    return Diagnosis(versions, providers, missing, found_cores.machine, found_cores.usable, tuple(advice))


def require(diagnosis: Diagnosis, device: str) -> None:
    """Raise `DeviceUnavailable` if `device` is "cuda" and CUDA does not work; `InputError` for an unknown device."""
    if parse_device(device)[0] == "cuda" and not diagnosis.usable(CUDA):
        why = next((provider.reason for provider in diagnosis.providers if provider.name == CUDA), NO_CUDA)
        raise DeviceUnavailable(device, why, "the advice above says what to do")


def probe(provider: str) -> Provider:
    """Make a session on this provider and let it compute; the answer is what happened."""
    if provider in (CPU, CUDA):
        try:
            opened = open_session(IDENTITY_MODEL, "the test model", None, SessionSettings("cpu" if provider == CPU else "cuda"))
        except DeviceUnavailable as error:
            return Provider(provider, False, error.reason)
        except DeploykitError as error:
            return Provider(provider, False, error.problem)
        return _computes(opened.session, provider)
    missing = missing_libraries(provider)
    if missing:
        return Provider(provider, False, f"{' and '.join(missing)} cannot be loaded")
    session, failure = None, ""
    with held_stderr() as held:
        try:
            session = make_session(IDENTITY_MODEL, SessionSettings("cpu"), [provider, CPU])
        except Exception as error:  # onnxruntime's exceptions have no base of their own
            failure = reason(error)
    if session is None:
        return Provider(provider, False, failure)
    if session.get_providers()[0] != provider:
        return Provider(provider, False, from_log(held.text) or "onnxruntime dropped it without a reason")
    if nodes_on_cpu(session):
        return Provider(provider, False, "it loads, but leaves the work to the CPU")
    return _computes(session, provider)


def installed_wheels() -> tuple[str, ...]:
    """Every installed distribution that brings the module onnxruntime, sorted; there should be exactly one."""
    names = set()
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"] or ""
        if _WHEELS.fullmatch(name) and distribution.read_text("RECORD") is not None and _brings_module(distribution):
            names.add(name)
    return tuple(sorted(names))


def _brings_module(distribution: metadata.Distribution) -> bool:
    return any(str(file).replace(os.sep, "/") == "onnxruntime/__init__.py" for file in distribution.files or ())


def _computes(session: onnxruntime.InferenceSession, provider: str) -> Provider:
    numbers = np.arange(4, dtype=np.float32)
    try:
        answer = session.run(None, {"x": numbers})[0]
    except Exception as error:
        return Provider(provider, False, reason(error))
    if not np.array_equal(answer, numbers):
        return Provider(provider, False, f"it computes nonsense: {answer} instead of {numbers}")
    return Provider(provider, True)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if "deploykit" not in found:
        from deploykit._version import __version__

        found["deploykit"] = __version__
    cuda = {"onnxruntime CUDA": getattr(onnxruntime, "cuda_version", ""), "torch CUDA": _cuda_of_torch()}
    return found | {name: version for name, version in cuda.items() if version}


def _cuda_of_torch() -> str:
    """The CUDA version torch was built for, read from its version.py without importing it; "" where there is none."""
    try:
        distribution = metadata.distribution("torch")
        text = (distribution.locate_file("torch/version.py")).read_text()
    except (metadata.PackageNotFoundError, OSError, UnicodeDecodeError):
        return ""
    match = _VERSION_FILE.search(text)
    return match[1] if match else ""


def _wheel_advice(wheels: tuple[str, ...]) -> list[str]:
    if len(wheels) < 2:
        return []
    return [
        f"{' and '.join(wheels)} are installed at once and have overwritten each other: `pip uninstall -y {' '.join(wheels)}`, "
        "then install one of them: onnxruntime-gpu for CUDA, onnxruntime without"
    ]


def _cuda_advice(missing: tuple[str, ...], versions: Mapping[str, str]) -> list[str]:
    """What to do so that CUDA works, as far as it can be known from here."""
    if CUDA not in onnxruntime.get_available_providers():
        return ["for CUDA: `pip uninstall -y onnxruntime`, then `pip install onnxruntime-gpu`; on the CPU all is well"]
    advice = []
    packages = sorted({package for library in missing if (package := libraries.package_of(library))})
    if packages:
        advice.append(
            f"for CUDA: `pip install {' '.join(packages)}` (brings {', '.join(n for n in missing if n != libraries.DRIVER)})"
        )
    if libraries.DRIVER in missing:
        advice.append(
            f"{libraries.DRIVER} belongs to the NVIDIA driver: install the driver, or start the container with its GPU "
            "(docker run --gpus all); on a machine without an NVIDIA GPU use --device cpu"
        )
    unknown = [library for library in missing if library != libraries.DRIVER and not libraries.package_of(library)]
    if unknown:
        advice.append(f"for CUDA: install what brings {', '.join(unknown)}")
    majors = {name: versions[name].split(".")[0] for name in ("onnxruntime CUDA", "torch CUDA") if name in versions}
    if len(set(majors.values())) > 1:
        advice.append(
            f"onnxruntime was built for CUDA {majors['onnxruntime CUDA']} and torch for CUDA {majors['torch CUDA']}: "
            "in one process only one of them finds its libraries; install builds for the same major version"
        )
    return advice


def _core_advice() -> list[str]:
    found = cores()
    if found.usable == found.machine:
        return []
    allowed = f"{found.quota:g} cores' worth of time" if found.limited else f"{found.pinned} cores"
    return [
        f"this process may use {allowed} of {found.machine} cores: deploykit runs {found.usable} threads; "
        f"tell other engines too (for example OMP_NUM_THREADS={found.usable})"
    ]
