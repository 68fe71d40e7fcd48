"""CPU, cores, clock, load, system and library versions as short texts: what else decides a time."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from deploykit.runtime.cores import cores

PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "openvino", "onnx", "numpy")


def of_machine(busy: str | None = None) -> dict[str, str]:
    """CPU model, cores, clock if it can be read, load (`busy`, else that of now), operating system, Python and library versions."""
    found = cores()
    facts = {
        "cpu": cpu_model(),
        "cores": f"{found.usable} of {found.machine}",
        "clock": _clock(),
        "load": load() if busy is None else busy,
    }
    facts |= {"system": f"{platform.system()} {platform.release()} {platform.machine()}", "python": platform.python_version()}
    return {name: value for name, value in facts.items() if value} | _versions()


@cache
def cpu_model() -> str:
    """Such as "Intel(R) Xeon(R) ..."; the architecture where the model cannot be read."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _clock() -> str:
    """The clock of the first core, in MHz, as the system tells it."""
    try:
        return f"{int(Path('/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq').read_text()) // 1000} MHz"
    except (OSError, ValueError):
        return ""


def load() -> str:
    """The load average of the last minute: others at work make times longer."""
    try:
        return Path("/proc/loadavg").read_text().split()[0]
    except (OSError, IndexError):
        return ""


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
