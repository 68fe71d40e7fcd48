"""Runs tests of a copy of the repository, with one line changed or none, in processes that are all ended afterwards (Linux)."""

from __future__ import annotations

import compileall
import json
import os
import py_compile
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
STARTUP = 60.0  # seconds that importing torch may take on a busy machine, beside the tests themselves
GIVEN_UP = 3  # so many tests may fail without the change, too, before a mutant is given up


class Stopped(Exception):
    """The command is being stopped, and what a run of tests gave since then says nothing about a mutant."""


@dataclass(frozen=True)
class Run:
    """One call of pytest: `status` as it exits, `None` where it was ended after its time; test -> (seconds, outcome)."""

    status: int | None
    outcomes: Mapping[str, tuple[float, str]]
    output: str

    @property
    def failed(self) -> str | None:
        """The first test that failed."""
        return next((test for test, (_, outcome) in self.outcomes.items() if outcome == "failed"), None)


@dataclass(frozen=True)
class Outcome:
    """noticed (`by` a test, "timeout", "import" or "crash"), survived, untouched (no test runs it), or broken (pytest cannot)."""

    outcome: str
    by: str = ""
    ran: int = 0


def copy_tracked(root: Path, folder: Path) -> Path:
    """The files that git tracks, as they lie in the working tree, and their bytecode -> the folder.

    The bytecode is checked by content: by time and size, Python would take the bytecode of an earlier mutant for that of the next.
    """
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    checked = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(folder / "deploykit", quiet=2, invalidation_mode=checked)
    return folder


def run_tests(
    folder: Path, tests: Sequence[str], limit: float, environment: Mapping[str, str] | None = None, flags: Sequence[str] = ("-x",)
) -> Run:
    """Run tests in the copy `folder`, for at most `limit` seconds; nothing that they started or put aside stays.

    Raises `Stopped` where `end_all` ended them: they did not fail by themselves.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "_outcomes", *flags, "--", *tests]
    with tempfile.TemporaryDirectory(prefix="mutation-") as scratch, _marked() as mark:
        outcomes = Path(scratch) / "outcomes.json"
        (Path(scratch) / "tmp").mkdir()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "MUTATION_"))}
        own = {
            "MUTATION_RUN": mark, "MUTATION_OUTCOMES": str(outcomes), "TMPDIR": f"{scratch}/tmp", "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(folder), str(HERE)]),
        }  # fmt: skip
        with (Path(scratch) / "output").open("w+", errors="replace") as output:
            process = subprocess.Popen(
                command, cwd=folder, env=inherited | own | dict(environment or {}), stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                status: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                end(mark)
                process.wait()
            if mark in _stopped:
                raise Stopped
            output.seek(0)
            return Run(status, json.loads(outcomes.read_text()) if outcomes.exists() else {}, output.read()[-4000:])


class Workplace:
    """A copy whose files are changed one at a time, beside one that stays as it is.

    `unchanged` -> the test fails there too: by test, shared by all workplaces of a run.
    """

    def __init__(self, folder: Path, pristine: Path, unchanged: dict[str, bool]) -> None:
        self.folder, self.pristine, self.unchanged = folder, pristine, unchanged

    def judge(self, file: str, text: str, tests: Mapping[str, float]) -> Outcome:
        """Put `text` into the file, run the tests (test -> seconds that it takes) in their order, put the old text back."""
        path = self.folder / file
        before = path.read_bytes()
        path.write_text(text)
        try:
            return self._judge(dict(tests))
        finally:
            path.write_bytes(before)

    def _judge(self, tests: dict[str, float]) -> Outcome:
        for _ in range(GIVEN_UP):
            if not tests:
                return Outcome("untouched")
            limit = STARTUP + 3 * sum(tests.values())
            found = run_tests(self.folder, list(tests), limit)
            if found.status == 0:
                return Outcome("survived", ran=len(tests))
            if found.status is None:
                alone = run_tests(self.pristine, list(tests), limit)
                return (
                    Outcome("broken", "too slow without the change, too")
                    if alone.status is None
                    else Outcome("noticed", "timeout", len(tests))
                )
            if found.failed is None:
                by = "crash" if found.status < 0 or found.status == 3 else "import"
                fine = run_tests(self.pristine, list(tests), 5 * STARTUP, flags=("--collect-only",)).status == 0
                return Outcome("noticed", by, len(tests)) if fine else Outcome("broken", found.output[-500:])
            if not self._fails_unchanged(found.failed, tests[found.failed]):
                return Outcome("noticed", found.failed, len(found.outcomes))
            del tests[found.failed]
        return Outcome("broken", "tests fail without the change, too")

    def _fails_unchanged(self, test: str, seconds: float) -> bool:
        """Whether the test alone fails on the unchanged package: then it notices nothing."""
        if test not in self.unchanged:
            self.unchanged[test] = run_tests(self.pristine, [test], STARTUP + 3 * seconds).status != 0
        return self.unchanged[test]


_running: set[str] = set()
_stopped: set[str] = set()  # the marks of the runs that `end_all` ended
_lock = threading.Lock()


@contextmanager
def _marked() -> Iterator[str]:
    """A word in the environment by which all processes of a run are known, whatever session they are in."""
    mark = uuid.uuid4().hex
    with _lock:
        _running.add(mark)
    try:
        yield mark
    finally:
        with _lock:
            _running.discard(mark)


def end(mark: str) -> None:
    """Kill every process that has the word in its environment; returns when there is none any more, or after ten seconds."""
    deadline = time.monotonic() + 10
    while _kill(mark) and time.monotonic() < deadline:
        time.sleep(0.02)


def _kill(mark: str) -> int:
    """How many were there still. What has ended has no environment, even before its parent asks how."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"MUTATION_RUN={mark}".encode() in path.read_bytes().split(b"\0"):
                found += 1
                os.kill(int(path.parent.name), signal.SIGKILL)
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def end_all() -> None:
    """Kill what all runs have started: the command is being stopped."""
    with _lock:
        marks = set(_running)
        _stopped.update(marks)
    for mark in marks:
        end(mark)
