"""How many connections fit into the descriptors that this process may have open at a time."""

from __future__ import annotations

import contextlib
import os

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
