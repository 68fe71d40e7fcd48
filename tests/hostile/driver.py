"""Runs many cases in forked processes that may die, and counts how they ended.

A worker says which case it begins before it begins it, so that a crash, a hang or a flood of memory has a name. What a file
must never bring about is watched by an audit hook: network, other programs, writes outside the case's own folder.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cases
import seeds as good

from deploykit import cli
from deploykit.runtime import isolation

HANG = 30.0  # seconds
MEMORY = 2 << 30  # bytes
STATUSES = (0, 1, 2, 3)
# A hang in a child is found by the clock; while fuzzing it is given less of it.
PATIENCE = 3.0


@dataclass
class Figures:
    """How many cases ended in which way; `findings` are those that ended in none that is allowed."""

    outcomes: Counter[tuple[str, int]] = field(default_factory=Counter)
    findings: list[tuple[int, str, str]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        """All of them."""
        return self.outcomes.total() + len(self.findings)


def run(numbers: Iterable[int], workers: int, progress: Callable[[int], None] = lambda _: None, onnx_share: float = 1.0) -> Figures:
    """Run the cases of these numbers, spread over `workers` processes at a time. `onnx_share`: a factor on the ONNX files."""
    cases.set_share("ONNX file", onnx_share)
    began = time.monotonic()
    found = Figures()
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        seeds = good.write_all(folder / "seeds")
        _warm_up(seeds, folder)
        parts = list(numbers)
        running = [_Worker(parts[index::workers], seeds, folder / str(index)) for index in range(workers)]
        try:
            while alive := [worker for worker in running if worker.pending]:
                ready, _, _ = select.select([worker.pipe for worker in alive], [], [], 1.0)
                for worker in alive:
                    if worker.pipe in ready:
                        worker.read(found)
                    worker.check(found)
                progress(found.cases)
        finally:
            for worker in running:
                worker.kill()
    found.seconds = time.monotonic() - began
    return found


def _warm_up(seeds: good.Seeds, folder: Path) -> None:
    """Import in the parent what the cases need, so that its children need not; nothing that starts threads."""
    import matplotlib.figure  # noqa: F401
    import onnxsim  # noqa: F401

    import deploykit.datasets.folder
    import deploykit.exporter
    import deploykit.profiler
    import deploykit.verdict
    import deploykit.views.predictions
    import deploykit.views.profile
    import deploykit.views.verdict  # noqa: F401

    for number in range(40):
        place = folder / f"warm{number}"
        place.mkdir()
        cases.make(number, seeds, place)


class _Worker:
    """One forked process at a time that works through `pending`; after a death the next one goes on behind the dead case."""

    def __init__(self, numbers: list[int], seeds: good.Seeds, folder: Path) -> None:
        self.pending, self.seeds, self.folder = numbers, seeds, folder
        self.buffer, self.current, self.since = b"", -1, time.monotonic()
        self.process = 0
        self._start()

    def _start(self) -> None:
        if not self.pending:
            return
        self.pipe, writing = os.pipe()
        self.buffer, self.current, self.since = b"", -1, time.monotonic()
        self.process = os.fork()
        if self.process == 0:
            os.close(self.pipe)
            status = 1
            try:
                _work(self.pending, self.seeds, self.folder, writing)
                status = 0
            finally:
                os._exit(status)
        os.close(writing)

    def read(self, found: Figures) -> None:
        """Take in what the process has said; an end that was not announced is a crash."""
        data = os.read(self.pipe, 1 << 16)
        self.buffer += data
        while len(self.buffer) >= 4 and len(self.buffer) >= 4 + (size := struct.unpack("<I", self.buffer[:4])[0]):
            message = pickle.loads(self.buffer[4 : 4 + size])
            self.buffer = self.buffer[4 + size :]
            self._take(message, found)
        if not data:
            status = self.end()
            if self.pending:
                how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
                self._drop(found, f"the process died: {how}")
                self._start()

    def _take(self, message: tuple[object, ...], found: Figures) -> None:
        self.since = time.monotonic()
        if message[0] == "begin":
            self.current = int(str(message[1]))
            return
        number, kind, status, seconds, complaint = message[1:]
        if complaint:
            found.findings.append((number, kind, complaint))  # type: ignore[arg-type]
        else:
            found.outcomes[kind, status] += 1  # type: ignore[index]
        found.slowest = max(found.slowest, (seconds, number))  # type: ignore[type-var]
        self.pending = self.pending[self.pending.index(number) + 1 :]  # type: ignore[arg-type]
        self.current = -1

    def check(self, found: Figures) -> None:
        """A case that takes too long is a hang."""
        if self.pending and time.monotonic() - self.since > HANG:
            self.kill()
            self._drop(found, f"a hang of more than {HANG:.0f} s")
            self._start()

    def _drop(self, found: Figures, complaint: str) -> None:
        number = self.current if self.current >= 0 else self.pending[0]
        found.findings.append((number, "?", complaint))
        self.pending = self.pending[self.pending.index(number) + 1 :]

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
            self.end()

    def end(self) -> int:
        """The exit status, negative for a signal."""
        if not self.process:
            return 0
        os.close(self.pipe)
        _, status = os.waitpid(self.process, 0)
        self.process = 0
        return os.waitstatus_to_exitcode(status)


def _work(numbers: list[int], seeds: good.Seeds, folder: Path, writing: int) -> None:
    """In the child: one case after the other."""
    _limit()
    isolation.SECONDS = PATIENCE
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)  # torch makes it when it is loaded, whatever it is loaded for
    noise = _redirect(folder.with_suffix(".noise"))
    events: list[str] = []
    _watch(folder, events)
    for number in numbers:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        tempfile.tempdir = str(folder)
        os.chdir(folder)
        case = cases.make(number, seeds, folder)
        _send(writing, ("begin", number))
        events.clear()
        before, began = _peak(), time.monotonic()
        status, error = _run(case.work)
        seconds = time.monotonic() - began
        complaint = _complaint(status, error, events, _peak() - before, os.fstat(noise).st_size)
        os.ftruncate(noise, 0)
        _send(writing, ("end", number, case.kind, status, seconds, complaint))


def _run(work: Callable[[], object]) -> tuple[int, str]:
    """As the command line would: exit status, and what is on stderr."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = cli._run(work)
    return status, error.getvalue()


def _complaint(status: int, error: str, events: list[str], memory: int, noise: int) -> str:
    lines = [line for line in error.splitlines() if line.strip()]
    if events:
        return f"it was seen to: {events[0]}"
    if status not in STATUSES:
        return f"exit status {status}: {error.strip()[:300]}"
    if len(lines) > 1 or (lines and not lines[0].startswith("error: ")) or "Traceback" in error:
        return f"{len(lines)} lines on stderr: {lines[0][:200]}"
    if memory > MEMORY:
        return f"{memory >> 20} MB of memory"
    if noise:
        return f"{noise} bytes of a library's chatter on stderr"
    return ""


def _limit() -> None:
    """No single case can take the machine down; what needs more than this is found out by its error."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _redirect(path: Path) -> int:
    """What native code prints lands in a file."""
    noise = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(noise, 2)
    return noise


def _watch(folder: Path, events: list[str]) -> None:
    inside = str(folder)
    # Profiling starts a fresh interpreter of our own; no file decides which.
    ours = {sys.executable}
    changing = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
    forbidden = (
        "socket.connect",
        "socket.bind",
        "socket.getaddrinfo",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "pty.",
    )

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes)) and isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                _outside(event, os.fsdecode(path))
        elif event in changing and isinstance(arguments[0], (str, bytes)):
            _outside(event, os.fsdecode(arguments[0]))
        elif event.startswith(forbidden) or (event == "subprocess.Popen" and arguments[0] not in ours):
            events.append(f"{event} {arguments!r:.100}")

    def _outside(event: str, path: str) -> None:
        if not os.path.abspath(path).startswith((inside, "/dev/null", "/proc/self")):
            events.append(f"{event} {path}")

    sys.addaudithook(hook)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _send(writing: int, message: tuple[object, ...]) -> None:
    data = pickle.dumps(message)
    os.write(writing, struct.pack("<I", len(data)) + data)


def lines(figures: Figures) -> Iterator[str]:
    """The figures as a table, one kind per line."""
    kinds = sorted({kind for kind, _ in figures.outcomes})
    yield f"{'kind':34} {'cases':>8} " + " ".join(f"{'exit ' + str(status):>8}" for status in STATUSES)
    for kind in kinds:
        row = [figures.outcomes[kind, status] for status in STATUSES]
        yield f"{kind:34} {sum(row):8,} " + " ".join(f"{count:8,}" for count in row)
    row = [sum(figures.outcomes[kind, status] for kind in kinds) for status in STATUSES]
    yield f"{'all':34} {sum(row):8,} " + " ".join(f"{count:8,}" for count in row)
    yield (
        f"{figures.cases:,} cases in {figures.seconds:.0f} s, slowest {figures.slowest[0]:.1f} s (case {figures.slowest[1]}); "
        f"{len(figures.findings)} crashes, tracebacks, hangs or worse"
    )
    for number, kind, complaint in sorted(figures.findings):
        yield f"  case {number} ({kind}): {complaint}"
