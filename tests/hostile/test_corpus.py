"""Every file that ever failed in the fuzzer: drop it into `corpus`, its suffix says how it is read. No case may fail twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import seeds

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
STATUSES = (0, 1, 2)


@pytest.fixture(scope="module")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("good") / "flat.onnx"
    file.write_bytes(seeds.flat().SerializeToString())
    return file


@pytest.mark.parametrize("file", CORPUS, ids=lambda path: path.name)
def test_it_ends_in_an_exit_status_and_at_most_one_line(file: Path, good_file: Path) -> None:
    commands = {
        ".onnx": [["profile", file, "--no-latency"], ["validate", file], ["predict", file, good_file]],
        ".tif": [["predict", good_file, file]],
    }[file.suffix]
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "deploykit", *map(str, command)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode in STATUSES, (command, done.stderr)
        lines = done.stderr.splitlines()
        assert len(lines) <= 1, (command, lines)
        assert all(line.startswith("error: ") for line in lines), (command, lines)
