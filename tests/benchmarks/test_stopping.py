"""A mutation test that is stopped keeps no outcome of the tests that it stopped."""

from __future__ import annotations

import sys
import threading
import time

import _trials
import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")


def test_what_was_stopped_is_no_outcome(tmp_path):
    """They would count as crashed or too slow, and so as noticed."""
    (tmp_path / "test_slow.py").write_text(
        "import time\n\n\ndef test_slow():\n    open('begun', 'w').close()\n    time.sleep(60)\n"
    )

    def stop():
        until = time.monotonic() + 50
        while not (tmp_path / "begun").exists() and time.monotonic() < until:
            time.sleep(0.02)
        _trials.end_all()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(_trials.Stopped):
        _trials.run_tests(tmp_path, ["test_slow.py"], 60)
    thread.join()
    (tmp_path / "test_slow.py").write_text("def test_quick():\n    pass\n")
    assert _trials.run_tests(tmp_path, ["test_slow.py"], 60).status == 0, "and another one can be run afterwards"
