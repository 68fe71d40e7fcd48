"""Work in a forked child: what it gives, what becomes of it, in a process that has much open."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator

import pytest

from deploykit.errors import ModelFileError
from deploykit.runtime import isolation
from deploykit.runtime.isolation import isolated

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nothing is forked elsewhere")


@contextlib.contextmanager
def many_open_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 100:
        pytest.skip("this process may not open as many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 100), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
    try:
        yield
    finally:
        for handle in opened:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def fail() -> bytes:
    raise ValueError("no")


def test_beyond_1024_open_files() -> None:
    """As a server has them."""
    with many_open_files(1100):
        assert isolated(lambda: b"x" * 3_000_000, "x.onnx", 1) == b"x" * 3_000_000
        assert isolated(fail, "x.onnx", 1) is None


def test_what_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "SECONDS", 0.2)
    with many_open_files(1100), pytest.raises(ModelFileError, match="does not end"):
        isolated(lambda: os.read(os.pipe()[0], 1), "x.onnx", 1)


def test_nothing_stays_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        isolated(lambda: b"x", "x.onnx", 1)
        isolated(fail, "x.onnx", 1)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("waited", "worked", "ready", "left"),
    [
        (3.0, 1.0, 3.0, 12.0),
        (15.0, 14.9, 15.0, True),  # it worked nearly all the time, and may end its work
        (15.0, 15.0, 15.0, False),
        (20.0, 2.0, 19.0, True),  # ready for 19 seconds, on a processor for two of them
        (20.0, 2.0, 5.0, False),  # asleep for 15
        (20.0, 15.0, 8.0, False),  # two threads
        (599.0, 2.0, 599.0, True),
        (600.0, 2.0, 600.0, False),
    ],
)
def test_the_time_in_which_a_busy_machine_does_not_let_the_child_run_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, waited: float, worked: float, ready: float, left: float
) -> None:
    monkeypatch.setattr(isolation, "_seconds_used", lambda child: (worked, ready))
    found = isolation._time_left(1, waited, 15.0)
    assert found == left if isinstance(left, float) else (found > 0) is left


def test_what_a_process_used_is_read_from_the_system() -> None:
    """As long as this process has run, it has worked and was ready to."""
    worked, ready = isolation._seconds_used(os.getpid())
    assert worked > 0
    assert ready > 0


def test_a_child_that_works_in_circles_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "SECONDS", 0.2)

    def work() -> bytes:
        while True:
            pass

    with pytest.raises(ModelFileError, match="does not end"):
        isolated(work, "x.onnx", 1)
