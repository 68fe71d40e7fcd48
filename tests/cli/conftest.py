"""Commands on a real pseudo-terminal."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves helpers beside the tests unfound

from terminal import run_inside


@pytest.fixture
def on_terminal(workdir, monkeypatch):
    """`on_terminal(80, "list")` -> the exit status and what is on a terminal of 80 columns in the end."""
    return partial(run_inside, monkeypatch)
