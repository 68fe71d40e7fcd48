"""How many cores this process may really use: the machine's, those it is pinned to, and what its container allows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Cores:
    """`machine`: logical cores; `pinned`: those this process may run on; `quota`: cores' worth of time its container gets."""

    machine: int
    pinned: int
    quota: float | None

    @property
    def usable(self) -> int:
        """As many threads as can run at once, at least one."""
        return max(1, min(self.machine, self.pinned, *([] if self.quota is None else [int(self.quota)])))

    @property
    def limited(self) -> bool:
        """Whether a container's quota allows less than the cores that onnxruntime counts."""
        return self.usable < min(self.machine, self.pinned)


def cores() -> Cores:
    """What holds for this process, now."""
    machine = os.cpu_count() or 1
    affinity = getattr(os, "sched_getaffinity", None)
    return Cores(machine, len(affinity(0)) if affinity else machine, _quota(_GROUPS))


def _quota(groups: Path) -> float | None:
    """The container's CPU quota in cores: cgroup v2's cpu.max, or v1's quota and period; `None` where there is none."""
    try:
        text = (groups / "cpu.max").read_text().split()
        if text[0] == "max":
            return None
        return int(text[0]) / int(text[1])
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        pass
    try:
        quota = int((groups / "cpu" / "cpu.cfs_quota_us").read_text())
        period = int((groups / "cpu" / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
