"""A server in a process of its own, and callers that load it: for tests and for serving_faults.py."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


class Server:
    """`deploykit serve` on a free port of loopback. Use it in a `with`: it is ended with SIGTERM, or killed after a minute."""

    def __init__(self, files: Sequence[str | Path], *options: str, env: dict[str, str] | None = None, port: int = 0) -> None:
        command = [sys.executable, "-m", "deploykit", "serve", *map(str, files), "--port", str(port), "--device", "cpu", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = self.grpc_port = 0
        if not self._ready.wait(120):
            self.process.kill()
            raise RuntimeError("the server did not begin")
        for line in self.lines:
            found = re.search(r"listening on https?://\S+:(\d+)(?:, gRPC on port (\d+))?", line)
            if found:
                self.port, self.grpc_port = int(found[1]), int(found[2] or 0)

    def _read(self) -> None:
        for line in self.process.stderr or ():
            self.lines.append(line.rstrip("\n"))
            if "listening on" in line:
                self._ready.set()
        self._ready.set()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal, wait, give the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(10)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return status

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def memory(self) -> int:
        """Bytes of physical memory that the process has now."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@dataclass
class Load:
    """Callers that ask one after the other until `stop`. `lost`: requests that were sent and got no whole answer."""

    server: Server
    path: str
    body: bytes
    callers: int = 8
    keep: bool = True
    statuses: dict[int, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    turned_away: int = 0

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.callers)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)

    def wait_for(self, count: int, seconds: float = 60) -> None:
        """Until so many requests were answered."""
        end = time.monotonic() + seconds
        while sum(self.statuses.values()) < count and time.monotonic() < end:
            time.sleep(0.01)

    def _ask(self) -> None:
        connection: http.client.HTTPConnection | None = None
        used = 0
        while not self._stop.is_set():
            if connection is None:
                connection, used = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60), 0
                try:
                    connection.connect()
                except OSError:
                    # Nobody is at the door any more: the request was not accepted, and never sent.
                    self._turn_away()
                    connection.close()
                    return
            if not self._answered(connection, used) or not self.keep:
                connection.close()
                connection = None
            used += 1
        if connection is not None:
            connection.close()

    def _answered(self, connection: http.client.HTTPConnection, used: int) -> bool:
        """One request; whether the connection can be used for another one."""
        try:
            connection.request("POST", self.path, self.body)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            # An idle connection may be closed at any time, as every server does; a client sends such a request again.
            if used and isinstance(error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)):
                self._turn_away()
            else:
                with self._lock:
                    self.lost.append(repr(error))
            return False
        with self._lock:
            self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
        return response.getheader("connection") != "close"

    def _turn_away(self) -> None:
        with self._lock:
            self.turned_away += 1
