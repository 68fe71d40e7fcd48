"""How this process was started, where `torchrun` did it: its agents start all processes again when one, or a machine, was lost.

An agent counts only the times when a process of its own failed. So whether a run goes on is asked of all processes together.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

from torch import distributed

SECONDS = 300.0  # in which all processes of a launch must have met
TRY = 3.0  # in which a store that is there takes a connection
_KEY = "deploykit/port"

TCPStore: Any = distributed.TCPStore  # type: ignore[attr-defined]  # which type checkers do not see
UNNAMED = "none"  # what torchrun calls a launch that was given no --rdzv-id: others are called so, too


def launch() -> str | None:
    """The name that all processes of a launch have, also after a restart; `None` without torchrun."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def restarts() -> int:
    """How often this machine's agent has started its processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def meeting_place(rank: int, world_size: int) -> Any:
    """A store of this start of the processes alone, made by the first of them; `None` where PyTorch's own will do.

    The agents keep one store through all starts, and what the processes of an earlier one wrote there is taken for that of the
    new ones: they then look for each other at ports of the dead (https://github.com/pytorch/pytorch/issues/135712). A port at
    which nobody answers any more is how the others know that what they read was left from before. Raises `TimeoutError`.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    host = os.environ["MASTER_ADDR"]
    kept = TCPStore(host, int(os.environ["MASTER_PORT"]), is_master=False)
    if rank == 0:
        ours = TCPStore(host, 0, world_size, is_master=True, wait_for_workers=False)
        kept.set(_KEY, str(ours.port))
        return ours
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        port = int(kept.get(_KEY))
        try:
            return TCPStore(host, port, world_size, False, timedelta(seconds=TRY), wait_for_workers=False)
        except RuntimeError:  # also torch's DistNetworkError
            time.sleep(0.1)
    raise TimeoutError("the first process did not come")
