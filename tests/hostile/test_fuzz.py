"""Ten thousand bad files; `benchmarks/fuzz.py --cases 100000` makes more. It runs in a process of its own: it forks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.mark.slow
def test_ten_thousand_bad_files_end_in_an_exit_status():
    done = subprocess.run([sys.executable, FUZZ, "--cases", "10000", "--onnx", "0.5"], capture_output=True, text=True, timeout=800)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "10,000 cases" in done.stdout


def test_a_case_is_the_same_case_again():
    outputs = set()
    for _ in range(2):
        command = [sys.executable, FUZZ, "--first", "70", "--cases", "25", "--workers", "1", "--onnx", "0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        outputs.add(done.stdout.rpartition("25 cases")[0])
    assert len(outputs) == 1
