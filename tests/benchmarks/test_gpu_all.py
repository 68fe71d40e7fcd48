"""`gpu_all.sh` runs every step, whatever becomes of the ones before, and says how each ended."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_all.sh"


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_a_step_that_fails_or_hangs_stops_none_of_the_others(tmp_path):
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$@"\ncase "$*" in *"-m pytest"*) exit 1;; *"deploykit tune"*) touch "$FOLDER/tuned";; esac\n')
    stub.chmod(0o755)
    env = {**os.environ, "PYTHON": str(stub), "FOLDER": str(tmp_path), "PATH": f"/usr/bin:/bin:{os.environ['PATH']}"}
    done = subprocess.run(["bash", str(SCRIPT), str(tmp_path / "out"), "cpu"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    lines = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    ended = {line.split(":")[0]: line.split("exit status ")[1].split(",")[0] for line in lines if not line.startswith("nvidia")}
    assert ended == {"doctor": "0", "tests": "1", "gpu": "0", "tune": "0"}
    assert (tmp_path / "tuned").exists()
    assert "-m gpu" in (tmp_path / "out" / "tests.txt").read_text()
    assert "--device cpu" in (tmp_path / "out" / "gpu.txt").read_text()


def test_all_steps_together_take_less_than_eight_minutes():
    seconds = [int(line.split()[2]) for line in SCRIPT.read_text().splitlines() if line.startswith("step ")]
    assert len(seconds) == 4
    assert sum(seconds) + 15 <= 8 * 60
