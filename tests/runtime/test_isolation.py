"""Work in a forked child: what it gives, what becomes of it, in a process that has much open."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
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


def test_a_child_that_did_not_get_the_processor_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a busy machine: it has waited longer than it may work."""
    monkeypatch.setattr(isolation, "SECONDS", 1.0)

    def wait() -> bytes:
        time.sleep(1.3)
        return b"x"

    assert isolated(wait, "x.onnx", 1) == b"x"


def test_a_child_that_works_in_circles_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "SECONDS", 0.2)
    monkeypatch.setattr(isolation, "MOST_WAITING", 1000)

    def work() -> bytes:
        while True:
            pass

    with pytest.raises(ModelFileError, match="does not end"):
        isolated(work, "x.onnx", 1)
