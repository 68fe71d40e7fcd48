"""KServe's own client against the server, by an interpreter that has it: $KSERVE_PYTHON, or that of `make kserveclient`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from serving_process import Server  # noqa: E402

HAS_GRPC = importlib.util.find_spec("grpc") is not None


def test_every_datatype_over_http_and_grpc(repository):
    python = Path(os.environ.get("KSERVE_PYTHON") or ROOT / ".venv-kserveclient" / "bin" / "python")
    if not python.exists():
        pytest.skip("KServe's client is not installed: `make kserveclient` makes an environment for it")
    with Server([repository], "--threads", "1", *(["--grpc-port", "0"] if HAS_GRPC else [])) as server:
        where = [f"127.0.0.1:{port}" for port in (server.port, server.grpc_port) if port]
        done = subprocess.run([python, HERE / "client_kserve.py", *where], capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["http", "grpc"][: len(where)]
    assert server.process.returncode == 0
    assert not [line for line in server.lines if "Traceback" in line]
