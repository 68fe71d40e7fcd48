"""The child process of a timing: it runs one backend, and works only when it is told to.

Started by `deploykit.profiler.benchmark.process`. Commands come pickled on stdin, answers leave pickled on what was stdout;
the parent is the only one who speaks to it. Between commands the process sleeps in a read.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from deploykit import backends
from deploykit.backends import Engine
from deploykit.errors import DeploykitError, InputError
from deploykit.network.request import make_importable
from deploykit.profiler import subjects
from deploykit.profiler.benchmark import energy
from deploykit.profiler.subjects import Subject

MAX_BLOCK_NS = (
    400_000_000  # a block ends after that and MIN_RUNS runs, on a machine so busy that a run takes a hundred times longer
)
MIN_RUNS = 3
SETTLE_NS = 2_000_000  # of runs before each block that are not timed: caches fill, clocks rise, the other process stops spinning


def start(subject: Subject, device: str, threads: int | None) -> tuple[Engine, int | None]:
    """The engine that runs a subject, in this process, and the bytes of a network's parameters and buffers (`None` for a file).

    Raises what `resolve` and `backends.start` raise.
    """
    backend, options = subject.engine, subject.options
    threads = subject.threads or threads
    if (backends.source_of(backend) == "onnx") != subject.is_file:
        raise InputError(f"{subject.target} cannot run on {backend!r}", "onnxruntime takes .onnx files, the others take networks")
    if subject.is_file:
        return backends.start(backend, Path(subject.target), device=device, threads=threads, options=options), None
    make_importable(subject)
    network = subjects.network(subject)
    size = sum(tensor.nbytes for tensor in {id(t): t for t in network.module.state_dict(keep_vars=True).values()}.values())
    return backends.start(backend, network, device=device, threads=threads, options=options), size


class Worker:
    """Each public method is a command; its result is the answer. Subjects are numbered in the order of `open`."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []
        self.arrays: list[NDArray[Any]] = []
        self.own: list[list[NDArray[Any]]] = []  # by subject: those arrays, or its rows of them
        self.before = 0

    def prepare(self, backend: str, arrays: Sequence[NDArray[Any]]) -> None:
        """Load the backend's libraries; `arrays` are the inputs of every run."""
        backends.source_of(backend)
        self.arrays = list(arrays)
        self.before = resident_memory()

    def open(self, subject: Subject, device: str, threads: int | None) -> dict[str, Any]:
        """Start an engine and run it once. Tells what it runs on, its outputs, and the memory of a process with it alone."""
        others = resident_memory() - self.before
        forget_peak_memory()
        return {**self.start(subject, device, threads), "peak_memory": peak_memory() - others}

    def start(self, subject: Subject, device: str, threads: int | None) -> dict[str, Any]:
        """Start an engine and run it once. Tells what it runs on, its outputs, and how many ms both took together."""
        began = time.perf_counter_ns()
        engine, weights = start(subject, device, threads)
        self.engines.append(engine)
        self.own.append([array[: subject.rows] for array in self.arrays])
        outputs = engine.run(self.own[-1])
        return {
            "device": engine.device,
            "threads": engine.threads,
            "settings": engine.settings,
            "outputs": outputs,
            "weights": weights,
            "cold_start": (time.perf_counter_ns() - began) / 1e6,
        }

    def energy(self, index: int, seconds: float) -> float | None:
        """Joules per run of one subject that runs for so many seconds, at least `MIN_RUNS` times; `None` without a meter."""
        engine, arrays, runs = self.engines[index], self.own[index], 0
        since = energy.meter(engine.device)
        if since is None:
            return None
        engine.run(arrays)
        since()
        until = time.monotonic() + seconds
        while runs < MIN_RUNS or time.monotonic() < until:
            engine.run(arrays)
            runs += 1
        return since() / runs

    def time(self, index: int, runs: int) -> list[int]:
        """Nanoseconds of each of `runs` runs of one subject, host to host, after a few that are not timed.

        Fewer, but at least `MIN_RUNS`, where they take longer than `MAX_BLOCK_NS` together.
        """
        run, arrays, clock = self.engines[index].run, self.own[index], time.perf_counter_ns
        found: list[int] = []
        collecting = gc.isenabled()
        gc.disable()
        try:
            until = clock() + SETTLE_NS
            run(arrays)
            while clock() < until:
                run(arrays)
            until = clock() + MAX_BLOCK_NS
            while len(found) < runs and (len(found) < MIN_RUNS or clock() < until):
                began = clock()
                run(arrays)
                found.append(clock() - began)
        finally:
            if collecting:
                gc.enable()
        return found


def peak_memory() -> int:
    """The most memory this process held since `forget_peak_memory`, in bytes.

    From /proc where there is one: `getrusage` would count the parent's memory at the time of the fork, and cannot forget.
    """
    found = _status("VmHWM")
    if found is not None:
        return found
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident_memory() -> int:
    """The memory this process holds now, in bytes; 0 where the system does not tell."""
    return _status("VmRSS") or 0


def forget_peak_memory() -> None:
    """Start `peak_memory` anew (see proc_pid_clear_refs(5)); without effect where the system cannot."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
    except (OSError, StopIteration):
        return None


def serve(commands: IO[bytes], answers: IO[bytes]) -> None:
    """Answer commands until the parent closes its end."""
    worker = Worker()
    while True:
        try:
            name, arguments = pickle.load(commands)  # noqa: S301  # from the parent process, over its own pipe
        except EOFError:
            return
        try:
            answer: tuple[str, Any] = ("done", getattr(worker, name)(*arguments))
        except DeploykitError as error:
            answer = ("failed", error)
        except (Exception, SystemExit) as error:
            answer = ("failed", InputError(f"{type(error).__name__} while timing: {error}"))
        pickle.dump(answer, answers)
        answers.flush()


def main() -> None:
    """Keep the pipe for answers to ourselves: whatever a library prints goes to stderr. Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for category in (UserWarning, FutureWarning):  # what torch remarks is nothing that the user could act on here
        warnings.filterwarnings("ignore", category=category, module=r"torch\.")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, answers)
    except BrokenPipeError:  # the parent was interrupted and has gone: there is nobody to tell
        os._exit(0)
