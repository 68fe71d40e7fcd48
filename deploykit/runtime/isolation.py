"""Work on a file from a stranger is done in a child process first, with a limit on time and memory.

onnx's checker and onnxruntime are C++: on some damaged files they abort, run in circles or ask for all the memory there is,
and take their process along. `isolated` does such work in a forked child, and what happens
to the child becomes one line. A fork costs milliseconds where a new interpreter would cost half a second. Where a system
cannot fork safely (Windows, macOS) the work is done in this process, unprotected.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from deploykit.errors import ModelFileError

MEMORY = 2 << 30  # bytes beyond what the process has and 16 times the file
SECONDS = 15.0  # of work or of sleep; the time in which a busy machine does not let the child run is not counted
MOST_WAITING = 40  # times as long, whatever the child did
BYTES_PER_SECOND = 10 << 20  # a large file gets so much more time

_DONE, _FAILED, _MEMORY = 0, 64, 65
_CAN_FORK = sys.platform.startswith("linux")


def isolated(work: Callable[[], bytes], name: str, size: int, meanwhile: Callable[[], object] | None = None) -> bytes | None:
    """What `work` gives, done in a forked child; `None` where it raised an exception, which the caller will meet again.

    `name` is the file for messages, `size` its bytes; `meanwhile` is done here while the child works. Raises `ModelFileError`
    where the child crashed, took too much memory or did not end in time.
    """
    if not _CAN_FORK:
        return _attempt(work)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads: the child does not touch what they hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _be_the_child(work, reading, writing, MEMORY + 16 * size)
    os.close(writing)
    try:
        if meanwhile is not None:
            meanwhile()
        answer, in_time = _receive(reading, child, SECONDS + size / BYTES_PER_SECOND)
        if not in_time:
            os.kill(child, signal.SIGKILL)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(reading)
    _, status = os.waitpid(child, 0)
    if not in_time:
        raise ModelFileError(f"{name} was refused: what it asks for does not end", "do not trust this file")
    return _judge(os.waitstatus_to_exitcode(status), answer, name)


def rehearse(path: str | os.PathLike[str], meanwhile: Callable[[], object] | None = None) -> None:
    """Load an ONNX file into onnxruntime and run it once on zeros, in a child. For programs that take files from strangers.

    `meanwhile` is done here while the child works.

    Raises `ModelFileError` where the child died of it; a file that is refused in an orderly way is refused again by `Predictor`.
    """
    from deploykit.runtime.onnx_bytes import check_external_data, read_model

    data = read_model(path)
    size = len(data) + check_external_data(data, Path(path))
    folder = Path(path).resolve().parent

    def work() -> bytes:
        run_on_zeros(data, folder)
        return b""

    isolated(work, Path(path).name, size, meanwhile)


def run_on_zeros(data: bytes, folder: Path | None) -> None:
    """One run on zeros in which every open axis is 1, for the least work. Raises whatever onnxruntime raises."""
    import numpy as np

    from deploykit.runtime import open_axes
    from deploykit.runtime.session import SessionSettings, open_session, specs

    session = open_session(data, "the model", folder, SessionSettings("cpu", threads=1)).session
    inputs = specs(session.get_inputs())
    if all(spec.dtype is not None for spec in inputs):
        shapes = open_axes.sizes(open_axes.of_session(session.get_inputs()), otherwise=1)
        session.run(None, {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in inputs})


def _attempt(work: Callable[[], bytes]) -> bytes | None:
    try:
        return work()
    except Exception:
        return None


def _be_the_child(work: Callable[[], bytes], reading: int, writing: int, memory: int) -> NoReturn:
    """Do the work and leave, by no other way than `os._exit`: nothing of the parent's may be flushed or cleaned up twice."""
    status = _FAILED
    try:
        os.close(reading)
        _be_quiet()
        _limit_memory(memory)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's business: it ends this process
        _die_with_the_parent()
        view = memoryview(work())
        while view:
            view = view[os.write(writing, view) :]
        status = _DONE
    except MemoryError:
        status = _MEMORY
    except Exception as error:
        text = str(error).lower()
        status = _MEMORY if "bad_alloc" in text or "failed to allocate" in text or "bad allocation" in text else _FAILED
    finally:
        os._exit(status)


def _die_with_the_parent() -> None:
    """What runs in circles must not outlive a parent that was killed (see prctl(2), PR_SET_PDEATHSIG)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _be_quiet() -> None:
    import faulthandler

    faulthandler.disable()  # a crash here is an answer, no accident to report
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


def _limit_memory(more: int) -> None:
    """So many bytes of private memory beyond what this process has already (RLIMIT_DATA counts them since Linux 4.7)."""
    import resource

    held = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            held = 1024 * int(line.split()[1])
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = held + more
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _receive(reading: int, child: int, limit: float) -> tuple[bytes, bool]:
    """All that the child writes, and whether it came to its end in time."""
    import selectors

    parts: list[bytes] = []
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:  # select(2) takes no descriptor above 1,023, which a server has
        selector.register(reading, selectors.EVENT_READ)
        while True:
            left = _time_left(child, time.monotonic() - began, limit)
            if left <= 0:
                return b"", False
            if not selector.select(left):
                continue
            part = os.read(reading, 1 << 20)
            if not part:
                return b"".join(parts), True
            parts.append(part)


def _time_left(child: int, waited: float, limit: float) -> float:
    """Seconds after which to look at the child again, 0 if its time is over: it worked for `limit`, or did nothing for so long.

    A child that is ready and does not get the processor, because the machine is busy, does neither.
    """
    if waited < limit:
        return limit - waited
    worked, ready = _seconds_used(child)
    over = worked >= limit or waited - ready >= limit or waited >= MOST_WAITING * limit
    return 0.0 if over else limit / 8


def _seconds_used(child: int) -> tuple[float, float]:
    """The processor time of all threads, and how long the busiest thread ran or waited for a processor.

    From fields 14 and 15 of proc_pid_stat(5), and from schedstat, two numbers in nanoseconds (the kernel's
    Documentation/scheduler/sched-stats.rst); without that, waiting for a processor is taken for sleep.
    """
    folder = Path(f"/proc/{child}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    worked = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    ready = [worked]
    for file in folder.glob("task/*/schedstat"):
        with contextlib.suppress(OSError, ValueError):  # a thread that has just ended
            ran, queued, _ = map(int, file.read_text().split())
            ready.append((ran + queued) / 1e9)
    return worked, max(ready)


def _judge(status: int, answer: bytes, name: str) -> bytes | None:
    if status == _DONE:
        return answer
    if status == _MEMORY:
        raise ModelFileError(f"{name} was refused: it asks for more than {MEMORY >> 30} GB of memory", "do not trust this file")
    if status < 0:
        what = signal.Signals(-status).name
        raise ModelFileError(f"{name} was refused: the libraries that read it crash on it ({what})", "do not trust this file")
    return None
