"""How long requests took: a histogram for Prometheus, and the latest ones for the page."""

from __future__ import annotations

import bisect
import threading
from collections import deque

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
LATEST = 512


class Latencies:
    """Counts of requests by the seconds that they took, from the first byte read to the answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        self._latest: deque[float] = deque(maxlen=LATEST)

    def add(self, seconds: float) -> None:
        """Count one request."""
        with self._lock:
            self._counts[bisect.bisect_left(BOUNDS, seconds)] += 1
            self._sum += seconds
            self._latest.append(seconds)

    def histogram(self) -> tuple[list[int], float]:
        """Requests that took at most each of `BOUNDS` seconds, then all of them; and the sum of their seconds."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        found, running = [], 0
        for count in counts:
            running += count
            found.append(running)
        return found, total

    def quantile(self, share: float) -> float | None:
        """Seconds that this share of the latest 512 requests did not exceed; `None` before the first."""
        with self._lock:
            values = sorted(self._latest)
        return values[min(len(values) - 1, int(share * len(values)))] if values else None
