"""`TimedProcess`: starts the child process that runs one backend, sends it commands, reads its answers, and always ends it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from deploykit.errors import DeploykitError, InputError
from deploykit.profiler.benchmark.worker import Worker
from deploykit.profiler.subjects import Subject

# -P (Python 3.11): `-c` alone would put the current folder at the head of sys.path, and a `random.py` there would be run.
COMMAND = ("-P", "-c", "from deploykit.profiler.benchmark.worker import main; main()")
_ROOT = Path(__file__).parents[3]  # the folder that `deploykit` was imported from


def import_path() -> list[str]:
    """The folders of `sys.path` from which the child imports, in their order, without the current folder.

    `python -m` and a notebook put that folder there, and so does a TARGET `module:callable`, for which the child looks there by
    itself. It stays only where the user named it in PYTHONPATH or where deploykit itself lies in it.
    """
    named = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry not in ("", os.curdir)]
    wanted = {os.path.realpath(entry) for entry in (*named, str(_ROOT))}
    here = os.path.realpath(os.curdir)
    return [entry for entry in sys.path if entry and (os.path.realpath(entry) != here or here in wanted)]


class TimedProcess:
    """A process for the subjects of one backend. Use it as a context manager.

    A fresh interpreter rather than a fork: a forked process would share torch's threads, and `multiprocessing` would run the
    caller's script again. Commands are sent and answered apart, so that several processes can start side by side.
    """

    def __init__(self, backend: str, arrays: Sequence[NDArray[Any]]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(import_path())}
        self.backend = backend
        self._opened = 0
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, *COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.send("prepare", backend, list(arrays))
        self._prepared = False

    def open(self, subject: Subject, device: str, threads: int | None) -> Timed:
        """Start one more subject in the process. Raises what starting and running it raises."""
        if not self._prepared:
            self.receive()
            self._prepared = True
        self.send("open", subject, device, threads)
        about = self.receive()
        self._opened += 1
        return Timed(self, self._opened - 1, subject, about)

    def send(self, name: str, *arguments: Any) -> None:
        """Give a command; its answer is to be received."""
        if self._process.stdin is None:
            raise InputError("the process has no pipe")
        try:
            pickle.dump((name, arguments), self._process.stdin)
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def receive(self) -> Any:
        """The next answer. Raises the error that the other side ran into, and `InputError` if it died."""
        if self._process.stdout is None:
            raise InputError("the process has no pipe")
        try:
            outcome, answer = pickle.load(self._process.stdout)  # noqa: S301  # from our own child, over its own pipe
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._died() from error
        if outcome == "failed":
            problem: DeploykitError = answer
            raise problem
        return answer

    def close(self) -> None:
        """End the process; it has nothing to save."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _died(self) -> InputError:
        try:
            status = self._process.wait(timeout=5)
            words = f"signal {-status}" if status < 0 else f"exit status {status}"
        except subprocess.TimeoutExpired:
            words = "it does not answer"
        return InputError(f"the process that runs {self.backend} died ({words})", "is there enough memory?")


class ThisProcess:
    """The same for networks that the caller has in memory: they run in this process, whose memory nobody can tell apart."""

    def __init__(self, backend: str, arrays: Sequence[NDArray[Any]]) -> None:
        self._worker = Worker()
        self._worker.prepare(backend, arrays)
        self._answer: Any = None

    def open(self, subject: Subject, device: str, threads: int | None) -> Timed:
        """Start one more subject. Raises what starting and running it raises."""
        about = self._worker.start(subject, device, threads)
        return Timed(self, len(self._worker.engines) - 1, subject, {**about, "peak_memory": None})

    def send(self, name: str, *arguments: Any) -> None:
        """Carry out a command; its answer is to be received."""
        self._answer = getattr(self._worker, name)(*arguments)

    def receive(self) -> Any:
        """The answer to the last command."""
        return self._answer

    def close(self) -> None:
        """Put back what the engines set for the whole process."""
        for engine in reversed(self._worker.engines):
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Timed:
    """One subject in its process, ready to run. `outputs`: of its first run; `peak_memory`: of a process with it alone, bytes.

    `cold_start`: ms from nothing but loaded libraries to the end of that run. `weights`: bytes, of a network.
    """

    def __init__(self, process: TimedProcess | ThisProcess, index: int, subject: Subject, about: dict[str, Any]) -> None:
        self.process, self._index, self.subject = process, index, subject
        self.backend, self.label = subject.engine, subject.title
        self.device: str = about["device"]
        self.threads: int = about["threads"]
        self.settings: dict[str, str] = about["settings"]
        self.outputs: list[NDArray[Any]] = about["outputs"]
        self.peak_memory: int | None = about["peak_memory"]
        self.cold_start: float = about["cold_start"]
        self.weights: int | None = about["weights"]

    def time(self, runs: int) -> list[float]:
        """The times of `runs` runs in ms."""
        self.process.send("time", self._index, runs)
        return [nanoseconds / 1e6 for nanoseconds in self.process.receive()]

    def energy(self, seconds: float) -> float | None:
        """Joules per run while it runs for so many seconds; `None` where the machine does not count them."""
        self.process.send("energy", self._index, seconds)
        found: float | None = self.process.receive()
        return found
