"""Run commands of deploykit in processes that are forked from one that has imported everything: milliseconds instead of seconds.

`Warm` starts that process and talks to it; as a script this file is that process. It imports but starts no thread, so what is
forked from it is as good as a fresh interpreter. Signals, limits and cores are set in the child, before the command begins.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Job:
    """One command line. `kill_after`: seconds until `signal` is sent. `memory`: bytes beyond what it has. `cores`: of this many."""

    args: tuple[str, ...]
    folder: str
    kill_after: float | None = None
    signal: int = signal.SIGKILL
    memory: int | None = None
    cores: int | None = None
    clock: float = 0.0  # seconds by which the clock jumps back at every look
    temporary: str | None = None


@dataclass(frozen=True)
class Finished:
    """How it ended: exit status (negative: a signal), what it printed, and after how many seconds."""

    status: int
    out: str
    error: str
    seconds: float
    orphans: bool = False  # whether processes that it started outlived it by more than a few seconds


class Warm:
    """The warm process. Use it as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, *jobs: Job) -> list[Finished]:
        """Run them side by side; gives how each ended, in order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([asdict(job) for job in jobs]) + "\n")
        self._process.stdin.flush()
        return [Finished(**answer) for answer in json.loads(self._process.stdout.readline())]

    def command(self, folder: Path, *args: object, **more: Any) -> Finished:
        """One command in `folder`."""
        return self.run(Job(tuple(map(str, args)), str(folder), **more))[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _warm_up() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    # scipy's OpenBLAS asks for memory for ever where there is none: it is loaded before memory is limited, and without threads.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import sklearn.datasets  # noqa: F401
    import torch
    from conftest import read_torchlib_once

    import deploykit.backends
    import deploykit.cli
    import deploykit.demonstration
    import deploykit.profiler
    import deploykit.training
    import deploykit.views.profile  # noqa: F401
    from deploykit import plugins

    for name in plugins.names("deploykit.cli"):
        plugins.load("deploykit.cli", name, "command")
    read_torchlib_once()
    torch.onnx.export(torch.nn.Linear(2, 2).eval(), (torch.zeros(1, 2),), dynamo=True, verbose=False)  # what that loads is much
    torch.optim.Adam([torch.zeros(1)])


def _start(job: dict[str, Any], place: str) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setpgid(0, 0)
        os.chdir(job["folder"])
        if job["temporary"]:
            tempfile.tempdir = os.environ["TMPDIR"] = job["temporary"]
        for stream, name in ((1, "out"), (2, "error")):
            os.dup2(os.open(f"{place}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _restrict(job)
        from deploykit import cli

        sys.argv = ["deploykit", *job["args"]]
        cli.cli.main(job["args"], prog_name="deploykit")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _restrict(job: dict[str, Any]) -> None:
    if job["cores"]:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["cores"]])
    if job["memory"]:
        held = next(
            int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:")
        )
        resource.setrlimit(resource.RLIMIT_DATA, (held + job["memory"], resource.RLIM_INFINITY))
    if job["clock"]:
        begin, real = time.time(), time.time
        looks = iter(range(10**9))
        time.time = lambda: begin + (real() - begin) - job["clock"] * next(looks)


def _serve() -> None:
    """Answer requests until the parent closes its end; its own stdout is for answers only."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _warm_up()
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            jobs = json.loads(line)
            places = [f"{folder}/{index}" for index in range(len(jobs))]
            began = time.monotonic()
            children = [_start(job, place) for job, place in zip(jobs, places, strict=True)]
            answers.write(json.dumps(_wait(jobs, children, places, began)) + "\n")
            answers.flush()


def _wait(jobs: Sequence[dict[str, Any]], children: list[int], places: list[str], began: float) -> list[dict[str, Any]]:
    found: dict[int, tuple[int, float]] = {}
    sent: set[int] = set()
    while len(found) < len(children):
        now = time.monotonic() - began
        for job, child in zip(jobs, children, strict=True):
            if child in found:
                continue
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                found[child] = (os.waitstatus_to_exitcode(status), now)
            elif job["kill_after"] is not None and now >= job["kill_after"] and child not in sent:
                os.kill(child, job["signal"])
                sent.add(child)
        time.sleep(0.002)
    texts = [[Path(f"{place}.{name}").read_text(errors="replace") for name in ("out", "error")] for place in places]
    return [
        {"status": found[child][0], "out": out, "error": error, "seconds": found[child][1], "orphans": _outlived(child)}
        for child, (out, error) in zip(children, texts, strict=True)
    ]


def _outlived(group: int) -> bool:
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    return True


if __name__ == "__main__":
    _serve()
