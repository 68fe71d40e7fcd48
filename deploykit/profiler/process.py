"""The parent's end of a worker: a process that is started, spoken to and always ended."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from deploykit.errors import DeploykitError, InputError
from deploykit.profiler.worker import Subject

COMMAND = "from deploykit.profiler.worker import main; main()"


class TimedProcess:
    """One subject in a process of its own, ready to run. Use it as a context manager.

    A fresh interpreter rather than a fork: a forked process would share torch's threads, and `multiprocessing` would run the
    caller's script again. `wait_until_ready` raises what starting the engine raises.
    """

    def __init__(self, subject: Subject, device: str, threads: int | None, arrays: Sequence[NDArray[Any]]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-c", COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.backend, self.label = subject.engine, subject.title
        self.device, self.threads, self.settings = device, threads or 0, dict[str, str]()
        self._send("open", subject, device, threads, list(arrays))

    def wait_until_ready(self) -> None:
        """Wait for the engine. Apart from the constructor, so that several processes can start side by side."""
        about = self._receive()
        self.device, self.threads, self.settings = about["device"], about["threads"], about["settings"]

    def outputs(self) -> list[NDArray[Any]]:
        """The outputs of one run."""
        found: list[NDArray[Any]] = self._ask("outputs")
        return found

    def time(self, runs: int) -> list[float]:
        """The times of `runs` runs in ms."""
        return [nanoseconds / 1e6 for nanoseconds in self._ask("time", runs)]

    def peak_memory(self) -> int:
        """The most memory the process ever held, in bytes."""
        found: int = self._ask("memory")
        return found

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

    def _ask(self, name: str, *arguments: Any) -> Any:
        self._send(name, *arguments)
        return self._receive()

    def _send(self, name: str, *arguments: Any) -> None:
        if self._process.stdin is None:
            raise InputError("the process has no pipe")
        try:
            pickle.dump((name, arguments), self._process.stdin)
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def _receive(self) -> Any:
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

    def _died(self) -> InputError:
        return InputError(f"the process that runs {self.label} died ({self._last_words()})", "is there enough memory?")

    def _last_words(self) -> str:
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it does not answer"
        return f"signal {-status}" if status < 0 else f"exit status {status}"
