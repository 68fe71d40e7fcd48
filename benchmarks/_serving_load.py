"""The client of serving.py, in a process of its own: one JSON document in on stdin, one JSON document with what was seen out.

Closed loop: `concurrency` connections that ask again as soon as they are answered. Open loop: requests arrive as a Poisson process
of `rate` per second whatever the server does; each one's latency counts from the moment at which it was meant to begin, so a
server that stalls is charged for all that should have been sent meanwhile (no coordinated omission). An arrival takes an idle
connection of the `most` that were opened before the first one; where all are in use it waits in the client, and that wait counts too.

Plain sockets and epoll, no HTTP library: the client runs on the cores of the server and must leave them to it. Only Python's own
library is imported.
"""

from __future__ import annotations

import base64
import json
import random
import re
import resource
import select
import socket
import sys
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

LEAD = 0.3  # seconds of a closed loop that do not count: every connection has had its first answer
GRACE = 2.0  # seconds after the last arrival in which answers are still taken in
SETTLE = 0.2  # seconds in which the server accepts the connections of an open loop
LONGEST_WAIT = 0.05  # seconds between two looks at the clock
MOST_KNOWN = 256  # responses whose meaning is remembered: a server under one load says few different things
LARGEST_KNOWN = 2048  # bytes of such a response

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)


@dataclass
class Seen:
    """What came back. Times in seconds; `within`: 200 that came before the end of the window, which is what goodput counts.

    `good` and `refused`: when each was meant to begin, and when its answer was there. `before`: 200 that came before the window began.
    """

    good: list[tuple[float, float]] = field(default_factory=list)
    refused: list[tuple[float, float]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    within: int = 0
    before: int = 0
    broken: int = 0
    unanswered: int = 0

    def add(self, status: int, intended: float, done: float, end: float) -> None:
        """One answer: `intended` and `done` are moments of one clock, `end` the end of the window on it."""
        self.statuses[status] += 1
        (self.good if status == 200 else self.refused).append((intended, done))
        self.within += status == 200 and done <= end

    def document(self, seconds: float) -> dict[str, Any]:
        """As JSON: goodput per second, latencies in milliseconds.

        `p99_behind`: how many were answered with 200 while one that was answered waited, of 99 of 100; `refusal_p99_behind`: while one
        that was refused did. A host whose speed changes under the load changes milliseconds, and not who is behind whom.
        """
        good, refused = _latencies(self.good), _latencies(self.refused)
        given = sorted(done for _, done in self.good)
        return {
            "goodput": self.within / seconds,
            "answered": len(self.good),
            "all_good": len(self.good) + self.before,
            "refused": len(self.refused),
            "unanswered": self.unanswered,
            "broken": self.broken,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "median_ms": _ms(percentile(good, 0.5)),
            "p99_ms": _ms(percentile(good, 0.99)),
            "p99_behind": percentile(_behind(self.good, given, itself=True), 0.99),
            "refusal_median_ms": _ms(percentile(refused, 0.5)),
            "refusal_p99_ms": _ms(percentile(refused, 0.99)),
            "refusal_p99_behind": percentile(_behind(self.refused, given), 0.99),
            "client_late_p99_ms": _ms(percentile(self.late, 0.99)),
        }


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of them do not exceed (nearest rank); `None` of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    rank = -(-share * len(ordered) // 1)  # ceiling
    return ordered[min(len(ordered), max(1, int(rank))) - 1]


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments of a Poisson process of `rate` per second, from 0 to `seconds`."""
    draw, found, now = random.Random(seed), [], 0.0
    while (now := now + draw.expovariate(rate)) < seconds:
        found.append(now)
    return found


def status_of(data: bytes) -> int | None:
    """The status of a response that is whole; `None` while some of it is missing. Raises `ValueError` for what is no HTTP."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end]
    if not head.startswith(b"HTTP/1."):
        raise ValueError(f"no HTTP: {head[:40]!r}")
    length = _LENGTH.search(head)
    if length is not None:
        whole = len(data) >= end + 4 + int(length[1])
    elif _CHUNKED.search(head):
        whole = data.endswith(b"\r\n0\r\n\r\n") or data[end + 4 :] == b"0\r\n\r\n"
    else:
        whole = True
    return int(head[9:12]) if whole else None


class Connection:
    """One connection to loopback. `intended`: when the request on it was meant to begin."""

    known: ClassVar[dict[bytes, tuple[int, bool]]] = {}  # whole response -> its status, and whether the server closes after it

    def __init__(self, port: int, poll: select.epoll) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.settimeout(None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = self.sock.fileno()
        self.intended = 0.0
        self.data = b""
        self.closes = False
        self._poll = poll
        poll.register(self.number, select.EPOLLIN)

    def ask(self, request: bytes, intended: float) -> None:
        """Send a request."""
        self.intended, self.data = intended, b""
        self.sock.sendall(request)

    def read(self) -> int | None:
        """Take in what is there; the status once the response is whole. Raises `OSError` where the server has closed."""
        part = self.sock.recv(1 << 16)
        if not part:
            raise ConnectionResetError
        data = self.data = self.data + part if self.data else part
        if (known := self.known.get(data)) is not None:
            status, self.closes = known
            return status
        if (found := status_of(data)) is not None:
            self.closes = _CLOSE.search(data) is not None
            if len(data) <= LARGEST_KNOWN and len(self.known) < MOST_KNOWN:
                self.known[data] = found, self.closes
        return found

    def close(self) -> None:
        """Twice is an error."""
        self._poll.unregister(self.number)
        self.sock.close()


def closed(port: int, request: bytes, concurrency: int, seconds: float) -> Seen:
    """`concurrency` callers, each of which asks again at once; answers of `seconds` after `LEAD` count."""
    seen, poll, clock = Seen(), select.epoll(), time.perf_counter
    callers: dict[int, Connection] = {}

    def begin() -> None:
        caller = Connection(port, poll)
        callers[caller.number] = caller
        caller.ask(request, clock())

    start = clock() + LEAD
    end = start + seconds
    for _ in range(concurrency):
        begin()
    while (now := clock()) < end:
        for number, _ in poll.poll(min(LONGEST_WAIT, end - now)):
            caller = callers[number]
            try:
                status = caller.read()
            except (OSError, ValueError):
                seen.broken += 1
                callers.pop(number).close()
                begin()
                continue
            if status is None:
                continue
            done = clock()
            if start <= done < end:
                seen.add(status, caller.intended, done, end)
            else:
                seen.before += status == 200
            if caller.closes:
                callers.pop(number).close()
                begin()
            else:
                caller.ask(request, done)
    for caller in callers.values():
        caller.close()
    return seen


class OpenLoop:
    """Poisson arrivals of `rate` per second for `seconds`, over at most `most` connections."""

    def __init__(self, port: int, request: bytes, rate: float, seconds: float, seed: int, most: int) -> None:
        self.seen = Seen()
        self._port, self._request, self._end, self._most = port, request, seconds, most
        self._due = arrivals(rate, seconds, seed)
        self._poll = select.epoll()
        self._used: dict[int, Connection] = {}
        self._idle: dict[int, Connection] = {}
        self._waiting: deque[float] = deque()
        self._start = 0.0

    def run(self) -> Seen:
        """Until all is answered, or until `GRACE` after the window."""
        at, due = 0, self._due
        for _ in range(self._most):
            caller = Connection(self._port, self._poll)
            self._idle[caller.number] = caller
        time.sleep(SETTLE)
        self._start = time.perf_counter() + 0.02
        while (now := self._now()) <= self._end + GRACE:
            while at < len(due) and due[at] <= now:
                self._arrive(due[at], now)
                at, now = at + 1, self._now()
            if at == len(due) and not self._used and not self._waiting:
                break
            ready = self._poll.poll(0)
            if not ready:
                wait = min(LONGEST_WAIT, due[at] - now) if at < len(due) else LONGEST_WAIT
                # epoll's own timeout has whole milliseconds; that of select, on epoll's descriptor, has microseconds.
                if select.select([self._poll], [], [], max(0.0, wait))[0]:
                    ready = self._poll.poll(0)
            for number, _ in ready:
                self._take(number)
        self.seen.unanswered = len(self._used) + len(self._waiting)
        for caller in [*self._used.values(), *self._idle.values()]:
            caller.close()
        return self.seen

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _arrive(self, intended: float, now: float) -> None:
        self.seen.late.append(now - intended)
        if len(self._used) < self._most:
            self._ask(intended)
        else:
            self._waiting.append(intended)

    def _ask(self, intended: float) -> None:
        while True:
            caller = self._idle.popitem()[1] if self._idle else Connection(self._port, self._poll)
            try:
                caller.ask(self._request, intended)
            except OSError:  # closed while it was idle
                self.seen.broken += 1
                caller.close()
                continue
            self._used[caller.number] = caller
            return

    def _take(self, number: int) -> None:
        if number in self._idle:  # the server closes it
            self._idle.pop(number).close()
            return
        caller = self._used[number]
        try:
            status = caller.read()
        except (OSError, ValueError):
            self.seen.broken += 1
            del self._used[number]
            caller.close()
            return
        if status is None:
            return
        self.seen.add(status, caller.intended, self._now(), self._end)
        del self._used[number]
        if caller.closes:
            caller.close()
        else:
            self._idle[number] = caller
        if self._waiting:
            self._ask(self._waiting.popleft())


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """One load: `rate` for an open loop, else `concurrency`. `cpu`: cores' worth of time that this client took."""
    request = base64.b64decode(asked["request"])
    began, before = time.perf_counter(), time.process_time()
    if asked.get("rate"):
        seen = OpenLoop(asked["port"], request, asked["rate"], asked["seconds"], asked["seed"], asked["most"]).run()
    else:
        seen = closed(asked["port"], request, asked["concurrency"], asked["seconds"])
    cpu = (time.process_time() - before) / (time.perf_counter() - began)
    return {**seen.document(asked["seconds"]), "client_cpu": cpu}


def _latencies(spans: Iterable[tuple[float, float]]) -> list[float]:
    return [done - intended for intended, done in spans]


def _behind(spans: Iterable[tuple[float, float]], given: Sequence[float], itself: bool = False) -> list[float]:
    """For each span the number of answers, of those `given` at these sorted moments, that lie in it; `itself`: not its own."""
    return [bisect_right(given, done) - bisect_right(given, intended) - itself for intended, done in spans]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


if __name__ == "__main__":
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    json.dump(measure(json.load(sys.stdin)), sys.stdout)
