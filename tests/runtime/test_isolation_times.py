"""How long a process worked, and how long its busiest thread worked or waited for a processor, as the kernel tells it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from deploykit.errors import ModelFileError
from deploykit.runtime import isolation

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nothing is forked elsewhere")


def test_seconds_are_read_from_the_right_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    folder = tmp_path / "proc" / "7"
    for thread, text in {"7": "3000000000 4000000000 9\n", "8": "1000000000 500000000 9\n", "9": "gone"}.items():
        (folder / "task" / thread).mkdir(parents=True)
        (folder / "task" / thread / "schedstat").write_text(text)
    fields = ["R", *map(str, range(101, 112)), str(2 * ticks), str(3 * ticks), "777777", "888888"]
    fields.remove("111")  # state is field 3, user and system time are fields 14 and 15
    (folder / "stat").write_text(f"7 (a (strange) name) {' '.join(fields)}\n")
    monkeypatch.setattr(isolation, "Path", lambda path: tmp_path / path.lstrip("/"))
    assert isolation._seconds_used(7) == (5.0, 7.0)
    for thread in "78":
        (folder / "task" / thread / "schedstat").unlink()
    assert isolation._seconds_used(7) == (5.0, 5.0), "without schedstat, as ready as it has worked"


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("Failed to allocate memory for requested buffer"), True),
        (RuntimeError("bad allocation"), True),
        (RuntimeError("not a model"), False),
    ],
)
def test_a_child_that_has_too_little_memory_says_so(error: BaseException, refused: bool) -> None:
    def work() -> bytes:
        raise error

    if not refused:
        assert isolation.isolated(work, "x.onnx", 1) is None
        return
    with pytest.raises(ModelFileError, match="x.onnx was refused: it asks for more than 2 GB of memory"):
        isolation.isolated(work, "x.onnx", 1)


def test_a_child_that_is_killed_says_by_what() -> None:
    with pytest.raises(ModelFileError, match=r"x.onnx was refused: .* crash on it \(SIGSEGV\)"):
        isolation.isolated(lambda: os.kill(os.getpid(), signal.SIGSEGV) or b"", "x.onnx", 1)
