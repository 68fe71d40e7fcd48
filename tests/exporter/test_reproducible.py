"""The same checkpoint, versions and options give the same bytes, in another process, another folder, with another hash seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).parents[2] / "benchmarks" / "reproducible.py"


@pytest.mark.slow
def test_two_exports_are_the_same_to_the_byte():
    done = subprocess.run([sys.executable, COMMAND, "resnet18"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1" in done.stdout


def test_a_checkpoint_exported_from_two_folders_is_the_same_to_the_byte(run_command, trained, exported, tmp_path):
    done = run_command("export", trained / "model.safetensors", "--out", "other.onnx", cwd=tmp_path, env={"PYTHONHASHSEED": "4711"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "other.onnx").read_bytes() == exported.read_bytes()
