"""A process that has imported everything, from which commands are forked; and the helpers that lie beside the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from warm import Warm


@pytest.fixture(scope="session")
def warm():
    """Shared by all tests of faults: starting it costs more than most of them."""
    with Warm() as process:
        yield process
