"""One tuning at a time writes a result."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pytest

from deploykit import files
from deploykit.errors import InputError
from deploykit.tuner.claim import claimed

pytestmark = pytest.mark.skipif(not files.LOCKS, reason="this system has no locks")

HOLDS = """
import sys
from pathlib import Path
from deploykit.tuner.claim import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path_factory, monkeypatch):
    """Where temporary files are, for other processes too."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_two_in_one_process_and_then_the_next(tmp_path, place):
    out = tmp_path / "out.onnx"
    with claimed(out):
        with pytest.raises(InputError, match=r"another process tunes for .*out.onnx at this moment"), claimed(out):
            pass
        with claimed(tmp_path / "other.onnx"):
            pass
    with claimed(out):
        pass
    assert list(tmp_path.iterdir()) == list(place.iterdir()) == []


def test_another_process_has_it_until_it_dies(tmp_path):
    out = tmp_path / "out.onnx"
    other = subprocess.Popen([sys.executable, "-c", HOLDS, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InputError), claimed(out):
        pass
    other.kill()
    other.communicate()
    with claimed(out):
        pass


def test_without_a_place_for_the_lock_it_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with claimed(tmp_path / "out.onnx"), claimed(tmp_path / "out.onnx"):
        pass
