"""`meter`: counts the joules that the CPUs or the GPU of this machine use, where the machine says so and may be asked.

CPUs tell it by RAPL (/sys/class/powercap; most systems let only root read it), NVIDIA's GPUs by the library of their driver. Both
count all that runs meanwhile, and what an idle machine uses.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"
_PACKAGE = re.compile(r"(intel|amd)-rapl:\d+")  # a whole CPU; intel-rapl:0:1 is a part of it

Reading = Callable[[], float]


def meter(device: str) -> Reading | None:
    """Gives the joules of "cpu", "cuda" or "cuda:1" since it was called before, or since it was made; `None` without a meter."""
    return _of_cpus() if device == "cpu" else _of_gpu(int(device.partition(":")[2] or 0))


def _of_cpus() -> Reading | None:
    """Of all CPUs together; each has a counter in microjoules that begins again at a number which it tells."""
    packages = [path for path in sorted(POWERCAP.glob("*")) if _PACKAGE.fullmatch(path.name)]
    try:
        packages = [path for path in packages if (path / "name").read_text().startswith("package")]
        spans = [int((path / "max_energy_range_uj").read_text()) for path in packages]
        before = [_counter(path) for path in packages]
    except (OSError, ValueError):
        return None

    def since() -> float:
        now = [_counter(path) for path in packages]
        spent = sum((new - old) % (span + 1) for new, old, span in zip(now, before, spans, strict=True))
        before[:] = now
        return spent / 1e6

    return since if packages else None


def _counter(package: Path) -> int:
    return int((package / "energy_uj").read_text())


def _of_gpu(number: int) -> Reading | None:
    """Of one GPU; `None` where it is not certain which one CUDA's number means."""
    try:
        library = ctypes.CDLL(NVML)
        count, handle = ctypes.c_uint(), ctypes.c_void_p()
        if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return None
        in_order = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" and not os.environ.get("CUDA_VISIBLE_DEVICES")
        if (count.value != 1 and not in_order) or library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle)):
            return None
    except (OSError, AttributeError):  # no driver, or one too old
        return None
    total = ctypes.c_ulonglong()

    def read() -> float | None:
        failed = library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(total))
        return None if failed else total.value / 1e3

    first = read()
    if first is None:
        return None
    before = [first]

    def since() -> float:
        now = read() or before[0]
        spent, before[0] = now - before[0], now
        return spent

    return since
