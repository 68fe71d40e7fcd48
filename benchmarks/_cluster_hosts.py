"""Hosts in this machine: network namespaces with an address each, on one switch, and Ray started in them as on any machine.

Needs root and iproute2. What is ended at the end are the processes that were started here, by their groups.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NETWORK = "10.213.19"
PORT = 6379
SWITCH = "dk-switch"


def unavailable() -> str:
    """Why there can be no hosts here; "" where there can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "needs root and iproute2"
    made = subprocess.run(["ip", "netns", "add", SWITCH], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", SWITCH], capture_output=True)
    return made.stderr.strip()


class Hosts:
    """`count` hosts with a CPU each; the first is the head, and where drivers run. Gone at the end of the block."""

    def __init__(self, count: int) -> None:
        self.names = [f"dk-host{number}" for number in range(1, count + 1)]
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Hosts:
        _ip("netns", "add", SWITCH)
        _ip("-n", SWITCH, "link", "add", "br0", "type", "bridge")
        _ip("-n", SWITCH, "link", "set", "br0", "up")
        for number, name in enumerate(self.names, 1):
            _ip("netns", "add", name)
            _ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"port{number}", "netns", SWITCH)
            _ip("-n", SWITCH, "link", "set", f"port{number}", "master", "br0", "up")
            _ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", name, "link", "set", device, "up")
        for number, name in enumerate(self.names, 1):
            where = ["--head", f"--port={PORT}", "--include-dashboard=false"] if number == 1 else [f"--address={NETWORK}.1:{PORT}"]
            plain = ["--num-cpus=1", "--object-store-memory=104857600", "--block", f"--node-ip-address={NETWORK}.{number}"]
            self._started[name] = self._run(name, [str(Path(sys.executable).with_name("ray")), "start", *where, *plain])
            self._wait_for(number)
        return self

    def _run(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        return subprocess.Popen(["ip", "netns", "exec", name, *command], **quiet)

    def _wait_for(self, count: int) -> None:
        """Until so many hosts are in the cluster."""
        look = (
            f"import ray; ray.init('{NETWORK}.1:{PORT}', log_to_driver=False, logging_level='critical');"
            "print(sum(node['Alive'] for node in ray.nodes()))"
        )
        until = time.monotonic() + 120
        while time.monotonic() < until:
            done = subprocess.run(
                ["ip", "netns", "exec", self.names[0], sys.executable, "-W", "ignore", "-c", look], capture_output=True, text=True
            )
            if done.stdout.strip().endswith(str(count)):
                return
            time.sleep(1)
        raise RuntimeError(f"no cluster of {count} hosts: {done.stderr[-300:]}")

    def driver(self, script: str, given: list[Any], meanwhile: Callable[[subprocess.Popen[str]], None]) -> str:
        """Run a driver on the first host, and `meanwhile` something beside it; what it printed on stderr."""
        command = ["ip", "netns", "exec", self.names[0], sys.executable, "-W", "ignore", "-c", script, *map(str, given)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            meanwhile(process)
            return process.communicate(timeout=600)[1]

    def lose_one(self) -> None:
        """SIGKILL to all processes of the last host, and its cable is pulled."""
        name = self.names.pop()
        _ip("-n", name, "link", "set", "eth0", "down")
        self._end(name)

    def _end(self, name: str) -> None:
        process = self._started.pop(name)
        found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
        for pid in map(int, found):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        _ip("netns", "del", name)

    def __exit__(self, *_: object) -> None:
        for name in list(self._started):
            self._end(name)
        _ip("netns", "del", SWITCH)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
