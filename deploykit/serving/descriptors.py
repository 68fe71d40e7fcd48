"""What the system says of descriptors: how many this process may have open at a time, and whether somebody is at the other end."""

from __future__ import annotations

import contextlib
import os
import select
from typing import Any

RESERVED = 64  # descriptors for models that are loaded, for the event loop, for what stands on disk
FEWEST = 16


def raise_limit(connections: int) -> None:
    """Let the process have descriptors for so many connections, twice (gRPC has its own), as far as the system lets it."""
    if os.name != "posix":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + RESERVED
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def room_for(connections: int) -> int:
    """So many, or fewer where the process may not have descriptors for them and for itself."""
    if os.name != "posix":
        return connections
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == resource.RLIM_INFINITY else max(FEWEST, min(connections, soft - RESERVED))


def has_hung_up(sock: Any) -> bool:
    """Whether the other end of a connection sends nothing more, asked without reading; `False` where the system cannot tell.

    `sock`: anything with `fileno`. An application that closes only its own direction counts as gone, as it does for uvicorn.
    """
    if sock is None or not hasattr(select, "POLLRDHUP"):
        return False
    asking = select.poll()
    asking.register(sock.fileno(), select.POLLRDHUP)
    return bool(asking.poll(0))
