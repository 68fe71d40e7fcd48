"""Where the work on a request is done: in the event loop while it is little, else in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

LARGE = 128 << 10  # bytes from which on the event loop does not do the work itself


async def worked(size: int, work: Callable[..., T], *args: Any) -> T:
    """`work(*args)`, in a thread where `size` bytes of it would hold up every other request."""
    return work(*args) if size < LARGE else await asyncio.to_thread(work, *args)
