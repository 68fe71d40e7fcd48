"""A plugin of pytest: writes to $MUTATION_OUTCOMES which tests ran, how long (s) and how they ended; tells coverage which one runs.

    {"tests/test_files.py::test_write": [0.02, "passed"], ...}

Code that processes of a test run belongs to the test as well: they read $MUTATION_TEST (see `_related_tests`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_found: dict[str, tuple[float, str]] = {}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Name the test that runs now, with the fixtures that it is the first to ask for."""
    os.environ["MUTATION_TEST"] = item.nodeid
    running = sys.modules["coverage"].Coverage.current() if "coverage" in sys.modules else None
    if running:
        running.switch_context(item.nodeid)
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up setup, call and teardown; a failure anywhere is a failure. Leave the outcomes so far: the run may be killed."""
    seconds, outcome = _found.get(report.nodeid, (0.0, "passed"))
    _found[report.nodeid] = (seconds + report.duration, report.outcome if outcome == "passed" else outcome)
    if report.when == "teardown":
        Path(os.environ["MUTATION_OUTCOMES"]).write_text(json.dumps(_found))
